"""Marking a live job takes a lock until the transaction ends: the lock table bounds the strip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import deploy, one, run, sqlstate, warnings_of
from tests.support.server import Connection

JOBS = 30_000
STRIP = "SELECT marked_pruned, stripped_attributes FROM live.prune('7 days', false, false, true)"
COUNTS = "SELECT marked_pruned, stripped_attributes, remaining FROM hotmesh_dba.prune"
ROOM = (
    "SELECT current_setting('max_locks_per_transaction')::int"
    " * (current_setting('max_connections')::int"
    "    + current_setting('max_prepared_transactions')::int)"
)


def strip_of(schema: str) -> str:
    return f"{COUNTS}('{schema}', '7 days', false, false, true)"


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


ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture
def ten(conn: Connection, app: NewApp) -> list[str]:
    """Ten apps, each with more jobs to strip than one transaction may mark."""
    names = [app(f"live_{n}") for n in range(10)]
    for name in names:
        fill(conn, name, 2500)
        # The lock of a key is the same in every app.
        run(
            conn,
            "SET session_replication_role = replica;"
            f"UPDATE {name}.jobs SET key = '{name}/' || key;"
            "RESET session_replication_role",
        )
        deploy(conn, name)
    return names


def test_sessions_that_stay_open_never_fill_the_lock_table(
    conn: Connection, connect: Connect, ten: list[str]
) -> None:
    """Each in a transaction and an app of its own: what all of them hold is what counts."""
    marks = []
    for name in ten:
        session = connect(autocommit=False)
        caught = warnings_of(session)
        marked, stripped, left = run(session, strip_of(name))[0]
        assert marked == stripped
        assert left == 2500 - marked
        assert len(caught) == 1
        assert str(left) in caught[0].message
        marks.append(marked)
        assert one(conn, ADVISORY) <= 6400 / 2
    assert marks[0] == 6400 / 4
    assert marks[1] > 0
    other = connect()
    with other.transaction(force_rollback=True):
        run(other, "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 3000) n")


def test_sessions_at_the_same_instant_give_way(
    conn: Connection, connect: Connect, ten: list[str]
) -> None:
    """None of them sees the others' locks in time, and all of them together want too many."""
    sessions = [connect(autocommit=False) for _ in ten]
    warned = [warnings_of(session) for session in sessions]
    for session in sessions:
        run(session, "SELECT 1")
    start = Barrier(len(ten))

    def strip(session: Connection, name: str) -> tuple[int, int, int]:
        start.wait()
        marked, stripped, left = run(session, strip_of(name))[0]
        return marked, stripped, left

    with ThreadPoolExecutor(len(ten)) as pool:
        results = list(pool.map(strip, sessions, ten))
    for (marked, stripped, left), caught in zip(results, warned, strict=True):
        assert marked == stripped
        assert left == 2500 - marked
        assert len(caught) == 1
    assert sum(marked for marked, _, _ in results) == one(conn, ADVISORY) > 0
    for session in sessions:
        session.commit()
    for name, (marked, _, _) in zip(ten, results, strict=True):
        assert counts(conn, name) == (marked, 0, 2500)
        assert run(conn, strip_of(name))[0][0] == min(1600, 2500 - marked)


@pytest.mark.parametrize("capacity", [0, 100])
def test_a_full_lock_table_stops_the_strip(conn: Connection, app: NewApp, capacity: int) -> None:
    """As if others had filled it: the same error, once this session holds so many."""
    deploy(conn, app("live"))
    fill(conn, "live", 2000)
    run(
        conn,
        "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$"
        "BEGIN"
        f"  IF ({ADVISORY} AND pid = pg_backend_pid()) > {capacity} THEN"
        "    RAISE out_of_memory USING MESSAGE = 'out of shared memory';"
        "  END IF;"
        "  RETURN NEW; "
        "END $$;"
        # Triggers fire by name: after the one that takes the lock.
        "CREATE TRIGGER zz_full BEFORE UPDATE ON live.jobs"
        " FOR EACH ROW EXECUTE FUNCTION public.full()",
    )
    caught = warnings_of(conn)
    marked, stripped, left = run(conn, strip_of("live"))[0]
    assert marked == stripped
    assert capacity * 0.9 <= marked <= capacity
    assert left == 2000 - marked
    (warning,) = caught
    assert str(left) in warning.message
    assert "again" in warning.hint
    assert counts(conn, "live") == (marked, 0, 2000)


def test_any_other_step_fails_where_the_lock_table_is_full(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("live"))
    fill(conn, "live", 10)
    run(
        conn,
        "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE out_of_memory; END';"
        "CREATE TRIGGER zz_full BEFORE DELETE ON live.jobs"
        " FOR EACH ROW EXECUTE FUNCTION public.full();"
        "UPDATE live.jobs SET expired_at = now() - interval '8 days' WHERE key = '1'",
    )
    assert sqlstate(conn, "SELECT * FROM live.prune('7 days')") == "53200"
