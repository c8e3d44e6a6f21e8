"""tools/covered.py: what `make coverage` says of what it counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.covered import HEADING, Statement, main, ranges, report, with_section

COUNTS = {
    Statement("_choose", 1, "IF a | b THEN"): 3,
    Statement("_choose", 2, "RETURN a | b;"): 0,
    Statement("_key", -1, ""): 0,
    Statement("_used", -1, ""): 7,
}
BEFORE = f"# A\n\n{HEADING}\nold\n\n## B\n\nb\n"


def test_what_was_not_executed_is_named() -> None:
    text = report(COUNTS, [["`hotmesh_dba/aio.py`", "99 %", "7-8"]])
    assert text.startswith(HEADING)
    assert "Of 2 statements in PL/pgSQL the suite executes 1, of 2 routines in SQL 1." in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        r"| `_choose` | `RETURN a \| b;` |",
        "| `_key` | all of it |",
        "| `hotmesh_dba/aio.py` | 99 % | 7-8 |",
    ]


def test_where_nothing_was_counted_there_is_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["covered", str(tmp_path)])
    with pytest.raises(SystemExit, match="nothing was counted"):
        main()


@pytest.mark.parametrize(
    ("numbers", "shown"), [([], ""), ([4], "4"), ([1, 2, 3, 7, 9, 10], "1-3, 7, 9-10")]
)
def test_lines_in_a_row_are_one_range(numbers: list[int], shown: str) -> None:
    assert ranges(numbers) == shown


@pytest.mark.parametrize("page", ["# A\n\n## B\n\nb\n", BEFORE, BEFORE.partition("## B")[0]])
def test_the_section_is_put_in_once(page: str) -> None:
    section = f"{HEADING}\nnew\n"
    once = with_section(page, section)
    assert once.count(HEADING) == 1
    assert "new" in once
    assert "old" not in once
    assert ("## B\n\nb\n" in once) is ("## B" in page)
    assert with_section(once, section) == once
