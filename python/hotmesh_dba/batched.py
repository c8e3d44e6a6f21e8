"""Runs of ``prune_batched``: all about them that needs no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hotmesh_dba.errors import Cancelled, ConnectionFailed, HotMeshDBAError, InvalidOption
from hotmesh_dba.installed import deploy_absent, install, require_runs
from hotmesh_dba.models import ActiveRun, Progress, Run, RunResult
from hotmesh_dba.options import BATCHED_OPTIONS, BatchedOptions, arguments, spelled_out
from hotmesh_dba.options import whole_number as whole
from hotmesh_dba.steps import Query, Row, Steps

if TYPE_CHECKING:
    from typing_extensions import Unpack

Report = Callable[[Progress], object]

INTERVAL = 0.5
"""Seconds between two calls of the progress callback."""


class Batched:
    """One call of `prune_batched`: what it was given, and what becomes of it."""

    def __init__(
        self,
        app_id: str,
        options: BatchedOptions,
        workers: int,
        report: Report | None,
        deploy: bool,
    ) -> None:
        self.arguments = arguments(options, BATCHED_OPTIONS)
        if whole("workers", workers) < 1:
            raise InvalidOption(
                "workers must be at least 1", detail=f"It is {workers}.", hint="Write workers=2."
            )
        if report is not None and not callable(report):
            raise TypeError(f"progress must be a function, not {report!r}")
        self.app_id = app_id
        self.report = report
        self.shares = [Share(self, number) for number in range(1, workers + 1)]
        self.schema = ""
        self.newest = 0
        """The newest run before this one."""
        self.stopping = False
        self._deploy = deploy

    def prepare(self) -> Steps[None]:
        """Do what comes before the CALL, in one transaction."""
        if self._deploy:
            yield from install(update=False)
        yield from require_runs("prune_batched")
        if self._deploy:
            yield from deploy_absent(self.app_id)
        [(self.schema, self.newest)] = yield Query(
            "SELECT hotmesh_dba.app_schema(%s::pg_catalog.text)::pg_catalog.text,"
            " (SELECT coalesce(max(r.id), 0) FROM hotmesh_dba.run r)",
            [self.app_id],
        )

    def look(self) -> Steps[RunResult | None]:
        """Return the sums of the runs as they are recorded now; None where there is no record."""
        found: list[Run] = []
        for share in self.shares:
            rows = yield share.record()
            found += [share.judged(_run(row)) for row in rows]
        return _summed(found) if found else None

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

    batched: Batched
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
        named, values = self.batched.arguments
        try:
            [(self.run_id,)] = yield Query(
                f"CALL hotmesh_dba.prune_batched(app_id => %s::pg_catalog.text{named},"
                " worker => %s::pg_catalog.int4, workers => %s::pg_catalog.int4)",
                [self.batched.app_id, *values, self.worker, len(self.batched.shares)],
            )
            self.over = True
        except HotMeshDBAError as error:
            self.over = not isinstance(error, ConnectionFailed)
            raise

    def record(self) -> Query:
        """Ask for the run's row. Only a CALL that succeeds returns its id."""
        if self.run_id is not None:
            return Query(f"{_SELECT} WHERE r.id = %s", [self.run_id])
        return Query(
            f"{_SELECT} WHERE r.app = %s AND r.worker = %s AND r.id > %s AND r.role = current_user"
            " AND coalesce(r.pid = %s::pg_catalog.int4, true) ORDER BY r.id LIMIT 1",
            [self.batched.schema, self.worker, self.batched.newest, self.pid],
        )

    def judged(self, run: Run) -> Run:
        """Correct a row that a cancel outside of a batch has left ``running``."""
        return replace(run, state="interrupted") if self.over and run.state == "running" else run


@spelled_out(BATCHED_OPTIONS)
def prune_batched(
    app_id: str,
    *,
    workers: int = 1,
    progress: Report | None = None,
    auto_deploy: bool = True,
    **options: Unpack[BatchedOptions],
) -> Batched:
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
    return Batched(app_id, options, workers, progress, auto_deploy)


def runs(app_id: str | None = None, *, limit: int = 20) -> Steps[list[Run]]:
    """Return the records of `prune_batched`, the newest first.

    :param app_id: only this app's; None means every app's whose jobs you may delete.
    :param limit: how many.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    number = whole("limit", limit)
    yield from require_runs("runs")
    condition, values = _of_app("r", app_id)
    rows = yield Query(
        f"{_SELECT} {condition} ORDER BY r.id DESC LIMIT %s::pg_catalog.int8", [*values, number]
    )
    return [_run(row) for row in rows]


def progress(app_id: str | None = None) -> Steps[list[ActiveRun]]:
    """Return the runs that have not ended, of everybody: how far they are, and who runs them.

    :param app_id: only this app's; None means every app's whose jobs you may delete.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    yield from require_runs("progress")
    condition, values = _of_app("p", app_id)
    names = [field.name for field in fields(ActiveRun)]
    rows = yield Query(
        f"SELECT {', '.join(f'p.{name}' for name in names)} FROM hotmesh_dba.progress p"
        f" {condition} ORDER BY p.run_id",
        values,
    )
    return [ActiveRun(*row) for row in rows]


def _of_app(alias: str, app_id: str | None) -> tuple[str, list[object]]:
    if app_id is None:
        return "", []
    return f"WHERE {alias}.app = hotmesh_dba.app_schema(%s::pg_catalog.text)", [app_id]


# --- the record ------------------------------------------------------------------------------


def _column(name: str) -> str:
    if name == "state":
        return "coalesce(p.state, r.state)"  # the view knows the dead
    if name.endswith(("_before", "_until")):
        # A window of thousands of years is fine for the server, but not for Python's datetime.
        return f"CASE WHEN r.{name} < '0002-01-01' THEN '0002-01-01' ELSE r.{name} END"
    return f"r.{name}"


_SELECT = (
    f"SELECT {', '.join(_column(field.name) for field in fields(Run))} FROM hotmesh_dba.run r"
    " LEFT JOIN hotmesh_dba.progress p ON p.run_id = r.id"
)


def _run(row: Row) -> Run:
    return Run(*row)


# The worst first: what one worker met is true of the whole. What is not known is worse.
_STATES = ("failed", "interrupted", "running", "stopped", "completed")
_REASONS = ("error", "cancelled", "locked", "max_runtime", "max_rows", None)


def _summed(runs: list[Run]) -> RunResult:
    def total(*names: str) -> int:
        return sum(getattr(run, name) for run in runs for name in names)

    return RunResult(
        jobs=total("deleted_jobs"),
        streams=total("deleted_engine_streams", "deleted_worker_streams"),
        engine_streams=total("deleted_engine_streams"),
        worker_streams=total("deleted_worker_streams"),
        attributes=total("stripped_attributes"),
        transient=total("deleted_transient"),
        marked=total("marked_pruned"),
        signals=total("deleted_signals"),
        remaining=total("rows_left"),
        state=min((run.state for run in runs), key=_rank(_STATES)),
        stop_reason=min((run.stop_reason for run in runs), key=_rank(_REASONS)),
        cascaded=total("cascaded_attributes"),
        skipped=total("skipped"),
        runs=tuple(runs),
    )


def _rank(known: tuple[object, ...]) -> Callable[[object], int]:
    return lambda value: known.index(value) if value in known else -1


def progress_of(result: RunResult) -> Progress:
    """Return what the callback is told."""
    done = sum(run.rows_done for run in result.runs)
    began = min(run.started_at for run in result.runs)
    seconds = (max(run.updated_at for run in result.runs) - began).total_seconds()
    rate = done / seconds if seconds > 0 else None
    return Progress(
        rows_done=done,
        rows_expected=sum(run.expected for run in result.runs),
        rows_left=result.remaining,
        rows_per_second=rate,
        time_left=timedelta(seconds=result.remaining / rate) if rate else None,
        result=result,
    )
