"""The command ``hotmesh-dba``: a thin face of the client."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from io import TextIOWrapper
from typing import Any


def main() -> None:
    """Run the command; without its libraries say how to get them, and exit with 2."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        print(
            f"hotmesh-dba: the command needs {' and '.join(missing)}: "
            "pip install 'hotmesh_dba[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2)
    from typer.main import get_command

    from hotmesh_dba.cli.app import app
    from hotmesh_dba.cli.environment import name_variables, wants_json

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter it does not have is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    command = get_command(app)
    name_variables(command)
    _run(command, wants_json(sys.argv[1:]))


def _run(command: Any, as_json: bool) -> None:
    """Run the command; a usage error too is shown as all else is, by words or as JSON."""
    import typer

    from hotmesh_dba.cli.ending import USAGE
    from hotmesh_dba.cli.output import report, speak_json
    from hotmesh_dba.cli.printable import printable

    usage_error: Any = typer.BadParameter.__mro__[1]  # Typer has no name for it
    speak_json(as_json)
    try:
        raise SystemExit(command(prog_name="hotmesh-dba", standalone_mode=False) or 0)
    except typer.Abort:
        raise SystemExit(1) from None
    except usage_error as error:
        if as_json:
            report("error", error.format_message(), error="UsageError", exit_code=USAGE)
        else:
            error.message = printable(error.message)
            error.show()
        raise SystemExit(USAGE) from None
