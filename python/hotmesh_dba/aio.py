"""The asynchronous client: `client` with ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg
from psycopg.rows import tuple_row

from hotmesh_dba import calls
from hotmesh_dba.calls import Query, Row, Steps
from hotmesh_dba.connecting import checked, connect_options, heard, kind_error
from hotmesh_dba.errors import translate, translating
from hotmesh_dba.options import as_method

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
                        return await _drive(conn, query, steps)

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


async def _drive(conn: psycopg.AsyncConnection[Any], query: Query, steps: Steps[R]) -> R:
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        try:
            while True:
                try:
                    rows = await _rows(cursor, query)
                except psycopg.Error as error:
                    query = steps.throw(translate(error))
                else:
                    query = steps.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result


async def _rows(cursor: psycopg.AsyncCursor[Row], query: Query) -> list[Row]:
    await cursor.execute(query.sql, query.params, prepare=False)
    return await cursor.fetchall() if cursor.description else []
