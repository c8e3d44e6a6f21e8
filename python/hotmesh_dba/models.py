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
    policy: str | None
    """Name of the policy it followed; None where `prune_batched` was called, and of old records."""
    expected_by_step: dict[str, int]
    """``expected`` by step; empty where the database's hotmesh_dba is older than 1.2."""

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
class DueResult(RunResult):
    """What a `run_due` removed: the sums of the runs of all its policies.

    Where policies were left for the next call it is ``stopped``: ``locked`` where any was busy,
    ``max_runtime`` where any was postponed.
    """

    busy: int | None
    """How many were left because another run, or somebody's lock, held their app; a warning named
    each. None on an error's ``result``: the server does not say."""
    postponed: int | None
    """How many were left for want of time, as ``max_runtime`` was over. None as above."""
    others: int | None
    """How many a superuser left to their owners, without ``trust_owners``. None as above."""


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
class StepPace:
    """How far one step of a run has come, its workers taken together."""

    step: str
    """``jobs``, ``transient``, ``engine_streams``, ``worker_streams``, ``strip`` or ``signals``."""
    rows_done: int
    rows_expected: int | None
    """What was estimated at the start; None where the database's hotmesh_dba is older than 1.2."""


@dataclass(frozen=True, slots=True)
class Progress(Pace):
    """What the callback of `prune_batched` is told, its workers taken together."""

    result: RunResult
    """The counts so far, and the runs."""
    steps: tuple[StepPace, ...]
    """The steps that have something to do, in the order in which they are taken."""


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


@dataclass(frozen=True, slots=True)
class Installation:
    """What there is of hotmesh_dba: in this database, on the server, and here."""

    installed: str | None
    """The version in this database; None where there is none."""
    plain: bool
    """Whether it was put there by the plain script, and not by CREATE EXTENSION."""
    available: str | None
    """The version that the server's files would bring; None where it has no files."""
    package: str
    """The version of this package."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A row of the table ``hotmesh_dba.policy``: what is to go from an app, and how often.

    The fields from ``expire`` to ``note`` are the options of `set_policy`. Windows and other
    intervals are text, as PostgreSQL writes them: ``30 days`` may not become a month's worth.
    """

    app: str
    name: str
    expire: str | None
    jobs: bool
    streams: bool
    attributes: bool
    entities: list[str] | None
    prune_transient: bool
    keep_hmark: bool
    engine_streams: bool
    worker_streams: bool
    engine_streams_expire: str | None
    worker_streams_expire: str | None
    signals: bool
    batch_size: int | None
    batch_time: str
    batch_pause: str
    max_runtime: str | None
    max_rows: int | None
    disable_triggers: bool
    max_wal_rate: int | None
    max_replica_lag: str | None
    max_percent: float
    every: str | None
    enabled: bool
    note: str | None
    role: str
    """Who set it."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What `schedule` or `unschedule` did, or left for you to do."""

    job_name: str
    """``hotmesh_dba <app> <policy>``: what pg_cron knows the job by."""
    done: bool
    """Whether it is done. False where pg_cron lives in another database of the cluster."""
    statement: str
    """The SQL that was run; where it is not done, the SQL to run in pg_cron's database."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of the view ``hotmesh_dba.schedules``: a job of pg_cron that calls hotmesh_dba."""

    job_id: int
    job_name: str | None
    app: str | None
    """None where the job's command names no single app (``run_due``)."""
    policy: str | None
    """None where the job's command names no policy."""
    cron_expression: str
    role: str
    database: str
    active: bool
    last_started: datetime | None
    last_finished: datetime | None
    last_status: str | None
    """pg_cron's word for the last outcome: ``succeeded``, ``failed``, ``running``, …"""
    last_message: str | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is due of one table under one policy: a row of ``hotmesh_dba.backlog``."""

    app: str
    table_name: str
    policy: str | None
    """None where no enabled policy takes rows of this table."""
    due: int | None
    """Rows due now (of ``jobs_attributes``: jobs to strip); None without a policy, and where they
    cannot be counted: no right, or locked."""
    exact: bool | None
    """False where counting stopped: ``due`` and more."""
    oldest_due: datetime | None
    total_rows: int | None
    """An estimate."""
    total_bytes: int | None
    """Without indexes."""
    dead_rows: int | None
    last_vacuum: datetime | None
    rows_per_second: float | None
    """Of the policy's last run."""
    time_to_drain: timedelta | None
    """An estimate: what is due at that rate."""


Status = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """What `doctor` found out: a row of ``hotmesh_dba.doctor``."""

    app: str | None
    """None for a check of the whole database."""
    check_name: str
    status: Status
    """``unknown``: the role may not look."""
    detail: str | None
    hint: str | None
    """What to type, where something is wrong."""
