"""The pages of docs/ that are made from what they describe.

`python -m tests.docs.reference` writes them, `--check` says which are stale.
"""

from __future__ import annotations

from pathlib import Path

from tests.docs.reference import client, command, sql
from tests.support.installation import CHECKOUT
from tests.support.server import Connection

DOCS = CHECKOUT / "docs"


def pages(conn: Connection) -> dict[Path, str]:
    """Return path and text of every page.

    :param conn: a connection to a database with the extension in it.
    """
    return {
        DOCS / "sql.md": sql.page(conn),
        DOCS / "python.md": client.page(),
        DOCS / "command.md": command.page(),
    }


def stale(made: dict[Path, str]) -> list[Path]:
    """Return the pages that do not stand in docs/ as they should."""
    return [path for path, text in made.items() if not path.exists() or path.read_text() != text]
