"""The session of README: the command on a terminal, on the data of the demo."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.docs.documents import blocks
from tests.python.command import Command, Terminal
from tests.support.installation import CHECKOUT
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection, PrivateServer, forget_callers_variables

README = CHECKOUT / "README.md"
WIDTH = "88"


def commands() -> list[str]:
    """Return what is typed in README."""
    [block] = blocks(README, "console")
    return re.findall(r"^\$ hotmesh-dba (.*)$", block, re.MULTILINE)


def prepare(conn: Connection) -> None:
    """Make the app that the session begins with, in a database with the extension in it."""
    create_app(conn, "myapp")
    load_sample(conn, "myapp")
    conn.execute("VACUUM ANALYZE")
    conn.execute("SELECT hotmesh_dba.deploy('myapp')")


def play(dsn: str, directory: Path) -> str:
    """Type the commands; returns what is then to be seen."""
    command = Command(directory, dsn)
    command.env["COLUMNS"] = WIDTH
    parts = []
    for line in commands():
        with Terminal(command, *shlex.split(line)) as terminal:
            terminal.end()
        parts += [f"$ hotmesh-dba {line}", *seen(terminal.shown)]
    return "\n".join(parts)


def seen(shown: str) -> list[str]:
    """Return the lines that stay on a terminal: without colours and the bar, which is wiped."""
    still = re.sub(r"\x1b\[\?25l.*?\x1b\[\?25h", "", shown, flags=re.DOTALL)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", still)
    return [line.rstrip() for line in plain.splitlines() if line.strip()]


def main() -> int:
    """Print the session as it is now, to be put into README."""
    forget_callers_variables()
    with PrivateServer() as server, server.connect() as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba")
        prepare(conn)
        print(play(server.conninfo(), server.root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
