"""The command ``hotmesh-dba``: a thin face of the client."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
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

    _prepare_streams()
    command = get_command(app)
    name_variables(command)
    _run(command, wants_json(sys.argv[1:]))


def _prepare_streams() -> None:
    """Let nothing fail half-way for a stream that is closed, or does not have a letter."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for all its life
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(command: Any, as_json: bool) -> None:
    """Run the command; a usage error too is shown as all else is, by words or as JSON."""
    import typer

    from hotmesh_dba.cli.ending import FAILED, USAGE
    from hotmesh_dba.cli.output import report, speak_json
    from hotmesh_dba.cli.printable import printable

    usage_error: Any = typer.BadParameter.__mro__[1]  # Typer has no name for it
    speak_json(as_json)
    try:
        code = command(prog_name="hotmesh-dba", standalone_mode=False) or 0
        sys.stdout.flush()
        raise SystemExit(code)
    except typer.Abort:
        raise SystemExit(1) from None
    except usage_error as error:
        if as_json:
            report("error", error.format_message(), error="UsageError", exit_code=USAGE)
        else:
            error.message = printable(error.message)
            error.show()
        raise SystemExit(USAGE) from None
    except OSError as error:  # what was done is done; it could not be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        report("error", f"cannot write: {error.strerror}", error="OSError", exit_code=FAILED)
        raise SystemExit(FAILED) from None
