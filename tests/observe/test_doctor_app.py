"""doctor() on one app: each check is seen to be content, to find what is wrong, and to be content
again once its hint was typed."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import one, refused, run, wait_until
from tests.observe.watch import (
    bad,
    findings,
    flush_statistics,
    set_policy,
    status,
    typed,
)
from tests.support.layout import sdk_replace
from tests.support.server import Connection

FAST_POLICY = "retention => '7 days', prune_jobs => true, disable_triggers => true"


@pytest.mark.usefixtures("owner")
def test_a_fresh_app_is_well(conn: Connection) -> None:
    rows = findings(conn, app_id="myapp")
    assert {row.status for row in rows} == {"ok"}
    assert {row.app for row in rows} == {None, "myapp"}
    assert all(row.detail for row in rows)
    names = [(row.app, row.check_name) for row in rows]
    assert len(names) == len(set(names)) > 20


@pytest.mark.usefixtures("owner")
def test_one_app_or_all(conn: Connection, app: NewApp) -> None:
    app("other")
    one_app = run(conn, "SELECT DISTINCT app FROM hotmesh_dba.doctor('myapp') ORDER BY 1")
    assert one_app == [("myapp",), (None,)]
    assert {row.app for row in findings(conn)} == {None, "myapp", "other"}
    refused(conn, "3F000", "SELECT * FROM hotmesh_dba.doctor('noapp')")
    run(conn, "DROP SCHEMA myapp CASCADE; DROP SCHEMA other CASCADE")
    assert {row.app for row in findings(conn)} == {None}


def test_every_check_is_seen_bad_by_a_test(conn: Connection) -> None:
    """So that none is added without one."""
    (names,) = zip(*run(conn, "SELECT name FROM hotmesh_dba._doctor_checks()"), strict=True)
    assert set(names) == {
        *("extension", "autovacuum", "lock_table", "old_transactions", "prepared_transactions"),
        *("replication_slots", "standby_feedback", "schedules", "schedule_roles", "wrapper"),
        *("migration", "foreign_key_index", "privileges", "row_security", "disable_triggers"),
        *("coverage", "unrun_policies", "last_runs", "backlog", "conflicts"),
        *("table_autovacuum", "dead_rows", "vacuum_threshold"),
    }


@pytest.mark.usefixtures("owner")
def test_a_check_that_fails_is_unknown_with_the_reason(conn: Connection) -> None:
    run(
        conn,
        "CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_wrapper(app_schema name)"
        " RETURNS SETOF hotmesh_dba._finding LANGUAGE sql SET search_path = pg_catalog, pg_temp"
        " AS $$ SELECT 'warning', (1 / 0)::text, '' $$",
    )
    found = bad(conn, "wrapper")
    assert found.status == "unknown"
    assert "division by zero" in found.detail
    assert "22012" in found.detail
    assert {row.status for row in findings(conn, app_id="myapp") if row != found} == {"ok"}


def test_a_locked_table_is_unknown_and_not_waited_for(connect: Connect, owner: str) -> None:
    mine, other = connect(owner), connect(autocommit=False)
    set_policy(mine)
    run(other, "LOCK TABLE myapp.jobs, myapp.jobs_part_0 IN ACCESS EXCLUSIVE MODE")
    run(mine, "SET statement_timeout = '10 s'")
    rows = {row.status for row in findings(mine, "backlog")}
    assert rows == {"unknown"}
    other.rollback()
    assert status(mine, "backlog") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_a_read_only_transaction_suffices(conn: Connection) -> None:
    set_policy(conn)
    run(conn, "SET default_transaction_read_only = on")
    assert {row.status for row in findings(conn, app_id="myapp")} == {"ok"}


# --- the wrapper, the migration, the foreign key ---------------------------------------------


@pytest.mark.parametrize(
    ("layout", "word"),
    [("current", "no function prune"), ("0.14.5", "SDK"), ("mixture", "several")],
)
def test_wrapper(conn: Connection, app: NewApp, layout: str, word: str) -> None:
    app("myapp", layout)
    found = bad(conn, "wrapper")
    assert (found.status, found.app) == ("problem", "myapp")
    assert word in found.detail
    typed(conn, found)
    assert status(conn, "wrapper") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_wrapper_that_the_sdk_replaced(conn: Connection) -> None:
    assert status(conn, "wrapper") == {"ok"}
    sdk_replace(conn, "myapp")
    typed(conn, bad(conn, "wrapper"))
    assert status(conn, "wrapper") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_wrapper_beside_one_of_unknown_origin(conn: Connection) -> None:
    run(conn, "CREATE FUNCTION myapp.prune(text) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    typed(conn, bad(conn, "wrapper"))
    assert status(conn, "wrapper") == {"ok"}


def test_migration(conn: Connection, app: NewApp) -> None:
    app("myapp", "0.11")
    found = bad(conn, "migration")
    assert found.status == "problem"
    typed(conn, found)
    assert status(conn, "migration") == {"ok"}
    run(conn, "DROP INDEX myapp.idx_jobs_pruned_at")
    found = bad(conn, "migration")
    assert found.status == "warning"
    typed(conn, found)
    assert status(conn, "migration") == {"ok"}


def test_migration_of_a_big_table_is_typed_without_blocking(
    conn: Connection, connect: Connect, owner: str
) -> None:
    """And one that was broken off is gone on with."""
    mine = connect(owner)
    with conn.transaction():
        run(conn, "SET LOCAL session_replication_role = replica")
        run(conn, "DROP INDEX myapp.idx_jobs_pruned_at, myapp.idx_jobs_context")
        run(
            conn,
            "INSERT INTO myapp.jobs (key, status) SELECT n, 1 FROM generate_series(1, 100500) n",
        )
    assert "deploy" in (bad(conn, "migration").hint or "")  # a superuser looks into nobody's table
    found = bad(mine, "migration")
    assert found.hint is not None
    assert "CONCURRENTLY" in found.hint
    run(mine, found.hint.split("\n")[0])
    found = bad(mine, "migration")
    assert "not valid" in found.detail
    typed(mine, found)
    assert status(mine, "migration") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_foreign_key_index(conn: Connection) -> None:
    run(conn, "ALTER TABLE myapp.jobs_attributes DROP CONSTRAINT jobs_attributes_pkey")
    rows = [row for row in findings(conn, "foreign_key_index") if row.status == "problem"]
    assert len(rows) == 8
    for row in rows:
        typed(conn, row)
    assert status(conn, "foreign_key_index") == {"ok"}


# --- rights ----------------------------------------------------------------------------------


def test_privileges(connect: Connect, owner: str, role: NewRole) -> None:
    pruner = role("pruner")
    theirs, mine = connect(pruner), connect(owner)
    assert status(mine, "privileges") == {"ok"}
    (found,) = findings(theirs, "privileges")
    assert found.status == "ok"  # nobody has to prune every app
    assert found.detail.startswith("You do not prune this app.")
    assert "USAGE on schema myapp" in found.detail
    typed(mine, found)
    assert status(theirs, "privileges") == {"ok"}
    run(mine, f"REVOKE DELETE ON myapp.worker_streams FROM {pruner}")
    found = bad(theirs, "privileges")
    assert found.status == "problem"
    assert found.detail == f'Role "{pruner}" lacks DELETE on myapp.worker_streams.'


def test_row_security(conn: Connection, connect: Connect, owner: str) -> None:
    mine = connect(owner)
    assert status(mine, "row_security") == {"ok"}
    run(conn, "ALTER TABLE myapp.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    found = bad(mine, "row_security")
    typed(conn, found)
    assert status(connect(owner), "row_security") == {"ok"}


def test_disable_triggers(conn: Connection, connect: Connect, owner: str) -> None:
    """Possible; not possible, which is no harm; and asked for by a policy."""
    assert status(conn, "disable_triggers") == {"ok"}
    mine = connect(owner)
    (found,) = findings(mine, "disable_triggers")
    assert found.status == "ok"
    assert "may not set session_replication_role" in found.detail
    set_policy(mine, options=FAST_POLICY)
    found = bad(mine, "disable_triggers")
    assert found.status == "problem"
    assert "'p'" in found.detail
    if conn.info.server_version >= 150000:
        typed(conn, found)
        assert status(mine, "disable_triggers") == {"ok"}
        run(conn, f"REVOKE SET ON PARAMETER session_replication_role FROM {owner}")

    run(
        conn,
        "CREATE FUNCTION myapp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER mine AFTER DELETE ON myapp.jobs FOR EACH ROW EXECUTE FUNCTION myapp.f()",
    )
    assert "mine on myapp.jobs" in bad(conn, "disable_triggers").detail


# --- vacuum ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_table_autovacuum(conn: Connection) -> None:
    run(conn, "ALTER TABLE myapp.jobs_part_3 SET (autovacuum_enabled = false)")
    run(conn, "ALTER TABLE myapp.jobs_part_5 SET (autovacuum_enabled = off)")
    found = bad(conn, "table_autovacuum")
    assert found.status == "problem"
    assert "jobs_part_3, myapp.jobs_part_5" in found.detail
    typed(conn, found)
    assert status(conn, "table_autovacuum") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_dead_rows(conn: Connection, connect: Connect) -> None:
    """They stay as long as an old snapshot does; then the hint cleans them away."""
    holder = connect(autocommit=False)
    run(
        conn,
        "ALTER TABLE myapp.signal_registry SET (autovacuum_enabled = false);"
        "INSERT INTO myapp.signal_registry (key) SELECT n FROM generate_series(1, 30000) n",
    )
    run(conn, "ANALYZE myapp.signal_registry")
    run(holder, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    run(holder, "SELECT 1 FROM pg_class")
    assert status(conn, "dead_rows") == {"ok"}
    run(conn, "DELETE FROM myapp.signal_registry")
    flush_statistics(conn)
    wait_until("the counters", lambda: status(conn, "dead_rows") == {"warning"})
    found = bad(conn, "dead_rows")
    assert found.detail.startswith("30000 dead rows lie in myapp.signal_registry")
    holder.rollback()
    typed(conn, found)
    flush_statistics(conn)
    wait_until("the counters", lambda: status(conn, "dead_rows") == {"ok"})


@pytest.mark.usefixtures("owner")
def test_vacuum_threshold(conn: Connection) -> None:
    """Half a million rows are fine, two millions are not; a leaf is asked, not its parent."""
    grow = "UPDATE pg_class SET reltuples = %s, relpages = 100000 WHERE oid = '%s'::regclass"
    run(conn, grow % (400000, "myapp.engine_streams_part_0"))
    assert status(conn, "vacuum_threshold") == {"ok"}
    run(conn, grow % (2000000, "myapp.engine_streams_part_1"))
    run(conn, grow % (1e9, "myapp.engine_streams_part_2"))
    found = bad(conn, "vacuum_threshold")
    assert found.hint == (
        "ALTER TABLE myapp.engine_streams_part_1 SET (autovacuum_vacuum_scale_factor = 0.025);\n"
        "ALTER TABLE myapp.engine_streams_part_2 SET (autovacuum_vacuum_scale_factor = 0.00005);"
    )
    typed(conn, found)
    assert status(conn, "vacuum_threshold") == {"ok"}
    assert one(
        conn,
        "SELECT reloptions FROM pg_class WHERE oid = 'myapp.engine_streams_part_1'::regclass",
    ) == ["autovacuum_vacuum_scale_factor=0.025"]
