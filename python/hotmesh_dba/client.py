"""The synchronous client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg

from hotmesh_dba import batched, calls, installed, observing, records
from hotmesh_dba import policies as policy
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
from hotmesh_dba.driving import drive
from hotmesh_dba.errors import translating
from hotmesh_dba.options import as_method
from hotmesh_dba.steps import Steps
from hotmesh_dba.workers import Crew, in_autocommit

P = ParamSpec("P")
R = TypeVar("R")


class Pool(Protocol):
    """What is needed of a pool; `psycopg_pool.ConnectionPool` has it."""

    def connection(
        self, timeout: float | None = None
    ) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection; fail where there is none after ``timeout`` seconds."""
        ...


def _method(call: Callable[P, Steps[R]]) -> Callable[Concatenate[DBA, P], R]:
    """Make a method that drives a call to its end, with the call's signature and docstring."""

    @wraps(call)
    def method(self: DBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(call(*args, **kwargs))

    return as_method(method, call)


def _batched_method(
    call: Callable[P, Batched[Result]],
) -> Callable[Concatenate[DBA, P], Result]:
    @wraps(call)
    def method(self: DBA, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self._run_batched(call(*args, **kwargs))

    return as_method(method, call)


def _alone_method(
    call: Callable[P, Steps[R]],
) -> Callable[Concatenate[DBA, P], R]:
    """Make a method of a call whose statements cannot be part of a transaction."""

    @wraps(call)
    def method(self: DBA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run_alone(call(*args, **kwargs), call.__name__)

    return as_method(method, call)


class DBA:
    """Prunes HotMesh applications of one database.

    :param database: a conninfo or URI (each call then opens a connection of its own; the default
        is what libpq's ``PG*`` variables say), a `psycopg.Connection`, or a
        `psycopg_pool.ConnectionPool`.

    On a connection with an open transaction every call is part of it (behind a savepoint, so a
    failed call leaves the transaction usable) and you commit. Otherwise a call is a transaction of
    its own, committed when it returns. Only `prune_batched`, `run_policy`, `run_due` and `vacuum`
    commit by themselves, and refuse an open transaction. The connection's autocommit and row
    factory do not matter and are not changed.

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
    prune_batched = _batched_method(batched.prune_batched)
    runs = _method(records.runs)
    progress = _method(records.progress)
    set_policy = _method(policy.set_policy)
    drop_policy = _method(policy.drop_policy)
    policies = _method(policy.policies)
    _check_policy = _method(policy.check_policy)
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

    def _run(self, steps: Steps[R]) -> R:
        query = next(steps)  # wrong arguments are found before a connection is made
        with translating(), self._connection() as conn, heard(conn), conn.transaction():
            return drive(conn, query, steps)

    def _run_alone(self, steps: Steps[R], what: str) -> R:
        query = next(steps)
        with translating(), self._connection() as conn:
            check_idle(conn, what)
            with heard(conn), in_autocommit(conn):
                return drive(conn, query, steps)

    def _run_batched(self, run: Batched[Result]) -> Result:
        if isinstance(self._database, psycopg.Connection):
            check_alone(len(run.shares))
        with translating():
            return Crew(run, self._connection, self._another).run()

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        database = self._database
        if isinstance(database, psycopg.Connection):
            yield database
        elif isinstance(database, str):
            with closing(psycopg.connect(database, **connect_options())) as conn:
                conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                yield conn
        else:
            with database.connection() as conn:
                yield conn

    @contextmanager
    def _another(self) -> Iterator[psycopg.Connection[Any] | None]:
        """Lend one more connection where there is one to be had, to watch a run from."""
        database = self._database
        with ExitStack() as stack:
            conn = None
            try:
                if isinstance(database, str):
                    conn = stack.enter_context(self._connection())
                elif not isinstance(database, psycopg.Connection):
                    conn = stack.enter_context(database.connection(timeout=0.5))
            except psycopg.Error as error:
                logger.debug("no connection to watch the run from: %s", error)
            yield conn
