"""What came of a cell's run, from the file that pytest writes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree  # written by the pytest that was just run
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.matrix.cells import Cell

# What pytest says of a skip that says nothing itself; a cell with one is not good.
NO_REASON = "no reason given"
UNTOLD = {NO_REASON, "unconditional skip"}

HEADER = ("PostgreSQL", "extension", "passed", "failed", "skipped", "minutes")


@dataclass(frozen=True, slots=True)
class Result:
    """How many tests passed, failed and were skipped, and why."""

    cell: Cell
    passed: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    returned: int = 0

    @property
    def is_good(self) -> bool:
        """Whether tests were run, and pytest had nothing to say against them."""
        told = not self.reasons.keys() & UNTOLD
        return self.returned == 0 and self.failed == 0 and self.passed > 0 and told


def read(cell: Cell, report: Path, returned: int, seconds: float) -> Result:
    """The result in a JUnit report; none is no result."""
    if not report.exists():
        return Result(cell, returned=returned or 1, seconds=seconds)
    passed = failed = 0
    reasons: Counter[str] = Counter()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if skip is not None:
            reasons[skip.get("message") or NO_REASON] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return Result(cell, passed, failed, reasons, seconds, returned)


def table(results: Iterable[Result]) -> str:
    """A row a cell; below it each reason for a skip, with the number of tests."""
    results = list(results)
    rows = [HEADER, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for result in results:
        for reason, number in sorted(result.reasons.items()):
            lines.append(f"skipped, {result.cell}: {number} x {reason}")
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    how = f"from {result.cell.release}" if result.cell.release else "installed"
    skipped = sum(result.reasons.values())
    numbers = [str(number) for number in (result.passed, result.failed, skipped)]
    note = "" if result.is_good else "  FAILED"
    return (str(result.cell.major), how, *numbers, f"{result.seconds / 60:.1f}{note}")
