"""Driving a run of `prune_batched`: a thread for each worker, while the caller's thread watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from hotmesh_dba.batched import INTERVAL, Batched, Result, Share
from hotmesh_dba.connecting import check_idle, heard, logger
from hotmesh_dba.driving import drive
from hotmesh_dba.errors import ConnectionFailed, HotMeshDBAError, translating
from hotmesh_dba.models import RunResult
from hotmesh_dba.records import progress_of
from hotmesh_dba.steps import Steps

R = TypeVar("R")
Connection = psycopg.Connection[Any]
Lend = Callable[[], AbstractContextManager[Connection]]
LendOrNot = Callable[[], AbstractContextManager[Connection | None]]


class Crew(Generic[Result]):
    """The workers of one run, and their connections."""

    def __init__(self, batched: Batched[Result], lend: Lend, lend_another: LendOrNot) -> None:
        self._batched = batched
        self._lend = lend
        self._lend_another = lend_another
        self._conns: list[Connection] = []
        self._futures: list[Future[None]] = []

    def run(self) -> Result:
        """Run to the end, or to the first error, interrupt, or error of the callback."""
        with ExitStack() as stack:
            for _ in self._batched.shares:
                self._conns.append(stack.enter_context(self._conn()))
            with self._conns[0].transaction():
                _drive(self._conns[0], self._batched.prepare())
            try:
                self._start()
                self._watch()
            except BaseException as error:
                self._stop()
                # On whatever exception it is: an interrupt has one too.
                error.result = self._wind_up()  # type: ignore[attr-defined]
                raise
            return self._result()

    @contextmanager
    def _conn(self) -> Iterator[Connection]:
        with self._lend() as conn:
            check_idle(conn, self._batched.what)
            with heard(conn), in_autocommit(conn):
                yield conn

    def _start(self) -> None:
        for conn, share in zip(self._conns, self._batched.shares, strict=True):
            future: Future[None] = Future()
            self._futures.append(future)
            # A daemon: whoever interrupts twice does not want to wait for the server.
            Thread(target=_work, args=(conn, share, future), daemon=True).start()

    def _watch(self) -> None:
        """Wait for all to end; meanwhile tell how far they are."""
        with ExitStack() as stack:
            watcher = None
            if self._batched.report is not None:
                watcher = stack.enter_context(self._lend_another())
            pending = set(self._futures)
            while pending:
                done, pending = wait(pending, INTERVAL, FIRST_EXCEPTION)
                for future in (f for f in self._futures if f in done):
                    future.result()
                if watcher is not None and pending:
                    try:
                        result = _drive(watcher, self._batched.look())
                    except HotMeshDBAError as error:
                        logger.warning("progress is shown no longer: %s", error.message)
                        watcher = None
                    else:
                        self._tell(result)

    def _stop(self) -> None:
        """Cancel what still runs on the server, and wait for it to end."""
        self._batched.stopping = True
        while any(not future.done() for future in self._futures):
            for conn, future in zip(self._conns, self._futures, strict=False):
                if not future.done():
                    with suppress(psycopg.Error):
                        cancel(conn)
            # Again then: one that came before the statement was lost.
            wait(self._futures, 1)

    def _result(self) -> Result:
        result = self._look()
        if result is None:
            raise HotMeshDBAError("the run is over, but its record cannot be seen")
        self._tell(result)
        return result

    def _wind_up(self) -> Result | None:
        """Return what was done so far, as far as it can be known."""
        result = None
        try:
            result = self._look()
            self._tell(result)
        except Exception:
            logger.warning("the end of a failed run could not be told", exc_info=True)
        return result

    def _look(self) -> Result | None:
        """Read the records on any connection that is left."""
        for conn in self._conns:
            with suppress(ConnectionFailed):
                return _drive(conn, self._batched.look())
        with self._lend_another() as another:
            return None if another is None else _drive(another, self._batched.look())

    def _tell(self, result: RunResult | None) -> None:
        if self._batched.report is not None and result is not None and result.runs:
            with self._batched.reporting():
                self._batched.report(progress_of(result))


def _work(conn: Connection, share: Share, future: Future[None]) -> None:
    try:
        _drive(conn, share.work(conn.info.backend_pid))
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)


def _drive(conn: Connection, steps: Steps[R]) -> R:
    with translating():
        return drive(conn, next(steps), steps)


def cancel(conn: Connection) -> None:
    """Cancel what runs on a connection, from another thread."""
    if hasattr(conn, "cancel_safe"):  # psycopg 3.2 and newer
        conn.cancel_safe(timeout=5)
    else:
        conn.cancel()


@contextmanager
def in_autocommit(conn: Connection) -> Iterator[None]:
    """Put a connection into autocommit for a while."""
    before = conn.autocommit
    if not before:
        conn.autocommit = True
    try:
        yield
    finally:
        if not before and conn.info.transaction_status == TransactionStatus.IDLE:
            conn.autocommit = False
