"""Bugs to plant in a build, so that the ledger can show that it finds them."""

from __future__ import annotations

import re

from tests.oracle.test_mutants import MUTANTS, Mutant
from tests.support.server import PrivateServer
from tests.upgrade.test_released import CURRENT

BUGS = {
    "expired": MUTANTS["a window a second shorter"],
    "failed": MUTANTS["failed jobs are stripped"],
    "uncounted": Mutant(
        r"deleted_signals = r\.deleted_signals \+ v_counts\.deleted_signals",
        "deleted_signals = r.deleted_signals",
    ),
}


def plant(server: PrivateServer, name: str) -> None:
    """Put it into the script that this server installs."""
    for path in server.share_extension_dir.glob("hotmesh_dba--*.sql"):
        if path.stem.endswith(CURRENT):
            bug = BUGS[name]
            script, changes = re.subn(bug.found, bug.replacement, path.read_text(), flags=re.DOTALL)
            assert changes, f"{name} is not in {path.name}"
            path.write_text(script)
