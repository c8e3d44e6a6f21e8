"""A call leaves the session as it was, whether it succeeded or not."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.deploy.observe import deploy, run, sqlstate, state
from tests.input.refusing import settings
from tests.support.server import Connection

CALLS = {
    "SELECT * FROM myapp.prune('7 days', true, true, true, NULL, true)": None,
    "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', true, true, true)": None,
    "SELECT * FROM hotmesh_dba.undeploy('myapp')": None,
    "SELECT * FROM hotmesh_dba.deploy('myapp')": None,
    "SELECT * FROM hotmesh_dba.prune('myapp', '-1 day')": "22023",
    "SELECT * FROM hotmesh_dba.prune('nobody')": "3F000",
    "SELECT deleted_jobs / 0 FROM hotmesh_dba.prune('myapp', strip_attributes => true)": "22012",
}


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.usefixtures("full")
def test_settings_stay(connect: Connect, custom: bool) -> None:
    conn = connect()
    if custom:
        run(
            conn,
            "SET lock_timeout = '7s'; SET statement_timeout = '9min'; SET enable_seqscan = on;"
            " SET search_path = myapp, public; SET timezone = 'Asia/Kathmandu'",
        )
    before = settings(conn)
    for call, expected in CALLS.items():
        assert sqlstate(conn, call) == expected
        assert settings(conn) == before, call
        # Nor inside the transaction that goes on after the call.
        run(conn, "BEGIN")
        inside = settings(conn)
        if expected is None:
            run(conn, call)
            assert settings(conn) == inside == before, call
        run(conn, "ROLLBACK")
    assert settings(conn) == before


@pytest.mark.usefixtures("full")
def test_foreign_keys_are_enforced_after_a_prune(conn: Connection) -> None:
    """Nothing that was switched off for the call stays off for its transaction."""
    with conn.transaction(force_rollback=True):
        run(conn, "SELECT * FROM myapp.prune('0 s', true, true, true)")
        orphan = (
            "INSERT INTO myapp.jobs_attributes (job_id, symbol, type)"
            " VALUES (gen_random_uuid(), 'abc', 'adata')"
        )
        assert sqlstate(conn, orphan) == "23503"


@pytest.mark.parametrize("way", ["", "blocks", "index", "keys"])
@pytest.mark.usefixtures("full")
def test_strings_that_are_not_standard(connect: Connect, way: str) -> None:
    """standard_conforming_strings governs the text of our routines as well."""
    conn = connect()
    run(conn, f"SET standard_conforming_strings = off; SET hotmesh_dba.way = '{way}'")
    assert state(conn, "myapp") == ("ours", True, True)
    assert deploy(conn, "myapp") == []
    options = "'myapp', '0 s', true, true, true"
    due = f"SELECT p::text FROM hotmesh_dba.preview({options}) p"
    todo = run(conn, due)
    run(conn, "BEGIN")
    run(conn, f"SELECT * FROM hotmesh_dba.prune({options})")
    none = run(conn, due)
    assert none != todo
    run(conn, "ROLLBACK")
    assert run(conn, due) == todo
    run(conn, f"CALL hotmesh_dba.prune_batched({options})")
    assert run(conn, due) == none == [("(0,0,0,0,0,0,0,0,t)",)]
