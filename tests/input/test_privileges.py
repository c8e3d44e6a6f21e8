"""Each privilege that a call needs, missing: refused before anything is removed."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewRole
from tests.deploy.observe import run
from tests.input.refusing import nothing_changed, refuses
from tests.support.server import Connection

PRUNE = "SELECT * FROM myapp.prune('7 days', true, true, true)"
PREVIEW = "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', true, true, true)"

# What is taken away, and what the hint must then say.
MISSING = {
    "USAGE ON SCHEMA myapp": "GRANT USAGE ON SCHEMA myapp TO",
    "SELECT ON myapp.jobs": "GRANT SELECT ON myapp.jobs TO",
    "DELETE ON myapp.jobs": "GRANT DELETE ON myapp.jobs TO",
    "UPDATE (pruned_at) ON myapp.jobs": "GRANT UPDATE (pruned_at) ON myapp.jobs TO",
    "SELECT ON myapp.jobs_attributes": "GRANT SELECT ON myapp.jobs_attributes TO",
    "DELETE ON myapp.jobs_attributes": "GRANT DELETE ON myapp.jobs_attributes TO",
    "DELETE ON myapp.engine_streams": "GRANT DELETE ON myapp.engine_streams TO",
    "SELECT ON myapp.worker_streams": "GRANT SELECT ON myapp.worker_streams TO",
    "DELETE ON myapp.signal_registry": "GRANT DELETE ON myapp.signal_registry TO",
}


@pytest.fixture
def cron(conn: Connection, full: str, role: NewRole) -> str:
    """A role with just what a full prune needs."""
    name = role("cron")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA {full} TO {name};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA {full} TO {name};"
        f"GRANT UPDATE (pruned_at) ON {full}.jobs TO {name}",
    )
    return name


def test_each_missing_privilege_is_named(
    conn: Connection, connect: Connect, full: str, cron: str
) -> None:
    caller = connect(cron)
    call = PRUNE.replace("myapp.prune(", "hotmesh_dba.prune('myapp', ")
    for privilege, hint in MISSING.items():
        run(conn, f"REVOKE {privilege} FROM {cron}")
        with nothing_changed(conn, full):
            assert f"{hint} {cron};" in refuses(caller, "42501", call)
        run(conn, f"GRANT {privilege} TO {cron}")
    assert run(caller, call)


def test_a_preview_needs_select_alone(
    conn: Connection, connect: Connect, full: str, cron: str
) -> None:
    run(conn, f"REVOKE DELETE ON ALL TABLES IN SCHEMA {full} FROM {cron}")
    caller = connect(cron)
    assert run(caller, PREVIEW) == run(conn, PREVIEW)
    with nothing_changed(conn, full):
        refuses(caller, "42501", PRUNE)
    run(conn, f"REVOKE SELECT ON {full}.signal_registry FROM {cron}")
    refuses(caller, "42501", PREVIEW)


def test_a_step_that_is_not_asked_for_needs_nothing(
    conn: Connection, connect: Connect, full: str, cron: str
) -> None:
    run(
        conn,
        f"REVOKE ALL ON {full}.signal_registry, {full}.engine_streams, {full}.worker_streams"
        f" FROM {cron};"
        f"REVOKE UPDATE (pruned_at) ON {full}.jobs FROM {cron};"
        f"REVOKE ALL ON {full}.jobs_attributes FROM {cron}",
    )
    counts = run(
        connect(cron), "SELECT * FROM myapp.prune('7 days', true, false, prune_signals => false)"
    )
    assert counts[0][0] > 0
    assert counts[0][1:] == (0,) * 7
