"""One connection, sync or async, behind the same few methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import sql

from tests.support.server import Connection

if TYPE_CHECKING:
    from typing_extensions import LiteralString

    Query = LiteralString | bytes | sql.SQL | sql.Composed

Row = tuple[Any, ...]

# A zone whose clocks change: what is not computed in UTC shows there.
ZONE = "SET TIME ZONE 'America/New_York'"


class Session(Protocol):
    """A connection in autocommit."""

    def execute(self, query: Query, params: Sequence[object] | None = None) -> list[Row]:
        """Run a statement and fetch all that it returns."""
        ...


class SyncSession:
    """Over a psycopg connection."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    def execute(self, query: Query, params: Sequence[object] | None = None) -> list[Row]:
        cursor = self.conn.execute(query, params)
        return cursor.fetchall() if cursor.description else []


class AsyncSession:
    """Over an async connection, in an event loop of its own."""

    def __init__(self, conninfo: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.conn: psycopg.AsyncConnection[Row] = self.run(
            psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        )

    def run(self, work: Any) -> Any:
        """Wait for a coroutine."""
        return self._loop.run_until_complete(work)

    def execute(self, query: Query, params: Sequence[object] | None = None) -> list[Row]:
        async def work() -> list[Row]:
            cursor = await self.conn.execute(query, params)
            return await cursor.fetchall() if cursor.description else []

        rows: list[Row] = self.run(work())
        return rows

    def close(self) -> None:
        self.run(self.conn.close())
        self._loop.close()


@contextmanager
def rolled_back(session: Session) -> Iterator[None]:
    """A transaction of which nothing stays."""
    session.execute("BEGIN")
    try:
        yield
    finally:
        session.execute("ROLLBACK")


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """A part of a transaction that is undone at its end."""
    session.execute("SAVEPOINT look")
    try:
        yield
    finally:
        session.execute("ROLLBACK TO look")


def set_role(session: Session, role: str) -> None:
    """Act with a role's rights to the end of the transaction, or until RESET ROLE."""
    session.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
