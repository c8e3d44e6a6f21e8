"""What is said about it: one line for each figure, with its bar, and the seconds behind them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .machine import Machine
from .measure import Times


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of the report, a value for each repeat.

    Attributes:
        work: what was done.
        figure: what the values say, such as "ours / floor".
        values: one for each repeat.
        bar: what the median may not exceed; None where it is only printed.
        unit: what stands behind a value.
        alternative: another figure that may meet its bar instead of this one.
    """

    work: str
    figure: str
    values: tuple[float, ...]
    bar: float | None = None
    unit: str = ""
    alternative: Line | None = None

    @property
    def median(self) -> float:
        """What is held against the bar."""
        return statistics.median(self.values)

    @property
    def passed(self) -> bool | None:
        """Whether the bar was met, or the alternative's; None where there is none."""
        if self.bar is None:
            return None
        relieved = self.alternative is not None and self.alternative.passed is True
        return self.median <= self.bar or relieved

    def show(self, value: float) -> str:
        """A value with its unit, in two decimals where it is small."""
        return f"{value:,.{2 if abs(value) < 20 else 0}f}{self.unit}"

    def cells(self) -> list[str]:
        """The line as a row of the report."""
        bar = "" if self.bar is None else f"≤ {self.show(self.bar)}"
        if self.alternative is not None and self.alternative.bar is not None:
            bar += f" or {self.alternative.figure} ≤ {self.alternative.show(self.alternative.bar)}"
        verdict = {None: "printed", True: "pass", False: "**miss**"}[self.passed]
        spread = f"{self.show(min(self.values))} to {self.show(max(self.values))}"
        return [self.work, self.figure, f"{self.show(self.median)} ({spread})", bar, verdict]


@dataclass(slots=True)
class Section:
    """What one case found: its figures, its seconds, and remarks."""

    lines: list[Line] = field(default_factory=list)
    seconds: list[tuple[str, str, list[float]]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def ratio(
        self,
        work: str,
        times: Times,
        pair: tuple[str, str],
        bar: float | None = None,
        alternative: Line | None = None,
    ) -> Line:
        """Add the line of a ratio, pair by pair."""
        values = tuple(times.ratios(*pair))
        line = Line(work, " / ".join(pair), values, bar, alternative=alternative)
        self.lines.append(line)
        return line

    def times(self, work: str, times: Times) -> None:
        """Add the seconds of every contender."""
        self.seconds += [(work, name, values) for name, values in times.seconds.items()]


def text(sections: Sequence[Section], machine: Machine, *, minutes: float, scale: str) -> str:
    """The whole report, in Markdown."""
    lines = [line for section in sections for line in section.lines]
    remarks = [remark for section in sections for remark in section.remarks]
    barred = [line for line in lines if line.bar is not None]
    missed = [line for line in barred if not line.passed]
    parts = [
        "# What was measured",
        f"Written by `python -m bench`: {scale} size, {minutes:.0f} minutes, on "
        f"{machine.sentence()}.",
        "Each contender works on a copy of the same prepared database, read once and after a "
        "checkpoint. They take turns, the first of one turn being the last of the next; a ratio is "
        "that of a pair in one turn, and what is held against the bar is the median of the pairs. "
        "Compare within a row only. The rows that are left are compared: a contender that "
        "removed others stops the benchmark.",
        f"**{len(barred) - len(missed)} of {len(barred)} bars met.**",
        table(
            ["work", "figure", "median (min to max)", "bar", ""],
            [line.cells() for line in lines],
        ),
        "## Missed",
        bullets(f"{' · '.join(line.cells()[:4])}" for line in missed),
        "## Worst case seen, whatever the median",
        bullets(_worst(barred)),
        "## Remarks",
        bullets(remarks),
        "## Seconds",
        table(["work", "contender", "median", "each"], _seconds(sections)),
    ]
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def bullets(items: Iterable[str]) -> str:
    """A Markdown list; "Nothing." where it is empty."""
    return "\n".join(f"- {item}" for item in items) or "Nothing."


def _worst(barred: Sequence[Line]) -> list[str]:
    """The values that come closest to their bars, or go furthest beyond them."""
    ranked = sorted(
        ((max(line.values) / line.bar, line) for line in barred if line.bar),
        key=lambda pair: pair[0],
        reverse=True,
    )
    return [
        f"{line.work}: {line.figure} once took {line.show(max(line.values))}, "
        f"{share:.2f} of its bar"
        for share, line in ranked[:5]
    ]


def _seconds(sections: Sequence[Section]) -> list[list[str]]:
    return [
        [work, name, f"{statistics.median(v):.2f}", ", ".join(f"{x:.2f}" for x in v)]
        for section in sections
        for work, name, v in section.seconds
    ]
