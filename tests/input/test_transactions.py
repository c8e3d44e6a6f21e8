"""Transactions in which nothing may or can safely be removed."""

from __future__ import annotations

import pytest
from psycopg import connect as psycopg_connect
from psycopg.conninfo import make_conninfo

from tests.conftest import Connect, Database
from tests.deploy.observe import contents, one, run, sqlstate
from tests.input.refusing import nothing_changed, refuses
from tests.support.server import Connection, PrivateServer

STRIP = "SELECT * FROM myapp.prune('7 days', true, true, true)"
CHANGING = {
    "prune": "SELECT * FROM hotmesh_dba.prune('myapp')",
    "wrapper": "SELECT * FROM myapp.prune()",
    "deploy": "SELECT * FROM hotmesh_dba.deploy('myapp')",
    "undeploy": "SELECT * FROM hotmesh_dba.undeploy('myapp')",
}
PREVIEW = "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', true, true, true)"


def test_read_only(conn: Connection, connect: Connect, full: str) -> None:
    reader = connect()
    with nothing_changed(conn, full):
        run(reader, "SET default_transaction_read_only = on")
        for call in CHANGING.values():
            assert "BEGIN READ WRITE" in refuses(reader, "25006", call)
        run(reader, "SET default_transaction_read_only = off; BEGIN READ ONLY")
        for call in CHANGING.values():
            refuses(reader, "25006", call)
        assert run(reader, PREVIEW) == run(conn, PREVIEW)
        run(reader, "ROLLBACK")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_strip_needs_read_committed(
    conn: Connection, connect: Connect, full: str, level: str
) -> None:
    caller = connect()
    with nothing_changed(conn, full):
        run(caller, f"BEGIN ISOLATION LEVEL {level}")
        assert "READ COMMITTED" in refuses(caller, "25001", STRIP)
        run(caller, f"ROLLBACK; SET default_transaction_isolation = '{level.lower()}'")
        refuses(caller, "25001", STRIP)
    # Everything else is possible there, and so is the way out that the hint shows.
    assert run(caller, "SELECT deleted_jobs > 0 FROM myapp.prune('7 days')") == [(True,)]
    run(caller, "BEGIN ISOLATION LEVEL READ COMMITTED")
    assert run(caller, "SELECT marked_pruned > 0 FROM myapp.prune(strip_attributes => true)") == [
        (True,)
    ]
    run(caller, "COMMIT")


def test_a_standby(server: PrivateServer, db: Database, conn: Connection, full: str) -> None:
    before, expected = contents(conn, full), run(conn, PREVIEW)
    with server.standby() as conninfo:
        target = make_conninfo(conninfo, dbname=db.name)
        with psycopg_connect(target, autocommit=True) as standby:
            assert one(standby, "SELECT pg_is_in_recovery()")
            assert run(standby, PREVIEW) == expected
            assert run(standby, "SELECT wrapper FROM hotmesh_dba.app") == [("ours",)]
            for call in CHANGING.values():
                assert "primary" in refuses(standby, "25006", call)
            refuses(standby, "22023", "SELECT * FROM hotmesh_dba.preview('myapp', '-1 day')")
            assert contents(standby, full) == before


@pytest.mark.usefixtures("full")
def test_an_aborted_call_leaves_a_usable_transaction(conn: Connection) -> None:
    """An error in a subtransaction takes back all of the call, and the next one works."""
    with conn.transaction(force_rollback=True):
        assert sqlstate(conn, "SELECT * FROM myapp.prune('-1 day')") == "22023"
        assert (
            sqlstate(
                conn, "SELECT 1 / (SELECT deleted_jobs - deleted_jobs FROM myapp.prune('0 s'))"
            )
            == "22012"
        )
        assert one(conn, "SELECT deleted_jobs > 0 FROM myapp.prune('0 s')")
