"""The command ``hotmesh-dba``: a thin face of the client."""

from __future__ import annotations

import sys
from importlib.util import find_spec


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
    from hotmesh_dba.cli.environment import name_variables

    command = get_command(app)
    name_variables(command)
    command(prog_name="hotmesh-dba")
