"""Write the generated pages of docs/, or with `--check` say which are stale."""

from __future__ import annotations

import argparse
import sys

from tests.docs.reference import DOCS, pages, stale
from tests.support.server import PrivateServer, forget_callers_variables


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where one is")
    check = parser.parse_args().check
    forget_callers_variables()
    with PrivateServer() as server, server.connect() as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba")
        made = pages(conn)
    old = stale(made)
    if check:
        for path in old:
            print(f"docs/{path.name} is stale: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    DOCS.mkdir(exist_ok=True)
    for path in old:
        path.write_text(made[path])
        print(f"docs/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
