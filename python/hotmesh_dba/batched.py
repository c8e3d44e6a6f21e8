"""Runs, by `prune_batched` or by policy: all about the CALL that needs no connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotmesh_dba.errors import Cancelled, ConnectionFailed, HotMeshDBAError, InvalidOption
from hotmesh_dba.installed import deploy_absent, install, require_version
from hotmesh_dba.models import Progress, Run, RunResult
from hotmesh_dba.options import BATCHED_OPTIONS, BatchedOptions, arguments, spelled_out
from hotmesh_dba.options import whole_number as whole
from hotmesh_dba.records import SELECT, run_of, summed
from hotmesh_dba.steps import Query, Row, Steps

if TYPE_CHECKING:
    from typing_extensions import Unpack

Report = Callable[[Progress], object]
Result = TypeVar("Result", bound=RunResult)

INTERVAL = 0.5
"""Seconds between two calls of the progress callback."""


class Batched(ABC, Generic[Result]):
    """One CALL of a procedure that commits: what it was given, and what becomes of it."""

    what = "prune_batched"
    version = (1, 1)
    """The hotmesh_dba that first had the procedure."""

    def __init__(
        self,
        app_id: str | None,
        named: str,
        values: list[object],
        workers: int,
        report: Report | None,
    ) -> None:
        if whole("workers", workers) < 1:
            raise InvalidOption(
                "workers must be at least 1", detail=f"It is {workers}.", hint="Write workers=2."
            )
        if report is not None and not callable(report):
            raise TypeError(f"progress must be a function, not {report!r}")
        self.app_id = app_id
        self.report = report
        self.shares = [Share(self, number) for number in range(1, workers + 1)]
        self.schema: str | None = None
        self.newest = 0
        """The newest run before this one."""
        self.stopping = False
        self._named = named
        self._values = values

    def call(self, worker: int) -> Query:
        """Return the CALL of one worker; its first column is the run's id."""
        return Query(
            f"CALL hotmesh_dba.{self.what}(app_id => %s::pg_catalog.text{self._named},"
            " worker => %s::pg_catalog.int4, workers => %s::pg_catalog.int4)",
            [self.app_id, *self._values, worker, len(self.shares)],
        )

    def prepare(self) -> Steps[None]:
        """Do what comes before the CALL, in one transaction."""
        yield from require_version(self.what, self.version)
        yield from self.remember()

    def remember(self) -> Steps[None]:
        """Remember what there was before, to tell our records from others'."""
        [(self.schema, self.newest)] = yield Query(
            "SELECT CASE WHEN %s::pg_catalog.text IS NOT NULL"
            " THEN hotmesh_dba.app_schema(%s::pg_catalog.text)::pg_catalog.text END,"
            " (SELECT coalesce(max(r.id), 0) FROM hotmesh_dba.run r)",
            [self.app_id, self.app_id],
        )

    @abstractmethod
    def total(self, runs: list[Run]) -> Result | None:
        """Return what the runs add up to; None where nothing is known yet."""

    def returned(self, share: Share, row: Row) -> None:
        """Keep what a CALL has returned."""
        share.run_id = row[0]

    def look(self) -> Steps[Result | None]:
        """Return the sums of the runs as they are recorded now; None where nothing is known."""
        found: list[Run] = []
        for share in self.shares:
            rows = yield share.record()
            found += [share.judged(run_of(row)) for row in rows]
        return self.total(found)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Never call a callback again that has raised."""
        try:
            yield
        except Exception:
            self.report = None
            raise


@dataclass(slots=True)
class Share:
    """What one worker does of a run, on a connection of its own."""

    batched: Batched[Any]
    worker: int
    pid: int | None = None
    """The server process, where the connection leads straight to it."""
    run_id: int | None = None
    over: bool = False
    """Whether the server has said that the CALL is over."""

    def work(self, backend_pid: int) -> Steps[None]:
        """CALL the procedure, in autocommit.

        :param backend_pid: what the connection says; a pooler says something else than the server.
        """
        [(pid,)] = yield Query("SELECT pg_catalog.pg_backend_pid()")
        self.pid = pid if pid == backend_pid else None
        if self.batched.stopping:
            raise Cancelled("stopped before it began")
        try:
            [row] = yield self.batched.call(self.worker)
            self.over = True
        except HotMeshDBAError as error:
            self.over = not isinstance(error, ConnectionFailed)
            raise
        self.batched.returned(self, row)

    def record(self) -> Query:
        """Ask for the run's row, or those of all apps; only a CALL that succeeds tells an id."""
        if self.run_id is not None:
            return Query(f"{SELECT} WHERE r.id = %s", [self.run_id])
        ours = (
            f"{SELECT} WHERE r.id > %s AND r.role = current_user"
            " AND coalesce(r.pid = %s::pg_catalog.int4, true)"
        )
        values: list[object] = [self.batched.newest, self.pid]
        if self.batched.app_id is None:
            return Query(f"{ours} ORDER BY r.id", values)
        return Query(
            f"{ours} AND r.app = %s AND r.worker = %s ORDER BY r.id LIMIT 1",
            [*values, self.batched.schema, self.worker],
        )

    def judged(self, run: Run) -> Run:
        """Correct a row that a cancel outside of a batch has left ``running``."""
        return replace(run, state="interrupted") if self.over and run.state == "running" else run


class RunsOfOne(Batched[RunResult]):
    """The runs of one app, a worker each."""

    def total(self, runs: list[Run]) -> RunResult | None:
        """Return the sums; None where there is no record."""
        return summed(runs) if runs else None


class _PruneBatched(RunsOfOne):
    def __init__(
        self,
        app_id: str,
        options: BatchedOptions,
        workers: int,
        report: Report | None,
        deploy: bool,
    ) -> None:
        super().__init__(app_id, *arguments(options, BATCHED_OPTIONS), workers, report)
        self._deploy = deploy

    def prepare(self) -> Steps[None]:
        if self._deploy:
            yield from install(update=False)
        yield from require_version(self.what, self.version)
        if self._deploy:
            assert self.app_id is not None
            yield from deploy_absent(self.app_id)
        yield from self.remember()


@spelled_out(BATCHED_OPTIONS)
def prune_batched(
    app_id: str,
    *,
    workers: int = 1,
    progress: Report | None = None,
    auto_deploy: bool = True,
    **options: Unpack[BatchedOptions],
) -> Batched[RunResult]:
    """Remove any amount of what HotMesh has finished with, in short transactions, with a record.

    Every batch is committed by itself, so it needs a connection without an open transaction; its
    autocommit is put back afterwards. What was committed stays, however the run ends: call it
    again to go on. KeyboardInterrupt and the cancellation of a task stop the run at once. They,
    and every error, carry what was done so far in ``result``, where it is known.

    The options are those of `prune`, and:

    :param batch_size: rows of a transaction; None steers it towards ``batch_time``.
    :param batch_time: how long a transaction should take.
    :param batch_pause: a pause after each transaction.
    :param max_runtime: stop after this time; None is nine tenths of ``statement_timeout``.
    :param max_rows: stop after this many rows, each worker.
    :param disable_triggers: work without the foreign key's and HotMesh's triggers.
    :param max_wal_rate: wait where more bytes of WAL a second were written.
    :param max_replica_lag: wait while a replica lags by more than this.
    :param workers: how many connections share the work. A conninfo or a pool is needed for more
        than one. The first error stops all of them.
    :param progress: called with a `Progress` every half second, from the calling thread, where a
        second connection is to be had (not on a single given one), and once at the end. Where it
        raises, the run is stopped. `AsyncDBA` also takes a coroutine function.
    :param auto_deploy: first deploy what is absent; never upgrade anything.
    :return: the sums and the record of each worker. ``state`` is ``completed``, or ``stopped``
        (see ``stop_reason``) with ``remaining`` rows left.
    :raises OpenTransaction: the connection has an open transaction, or a pipeline.
    :raises VersionMismatch: the database's hotmesh_dba is older than 1.1.
    :raises Locked: another run holds the app; the detail says who.
    :raises TriggersNeeded: a condition of ``disable_triggers`` is not met.
    :raises Cancelled: somebody cancelled the run.
    :raises InvalidOption, NotInstalled, NotDeployed, UnknownApp, NotHotMesh, InvalidAppId,
        PermissionDenied, ReadOnly: as for `prune`.
    """
    return _PruneBatched(app_id, options, workers, progress, auto_deploy)
