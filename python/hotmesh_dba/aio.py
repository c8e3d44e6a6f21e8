"""The asynchronous client: `client` with ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg

from hotmesh_dba import batched, calls, installed, observing, records
from hotmesh_dba import policies as policy
from hotmesh_dba.aio_workers import AsyncCrew, in_autocommit
from hotmesh_dba.batched import Batched, Result
from hotmesh_dba.connecting import (
    check_alone,
    check_idle,
    checked,
    connect_options,
    heard,
    kind_error,
    logger,
)
from hotmesh_dba.driving import drive_async
from hotmesh_dba.errors import translating
from hotmesh_dba.options import as_method
from hotmesh_dba.steps import Steps

P = ParamSpec("P")
R = TypeVar("R")


class AsyncPool(Protocol):
    """What is needed of a pool; `psycopg_pool.AsyncConnectionPool` has it."""

    def connection(
        self, timeout: float | None = None
    ) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend a connection; fail where there is none after ``timeout`` seconds."""
        ...


def _method(
    call: Callable[P, Steps[R]],
) -> Callable[Concatenate[AsyncDBA, P], Coroutine[Any, Any, R]]:
    """Make a method that drives a call to its end, with the call's signature and docstring."""

    @wraps(call)
    async def method(self: AsyncDBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run(call(*args, **kwargs))

    return as_method(method, call)


def _batched_method(
    call: Callable[P, Batched[Result]],
) -> Callable[Concatenate[AsyncDBA, P], Coroutine[Any, Any, Result]]:
    @wraps(call)
    async def method(self: AsyncDBA, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return await self._run_batched(call(*args, **kwargs))

    return as_method(method, call)


def _alone_method(
    call: Callable[P, Steps[R]],
) -> Callable[Concatenate[AsyncDBA, P], Coroutine[Any, Any, R]]:
    """Make a method of a call whose statements cannot be part of a transaction."""

    @wraps(call)
    async def method(self: AsyncDBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run_alone(call(*args, **kwargs), call.__name__)

    return as_method(method, call)


class AsyncDBA:
    """`DBA` for asyncio: the same methods, to be awaited.

    :param database: a conninfo or URI, a `psycopg.AsyncConnection`, or a
        `psycopg_pool.AsyncConnectionPool`.
    """

    def __init__(self, database: str | psycopg.AsyncConnection[Any] | AsyncPool = "") -> None:
        if isinstance(database, psycopg.Connection):
            raise kind_error(database, "AsyncDBA", "DBA")
        if not isinstance(database, str | psycopg.AsyncConnection) and not hasattr(
            database, "connection"
        ):
            raise kind_error(database, "AsyncDBA")
        self._database = checked(database) if isinstance(database, str) else database

    deploy = _method(calls.deploy)
    undeploy = _method(calls.undeploy)
    prune = _method(calls.prune)
    preview = _method(calls.preview)
    apps = _method(calls.apps)
    prune_batched = _batched_method(batched.prune_batched)
    runs = _method(records.runs)
    progress = _method(records.progress)
    set_policy = _method(policy.set_policy)
    drop_policy = _method(policy.drop_policy)
    policies = _method(policy.policies)
    run_policy = _batched_method(policy.run_policy)
    run_due = _batched_method(policy.run_due)
    schedule = _method(policy.schedule)
    unschedule = _method(policy.unschedule)
    schedules = _method(policy.schedules)
    backlog = _method(observing.backlog)
    doctor = _method(observing.doctor)
    grant_prune = _method(observing.grant_prune)
    revoke_prune = _method(observing.revoke_prune)
    vacuum = _alone_method(observing.vacuum)
    installation = _method(installed.installation)

    async def _run(self, steps: Steps[R]) -> R:
        query = next(steps)  # wrong arguments are found before a connection is made
        with translating():
            async with self._connection() as conn:
                with heard(conn):
                    async with conn.transaction():
                        return await drive_async(conn, query, steps)

    async def _run_alone(self, steps: Steps[R], what: str) -> R:
        query = next(steps)
        with translating():
            async with self._connection() as conn:
                check_idle(conn, what)
                with heard(conn):
                    async with in_autocommit(conn):
                        return await drive_async(conn, query, steps)

    async def _run_batched(self, run: Batched[Result]) -> Result:
        if isinstance(self._database, psycopg.AsyncConnection):
            check_alone(len(run.shares))
        with translating():
            return await AsyncCrew(run, self._connection, self._another).run()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        database = self._database
        if isinstance(database, psycopg.AsyncConnection):
            yield database
        elif isinstance(database, str):
            conn = await psycopg.AsyncConnection.connect(database, **connect_options())
            try:
                await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                yield conn
            finally:
                await conn.close()
        else:
            async with database.connection() as conn:
                yield conn

    @asynccontextmanager
    async def _another(self) -> AsyncIterator[psycopg.AsyncConnection[Any] | None]:
        """Lend one more connection where there is one to be had, to watch a run from."""
        database = self._database
        async with AsyncExitStack() as stack:
            conn = None
            try:
                if isinstance(database, str):
                    conn = await stack.enter_async_context(self._connection())
                elif not isinstance(database, psycopg.AsyncConnection):
                    conn = await stack.enter_async_context(database.connection(timeout=0.5))
            except psycopg.Error as error:
                logger.debug("no connection to watch the run from: %s", error)
            yield conn
