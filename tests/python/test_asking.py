"""Before it deletes on a terminal, the command shows what is due and asks."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hotmesh_dba import DBA
from tests.conftest import NewDatabase
from tests.support.layout import create_app
from tests.support.server import Connection

from .command import Command, Terminal
from .test_batched import backlog
from .test_client import count

pytestmark = pytest.mark.once

QUESTION = "Delete it? [y/N] "
POLICY = ["--jobs", "--expire", "7 days", "--every", "1 day", "--max-percent", "100"]


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
    if way == ["variable"]:
        command.env["HOTMESH_DBA_YES"] = "1"
    arguments = [] if way == ["variable"] else way
    with Terminal(command, "prune", filled, *arguments) as terminal:
        assert terminal.end() == 0, terminal.shown
    assert QUESTION not in terminal.shown
    assert count(conn, "jobs") == 3


REDIRECTED = [["stderr"], ["stdout"], ["stdout", "stderr"]]


@pytest.mark.parametrize("streams", REDIRECTED, ids=" ".join)
@pytest.mark.parametrize("what", ["prune", "run-due"])
def test_whatever_is_redirected(
    command: Command, conn: Connection, filled: str, tmp_path: Path, streams: list[str], what: str
) -> None:
    """A person at the terminal is asked there, and sees what the question is about."""
    command("policy", "set", filled, "nightly", *POLICY)
    arguments, question, shown = {
        "prune": (["prune", filled], QUESTION, "  2 expired jobs"),
        "run-due": (["run-due"], "whose time has come? [y/N] ", "nightly"),
    }[what]
    files = {name: tmp_path / name for name in streams}
    for answer, code, jobs in ((b"n\r", 1, 5), (b"y\r", 0, 3)):
        with Terminal(command, *arguments, files=files) as terminal:
            terminal.until(question)
            assert shown in terminal.shown
            terminal.type(answer)
            assert terminal.end() == code, terminal.shown
        assert count(conn, "jobs") == jobs
        assert not any("[y/N]" in path.read_text() for path in files.values())


def test_json_is_asked_too(command: Command, conn: Connection, filled: str, tmp_path: Path) -> None:
    """What it writes is JSON all the same."""
    command("policy", "set", filled, "nightly", *POLICY)
    files = {name: tmp_path / name for name in ("stdout", "stderr")}
    with Terminal(command, "run-due", "--json", files=files) as terminal:
        terminal.until("[y/N] ")
        terminal.type(b"y\r")
        assert terminal.end() == 0, terminal.shown
    assert json.loads(files["stdout"].read_text())["jobs"] == 2
    assert files["stderr"].read_text() == ""
    assert count(conn, "jobs") == 3


def test_json_has_no_bar(command: Command, filled: str, tmp_path: Path) -> None:
    with Terminal(
        command, "prune", filled, "--json", "--yes", files={"stdout": tmp_path / "stdout"}
    ) as terminal:
        assert terminal.end() == 0
    assert terminal.shown == ""


def test_it_goes_ahead_where_nobody_can_answer(
    command: Command, conn: Connection, filled: str
) -> None:
    """Though stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "hotmesh_dba", "prune", filled],
        env=command.env,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        check=False,
        timeout=60,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0
    assert count(conn, "jobs") == 3


def test_without_stdin(command: Command, conn: Connection, filled: str) -> None:
    program = shlex.join([sys.executable, "-m", "hotmesh_dba", "prune", filled])
    done = subprocess.run(
        ["sh", "-c", f"exec {program} <&-"], env=command.env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
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
