"""Driving a run of `prune_batched` in asyncio: `workers`, with a task for each worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from inspect import isawaitable
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from hotmesh_dba.batched import INTERVAL, Batched, Result
from hotmesh_dba.connecting import check_idle, heard, logger
from hotmesh_dba.driving import drive_async
from hotmesh_dba.errors import ConnectionFailed, HotMeshDBAError, translating
from hotmesh_dba.models import RunResult
from hotmesh_dba.records import progress_of
from hotmesh_dba.steps import Steps

R = TypeVar("R")
Connection = psycopg.AsyncConnection[Any]
Lend = Callable[[], AbstractAsyncContextManager[Connection]]
LendOrNot = Callable[[], AbstractAsyncContextManager[Connection | None]]


class AsyncCrew(Generic[Result]):
    """The workers of one run, and their connections."""

    def __init__(self, batched: Batched[Result], lend: Lend, lend_another: LendOrNot) -> None:
        self._batched = batched
        self._lend = lend
        self._lend_another = lend_another
        self._conns: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Result:
        """Run to the end, or to the first error, cancellation, or error of the callback."""
        async with AsyncExitStack() as stack:
            for _ in self._batched.shares:
                self._conns.append(await stack.enter_async_context(self._conn()))
            async with self._conns[0].transaction():
                await _drive(self._conns[0], self._batched.prepare())
            try:
                self._start()
                await self._watch()
            except BaseException as error:
                await self._stop()
                # On whatever exception it is: a cancellation has one too.
                error.result = await _undisturbed(self._wind_up())  # type: ignore[attr-defined]
                raise
            return await self._result()

    @asynccontextmanager
    async def _conn(self) -> AsyncIterator[Connection]:
        async with self._lend() as conn:
            check_idle(conn, self._batched.what)
            with heard(conn):
                async with in_autocommit(conn):
                    yield conn

    def _start(self) -> None:
        for conn, share in zip(self._conns, self._batched.shares, strict=True):
            steps = share.work(conn.info.backend_pid)
            self._tasks.append(asyncio.create_task(_drive(conn, steps)))

    async def _watch(self) -> None:
        """Wait for all to end; meanwhile tell how far they are."""
        async with AsyncExitStack() as stack:
            watcher = None
            if self._batched.report is not None:
                watcher = await stack.enter_async_context(self._lend_another())
            pending = set(self._tasks)
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=INTERVAL, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in (t for t in self._tasks if t in done):
                    task.result()
                if watcher is not None and pending:
                    try:
                        result = await _drive(watcher, self._batched.look())
                    except HotMeshDBAError as error:
                        logger.warning("progress is shown no longer: %s", error.message)
                        watcher = None
                    else:
                        await self._tell(result)

    async def _stop(self) -> None:
        """Cancel what still runs on the server, and wait for it to end.

        Whatever cancels us meanwhile: to close a connection ends nothing on the server.
        """
        self._batched.stopping = True
        while any(not task.done() for task in self._tasks):
            for conn, task in zip(self._conns, self._tasks, strict=False):
                if not task.done():
                    await _undisturbed(cancel(conn))
            # Again then: one that came before the statement was lost.
            await _undisturbed(asyncio.wait(self._tasks, timeout=1))
        for task in self._tasks:
            _looked_at(task)

    async def _result(self) -> Result:
        result = await self._look()
        if result is None:
            raise HotMeshDBAError("the run is over, but its record cannot be seen")
        await self._tell(result)
        return result

    async def _wind_up(self) -> Result | None:
        """Return what was done so far, as far as it can be known."""
        result = None
        try:
            result = await self._look()
            await self._tell(result)
        except Exception:
            logger.warning("the end of a failed run could not be told", exc_info=True)
        return result

    async def _look(self) -> Result | None:
        """Read the records on any connection that is left."""
        for conn in self._conns:
            with suppress(ConnectionFailed):
                return await _drive(conn, self._batched.look())
        async with self._lend_another() as another:
            return None if another is None else await _drive(another, self._batched.look())

    async def _tell(self, result: RunResult | None) -> None:
        if self._batched.report is not None and result is not None and result.runs:
            with self._batched.reporting():
                told = self._batched.report(progress_of(result))
                if isawaitable(told):
                    await told


async def _drive(conn: Connection, steps: Steps[R]) -> R:
    with translating():
        return await drive_async(conn, next(steps), steps)


async def _undisturbed(work: Coroutine[Any, Any, R]) -> R | None:
    """Await something, however often we are cancelled meanwhile; None where it fails.

    The end of the loop cancels it too, maybe before it has begun.
    """
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return task.result() if _looked_at(task) is None else None


def _looked_at(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the error of a task that is done; asyncio complains of those nobody looked at."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def cancel(conn: Connection) -> None:
    """Cancel what runs on a connection, from another task."""
    if hasattr(conn, "cancel_safe"):  # psycopg 3.2 and newer
        await conn.cancel_safe(timeout=5)
    else:
        await asyncio.to_thread(conn.cancel)


@asynccontextmanager
async def in_autocommit(conn: Connection) -> AsyncIterator[None]:
    """Put a connection into autocommit for a while."""
    before = conn.autocommit
    if not before:
        await conn.set_autocommit(True)
    try:
        yield
    finally:
        if not before and conn.info.transaction_status == TransactionStatus.IDLE:
            await conn.set_autocommit(False)
