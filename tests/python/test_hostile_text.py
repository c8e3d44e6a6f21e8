"""What stands in the database is shown, and obeyed by no terminal."""

from __future__ import annotations

import json
import re

import pytest
from psycopg import sql

from hotmesh_dba.cli.printable import printable, printable_json
from tests.support.layout import create_app
from tests.support.server import Connection

from .command import Command, Terminal, plain

pytestmark = pytest.mark.once

# Clears the screen, sets the title, goes back over the line, turns the text around; and as C1.
HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\rd\u202egpj.exe\u2066e\x9b31mf\x7fg\u2028h\ti"
SHOWN = r"a\x1b[2Jb\x1b]0;title\x07c\rd\u202egpj.exe\u2066e\x9b31mf\x7fg\u2028h"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_all_of_them() -> None:
    every = "".join(map(chr, range(0x3000)))
    assert not OBEYED.search(printable(every))
    assert [c for c in map(chr, range(32, 127)) if printable(c) != c] == []
    assert printable("żółć\nδ \N{ZERO WIDTH JOINER}") == "żółć\nδ \N{ZERO WIDTH JOINER}"
    assert not OBEYED.search(printable_json(every))
    assert json.loads(printable_json(every)) == every


@pytest.fixture
def hostile(conn: Connection, command: Command, filled: str) -> str:
    """A policy with such a note, and a run of it that failed with such words."""
    options = ["--jobs", "--expire", "7 days", "--max-percent", "100", "--every", "1 day"]
    assert command("policy", "set", filled, "p", *options, "--note", HOSTILE).returncode == 0
    conn.execute(
        sql.SQL(
            "CREATE FUNCTION myapp.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            " WARNING USING MESSAGE = {0}; RAISE EXCEPTION USING MESSAGE = {0}, DETAIL = {0},"
            " HINT = {0}; END $$; CREATE TRIGGER no BEFORE DELETE ON myapp.jobs FOR EACH ROW"
            " EXECUTE FUNCTION myapp.no()"
        ).format(sql.Literal(HOSTILE))
    )
    done = command("run-due")
    assert done.returncode == 1
    assert SHOWN in done.stderr
    assert not OBEYED.search(done.stdout + done.stderr)
    conn.execute("UPDATE hotmesh_dba.run SET error_message = %s", [HOSTILE])
    return filled


LISTS = [["policy", "list"], ["runs"], ["status"], ["doctor"]]
RUNS = [["policy", "run", "myapp", "p", "--yes"], ["prune", "--all-apps", "--yes"]]


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("arguments", [*LISTS, *RUNS], ids=" ".join)
def test_in_a_pipe(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert not OBEYED.search(done.stdout + done.stderr)
    assert arguments == ["status"] or SHOWN in done.stdout + done.stderr
    width = {line.count("\t") for line in done.stdout.splitlines()}
    assert len(width) <= 1 or arguments == ["status"], "a cell stays a cell"
    done = command(*arguments, "--json")
    assert not OBEYED.search(done.stdout + done.stderr)
    assert json.loads(done.stdout) != []
    assert all(json.loads(line) for line in done.stderr.splitlines())


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("arguments", [*LISTS, *RUNS, ["run-due"]], ids=" ".join)
def test_on_a_terminal(command: Command, conn: Connection, arguments: list[str]) -> None:
    conn.execute("UPDATE hotmesh_dba.run SET started_at = started_at - interval '1 day'")
    with Terminal(command, *arguments, COLUMNS="400") as terminal:
        if arguments == ["run-due"]:
            terminal.until("[y/N] ")
            terminal.type(b"y\r")
        terminal.end()
    shown = plain(terminal.shown).replace("\r", "")
    assert not OBEYED.search(shown)
    assert "\x1b[2J" not in terminal.shown
    assert arguments == ["status"] or SHOWN in shown


def test_in_a_name(command: Command, conn: Connection) -> None:
    """An app's schema may be called anything."""
    name = "app\x1b[2J\u202e"
    create_app(conn, name)
    for arguments in (["apps"], ["status"], ["doctor"], ["prune", "--all-apps"], ["prune", name]):
        done = command(*arguments)
        assert not OBEYED.search(done.stdout + done.stderr), arguments
    assert r"app\x1b[2J\u202e" in command("apps").stdout
    with Terminal(command, "prune", "--all-apps") as terminal:
        terminal.end()
    assert "\x1b[2J" not in terminal.shown


def test_a_locale_without_these_letters(command: Command, filled: str) -> None:
    """Is no reason to fail half-way."""
    command("policy", "set", filled, "p", "--signals", "--note", "grüße ≥ 1")
    done = command("policy", "list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"gr\xfc\xdfe \u2265 1" in done.stdout
