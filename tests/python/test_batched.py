"""prune_batched: what it returns, what it refuses, and what it leaves of a connection."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.pq import TransactionStatus

import hotmesh_dba as h
from hotmesh_dba import DBA, AsyncDBA, Progress, RunResult
from tests.conftest import Connect, Database, NewApp, NewDatabase, NewRole
from tests.support.sample import load_sample
from tests.support.server import Connection
from tests.support.templates import Templates

from .running import HELD, at_rest, backends, begun, states, until
from .test_client import EVERYTHING, PRUNED, count

# Of the app in `filled`: 2 jobs, 3 stripped, 2 messages, 1 signal.
ROWS = 8


def test_the_result_is_that_of_prune_and_the_run(face: Any, conn: Connection, filled: str) -> None:
    result = face.prune_batched(filled, **EVERYTHING)
    assert isinstance(result, RunResult)
    assert {name: asdict(result)[name] for name in asdict(PRUNED)} == asdict(PRUNED)
    assert (result.state, result.stop_reason, result.cascaded, result.skipped) == (
        "completed",
        None,
        6,
        0,
    )
    assert count(conn, "jobs") == 3

    [run] = result.runs
    assert (run.app, run.worker, run.workers, run.role) == (filled, 1, 1, "postgres")
    assert (run.rows_done, run.rows_left, run.batches > 0) == (ROWS, 0, True)
    assert run.options["retention"] == "7 days"
    assert run.finished_at is not None
    assert run.finished_at - run.jobs_before > timedelta(days=7)
    assert face.runs() == face.runs(filled) == [run]
    assert face.progress() == face.progress(filled) == []


ONE = ["connection", "autocommit", "async-connection"]
MANY = ["conninfo", "pool", "async-conninfo", "async-pool"]
one = pytest.mark.parametrize("face", ONE, indirect=True)
many = pytest.mark.parametrize("face", MANY, indirect=True)


def backlog(conn: Connection, jobs: int = 400) -> None:
    """Add expired jobs."""
    conn.execute(
        "INSERT INTO myapp.jobs (key, status, expired_at)"
        " SELECT 'k' || n, 0, now() - interval '10 days' FROM generate_series(1, %s) n",
        [jobs],
    )


@many
def test_two_workers(face: Any, conn: Connection, filled: str) -> None:
    backlog(conn)
    told: list[Progress] = []
    result = face.prune_batched(
        filled, workers=2, batch_size=10, progress=told.append, **EVERYTHING
    )
    assert (result.jobs, result.marked, result.streams, result.signals) == (402, 3, 2, 1)
    assert [(run.worker, run.workers) for run in result.runs] == [(1, 2), (2, 2)]
    assert len({run.pid for run in result.runs}) == 2
    assert all(run.deleted_jobs > 50 for run in result.runs)
    assert (count(conn, "jobs"), result.state) == (3, "completed")
    assert told[-1].result == result
    assert told[-1].rows_done == 408


@one
def test_one_connection_cannot_have_two_workers(face: Any, conn: Connection, filled: str) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        face.prune_batched(filled, workers=2)
    assert "pool" in (caught.value.hint or "")
    assert count(conn, "jobs") == 5


def test_every_option_reaches_the_server(dba: DBA, filled: str) -> None:
    result = dba.prune_batched(
        filled,
        expire=timedelta(days=3),
        entities=["book"],
        keep_hmark=True,
        batch_size=7,
        batch_time=timedelta(milliseconds=150),
        batch_pause="1 ms",
        max_runtime="1 hour",
        max_rows=10**10,
        disable_triggers=True,
        max_wal_rate=2**40,
        max_replica_lag="1 minute",
        workers=2,
    )
    options = result.runs[1].options
    expected = {
        "retention": "3 days",
        "entity_list": ["book"],
        "keep_hmark": True,
        "batch_size": 7,
        "batch_time": "00:00:00.15",
        "batch_pause": "00:00:00.001",
        "max_runtime": "01:00:00",
        "max_rows": 10**10,
        "disable_triggers": True,
        "max_wal_rate": 2**40,
        "max_replica_lag": "00:01:00",
        "worker": 2,
        "workers": 2,
    }
    assert {name: options[name] for name in expected} == expected
    assert result.runs[0].triggers_disabled
    assert result.jobs == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, h.InvalidOption),
        ({"workers": True}, TypeError),
        ({"workers": "2"}, TypeError),
        ({"batch_size": 1.5}, TypeError),
        ({"max_rows": "9"}, TypeError),
        ({"batch_time": 200}, TypeError),
        ({"disable_triggers": 1}, TypeError),
        ({"progress": "yes"}, TypeError),
        ({"batches": 3}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_are_found_without_a_server(
    options: dict[str, Any], error: type[Exception]
) -> None:
    nowhere = "host=127.0.0.1 port=1"
    with pytest.raises(error, match=next(iter(options))):
        DBA(nowhere).prune_batched("myapp", **options)
    with pytest.raises(error, match=next(iter(options))):
        asyncio.run(AsyncDBA(nowhere).prune_batched("myapp", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2**40},
        {"batch_time": "0"},
        {"batch_time": None},
        {"batch_pause": "-1 s"},
        {"max_rows": -1},
        {"max_wal_rate": 0},
        {"max_runtime": "soon"},
        {"workers": 65},
        {"expire": "-1 day"},
    ],
    ids=str,
)
def test_options_that_the_server_refuses(
    dba: DBA, conn: Connection, filled: str, options: dict[str, Any]
) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        dba.prune_batched(filled, **options)
    assert caught.value.result is None
    assert states(conn) == [], "it had not begun"


@pytest.mark.parametrize("name", ["prune", "preview"])
def test_the_batch_options_are_its_own(dba: DBA, name: str) -> None:
    with pytest.raises(TypeError, match="batch_size"):
        getattr(dba, name)("myapp", batch_size=3)


def test_a_budget_is_no_error(dba: DBA, conn: Connection, filled: str) -> None:
    backlog(conn)
    result = dba.prune_batched(filled, max_rows=100)
    assert (result.state, result.stop_reason, result.jobs) == ("stopped", "max_rows", 100)
    assert result.remaining > 0
    result = dba.prune_batched(filled, max_runtime=0 * timedelta(1))
    assert (result.state, result.stop_reason, result.jobs) == ("stopped", "max_runtime", 0)
    assert dba.prune_batched(filled).remaining == 0


def test_locked_rows_stay(dba: DBA, conn: Connection, connect: Connect, filled: str) -> None:
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM myapp.jobs WHERE key = 'expired-book' FOR UPDATE")
    result = dba.prune_batched(filled)
    assert (result.state, result.stop_reason) == ("stopped", "locked")
    assert (result.jobs, result.remaining) == (1, 1)
    assert count(conn, "jobs") == 4


# --- the connection --------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("works", [True, False])
def test_autocommit_is_put_back(
    connect: Connect, conn: Connection, filled: str, autocommit: bool, works: bool
) -> None:
    mine = connect(autocommit=autocommit)
    if works:
        DBA(mine).prune_batched(filled)
    else:
        refuse_deletes(conn)
        with pytest.raises(h.HotMeshDBAError):
            DBA(mine).prune_batched(filled)
    assert mine.autocommit is autocommit
    assert mine.info.transaction_status is TransactionStatus.IDLE
    assert states(conn) == [("completed", None) if works else ("failed", "error")]


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("spoilt", [False, True])
def test_an_open_transaction_is_refused(
    connect: Connect, conn: Connection, filled: str, autocommit: bool, spoilt: bool
) -> None:
    mine = connect(autocommit=autocommit)
    mine.execute("BEGIN" if autocommit else "SELECT 1")
    if spoilt:
        with pytest.raises(psycopg.errors.DivisionByZero):
            mine.execute("SELECT 1/0")
    before = mine.info.transaction_status
    with pytest.raises(h.OpenTransaction) as caught:
        DBA(mine).prune_batched(filled)
    assert caught.value.detail
    assert "prune" in (caught.value.hint or "")
    assert (mine.info.transaction_status, mine.autocommit) == (before, autocommit)
    mine.rollback()
    assert count(conn, "jobs") == 5
    assert DBA(mine).prune_batched(filled).jobs == 2, "once it is closed it works"


def test_an_open_transaction_is_refused_in_asyncio(db: Database, filled: str) -> None:
    async def refused() -> None:
        async with await psycopg.AsyncConnection.connect(db.conninfo()) as mine:
            await mine.execute("SELECT 1")
            with pytest.raises(h.OpenTransaction):
                await AsyncDBA(mine).prune_batched(filled)
            assert mine.info.transaction_status is TransactionStatus.INTRANS
            await mine.rollback()
            assert (await AsyncDBA(mine).prune_batched(filled)).jobs == 2
            assert not mine.autocommit

    asyncio.run(refused())


def test_a_pipeline_is_refused(connect: Connect, filled: str) -> None:
    mine = connect()
    with mine.pipeline(), pytest.raises(h.OpenTransaction):
        DBA(mine).prune_batched(filled)


def test_a_pool_gets_its_connections_back_as_they_were(db: Database, filled: str) -> None:
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=2, max_size=2, timeout=5) as pool:
        for _ in range(2):
            DBA(pool).prune_batched(filled, workers=2)
        with pool.connection() as one, pool.connection() as other:
            for mine in (one, other):
                assert not mine.autocommit
                assert mine.info.transaction_status is TransactionStatus.IDLE


def test_a_pool_that_is_too_small(db: Database, filled: str) -> None:
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=1, max_size=1, timeout=0.1) as pool:
        with pytest.raises(h.ConnectionFailed):
            DBA(pool).prune_batched(filled, workers=2)
        assert DBA(pool).prune_batched(filled).jobs == 2


@pytest.mark.parametrize("style", ["datestyle = 'German'", "intervalstyle = 'sql_standard'"])
def test_the_styles_of_the_session_do_not_matter(connect: Connect, filled: str, style: str) -> None:
    mine = connect()
    mine.execute(f"SET {style}".encode())
    result = DBA(mine).prune_batched(filled)
    assert result.runs[0].started_at < (result.runs[0].finished_at or result.runs[0].started_at)


def test_a_window_that_begins_before_python_s_first_year(dba: DBA, filled: str) -> None:
    result = dba.prune_batched(filled, expire="5000 years")
    assert (result.jobs, result.runs[0].jobs_before.year) == (0, 2)


# --- errors ----------------------------------------------------------------------------------


def refuse_deletes(conn: Connection, state: str = "55000") -> None:
    """No job can be deleted any more."""
    conn.execute(
        f"""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}', DETAIL = 'd', HINT = 'h';
        END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON myapp.jobs
            FOR EACH ROW EXECUTE FUNCTION public.refuse()
        """
    )


def test_a_failed_run_carries_what_it_had_done(face: Any, conn: Connection, filled: str) -> None:
    refuse_deletes(conn)
    with pytest.raises(h.HotMeshDBAError) as caught:
        face.prune_batched(filled, **EVERYTHING)
    error = caught.value
    assert type(error) is h.HotMeshDBAError, "55000 has another meaning where we raise it"
    assert (error.message, error.sqlstate, error.hint) == ("not this one", "55000", "h")
    result = error.result
    assert result is not None
    assert (result.state, result.stop_reason) == ("failed", "error")
    assert (result.jobs, result.streams, result.marked, result.signals) == (0, 2, 3, 1)
    assert result.remaining > 0
    assert result.runs[0].error_sqlstate == "55000"
    assert (count(conn, "jobs"), count(conn, "engine_streams")) == (5, 0)
    assert pickle.loads(pickle.dumps(error)).result == result


@pytest.mark.parametrize("state", ["22023", "3F000", "42809", "25001"])
def test_an_error_of_a_users_trigger_is_no_cause_of_ours(
    dba: DBA, conn: Connection, filled: str, state: str
) -> None:
    backlog(conn, 3000)  # hundreds in every leaf: no row's fault
    refuse_deletes(conn, state)
    with pytest.raises(h.HotMeshDBAError, match="not this one") as caught:
        dba.prune_batched(filled)
    assert (type(caught.value), caught.value.sqlstate) == (h.HotMeshDBAError, state)


def test_rows_that_cannot_be_removed(dba: DBA, conn: Connection, filled: str) -> None:
    conn.execute(
        """
        CREATE TABLE public.book (job uuid REFERENCES myapp.jobs);
        INSERT INTO public.book SELECT id FROM myapp.jobs WHERE key = 'expired-book'
        """
    )
    with pytest.raises(h.HotMeshDBAError) as caught:
        dba.prune_batched(filled)
    assert caught.value.sqlstate == "09000"
    assert caught.value.result is not None
    assert (caught.value.result.skipped, caught.value.result.jobs) == (1, 1)


def test_triggers_that_cannot_be_disabled(dba: DBA, conn: Connection, filled: str) -> None:
    refuse_deletes(conn)
    with pytest.raises(h.TriggersNeeded) as caught:
        dba.prune_batched(filled, disable_triggers=True)
    assert "refuse" in (caught.value.detail or "")
    assert caught.value.result is None


def test_not_deployed(dba: DBA, app: NewApp) -> None:
    schema = app("old", layout="0.10.0")
    with pytest.raises(h.NotDeployed):
        dba.prune_batched(schema, attributes=True, auto_deploy=False)
    assert dba.prune_batched(schema, attributes=True).marked == 0


def test_a_run_that_somebody_else_ended(dba: DBA, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, filled, **HELD)
        begun(conn)
        conn.execute("UPDATE hotmesh_dba.run SET state = 'interrupted'")
        with pytest.raises(h.RunEnded) as caught:
            call.result(30)
    assert caught.value.result is not None
    assert caught.value.result.state == "interrupted"


def test_one_run_at_a_time(face: Any, dba: DBA, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, filled, **HELD)
        begun(conn)
        [pid] = backends(conn)
        with pytest.raises(h.Locked) as caught:
            face.prune_batched(filled)
        assert caught.value.sqlstate == "55P03"
        assert str(pid) in (caught.value.detail or "")
        assert caught.value.result is None, "the other's run is not ours"

        [active] = face.progress()
        assert (active.app, active.pid, active.state) == (filled, pid, "running")
        assert (active.rows_done, active.batches) == (1, 1)
        assert active.rows_left == active.rows_expected - 1
        assert [run.state for run in face.runs()] == ["running"]
        conn.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(h.Cancelled):
            call.result(30)
    assert face.progress() == []
    assert face.prune_batched(filled).state == "completed"


def test_a_cancel_by_somebody_else(face: Any, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(face.prune_batched, filled, **HELD)
        begun(conn)
        conn.execute("SELECT pg_cancel_backend(%s)", backends(conn))
        with pytest.raises(h.Cancelled) as caught:
            call.result(30)
    result = caught.value.result
    assert result is not None
    assert (result.state, result.stop_reason) == ("failed", "cancelled")
    assert sum(run.rows_done for run in result.runs) == 1
    assert states(conn) == [("failed", "cancelled")]
    at_rest(conn)


@many
def test_one_worker_s_end_is_the_others(face: Any, conn: Connection, filled: str) -> None:
    backlog(conn)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(face.prune_batched, filled, workers=3, **HELD)
        begun(conn, 3)
        conn.execute("SELECT pg_terminate_backend(%s)", backends(conn)[1:2])
        with pytest.raises(h.ConnectionFailed) as caught:
            call.result(30)
    result = caught.value.result
    assert result is not None
    assert [run.rows_done for run in result.runs] == [1, 1, 1]
    assert [(r.worker, r.stop_reason) for r in result.runs if r.state == "failed"] == [
        (1, "cancelled"),
        (3, "cancelled"),
    ]
    at_rest(conn)
    until("the dead one to be seen", lambda: [r.state for r in face.progress()] == ["interrupted"])


def test_a_killed_run_is_closed_by_the_next(dba: DBA, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, filled, **HELD)
        begun(conn)
        conn.execute("SELECT pg_terminate_backend(%s, 5000)", backends(conn))
        with pytest.raises(h.ConnectionFailed) as caught:
            call.result(30)
    assert caught.value.result is not None
    assert caught.value.result.state == "interrupted"
    [active] = dba.progress()
    assert (active.state, active.rows_done) == ("interrupted", 1)
    assert dba.prune_batched(filled).state == "completed"
    assert [run.state for run in dba.runs()] == ["completed", "interrupted"]


# --- progress --------------------------------------------------------------------------------


@many
def test_progress_while_it_runs(face: Any, conn: Connection, filled: str) -> None:
    """The callback ends the hold, so the run's end shows that it was called meanwhile."""
    backlog(conn, 20)
    told: list[Progress] = []

    def progress(now: Progress) -> None:
        told.append(now)
        if now.rows_done and len(told) < 3:
            conn.execute("SELECT pg_cancel_backend(%s)", [now.result.runs[0].pid])

    with pytest.raises(h.Cancelled) as caught:
        face.prune_batched(filled, progress=progress, **HELD)
    assert len(told) >= 2
    first, last = told[0], told[-1]
    assert first.result.state == "running"
    assert (first.rows_done, first.rows_expected) == (1, 25)
    assert (first.rows_left, first.result.jobs + first.result.signals) == (24, 1)
    assert first.rows_per_second is not None
    assert first.rows_per_second > 0
    assert first.time_left is not None
    assert last.result == caught.value.result
    assert last.result.state == "failed"


@one
def test_a_single_connection_is_told_the_end(face: Any, filled: str) -> None:
    told: list[Progress] = []
    result = face.prune_batched(filled, progress=told.append, **EVERYTHING)
    [last] = told
    assert last.result == result
    assert (last.rows_done, last.rows_expected, last.rows_left) == (ROWS, ROWS, 0)
    assert last.time_left == timedelta(0)


def test_a_pool_without_another_connection_is_told_the_end(db: Database, filled: str) -> None:
    told: list[Progress] = []
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=1, max_size=1) as pool:
        result = DBA(pool).prune_batched(filled, progress=told.append)
    assert [progress.result for progress in told] == [result]


def test_a_coroutine_function_is_awaited(db: Database, filled: str) -> None:
    told: list[Progress] = []

    async def progress(now: Progress) -> None:
        await asyncio.sleep(0)
        told.append(now)

    asyncio.run(AsyncDBA(db.conninfo()).prune_batched(filled, progress=progress))
    assert [now.rows_done for now in told] == [5]


class Enough(Exception):  # noqa: N818 - it is no error
    """What a callback raises."""


@many
def test_a_callback_that_raises_stops_the_run(face: Any, conn: Connection, filled: str) -> None:
    calls: list[Progress] = []

    def progress(now: Progress) -> None:
        calls.append(now)
        raise Enough

    with pytest.raises(Enough) as caught:
        face.prune_batched(filled, progress=progress, **HELD)
    assert len(calls) == 1
    assert caught.value.result.stop_reason == "cancelled"  # type: ignore[attr-defined]
    assert states(conn) == [("failed", "cancelled")]
    at_rest(conn)


@one
def test_a_callback_that_raises_at_the_end(face: Any, conn: Connection, filled: str) -> None:
    def progress(_: Progress) -> None:
        raise Enough

    with pytest.raises(Enough):
        face.prune_batched(filled, progress=progress)
    assert states(conn) == [("completed", None)]


# --- records ---------------------------------------------------------------------------------


def test_runs_are_the_newest_first_and_by_app(
    dba: DBA, conn: Connection, app: NewApp, filled: str
) -> None:
    other = app("other")
    for schema in (filled, other, filled):
        dba.prune_batched(schema)
    assert [run.app for run in dba.runs()] == [filled, other, filled]
    assert [run.app for run in dba.runs(other)] == [other]
    assert [run.id for run in dba.runs(limit=2)] == [3, 2]
    assert conn.execute("SELECT count(*) FROM hotmesh_dba.run").fetchone() == (3,)
    for call in (dba.runs, dba.progress):
        with pytest.raises(h.UnknownApp):
            call("elsewhere")


def test_a_role_sees_the_runs_of_its_apps(
    db: Database, conn: Connection, dba: DBA, app: NewApp, filled: str, role: NewRole
) -> None:
    owner = role("owner")
    theirs = DBA(db.conninfo(owner))
    app("theirs", owner=owner)
    dba.deploy("theirs")
    dba.prune_batched(filled)
    result = theirs.prune_batched("theirs")
    assert result.runs[0].role == owner
    assert theirs.runs() == list(result.runs)
    assert len(dba.runs()) == 2
    assert conn.execute("SELECT count(*) FROM hotmesh_dba.run").fetchone() == (2,)


def test_a_sample_of_real_shape_in_three_faces(
    db: Database, conn: Connection, new_database: NewDatabase, myapp: str, templates: Templates
) -> None:
    """prune, prune_batched and preview agree on the same data."""
    load_sample(conn, myapp, jobs=300)
    other = new_database(templates.app)
    with closing(other.connect()) as theirs:
        load_sample(theirs, "myapp", jobs=300)
    previewed = asdict(DBA(db.conninfo()).preview("myapp", **EVERYTHING))
    batched = asdict(
        DBA(db.conninfo()).prune_batched("myapp", workers=2, batch_size=20, **EVERYTHING)
    )
    pruned = asdict(DBA(other.conninfo()).prune("myapp", **EVERYTHING))
    assert pruned.pop("remaining") == 0
    assert previewed == {**pruned, "exact": True}
    assert {name: batched[name] for name in pruned} == pruned
    assert pruned["jobs"] > 0
