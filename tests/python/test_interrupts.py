"""Ctrl-C and a task's cancellation: the run ends on the server, at once, with a true record."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.pq import TransactionStatus

import hotmesh_dba as h
from hotmesh_dba import DBA, AsyncDBA, RunResult
from tests.conftest import Connect, Database
from tests.support.server import Connection

from .running import HELD, at_rest, begun, states, until
from .test_batched import backlog
from .test_client import count

# The COMMIT that ends a run waits for whoever holds the table public.gate.
GATE = """
CREATE TABLE public.gate ();
CREATE FUNCTION public.pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN LOCK TABLE public.gate IN SHARE MODE; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER pass_gate AFTER UPDATE ON hotmesh_dba.run DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'completed') EXECUTE FUNCTION public.pass_gate();
"""


def waits_at(watcher: Connection, what: str) -> None:
    """Wait until a process waits for a lock on a table."""
    until(
        f"somebody to wait for {what}",
        lambda: bool(
            watcher.execute(
                "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass", [what]
            ).fetchall()
        ),
    )


@contextmanager
def interrupted_when(ready: Callable[[], None]) -> Iterator[None]:
    """Send this process a SIGINT as soon as something is so, which it must be within the block."""

    def send() -> None:
        ready()
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def result_of(error: BaseException) -> RunResult:
    """What an exception carries."""
    result = getattr(error, "result", None)
    assert isinstance(result, RunResult)
    return result


# --- Ctrl-C ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conninfo", "connection", "pool"])
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(
    db: Database, connect: Connect, conn: Connection, filled: str, kind: str, workers: int
) -> None:
    backlog(conn)
    told: list[h.Progress] = []
    mine = connect(autocommit=False)
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=2, max_size=3) as pool:
        database = {"conninfo": db.conninfo(), "connection": mine, "pool": pool}[kind]
        workers = 1 if kind == "connection" else workers
        with interrupted_when(lambda: begun(conn, workers)), pytest.raises(KeyboardInterrupt) as c:
            DBA(database).prune_batched(  # type: ignore[arg-type]
                filled, workers=workers, progress=told.append, **HELD
            )
        at_rest(conn)
        assert states(conn) == [("failed", "cancelled")] * workers
        result = result_of(c.value)
        assert [run.rows_done for run in result.runs] == [1] * workers
        assert told[-1].result == result
        assert DBA(database).prune_batched(filled).state == "completed"  # type: ignore[arg-type]
    assert not mine.autocommit
    assert mine.info.transaction_status is TransactionStatus.IDLE


def test_ctrl_c_in_a_commit(db: Database, connect: Connect, conn: Connection, filled: str) -> None:
    """It hits outside a batch: the row cannot be closed, and is seen to be dead."""
    conn.execute(GATE)
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE public.gate IN ACCESS EXCLUSIVE MODE")
    with (
        interrupted_when(lambda: waits_at(conn, "public.gate")),
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        DBA(db.conninfo()).prune_batched(filled)
    holder.rollback()
    at_rest(conn)
    result = result_of(caught.value)
    assert (result.state, result.jobs, count(conn, "jobs")) == ("interrupted", 2, 3)
    until("the dead run to be seen", lambda: not states_seen(db) & {"running"})
    assert states_seen(db) == {"interrupted"}
    assert DBA(db.conninfo()).prune_batched(filled).jobs == 0
    assert states(conn) == [("interrupted", None), ("completed", None)]


def states_seen(db: Database) -> set[str]:
    """The states that the view shows."""
    return {active.state for active in DBA(db.conninfo()).progress()}


def test_ctrl_c_before_the_run_has_begun(
    db: Database, connect: Connect, conn: Connection, filled: str
) -> None:
    DBA(db.conninfo()).deploy(filled)
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE hotmesh_dba.run IN EXCLUSIVE MODE")
    with (
        interrupted_when(lambda: waits_at(conn, "hotmesh_dba.run")),
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        DBA(db.conninfo()).prune_batched(filled)
    at_rest(conn)
    holder.rollback()
    assert getattr(caught.value, "result", None) is None
    assert states(conn) == []
    assert count(conn, "jobs") == 5


# --- cancellation ----------------------------------------------------------------------------


@asynccontextmanager
async def client(db: Database, kind: str) -> AsyncIterator[AsyncDBA]:
    """An asynchronous client of a kind."""
    if kind == "conninfo":
        yield AsyncDBA(db.conninfo())
    elif kind == "pool":
        async with psycopg_pool.AsyncConnectionPool(db.conninfo(), min_size=2, max_size=3) as pool:
            yield AsyncDBA(pool)
    else:
        async with await psycopg.AsyncConnection.connect(db.conninfo()) as mine:
            yield AsyncDBA(mine)
            assert not mine.autocommit
            assert mine.info.transaction_status is TransactionStatus.IDLE


async def off(call: Callable[..., None], *arguments: Any) -> None:
    """Wait for something without holding up the loop."""
    await asyncio.to_thread(call, *arguments)


@pytest.mark.parametrize("kind", ["conninfo", "connection", "pool"])
@pytest.mark.parametrize("workers", [1, 2])
def test_cancel(
    db: Database,
    conn: Connection,
    filled: str,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    workers: int,
) -> None:
    backlog(conn)
    workers = 1 if kind == "connection" else workers
    told: list[h.Progress] = []

    async def cancelled() -> None:
        async with client(db, kind) as dba:
            task = asyncio.create_task(
                dba.prune_batched(filled, workers=workers, progress=told.append, **HELD)
            )
            await off(begun, conn, workers)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            at_rest(conn)
            assert not [task for task in asyncio.all_tasks() if "aio_workers" in repr(task)]
            assert states(conn) == [("failed", "cancelled")] * workers
            assert [run.rows_done for run in told[-1].result.runs] == [1] * workers
            assert (await dba.prune_batched(filled)).state == "completed"

    asyncio.run(cancelled())
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_cancel_in_a_commit(db: Database, connect: Connect, conn: Connection, filled: str) -> None:
    conn.execute(GATE)
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE public.gate IN ACCESS EXCLUSIVE MODE")

    async def cancelled() -> None:
        task = asyncio.create_task(AsyncDBA(db.conninfo()).prune_batched(filled))
        await off(waits_at, conn, "public.gate")
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert result_of(caught.value).state == "interrupted"

    asyncio.run(cancelled())
    at_rest(conn)
    assert count(conn, "jobs") == 3


def test_cancel_twice(db: Database, conn: Connection, filled: str) -> None:
    """The second comes while the first is seen to, and must not leave the run alone."""

    async def cancelled() -> None:
        task = asyncio.create_task(AsyncDBA(db.conninfo()).prune_batched(filled, **HELD))
        await off(begun, conn)
        task.cancel()
        await asyncio.sleep(0)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()

    asyncio.run(cancelled())
    at_rest(conn)
    assert states(conn) == [("failed", "cancelled")]


def test_a_timeout(db: Database, conn: Connection, filled: str) -> None:
    async def times_out() -> None:
        task = asyncio.create_task(AsyncDBA(db.conninfo()).prune_batched(filled, **HELD))
        await off(begun, conn)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.01)

    asyncio.run(times_out())
    at_rest(conn)
    assert states(conn) == [("failed", "cancelled")]


@pytest.mark.parametrize("turns", range(8))
def test_the_end_of_the_loop_while_it_is_stopped(
    db: Database, conn: Connection, filled: str, turns: int
) -> None:
    """asyncio.run() cancels every task, also those that see to the end of the run."""

    async def leaves_it() -> None:
        task = asyncio.create_task(AsyncDBA(db.conninfo()).prune_batched(filled, **HELD))
        await off(begun, conn)
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(leaves_it())
    at_rest(conn)
    assert [state for state, _ in states(conn)] != ["completed"]


def test_the_end_of_the_loop(db: Database, conn: Connection, filled: str) -> None:
    """A task that nobody awaits when asyncio.run() is over."""

    async def leaves_it() -> None:
        task = asyncio.create_task(AsyncDBA(db.conninfo()).prune_batched(filled, **HELD))
        await off(begun, conn)
        assert not task.done()

    asyncio.run(leaves_it())
    at_rest(conn)
    assert [state for state, _ in states(conn)] != ["completed"]


def test_ctrl_c_in_asyncio(db: Database, conn: Connection, filled: str) -> None:
    with interrupted_when(lambda: begun(conn)), pytest.raises(KeyboardInterrupt):
        asyncio.run(AsyncDBA(db.conninfo()).prune_batched(filled, **HELD))
    at_rest(conn)
    assert [state for state, _ in states(conn)] != ["completed"]


def test_cancel_at_random_moments(db: Database, conn: Connection, filled: str) -> None:
    """Whatever it hits: what the records say is gone is gone, and no more."""
    backlog(conn, 3000)
    before = count(conn, "jobs")
    random.seed(3)

    async def harass() -> None:
        dba = AsyncDBA(db.conninfo())
        for _ in range(30):
            task = asyncio.create_task(
                dba.prune_batched(filled, workers=2, batch_size=10, streams=False, signals=False)
            )
            await asyncio.wait([task], timeout=random.uniform(0, 0.15))
            task.cancel()
            await asyncio.wait([task])
            at_rest(conn)
        # Cutoffs are those of each run, but everything expired ten days ago.
        await dba.prune_batched(filled, streams=False, signals=False)

    asyncio.run(harass())
    row = conn.execute("SELECT sum(deleted_jobs), count(*) FROM hotmesh_dba.run").fetchone()
    assert row is not None
    assert count(conn, "jobs") == 3
    assert row[0] == before - 3
    assert row[1] > 5
    assert "running" not in {state for state, _ in states(conn)}
