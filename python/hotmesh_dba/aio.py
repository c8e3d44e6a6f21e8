"""The asynchronous client: `client` with ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg

from hotmesh_dba import calls
from hotmesh_dba.connecting import checked, connect_options, heard, kind_error
from hotmesh_dba.driving import drive_async
from hotmesh_dba.errors import translating
from hotmesh_dba.options import as_method
from hotmesh_dba.steps import Steps

P = ParamSpec("P")
R = TypeVar("R")


class AsyncPool(Protocol):
    """What is needed of a pool; `psycopg_pool.AsyncConnectionPool` has it."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend a connection."""
        ...


def _method(
    call: Callable[P, Steps[R]],
) -> Callable[Concatenate[AsyncDBA, P], Coroutine[Any, Any, R]]:
    """Make a method that drives a call to its end, with the call's signature and docstring."""

    @wraps(call)
    async def method(self: AsyncDBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run(call(*args, **kwargs))

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

    async def _run(self, steps: Steps[R]) -> R:
        query = next(steps)  # wrong arguments are found before a connection is made
        with translating():
            async with self._connection() as conn:
                with heard(conn):
                    async with conn.transaction():
                        return await drive_async(conn, query, steps)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        database = self._database
        if isinstance(database, psycopg.AsyncConnection):
            yield database
        elif isinstance(database, str):
            async with await psycopg.AsyncConnection.connect(database, **connect_options()) as conn:
                await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                yield conn
        else:
            async with database.connection() as conn:
                yield conn
