"""`make test-matrix`: the suite, cell by cell, and a table of what came of it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.matrix.cells import HOW, Cell, chosen
from tests.matrix.results import Result, read, table
from tests.matrix.servers import MAJORS, NEWEST, STORE, pg_config
from tests.support.installation import CHECKOUT


def main() -> int:
    """Run the chosen cells; returns 1 where one of them failed."""
    options = _options()
    cells = chosen(options.form, options.only, options.how)
    for major in sorted({cell.major for cell in cells}):
        pg_config(major)
    results = []
    for cell in cells:
        print(f"\n== {cell}", flush=True)
        results.append(run_cell(cell, options.workers, options.pytest))
    print(f"\n{table(results)}", flush=True)
    return 0 if results and all(result.is_good for result in results) else 1


def run_cell(cell: Cell, workers: int, arguments: list[str]) -> Result:
    """Run the cell's tests; what pytest says is seen meanwhile."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        began = time.monotonic()
        done = subprocess.run(
            [*_pytest(cell, workers), f"--junitxml={report}", *arguments],
            cwd=CHECKOUT,
            env=environment(cell),
            check=False,
        )
        return read(cell, report, done.returncode, time.monotonic() - began)


def environment(cell: Cell) -> dict[str, str]:
    """What tells the suite which cell it is in."""
    own = ("HOTMESH_DBA_PG_CONFIG", "HOTMESH_DBA_INSTALL_FROM", "HOTMESH_DBA_EXAMPLES")
    env = {name: value for name, value in os.environ.items() if name not in own}
    if cell.major != NEWEST:
        found = pg_config(cell.major)
        env["HOTMESH_DBA_PG_CONFIG"] = str(found)
        if found.is_relative_to(STORE):
            # Its replication would take the system's libpq, which may know too few options.
            env["LD_LIBRARY_PATH"] = str(found.parents[1] / "lib")
    if cell.release is not None:
        env["HOTMESH_DBA_INSTALL_FROM"] = cell.release
    if cell.examples is not None:
        env["HOTMESH_DBA_EXAMPLES"] = str(cell.examples)
    return env


def _pytest(cell: Cell, workers: int) -> list[str]:
    some = [] if cell.is_first else ["-m", "not once"]
    xdist = ["-n", str(workers), "--dist", "worksteal"]
    return [sys.executable, "-m", "pytest", "-q", *xdist, *some, *cell.tests]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("form", nargs="?", choices=["full", "short"], default="full")
    parser.add_argument("-n", dest="workers", type=int, default=3, help="tests at once")
    parser.add_argument(
        "--only", type=int, nargs="+", choices=MAJORS, default=[], help="these major versions"
    )
    parser.add_argument(
        "--how", nargs="+", choices=HOW, default=[], help="installed, or updated from these"
    )
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="more for pytest")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
