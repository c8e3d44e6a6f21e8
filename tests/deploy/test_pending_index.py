"""On a big jobs table deploy builds no index itself: it says what to type, from wherever one is."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.calls import CALLS
from tests.deploy.observe import (
    Action,
    background,
    deploy,
    pid,
    run,
    state,
    statements_of,
    wait_blocked,
)
from tests.support.server import Connection

PRUNED_AT_INDEXES = """
SELECT c.relname, i.indisvalid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'big'::regnamespace AND pg_get_indexdef(c.oid) LIKE '%pruned_at%'
ORDER BY 1
"""


def fill(conn: Connection, jobs: int) -> None:
    """Running jobs, ten of them finished; the other indexes would only take time."""
    run(
        conn,
        "SET session_replication_role = replica;"
        "DROP INDEX IF EXISTS big.idx_jobs_entity_status, big.idx_jobs_expired_at,"
        " big.idx_jobs_key_expired_at, big.idx_jobs_context, big.idx_jobs_live_key,"
        " big.idx_jobs_entity_created_at;"
        "INSERT INTO big.jobs (key, status, expired_at)"
        " SELECT n, CASE WHEN n <= 10 THEN 0 ELSE 1 END,"
        "        CASE n WHEN 11 THEN now() - interval '9 days' END"
        f" FROM generate_series(1, {jobs}) AS n;"
        "RESET session_replication_role",
    )


@pytest.fixture
def big(conn: Connection, app: NewApp) -> str:
    schema = app("big", "0.11")
    fill(conn, 100_001)
    return schema


def pending(actions: list[Action]) -> Action | None:
    """The pending action, of which there is one at most."""
    found = [action for action in actions if action.action == "pending"]
    assert len(found) <= 1
    return found[0] if found else None


def test_exactly_100000_jobs_are_not_big(conn: Connection, app: NewApp) -> None:
    app("big", "0.11")
    fill(conn, 100_000)
    assert pending(deploy(conn, "big")) is None
    assert state(conn, "big") == ("ours", True, True)


def test_a_big_table_works_without_and_with_the_index(conn: Connection, big: str) -> None:
    actions = deploy(conn, big)
    todo = pending(actions)
    assert todo is not None
    assert [action.action for action in actions] == ["added", "pending", "dropped", "created"]
    assert run(conn, PRUNED_AT_INDEXES) == []
    assert state(conn, big) == ("ours", True, False)
    assert deploy(conn, big) == [todo]

    for call in CALLS.values():
        with conn.transaction(force_rollback=True):
            assert len(run(conn, call.format(big))) == 1
    counts = run(conn, "SELECT * FROM big.prune('7 days', true, true, true)")
    assert counts == [(1, 0, 0, 0, 0, 0, 10, 0)]

    typed = statements_of(todo)
    assert len(typed) == 17
    for statement in typed:
        run(conn, statement)
    assert state(conn, big) == ("ours", True, True)
    assert deploy(conn, big) == []
    assert all(valid for _, valid in run(conn, PRUNED_AT_INDEXES))


def test_resumed_after_each_statement(conn: Connection, big: str) -> None:
    """Whoever stops anywhere and asks again gets the rest, and no more."""
    todo = pending(deploy(conn, big))
    typed = 0
    while todo is not None:
        run(conn, statements_of(todo)[0])
        typed += 1
        assert typed <= 17
        rest = pending(deploy(conn, big))
        assert rest is None or len(statements_of(rest)) == 17 - typed
        todo = rest
    assert typed == 17
    assert state(conn, big) == ("ours", True, True)


def break_off(conn: Connection, connect: Connect, statement: str, table: str) -> None:
    """Run a CREATE INDEX CONCURRENTLY that is cancelled half way, as it waits for a writer."""
    writer, builder = connect(), connect()
    with writer.transaction(force_rollback=True):
        run(writer, f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        with background(builder, statement) as build:
            wait_blocked(conn, pid(builder), pid(writer))
            run(conn, "SELECT pg_cancel_backend(%s)", pid(builder))
            with pytest.raises(psycopg.errors.QueryCanceled):
                build.result()


def test_resumed_after_a_build_that_failed(conn: Connection, connect: Connect, big: str) -> None:
    todo = pending(deploy(conn, big))
    assert todo is not None
    typed = statements_of(todo)
    for statement in typed[:5]:
        run(conn, statement)
    assert typed[5].startswith("CREATE INDEX CONCURRENTLY")
    break_off(conn, connect, typed[5], "big.jobs_part_2")
    assert [valid for _, valid in run(conn, PRUNED_AT_INDEXES)].count(False) == 2

    rest = pending(deploy(conn, big))
    assert rest is not None
    assert statements_of(rest)[0].startswith("DROP INDEX CONCURRENTLY")
    for statement in statements_of(rest):
        run(conn, statement)
    assert state(conn, big) == ("ours", True, True)
    assert deploy(conn, big) == []


def test_not_partitioned(conn: Connection, connect: Connect, app: NewApp) -> None:
    app("big", "0.11")
    run(
        conn,
        "DROP TABLE big.jobs_attributes, big.jobs;"
        "CREATE TABLE big.jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text,"
        " entity text, status int, expired_at timestamptz, is_live boolean DEFAULT true);"
        "CREATE TABLE big.jobs_attributes (job_id uuid REFERENCES big.jobs ON DELETE CASCADE,"
        " symbol text, value text, type big.type_enum, PRIMARY KEY (job_id, symbol))",
    )
    fill(conn, 100_001)
    todo = pending(deploy(conn, "big"))
    assert todo is not None
    (statement,) = statements_of(todo)
    break_off(conn, connect, statement, "big.jobs")
    rest = pending(deploy(conn, "big"))
    assert rest is not None
    assert [part.split(" big")[0] for part in statements_of(rest)] == [
        "DROP INDEX CONCURRENTLY",
        "CREATE INDEX CONCURRENTLY idx_jobs_pruned_at ON",
    ] or len(statements_of(rest)) == 2
    for part in statements_of(rest):
        run(conn, part)
    assert state(conn, "big") == ("ours", True, True)
    assert deploy(conn, "big") == []


def test_an_invalid_index_on_a_small_table_is_replaced(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    app("big", "0.10.2")
    run(
        conn,
        "CREATE INDEX idx_jobs_pruned_at ON ONLY big.jobs (pruned_at) WHERE pruned_at IS NULL;"
        "INSERT INTO big.jobs (key, status) VALUES ('k', 0)",
    )
    statement = (
        "CREATE INDEX CONCURRENTLY jobs_part_3_pruned_at_idx ON big.jobs_part_3 (pruned_at)"
        " WHERE pruned_at IS NULL"
    )
    break_off(conn, connect, statement, "big.jobs_part_3")
    assert pending(deploy(conn, "big")) is None
    assert state(conn, "big") == ("ours", True, True)
    assert deploy(conn, "big") == []


def test_the_view_does_not_wait_for_a_lock(conn: Connection, connect: Connect, app: NewApp) -> None:
    """Not even for one that keeps everybody out."""
    app("myapp")
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE myapp.jobs, myapp.jobs_attributes IN ACCESS EXCLUSIVE MODE")
    conn.execute("SET statement_timeout = '10 s'")
    assert conn.execute("SELECT schema, indexed FROM hotmesh_dba.app").fetchall() == [
        ("myapp", True)
    ]
