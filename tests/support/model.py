"""What `prune` must do, in plain Python over rows. It knows no SQL and is the oracle of the tests.

It is written from the promise alone (which rows each step takes, in which order, what is counted),
so that it can disagree with the SQL. Every timestamp is an aware datetime in UTC.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

MessageTable = Literal["engine_streams", "worker_streams", "streams"]

# What a finished workflow's result and history are read from; a strip leaves it alone.
KEPT_TYPES = frozenset({"jdata", "udata", "jmark"})


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """An interval as PostgreSQL keeps it: three fields that do not convert into each other."""

    months: int = 0
    days: int = 0
    microseconds: int = 0

    def before(self, now: datetime) -> datetime:
        """`now` less this window, by the calendar of UTC: months first, then days, then time."""
        year, month = divmod(now.year * 12 + now.month - 1 - self.months, 12)
        day = min(now.day, monthrange(year, month + 1)[1])
        moved = now.replace(year=year, month=month + 1, day=day)
        return moved - timedelta(days=self.days, microseconds=self.microseconds)

    def __str__(self) -> str:
        seconds, fraction = divmod(self.microseconds, 1_000_000)
        return f"{self.months} mons {self.days} days {seconds}.{fraction:06d} secs"


@dataclass(frozen=True, slots=True)
class Options:
    """The twelve arguments of `prune`, in their order and with their defaults."""

    retention: Window = Window(days=7)
    prune_jobs: bool = True
    prune_streams: bool = True
    strip_attributes: bool = False
    entity_list: tuple[str | None, ...] | None = None
    prune_transient: bool = False
    keep_hmark: bool = False
    prune_engine_streams: bool | None = None
    prune_worker_streams: bool | None = None
    engine_streams_retention: Window | None = None
    worker_streams_retention: Window | None = None
    prune_signals: bool = True

    def arguments(self) -> dict[str, object]:
        """The arguments by name, in order, each as text, bool, list or None."""
        return {option.name: _plain(getattr(self, option.name)) for option in fields(self)}


@dataclass(frozen=True, slots=True)
class Job:
    """A row of jobs; `rest` holds every other column, which no step may change."""

    id: UUID
    key: str
    entity: str | None
    status: int
    expired_at: datetime | None
    is_live: bool | None
    pruned_at: datetime | None = None
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of jobs_attributes; its job may be missing (an orphan)."""

    job_id: UUID
    name: str
    type: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A row of a stream table; only the older table `streams` has a `group`."""

    table: MessageTable
    stream: str
    id: int
    expired_at: datetime | None
    group: str | None = None
    dead_lettered_at: datetime | None = None
    rest: str = ""

    @property
    def kind(self) -> str | None:
        """'ENGINE' or 'WORKER'; None where it is neither."""
        kinds = {"engine_streams": "ENGINE", "worker_streams": "WORKER", "streams": self.group}
        kind = kinds[self.table]
        return kind if kind in ("ENGINE", "WORKER") else None


@dataclass(frozen=True, slots=True)
class Signal:
    """A row of signal_registry."""

    key: str
    expiry: datetime | None
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that an app has."""

    jobs: frozenset[Job] = frozenset()
    attributes: frozenset[Attribute] = frozenset()
    messages: frozenset[Message] = frozenset()
    signals: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True)
class Counts:
    """The eight result columns, in their order."""

    deleted_jobs: int = 0
    deleted_streams: int = 0
    deleted_engine_streams: int = 0
    deleted_worker_streams: int = 0
    stripped_attributes: int = 0
    deleted_transient: int = 0
    marked_pruned: int = 0
    deleted_signals: int = 0


@dataclass(frozen=True, slots=True)
class Triggers:
    """What the app's row triggers do to the UPDATE that marks a job.

    Attributes:
        fire: False in a session whose session_replication_role is replica.
        replaced: where none fires, the strip itself recomputes is_live (disable_triggers).
        by_expiry: the layouts before 0.11 ask expired_at, and not is_live, which job is live.
    """

    fire: bool = True
    by_expiry: bool = False
    replaced: bool = False

    def refuse(self, job: Job, jobs: Iterable[Job], now: datetime) -> bool:
        """Whether the mark fails because another live job has the same key."""
        live: Callable[[Job], bool] = (
            (lambda row: lives(row, now)) if self.by_expiry else (lambda row: row.is_live is True)
        )
        twins = (row for row in jobs if row.key == job.key and row.id != job.id)
        return self.fire and live(job) and any(map(live, twins))

    def mark(self, job: Job, now: datetime) -> Job:
        """The row after its mark: is_live is computed anew, whatever it said."""
        is_live = lives(job, now) if self.fire or self.replaced else job.is_live
        return replace(job, pruned_at=now, is_live=is_live)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left after a call, what it counts, and how many jobs are still due for a strip."""

    rows: Rows
    counts: Counts
    remaining: int


@dataclass(slots=True)
class _Run:
    """One call at work: the rows that are left so far, and what was counted."""

    rows: Rows
    options: Options
    now: datetime
    triggers: Triggers
    counts: dict[str, int] = field(default_factory=dict)

    def jobs(self) -> None:
        before = self.options.retention.before(self.now)
        self._delete_jobs(
            "deleted_jobs", lambda job: _older(job.expired_at, before) and self._listed(job)
        )

    def transient(self) -> None:
        before = self.options.retention.before(self.now)
        self._delete_jobs(
            "deleted_transient", lambda job: job.entity is None and _older(job.expired_at, before)
        )

    def messages(self, kind: str, count: str, retention: Window | None) -> None:
        before = (retention or self.options.retention).before(self.now)
        due = {m for m in self.rows.messages if m.kind == kind and _older(m.expired_at, before)}
        self.counts[count] = len(due)
        self.rows = replace(self.rows, messages=self.rows.messages - due)

    def strip(self) -> None:
        jobs = self.rows.jobs
        due = {job for job in self.strippable() if not self.triggers.refuse(job, jobs, self.now)}
        ids = {job.id for job in due}
        gone = {a for a in self.rows.attributes if a.job_id in ids and self._is_artifact(a)}
        self.counts["stripped_attributes"] = len(gone)
        self.counts["marked_pruned"] = len(due)
        marked = {self.triggers.mark(job, self.now) for job in due}
        attributes = self.rows.attributes - gone
        self.rows = replace(self.rows, jobs=jobs - due | marked, attributes=attributes)

    def signals(self) -> None:
        due = {s for s in self.rows.signals if s.expiry is not None and s.expiry <= self.now}
        self.counts["deleted_signals"] = len(due)
        self.rows = replace(self.rows, signals=self.rows.signals - due)

    def strippable(self) -> set[Job]:
        """Completed live jobs without a mark, however young they are."""
        return {
            job
            for job in self.rows.jobs
            if job.status == 0
            and job.is_live is True
            and job.pruned_at is None
            and self._listed(job)
        }

    def _delete_jobs(self, count: str, is_due: Callable[[Job], bool]) -> None:
        due = set(filter(is_due, self.rows.jobs))
        ids = {job.id for job in due}
        attributes = frozenset(a for a in self.rows.attributes if a.job_id not in ids)
        self.counts[count] = len(due)
        self.rows = replace(self.rows, jobs=self.rows.jobs - due, attributes=attributes)

    def _listed(self, job: Job) -> bool:
        """Without a list every job; with one only its entities, and never a job without any."""
        entities = self.options.entity_list
        return entities is None or (job.entity is not None and job.entity in entities)

    def _is_artifact(self, attribute: Attribute) -> bool:
        spared = self.options.keep_hmark and attribute.type == "hmark"
        return attribute.type not in KEPT_TYPES and not spared


def prune(rows: Rows, options: Options, now: datetime, triggers: Triggers | None = None) -> Outcome:
    """What a `prune` of `rows` in a transaction that began at `now` leaves and counts."""
    run = _Run(rows, options, now, triggers or Triggers())
    if options.prune_jobs:
        run.jobs()
    if options.prune_transient:
        run.transient()
    if _given(options.prune_engine_streams, options.prune_streams):
        run.messages("ENGINE", "deleted_engine_streams", options.engine_streams_retention)
    if _given(options.prune_worker_streams, options.prune_streams):
        run.messages("WORKER", "deleted_worker_streams", options.worker_streams_retention)
    if options.strip_attributes:
        run.strip()
    if options.prune_signals:
        run.signals()
    both = ("deleted_engine_streams", "deleted_worker_streams")
    run.counts["deleted_streams"] = sum(run.counts.get(name, 0) for name in both)
    remaining = len(run.strippable()) if options.strip_attributes else 0
    return Outcome(run.rows, Counts(**run.counts), remaining)


def preview(rows: Rows, options: Options, now: datetime) -> Counts:
    """What a `prune` would count; no trigger fires for a look, so none refuses."""
    return prune(rows, options, now, Triggers(fire=False)).counts


def lives(job: Job, now: datetime) -> bool:
    """Whether a job lives by its expiry, which is what its is_live says when next written."""
    return job.expired_at is None or job.expired_at > now


def _older(moment: datetime | None, before: datetime) -> bool:
    return moment is not None and moment < before


def _given(flag: bool | None, default: bool) -> bool:
    return default if flag is None else flag


def _plain(value: object) -> object:
    if isinstance(value, Window):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
