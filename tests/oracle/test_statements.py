"""What changes an app's rows stands once: a statement a step and way, shared by every face."""

from __future__ import annotations

import re

from tests.deploy.observe import run
from tests.support.server import Connection

# Routine -> the statements in it that remove or mark rows of an app.
STATEMENTS = {
    "_delete_jobs": ["DELETE FROM %s t"],
    "_delete_attributes": ["DELETE FROM %s a"],
    "_delete_window": ["DELETE FROM %s t"],
    "_delete_chosen": ["DELETE FROM %s t"],
    "_delete_due": ["DELETE FROM %s t"],
    "_delete_by_key": ["DELETE FROM %s t"],
    "_delete_by_rule": ["DELETE FROM %1$s t"],
    "_strip_jobs": ["UPDATE %s t"],
}


def test_one_statement_for_each_step_and_way(conn: Connection) -> None:
    sources = run(
        conn,
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'hotmesh_dba'::regnamespace",
    )
    found = {
        name: statements
        for name, source in sources
        if (statements := re.findall(r"(?:DELETE FROM|UPDATE|TRUNCATE) %\S* \w", source))
    }
    assert found == STATEMENTS
    # Whatever else writes, writes our own tables.
    others = [
        target
        for _, source in sources
        for target in re.findall(r"(?:DELETE FROM|INSERT INTO|^\s*UPDATE) ([\w.]+)", source, re.M)
    ]
    assert set(others) == {"hotmesh_dba.run", "hotmesh_dba.policy"}
