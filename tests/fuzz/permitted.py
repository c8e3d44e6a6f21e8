"""The SQLSTATEs that docs/errors.md has: a call may end with no other."""

from __future__ import annotations

import re

from tests.support.installation import CHECKOUT


def permitted() -> set[str]:
    """Those of its table "By SQLSTATE"."""
    page = (CHECKOUT / "docs" / "errors.md").read_text(encoding="utf-8")
    table = page.partition("## By SQLSTATE")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)
    return {state for cell in cells for state in re.findall(r"\b[0-9][0-9A-Z]{4}\b", cell)}


# PostgreSQL's own, of an argument that it cannot read: without our detail and hint.
UNREADABLE = {"22003", "22007", "22008", "22015", "22P02"}
