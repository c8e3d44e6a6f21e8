"""Driving the steps of a call on a connection, in both ways."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.rows import tuple_row

from hotmesh_dba.errors import translate
from hotmesh_dba.steps import Query, Row, Steps

R = TypeVar("R")


def drive(conn: psycopg.Connection[Any], query: Query, steps: Steps[R]) -> R:
    """Run a call whose first query was already taken from it."""
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        try:
            while True:
                try:
                    rows = _rows(cursor, query)
                except (psycopg.Error, UnicodeEncodeError) as error:
                    query = steps.throw(translate(error))
                else:
                    query = steps.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result


# binary: text comes as DateStyle and IntervalStyle say, and psycopg reads only one style of each.


def _rows(cursor: psycopg.Cursor[Row], query: Query) -> list[Row]:
    cursor.execute(query.sql, query.params, prepare=False, binary=True)
    return cursor.fetchall() if cursor.description else []


async def drive_async(conn: psycopg.AsyncConnection[Any], query: Query, steps: Steps[R]) -> R:
    """`drive` for asyncio."""
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        try:
            while True:
                try:
                    rows = await _rows_async(cursor, query)
                except (psycopg.Error, UnicodeEncodeError) as error:
                    query = steps.throw(translate(error))
                else:
                    query = steps.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result


async def _rows_async(cursor: psycopg.AsyncCursor[Row], query: Query) -> list[Row]:
    await cursor.execute(query.sql, query.params, prepare=False, binary=True)
    return await cursor.fetchall() if cursor.description else []
