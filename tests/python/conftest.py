"""Every way to hold a client, and an app with a few rows of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

from hotmesh_dba import DBA, AsyncDBA
from tests.conftest import Database
from tests.support.server import Connection

from .command import Command

# Two expired jobs, three completed live ones (one of each kind of attribute), a message of each
# kind that expired ten days ago, and a consumed signal.
ROWS = """
INSERT INTO {0}.jobs (key, entity, status, expired_at) VALUES
    ('expired-book', 'book', 0, now() - interval '10 days'),
    ('expired-none', NULL, 0, now() - interval '10 days');
INSERT INTO {0}.jobs (key, entity, status) SELECT 'live-' || n, 'book', 0
    FROM generate_series(1, 3) n;
INSERT INTO {0}.jobs_attributes (job_id, symbol, value, type)
    SELECT j.id, t, 'x', t::{0}.type_enum
    FROM {0}.jobs j, unnest(ARRAY['jdata', 'adata', 'hmark']) t;
INSERT INTO {0}.engine_streams (stream_name, message, expired_at)
    VALUES ('e', '{{}}', now() - interval '10 days');
INSERT INTO {0}.worker_streams (stream_name, message, expired_at)
    VALUES ('w', '{{}}', now() - interval '10 days');
INSERT INTO {0}.signal_registry (key, value, expiry) VALUES ('s', 'x', now());
"""


@pytest.fixture
def filled(myapp: str, conn: Connection) -> str:
    """An app `myapp` with ROWS in it, not deployed yet."""
    conn.execute(sql.SQL(ROWS).format(sql.Identifier(myapp)))
    return myapp


class _Waiting:
    """An AsyncDBA whose methods wait for their result: each call makes a new client and loop."""

    def __init__(self, call: Callable[[Callable[[AsyncDBA], Any]], Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(self._call(lambda dba: getattr(dba, name)(*args, **kwargs)))

        return method


def _over_conninfo(db: Database) -> Iterator[Any]:
    yield DBA(db.conninfo())


def _over_connection(db: Database) -> Iterator[Any]:
    with closing(db.connect(autocommit=False)) as conn:
        yield DBA(conn)


def _over_autocommit(db: Database) -> Iterator[Any]:
    with closing(db.connect(autocommit=True)) as conn:
        yield DBA(conn)


def _over_pool(db: Database) -> Iterator[Any]:
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=1, max_size=4, open=True) as pool:
        yield DBA(pool)


def _async_over_conninfo(db: Database) -> Iterator[Any]:
    async def call(use: Callable[[AsyncDBA], Any]) -> Any:
        return await use(AsyncDBA(db.conninfo()))

    yield _Waiting(call)


def _async_over_connection(db: Database) -> Iterator[Any]:
    async def call(use: Callable[[AsyncDBA], Any]) -> Any:
        async with await psycopg.AsyncConnection.connect(db.conninfo()) as conn:
            return await use(AsyncDBA(conn))

    yield _Waiting(call)


def _async_over_pool(db: Database) -> Iterator[Any]:
    async def call(use: Callable[[AsyncDBA], Any]) -> Any:
        async with psycopg_pool.AsyncConnectionPool(db.conninfo(), min_size=1, max_size=4) as pool:
            return await use(AsyncDBA(pool))

    yield _Waiting(call)


FACES = {
    "conninfo": _over_conninfo,
    "connection": _over_connection,
    "autocommit": _over_autocommit,
    "pool": _over_pool,
    "async-conninfo": _async_over_conninfo,
    "async-connection": _async_over_connection,
    "async-pool": _async_over_pool,
}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, db: Database) -> Iterator[Any]:
    """A client of each kind; the async ones are waited for."""
    yield from FACES[request.param](db)


@pytest.fixture
def dba(db: Database) -> DBA:
    """A client over a conninfo."""
    return DBA(db.conninfo())


@pytest.fixture
def command(db: Database, tmp_path: Path) -> Command:
    """The command, on `db`."""
    return Command(tmp_path, db.conninfo())
