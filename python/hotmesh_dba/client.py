"""The synchronous client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg

from hotmesh_dba import calls
from hotmesh_dba.connecting import checked, connect_options, heard, kind_error
from hotmesh_dba.driving import drive
from hotmesh_dba.errors import translating
from hotmesh_dba.options import as_method
from hotmesh_dba.steps import Steps

P = ParamSpec("P")
R = TypeVar("R")


class Pool(Protocol):
    """What is needed of a pool; `psycopg_pool.ConnectionPool` has it."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection."""
        ...


def _method(call: Callable[P, Steps[R]]) -> Callable[Concatenate[DBA, P], R]:
    """Make a method that drives a call to its end, with the call's signature and docstring."""

    @wraps(call)
    def method(self: DBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(call(*args, **kwargs))

    return as_method(method, call)


class DBA:
    """Prunes HotMesh applications of one database.

    :param database: a conninfo or URI (each call then opens a connection of its own; the default
        is what libpq's ``PG*`` variables say), a `psycopg.Connection`, or a
        `psycopg_pool.ConnectionPool`.

    On a connection with an open transaction every call is part of it (behind a savepoint, so a
    failed call leaves the transaction usable) and you commit. Otherwise a call is a transaction of
    its own, committed when it returns. The connection's autocommit and row factory do not matter
    and are not changed.

    Notices and warnings of the server go to the logger ``hotmesh_dba``. Every error is a
    `HotMeshDBAError`. An instance over a conninfo or a pool may be shared between threads.
    """

    def __init__(self, database: str | psycopg.Connection[Any] | Pool = "") -> None:
        if isinstance(database, psycopg.AsyncConnection):
            raise kind_error(database, "DBA", "AsyncDBA")
        if not isinstance(database, str | psycopg.Connection) and not hasattr(
            database, "connection"
        ):
            raise kind_error(database, "DBA")
        self._database = checked(database) if isinstance(database, str) else database

    deploy = _method(calls.deploy)
    undeploy = _method(calls.undeploy)
    prune = _method(calls.prune)
    preview = _method(calls.preview)
    apps = _method(calls.apps)

    def _run(self, steps: Steps[R]) -> R:
        query = next(steps)  # wrong arguments are found before a connection is made
        with translating(), self._connection() as conn, heard(conn), conn.transaction():
            return drive(conn, query, steps)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        database = self._database
        if isinstance(database, psycopg.Connection):
            yield database
        elif isinstance(database, str):
            with psycopg.connect(database, **connect_options()) as conn:
                conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                yield conn
        else:
            with database.connection() as conn:
                yield conn
