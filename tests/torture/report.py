"""The table at the end of a campaign."""

from __future__ import annotations

from collections import Counter

from .campaign import Score
from .faults import KINDS


def table(score: Score, seed: int, seconds: float) -> str:
    """Faults of each kind, rows written, rows pruned, violations."""
    lines = [f"{'fault':<10} {'rounds':>6} {'hits':>5}  what, and how the calls ended", "-" * 78]
    for name, kind in KINDS.items():
        if name in score.left_out:
            lines.append(f"{name:<10} {'not':>6} {'done':>5}  {score.left_out[name]}")
        elif score.rounds[name]:
            lines.append(f"{name:<10} {score.rounds[name]:>6,} {score.hits[name]:>5,}  {kind.what}")
            lines.append(f"{'':<24} {_counted(score.ends[name])}")
    lines += [
        "-" * 78,
        f"hits inside a batch  {sum(score.hits.values()):,}",
        f"transactions written {score.transactions:,}, {score.unanswered:,} COMMITs unanswered",
        f"rows written         {_counted(score.written)}",
        f"rows pruned          {_counted(score.gone)}, by {score.runs:,} runs",
        f"errors of writers    {_counted(score.writer_errors) or 'none'}",
        f"violations           {len(score.violations):,}",
        f"seed {seed}, {seconds:.0f} s",
    ]
    return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common() if count)
