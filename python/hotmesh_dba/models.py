"""What the calls return: frozen values, one class for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

Wrapper = Literal["none", "ours", "foreign", "ambiguous"]
State = Literal["running", "completed", "stopped", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class App:
    """A HotMesh application found in the database: a row of the view ``hotmesh_dba.app``."""

    schema: str
    """Name of the app's schema. It is a valid ``app_id`` as it stands."""
    owner: str
    """The role that owns the app's tables."""
    wrapper: Wrapper
    """The app's own ``prune``: ``none``, ``ours`` (made by `deploy`), ``foreign`` (made by
    HotMesh's SDK or by hand), or ``ambiguous`` (overloads that make calls fail)."""
    migrated: bool
    """Whether ``jobs`` has the column ``pruned_at``, without which nothing can be stripped."""
    indexed: bool
    """Whether the partial index on ``pruned_at`` is there and valid."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that `deploy` or `undeploy` did, or that is left for you to do."""

    action: str
    """``added``, ``created``, ``updated``, ``replaced``, ``dropped``, ``owned``, ``granted``, or
    ``pending``: not done, because it would block the application for long or needs a right."""
    object: str
    """What it was done to."""
    statements: str
    """The SQL that was run; for ``pending`` the SQL to type."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by kind, shared by `PruneResult` and `Preview`."""

    jobs: int
    """Expired jobs deleted. Their attributes go with them and are not counted."""
    streams: int
    """Stream messages deleted: engine and worker together."""
    engine_streams: int
    """Engine messages deleted."""
    worker_streams: int
    """Worker messages deleted."""
    attributes: int
    """Attributes stripped from completed live jobs."""
    transient: int
    """Expired jobs without an entity deleted by ``prune_transient``."""
    marked: int
    """Jobs marked as stripped."""
    signals: int
    """Consumed or stale signals deleted."""


@dataclass(frozen=True, slots=True)
class PruneResult(Counts):
    """What a `prune` removed."""

    remaining: int
    """Completed live jobs still due for stripping after the call, because one transaction can hold
    only so many locks: call again. Always 0 without ``attributes=True``."""


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the table ``hotmesh_dba.run``: one run of ``prune_batched``, or one of its workers.

    The fields are the table's columns; ``\\d+ hotmesh_dba.run`` explains each.
    """

    id: int
    group_id: int
    app: str
    worker: int
    workers: int
    role: str
    pid: int
    options: dict[str, Any]
    jobs_before: datetime
    engine_before: datetime
    worker_before: datetime
    signals_until: datetime
    triggers_disabled: bool
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    state: State
    """``interrupted`` also where the row still says ``running`` but nobody works on it."""
    stop_reason: str | None
    batches: int
    longest_batch: timedelta
    deleted_jobs: int
    deleted_transient: int
    deleted_engine_streams: int
    deleted_worker_streams: int
    deleted_signals: int
    marked_pruned: int
    stripped_attributes: int
    cascaded_attributes: int
    skipped: int
    expected: int
    remaining: int | None
    error_sqlstate: str | None
    error_message: str | None
    error_detail: str | None

    @property
    def rows_done(self) -> int:
        """Jobs, messages and signals deleted, and jobs stripped."""
        messages = self.deleted_engine_streams + self.deleted_worker_streams
        jobs = self.deleted_jobs + self.deleted_transient + self.marked_pruned
        return jobs + messages + self.deleted_signals

    @property
    def rows_left(self) -> int:
        """What was left when it ended; while it runs, what is left of what it expected."""
        if self.remaining is not None:
            return self.remaining
        return max(0, self.expected - self.rows_done)


@dataclass(frozen=True, slots=True)
class RunResult(PruneResult):
    """What a `prune_batched` removed: the sums of its runs, one for each worker.

    ``remaining`` counts rows of every kind that are left: 0 when completed, else an estimate.
    """

    state: State
    """``completed``; ``stopped``; or, on an error's ``result``, ``failed`` or ``interrupted``."""
    stop_reason: str | None
    """Of a stopped run ``max_runtime``, ``max_rows``, or ``locked`` (rows that others had locked
    are left); of a failed one ``error`` or ``cancelled``."""
    cascaded: int
    """Attributes that went with deleted jobs."""
    skipped: int
    """Rows that could not be removed whatever was done; a warning named each."""
    runs: tuple[Run, ...]
    """The records, by worker."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a run has come: rows are jobs, messages and signals deleted, and jobs stripped."""

    rows_done: int
    rows_expected: int
    """What the run estimated when it began."""
    rows_left: int
    rows_per_second: float | None
    """Since it began, pauses included."""
    time_left: timedelta | None
    """What is left at that rate; None where there is none yet."""


@dataclass(frozen=True, slots=True)
class Progress(Pace):
    """What the callback of `prune_batched` is told, its workers taken together."""

    result: RunResult
    """The counts so far, and the runs."""


@dataclass(frozen=True, slots=True)
class ActiveRun(Pace):
    """A run that has not ended: a row of the view ``hotmesh_dba.progress``."""

    run_id: int
    group_id: int
    app: str
    worker: int
    workers: int
    role: str
    pid: int
    """Its server process: ``SELECT pg_cancel_backend(pid)`` ends it."""
    state: Literal["running", "interrupted"]
    """``interrupted``: its server process is gone; the app's next run closes its record."""
    started_at: datetime
    updated_at: datetime
    batches: int


@dataclass(frozen=True, slots=True)
class Preview(Counts):
    """What a `prune` with the same options would remove now."""

    exact: bool
    """False where counting stopped at ``max_rows``: the true counts may be higher."""


COUNT_COLUMNS = (
    "deleted_jobs, deleted_streams, deleted_engine_streams, deleted_worker_streams, "
    "stripped_attributes, deleted_transient, marked_pruned, deleted_signals"
)
"""The columns of ``prune`` and ``preview`` in SQL, in the order of the fields of `Counts`."""
