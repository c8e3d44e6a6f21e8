"""Before it deletes on a terminal, the command shows what is due and asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotmesh_dba import DBA
from tests.conftest import NewDatabase
from tests.support.layout import create_app
from tests.support.server import Connection

from .command import Command, Terminal
from .test_batched import backlog
from .test_client import count

QUESTION = "Delete it? [y/N] "


@pytest.mark.parametrize("answer", [b"n\r", b"\r", b"no\r", b"\x04"])
def test_no(command: Command, conn: Connection, filled: str, answer: bytes) -> None:
    with Terminal(command, "prune", filled, "--attributes") as terminal:
        terminal.until(QUESTION)
        terminal.type(answer)
        assert terminal.end() == 1, terminal.shown
    assert "due in myapp:\r\n  2 expired jobs" in terminal.shown
    assert "  3 completed jobs to strip\r\n  1 signals\r\n" in terminal.shown
    assert "error: nothing was deleted" in terminal.shown
    assert (count(conn, "jobs"), count(conn, "signal_registry")) == (5, 1)


@pytest.mark.parametrize("answer", [b"y\r", b"Yes\r"])
def test_yes(command: Command, conn: Connection, filled: str, answer: bytes) -> None:
    with Terminal(command, "prune", filled) as terminal:
        terminal.until(QUESTION)
        terminal.type(answer)
        assert terminal.end() == 0, terminal.shown
    assert count(conn, "jobs") == 3


def test_ctrl_c_at_the_question(command: Command, conn: Connection, filled: str) -> None:
    with Terminal(command, "prune", filled) as terminal:
        terminal.until(QUESTION)
        terminal.type(b"\x03")
        assert terminal.end() == 130, terminal.shown
    assert "Traceback" not in terminal.shown
    assert count(conn, "jobs") == 5


@pytest.mark.parametrize("way", [["--yes"], ["-y"], ["variable"], ["--single-transaction", "-y"]])
def test_not_asked(command: Command, conn: Connection, filled: str, way: list[str]) -> None:
    env = {"HOTMESH_DBA_YES": "1"} if way == ["variable"] else {}
    arguments = [] if way == ["variable"] else way
    with Terminal(command, "prune", filled, *arguments, **env) as terminal:
        assert terminal.end() == 0, terminal.shown
    assert QUESTION not in terminal.shown
    assert count(conn, "jobs") == 3


def test_nothing_is_asked_where_nothing_is_due(command: Command, filled: str) -> None:
    with Terminal(command, "prune", filled, "--expire", "99 days", "--no-signals") as terminal:
        assert terminal.end() == 0, terminal.shown
    assert "nothing is due in myapp" in terminal.shown
    assert QUESTION not in terminal.shown


def test_the_preview_is_bounded(command: Command, conn: Connection, filled: str) -> None:
    backlog(conn, 10_001)
    with Terminal(command, "prune", filled) as terminal:
        terminal.until(QUESTION)
        terminal.type(b"n\r")
        assert terminal.end() == 1
    assert "≥ 10,000 expired jobs" in terminal.shown


def test_an_app_that_is_not_deployed(new_database: NewDatabase, tmp_path: Path) -> None:
    db = new_database()
    with db.connect() as conn:
        create_app(conn, "myapp")
    command = Command(tmp_path, db.conninfo())
    with Terminal(command, "prune", "myapp") as terminal:
        terminal.until(QUESTION)
        terminal.type(b"n\r")
        assert terminal.end() == 1
    assert "myapp is not deployed yet" in terminal.shown
    assert DBA(db.conninfo()).installation().installed is None
