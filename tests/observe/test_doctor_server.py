"""doctor() on the server: its settings, its locks, what holds the horizon back, who may see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import Connect, Database, NewApp, NewRole
from tests.deploy.observe import background, deploy, one, run, wait_until
from tests.observe.watch import bad, findings, status, typed
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

# The smallest lock table there is, and room for prepared transactions.
SETTINGS = {
    "max_locks_per_transaction": 10,
    "max_connections": 30,
    "max_prepared_transactions": 5,
}
AT_ONCE = "SET hotmesh_dba.old_transaction = '0'"
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


@pytest.fixture(scope="module")
def small() -> Iterator[PrivateServer]:
    """A server with little room; hotmesh_dba and an app are in its database postgres."""
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG"), settings=SETTINGS) as server:
        with server.connect() as conn:
            run(conn, "CREATE EXTENSION hotmesh_dba")
            create_app(conn, "myapp")
            deploy(conn, "myapp")
        yield server


# --- the extension ---------------------------------------------------------------------------


@contextmanager
def newer_files(server: PrivateServer) -> Iterator[None]:
    """The server has files of a version that is not installed yet."""
    control = server.share_extension_dir / "hotmesh_dba.control"
    text = control.read_text()
    version = text.split("default_version = '")[1].split("'")[0]
    script = server.share_extension_dir / f"hotmesh_dba--{version}--10.0.0.sql"
    try:
        script.write_text("-- nothing\n")
        control.write_text(text.replace(f"'{version}'", "'10.0.0'"))
        yield
    finally:
        control.write_text(text)
        script.unlink()


def test_extension(db: Database, conn: Connection) -> None:
    """10.0.0 is newer than 9.9.9, though not as a text."""
    assert status(conn, "extension") == {"ok"}
    with newer_files(db.server):
        found = bad(conn, "extension")
        assert found.status == "warning"
        assert "10.0.0" in found.detail
        typed(conn, found)
        assert status(conn, "extension") == {"ok"}
    assert status(conn, "extension") == {"ok"}, "files that are older are no harm"


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["autovacuum", "track_counts"])
def test_autovacuum(small: PrivateServer, setting: str) -> None:
    with small.connect() as conn:
        assert status(conn, "autovacuum") == {"ok"}
        try:
            run(conn, f"ALTER SYSTEM SET {setting} = off")
            run(conn, "SELECT pg_reload_conf()")
            wait_until("the setting", lambda: status(conn, "autovacuum") == {"problem"})
            typed(conn, bad(conn, "autovacuum"))
            wait_until("the setting", lambda: status(conn, "autovacuum") == {"ok"})
        finally:
            run(conn, "ALTER SYSTEM RESET ALL")
            run(conn, "SELECT pg_reload_conf()")


def test_lock_table(small: PrivateServer) -> None:
    """Too small; half full; and large enough once the hint was typed."""
    with small.connect() as conn, small.connect(autocommit=False) as other:
        found = bad(conn, "lock_table")
        assert (found.status, found.app) == ("warning", None)
        assert "only 87 jobs" in found.detail
        run(other, "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 250) n")
        full = bad(conn, "lock_table")
        assert full.status == "problem"
        other.rollback()
        typed(conn, found)
    try:
        small.restart()
        with small.connect() as conn:
            assert status(conn, "lock_table") == {"ok"}
    finally:
        with small.connect() as conn:
            run(conn, "ALTER SYSTEM RESET ALL")
        small.restart()


def test_the_lock_table_of_stock_settings_is_fine(conn: Connection) -> None:
    assert status(conn, "lock_table") == {"ok"}


# --- the horizon -----------------------------------------------------------------------------


def test_old_transactions(conn: Connection, connect: Connect) -> None:
    holder = connect(autocommit=False)
    run(holder, SNAPSHOT)
    run(holder, "SELECT 1 FROM pg_class")
    assert status(conn, "old_transactions") == {"ok"}, "it is not old yet"
    run(conn, AT_ONCE)
    found = bad(conn, "old_transactions")
    assert found.status == "warning"
    assert f"Process {holder.info.backend_pid} " in found.detail
    assert "idle in transaction" in found.detail
    typed(conn, found)
    wait_until("its end", lambda: status(conn, "old_transactions") == {"ok"})


def test_old_transactions_that_write(conn: Connection, connect: Connect) -> None:
    """Between two statements it has no snapshot, but a number of its own."""
    writer = connect(autocommit=False)
    run(writer, "CREATE TABLE t ()")
    run(conn, AT_ONCE)
    assert bad(conn, "old_transactions").status == "warning"
    writer.commit()
    assert status(conn, "old_transactions") == {"ok"}


def test_a_vacuum_is_no_old_transaction(conn: Connection, connect: Connect) -> None:
    """Nobody's dead rows wait for it; least of all should it be ended."""
    worker = connect()
    run(worker, "CREATE TABLE big AS SELECT n FROM generate_series(1, 100000) n; DELETE FROM big")
    run(worker, "SET vacuum_cost_delay = '50 ms'; SET vacuum_cost_limit = 1")
    run(conn, AT_ONCE)
    with background(worker, "VACUUM big") as task:
        try:
            seen = (
                "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_progress_vacuum USING (pid)"
            )
            wait_until("it", lambda: one(conn, f"{seen} WHERE a.backend_xmin IS NOT NULL") == 1)
            assert status(conn, "old_transactions") == {"ok"}
        finally:
            worker.cancel()
        assert task.exception() is not None


def test_old_transactions_of_other_databases_are_no_harm(db: Database, conn: Connection) -> None:
    with db.server.connect(autocommit=False) as other:
        run(other, SNAPSHOT)
        run(other, "SELECT 1 FROM pg_class")
        run(conn, AT_ONCE)
        assert status(conn, "old_transactions") == {"ok"}


@pytest.mark.parametrize("check", ["old_transactions", "standby_feedback"])
def test_whoever_may_not_see_sessions_is_told_so(
    conn: Connection, connect: Connect, role: NewRole, check: str
) -> None:
    mine = connect(role("anybody"))
    found = bad(mine, check)
    assert found.status == "unknown"
    typed(conn, found)
    assert status(mine, check) == {"ok"}


def test_prepared_transactions(small: PrivateServer) -> None:
    with small.connect() as conn:
        run(conn, "BEGIN")
        run(conn, "CREATE TABLE prepared ()")
        run(conn, "PREPARE TRANSACTION 'it''s mine'")
        assert status(conn, "prepared_transactions") == {"ok"}
        run(conn, AT_ONCE)
        found = bad(conn, "prepared_transactions")
        assert found.status == "warning"
        typed(conn, found)
        assert status(conn, "prepared_transactions") == {"ok"}


def test_a_slot_that_nobody_reads_from(small: PrivateServer) -> None:
    with small.connect() as conn:
        assert status(conn, "replication_slots") == {"ok"}
        run(conn, "SELECT pg_create_physical_replication_slot('left', true)")
        found = bad(conn, "replication_slots")
        assert found.status == "warning"
        typed(conn, found)
        assert status(conn, "replication_slots") == {"ok"}


def test_a_standby_that_asks_for_old_rows_and_then_is_gone(small: PrivateServer) -> None:
    """While it is there, by its query; afterwards by the slot that it has left."""
    with small.connect() as conn:
        run(conn, "SELECT pg_create_physical_replication_slot('standby')")
        with small.standby() as conninfo, psycopg.connect(conninfo, autocommit=True) as reader:
            for setting in (
                "hot_standby_feedback = on",
                "wal_receiver_status_interval = 1",
                "primary_slot_name = 'standby'",
            ):
                run(reader, f"ALTER SYSTEM SET {setting}")
            run(reader, "SELECT pg_reload_conf()")
            wait_until(
                "feedback",
                lambda: one(conn, "SELECT xmin IS NOT NULL AND active FROM pg_replication_slots"),
            )
            run(conn, "SET hotmesh_dba.old_xid_age = 10")
            assert status(conn, "replication_slots") == {"ok"}
            query = psycopg.connect(conninfo)
            run(query, SNAPSHOT)
            run(query, "SELECT 1 FROM pg_class")
            for _ in range(20):
                run(conn, "SELECT txid_current()")
            wait_until("its age", lambda: status(conn, "standby_feedback") == {"warning"})
            assert "rows of" in bad(conn, "standby_feedback").detail
            # doctor works there as well; what it sees is the standby's own.
            assert {row.status for row in findings(reader, "wrapper")} == {"ok"}
            run(reader, "SELECT pg_terminate_backend(%s)", query.info.backend_pid)
            wait_until("its feedback", lambda: status(conn, "standby_feedback") == {"ok"})
        wait_until("it to be gone", lambda: status(conn, "replication_slots") == {"problem"})
        found = bad(conn, "replication_slots")
        assert "removed rows" in found.detail
        typed(conn, found)
        assert status(conn, "replication_slots") == {"ok"}


def test_nobody_gets_an_error(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    """Not even who may do nothing at all, on apps of every layout."""
    for layout in ("current", "pre-0.10", "0.10.2", "mixture"):
        app(layout, layout)
    rows = findings(connect(role("anybody")))
    assert {row.app for row in rows} == {None, "current", "pre-0.10", "0.10.2", "mixture"}
    for row in rows:
        assert "could not be checked" not in row.detail, row
    for row in findings(conn):
        assert "could not be checked" not in row.detail, row
