"""What README shows of the command is what it shows; what the documents type into a shell runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.docs import session
from tests.docs.documents import PAGES, blocks, named
from tests.python.command import Command
from tests.support.server import Connection

pytestmark = pytest.mark.once


def words(shown: str) -> list[list[str]]:
    """The words of each line, any number as 0, without what tables are drawn with."""
    lines = [re.sub(r"[\d,.:]*\d", "0", line) for line in shown.splitlines()]
    found = [re.sub(r"[━┏┳┓┃┡╇┩│└┴┘─]", " ", line).split() for line in lines]
    return [line for line in found if line]


def test_the_session_of_readme_is_real(db: Database, conn: Connection, tmp_path: Path) -> None:
    session.prepare(conn)
    [block] = blocks(session.README, "console")
    assert len(session.commands()) >= 3
    assert words(session.play(db.conninfo(), tmp_path)) == words(block)


def typed_into_a_shell(document: Path) -> Iterator[str]:
    """The calls of the command in a document, its session left out."""
    for language in ("sh", "crontab", "ini"):
        for block in blocks(document, language):
            yield from re.findall(
                r"^(?:[*/\d ]+|ExecStart=/\S+/)?hotmesh-dba (.*?)(?:\s+#.*|\s*\|.*|\s*>.*)?$",
                block,
                re.MULTILINE,
            )


@pytest.mark.parametrize(
    "document", [page for page in PAGES if list(typed_into_a_shell(page))], ids=named
)
def test_every_call_of_the_command_runs(
    document: Path, db: Database, conn: Connection, tmp_path: Path
) -> None:
    session.prepare(conn)
    command = Command(tmp_path, db.conninfo())
    for call in typed_into_a_shell(document):
        line = re.sub(r" --dsn (?:'[^']*'|\S+)", "", call)
        done = command(*shlex.split(line))
        assert done.returncode == 0, f"{line}\n{done.stderr}"
