"""What others have named, on a terminal and in JSON; and text that cannot be sent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hotmesh_dba import DBA, InvalidOption
from hotmesh_dba.cli.printable import printable, printable_json
from tests.conftest import Connect, NewApp

from .command import Command, Terminal

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("myapp ä 😀\t\n", "myapp ä 😀\t\n"),
        ("\x1b[31mred\r", "\\x1b[31mred\\r"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202eppaym", "\\u202eppaym"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_hides_is_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    dumped = printable_json({"app": text})
    assert json.loads(dumped) == {"app": text}
    assert printable(dumped) == dumped


def test_a_name_colours_no_terminal(command: Command, app: NewApp) -> None:
    app("\x1b[31mred\x07")
    for words in (["apps"], ["doctor"], ["status"], ["apps", "--json"]):
        done = command(*words)
        assert "\x1b" not in done.stdout + done.stderr
        assert "x1b[31mred" in done.stdout or "u001b[31mred" in done.stdout, done
    with Terminal(command, "apps") as terminal:
        assert terminal.end() == 0
    assert "\x07" not in terminal.shown


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_bytes_that_are_no_text(command: Command, filled: str, words: list[str]) -> None:
    assert filled == "myapp"
    for arguments in ([b"runs", b"\xff"], [b"prune", b"myapp", b"--expire", b"\xff"]):
        done = subprocess.run(
            [sys.executable.encode(), b"-m", b"hotmesh_dba", *arguments, *map(str.encode, words)],
            env={**command.env, "PYTHONUTF8": "1"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1, done
        assert b"Traceback" not in done.stderr
        assert b"cannot be sent to the server" in done.stderr


def test_what_the_encoding_does_not_have(connect: Connect, filled: str) -> None:
    conn = connect()
    with pytest.raises(InvalidOption, match="cannot be sent") as caught:
        DBA(conn).prune(filled + "\udcff")
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)
    assert caught.value.hint
    conn.execute("SET client_encoding = LATIN1")
    with pytest.raises(InvalidOption, match="cannot be sent"):
        DBA(conn).preview("\N{GRINNING FACE}")
    assert DBA(conn).preview(filled).jobs > 0
