"""Marking a live job takes a lock until the transaction ends: the lock table bounds the strip."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import deploy, one, run, warnings_of
from tests.support.server import Connection

JOBS = 30_000
STRIP = "SELECT marked_pruned, stripped_attributes FROM live.prune('7 days', false, false, true)"
ROOM = (
    "SELECT current_setting('max_locks_per_transaction')::int"
    " * (current_setting('max_connections')::int"
    "    + current_setting('max_prepared_transactions')::int)"
)


def fill(conn: Connection, schema: str, jobs: int) -> None:
    """Completed live jobs with an attribute each that goes and one that stays."""
    run(
        conn,
        "SET session_replication_role = replica;"
        f"INSERT INTO {schema}.jobs (key, status) SELECT n, 0 FROM generate_series(1, {jobs}) n;"
        f"INSERT INTO {schema}.jobs_attributes (job_id, symbol, value, type)"
        f" SELECT id, kind, 'v', kind::{schema}.type_enum"
        f" FROM {schema}.jobs, (VALUES ('adata'), ('jdata')) AS a (kind);"
        "RESET session_replication_role",
    )


@pytest.fixture
def live(conn: Connection, app: NewApp) -> str:
    app("live", "0.11")
    run(
        conn,
        "DROP INDEX live.idx_jobs_context, live.idx_jobs_key_expired_at,"
        " live.idx_jobs_entity_status, live.idx_jobs_attributes_symbol",
    )
    fill(conn, "live", JOBS)
    deploy(conn, "live")
    return "live"


def counts(conn: Connection, schema: str) -> tuple[int, int, int]:
    """Jobs that are marked; attributes of theirs that should have gone; attributes that stay."""
    row = run(
        conn,
        f"SELECT (SELECT count(*) FROM {schema}.jobs WHERE pruned_at IS NOT NULL),"
        " count(*) FILTER (WHERE a.type = 'adata' AND j.pruned_at IS NOT NULL),"
        " count(*) FILTER (WHERE a.type = 'jdata')"
        f" FROM {schema}.jobs_attributes a JOIN {schema}.jobs j ON j.id = a.job_id",
    )[0]
    return row[0], row[1], row[2]


def test_a_backlog_is_stripped_call_by_call(conn: Connection, live: str) -> None:
    """On stock settings, where a mark of all of them at once fails: out of shared memory."""
    assert one(conn, ROOM) == 6400
    caught = warnings_of(conn)
    left, calls = JOBS, 0
    while left:
        caught.clear()
        ((marked, stripped),) = run(conn, STRIP)
        assert marked == stripped > 0
        left -= marked
        calls += 1
        if left:
            (warning,) = caught
            assert str(left) in (warning.message)
            assert warning.detail
            assert "again" in (warning.hint)
        else:
            assert caught == []
        # The rest of the server has most of the table.
        assert marked <= 6400 / 4
    assert calls > 10
    assert counts(conn, live) == (JOBS, 0, JOBS)
    assert run(conn, STRIP) == [(0, 0)]


def test_remaining_is_what_is_left(conn: Connection, app: NewApp) -> None:
    app("live")
    fill(conn, "live", 4000)
    call = "SELECT marked_pruned, remaining FROM hotmesh_dba.prune('live', '7 days', {}, {}, {})"
    assert run(conn, call.format("true", "true", "false")) == [(0, 0)]
    marked, left = run(conn, call.format("false", "false", "true"))[0]
    assert left == 4000 - marked
    while left:
        marked, now_left = run(conn, call.format("false", "false", "true"))[0]
        assert now_left == left - marked
        left = now_left


def test_calls_in_one_transaction_never_fill_the_lock_table(
    conn: Connection, connect: Connect, live: str
) -> None:
    """Their locks add up; others still get theirs."""
    caught = warnings_of(conn)
    with conn.transaction():
        marks = [run(conn, STRIP)[0][0] for _ in range(5)]
        held = one(
            conn,
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
        )
        assert held <= 6400 / 4
        other = connect()
        with other.transaction(force_rollback=True):
            run(other, "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 3000) n")
    assert marks[0] > 0
    assert len(caught) == 5
    assert counts(conn, live)[:2] == (sum(marks), 0)
    # A new transaction goes on.
    assert run(conn, STRIP)[0][0] > 0


def test_locks_of_the_caller_count(conn: Connection, live: str) -> None:
    with conn.transaction():
        run(conn, "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 1500) n")
        assert run(conn, STRIP)[0][0] <= 100
    with conn.transaction():
        run(conn, "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 1700) n")
        caught = warnings_of(conn)
        assert run(conn, STRIP) == [(0, 0)]
        assert len(caught) == 1
    assert counts(conn, live)[1] == 0


def test_a_poison_job_keeps_nobody_else(conn: Connection, app: NewApp) -> None:
    """Two live rows of one key: HotMesh's own trigger refuses to let them be marked."""
    deploy(conn, app("live"))
    fill(conn, "live", 300)
    run(
        conn,
        "SET session_replication_role = replica;"
        "UPDATE live.jobs SET key = '7' WHERE key = '8';"
        "RESET session_replication_role",
    )
    caught = warnings_of(conn)
    for marked in (298, 0):
        caught.clear()
        assert run(conn, STRIP) == [(marked, marked)]
        poison = run(conn, "SELECT id::text FROM live.jobs WHERE key = '7'")
        assert len(caught) == 2
        for warning in caught:
            said = f"{warning.message} {warning.detail}"
            assert any(job in said for (job,) in poison)
            assert "live job" in said
            assert warning.hint
        assert counts(conn, "live") == (298, 0, 300)
    # The rest of the call is done: the jobs that are poison keep all they have.
    kept = run(
        conn,
        "SELECT count(*) FROM live.jobs_attributes a JOIN live.jobs j ON j.id = a.job_id"
        " WHERE j.pruned_at IS NULL",
    )
    assert kept == [(4,)]
    run(
        conn,
        "SET session_replication_role = replica; UPDATE live.jobs SET key = id::text; RESET ALL",
    )
    assert run(conn, STRIP) == [(2, 2)]


def test_many_poison_jobs(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("live"))
    fill(conn, "live", 2000)
    run(
        conn,
        "SET session_replication_role = replica;"
        "UPDATE live.jobs SET key = (key::int / 2)::text WHERE key::int <= 40;"
        "RESET session_replication_role",
    )
    total = 0
    for _ in range(3):
        total += run(conn, STRIP)[0][0]
    assert total == counts(conn, "live")[0] == 2000 - 38
