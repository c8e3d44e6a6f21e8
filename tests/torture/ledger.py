"""What must be in the app: every row that was seen or written, and why it may be gone.

It is written from the promise alone, as tests/support/model.py is: cutoffs are worked out here, in
Python, from what the calls were given. Between two looks nobody but a pruner removes a row, so a
row that is gone was taken by one of the runs since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg import sql

from tests.deploy.observe import run
from tests.support.model import KEPT_TYPES
from tests.support.server import Connection

APP = "myapp"
STREAMS = ("engine_streams", "worker_streams")
TABLE_OF = {"signals": "signal_registry"}

AttributeKey = tuple[str, str, str]
MessageKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its last writer left it; `strippable`: whether a strip may have met it so."""

    entity: str | None
    status: int
    expired_at: datetime | None
    strippable: bool
    marked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute; a late one was added when its job was marked already, which is legal."""

    type: str
    late: bool = False


@dataclass(slots=True)
class Rows:
    """The rows of an app, by key."""

    jobs: dict[str, Job] = field(default_factory=dict)
    attributes: dict[AttributeKey, Attribute] = field(default_factory=dict)
    messages: dict[MessageKey, datetime | None] = field(default_factory=dict)
    signals: dict[str, datetime | None] = field(default_factory=dict)

    def write(self, changes: Rows) -> None:
        """What a committed transaction wrote; what a job once was is not forgotten."""
        for key, job in changes.jobs.items():
            before = self.jobs.get(key)
            if before is not None:
                job = replace(
                    job, strippable=job.strippable or before.strippable, marked=before.marked
                )
            self.jobs[key] = job
        self.attributes.update(changes.attributes)
        for place, expired_at in changes.messages.items():
            # Of the two who wrote it the one that acknowledged it was the later.
            self.messages[place] = expired_at or self.messages.get(place)
        self.signals.update(changes.signals)

    def __len__(self) -> int:
        return len(self.jobs) + len(self.attributes) + len(self.messages) + len(self.signals)


@dataclass(frozen=True, slots=True)
class Permit:
    """What one run was allowed to take, and what it says that it took."""

    who: str
    started_at: datetime
    ended_at: datetime | None
    jobs: bool
    transient: bool
    engine: bool
    worker: bool
    strip: bool
    signals: bool
    keep_hmark: bool
    entities: tuple[str | None, ...] | None
    jobs_before: datetime
    engine_before: datetime
    worker_before: datetime
    signals_until: datetime
    took: Counter[str]
    counts_cascade: bool

    def takes_job(self, job: Job) -> bool:
        if job.expired_at is None or job.expired_at >= self.jobs_before:
            return False
        return (self.jobs and self._lists(job.entity)) or (self.transient and job.entity is None)

    def takes_message(self, table: str, expired_at: datetime | None) -> bool:
        wanted, before = {
            "engine_streams": (self.engine, self.engine_before),
            "worker_streams": (self.worker, self.worker_before),
        }[table]
        return wanted and expired_at is not None and expired_at < before

    def takes_signal(self, expiry: datetime | None) -> bool:
        return self.signals and expiry is not None and expiry <= self.signals_until

    def marks(self, job: Job, marked_at: datetime) -> bool:
        during = self.started_at <= marked_at and (
            self.ended_at is None or marked_at <= self.ended_at
        )
        return self.strip and during and job.strippable and self._lists(job.entity)

    def _lists(self, entity: str | None) -> bool:
        return self.entities is None or (entity is not None and entity in self.entities)


def read(conn: Connection) -> Rows:
    """Every row that is there, in one snapshot."""
    rows = Rows()
    with conn.transaction():
        run(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = {name for (name,) in run(conn, TABLES)}
        for key, entity, status, expired_at, live, marked in run(conn, JOBS):
            strippable = status == 0 and live is True and marked is None
            rows.jobs[key] = Job(entity, status, expired_at, strippable, marked)
        for job, symbol, dimension, kind in run(conn, ATTRIBUTES):
            late = job in rows.jobs and rows.jobs[job].marked is not None
            rows.attributes[job, symbol, dimension] = Attribute(kind, late)
        for table in STREAMS:
            if table in tables:
                for stream, number, expired_at in _select(conn, table, "stream_name, id"):
                    rows.messages[table, stream, number] = expired_at
        if "signal_registry" in tables:
            rows.signals = dict(run(conn, f"SELECT key, expiry FROM {APP}.signal_registry"))
    return rows


TABLES = f"SELECT relname FROM pg_class WHERE relnamespace = '{APP}'::regnamespace"
JOBS = f"SELECT id::text, entity, status, expired_at, is_live, pruned_at FROM {APP}.jobs"
ATTRIBUTES = f"SELECT job_id::text, symbol, dimension, type::text FROM {APP}.jobs_attributes"


def _select(conn: Connection, table: str, keys: str) -> list[tuple[Any, ...]]:
    statement = sql.SQL("SELECT {}, expired_at FROM {}").format(
        sql.SQL(keys), sql.Identifier(APP, table)
    )
    return conn.execute(statement).fetchall()


@dataclass(slots=True)
class Verdict:
    """What a look at the app found."""

    violations: list[str] = field(default_factory=list)
    gone: Counter[str] = field(default_factory=Counter)


def judge(expected: Rows, present: Rows, permits: Iterable[Permit], decreed: set[str]) -> Verdict:
    """Compare what must be there with what is.

    Args:
        expected: the rows at the last look, and what was written since.
        present: the rows that are there.
        permits: the runs since the last look.
        decreed: tables that somebody dropped; those are not looked at.
    """
    bench = _Bench(expected, present, list(permits), decreed, Verdict())
    bench.jobs()
    bench.attributes()
    bench.messages()
    bench.signals()
    bench.counts()
    return bench.verdict


@dataclass(slots=True)
class _Bench:
    expected: Rows
    present: Rows
    permits: list[Permit]
    decreed: set[str]
    verdict: Verdict
    marked: int = 0
    maybe_marked: int = 0

    def accuse(self, what: str) -> None:
        self.verdict.violations.append(what)

    def jobs(self) -> None:
        for key in self.present.jobs.keys() - self.expected.jobs.keys():
            self.accuse(f"job {key} came back, or from nowhere: {self.present.jobs[key]}")
        for key, job in self.expected.jobs.items():
            now = self.present.jobs.get(key)
            if now is None:
                self.verdict.gone["jobs"] += 1
                self.maybe_marked += job.marked is None and job.strippable
                if not any(permit.takes_job(job) for permit in self.permits):
                    self.accuse(f"job {key} is gone and no run may take it: {job}")
            else:
                self._stays(key, job, now)

    def _stays(self, key: str, job: Job, now: Job) -> None:
        was, is_now = ((row.entity, row.status, row.expired_at) for row in (job, now))
        if was != is_now:
            self.accuse(f"job {key} was changed: {job}, now {now}")
        if job.marked == now.marked:
            return
        self.marked += 1
        if job.marked is not None or now.marked is None:
            self.accuse(f"job {key} lost its mark, or got another: {job}, now {now}")
        elif not any(permit.marks(job, now.marked) for permit in self.permits):
            self.accuse(f"job {key} is marked and no run may mark it: {job}, now {now}")

    def attributes(self) -> None:
        for key, attribute in self.present.attributes.items():
            if key not in self.expected.attributes:
                self.accuse(f"attribute {key} came back, or from nowhere: {attribute}")
            elif key[0] not in self.present.jobs:
                self.accuse(f"attribute {key} is an orphan: {attribute}")
            elif self._is_unstripped(key[0], self.expected.attributes[key]):
                self.accuse(f"attribute {key} is an artifact of a marked job: {attribute}")
        for key, attribute in self.expected.attributes.items():
            if key not in self.present.attributes:
                self.verdict.gone["attributes"] += 1
                if not self._may_be_stripped(key[0], attribute):
                    self.accuse(f"attribute {key} is gone, and its job is there: {attribute}")

    def _markers(self, job: str) -> list[Permit]:
        """Who may have marked a job that has a mark it did not have."""
        was, now = self.expected.jobs.get(job), self.present.jobs.get(job)
        if was is None or now is None or was.marked is not None or now.marked is None:
            return []
        return [permit for permit in self.permits if permit.marks(was, now.marked)]

    def _is_unstripped(self, job: str, attribute: Attribute) -> bool:
        markers = self._markers(job)
        if not markers or attribute.late or attribute.type in KEPT_TYPES:
            return False
        return attribute.type != "hmark" or not any(permit.keep_hmark for permit in markers)

    def _may_be_stripped(self, job: str, attribute: Attribute) -> bool:
        if job not in self.present.jobs:
            return True
        if attribute.late or attribute.type in KEPT_TYPES:
            return False
        return any(
            attribute.type != "hmark" or not permit.keep_hmark for permit in self._markers(job)
        )

    def messages(self) -> None:
        for key in self.present.messages.keys() - self.expected.messages.keys():
            self.accuse(f"message {key} came back, or from nowhere")
        for key, expired_at in self.expected.messages.items():
            if key[0] in self.decreed:
                continue
            if key not in self.present.messages:
                self.verdict.gone[key[0]] += 1
                if not any(permit.takes_message(key[0], expired_at) for permit in self.permits):
                    self.accuse(f"message {key} is gone and no run may take it: {expired_at}")
            elif self.present.messages[key] != expired_at:
                self.accuse(f"message {key} was changed")

    def signals(self) -> None:
        if "signal_registry" in self.decreed:
            return
        for key in self.present.signals.keys() - self.expected.signals.keys():
            self.accuse(f"signal {key} came back, or from nowhere")
        for key, expiry in self.expected.signals.items():
            if key not in self.present.signals:
                self.verdict.gone["signals"] += 1
                if not any(permit.takes_signal(expiry) for permit in self.permits):
                    self.accuse(f"signal {key} is gone and no run may take it: {expiry}")
            elif self.present.signals[key] != expiry:
                self.accuse(f"signal {key} was changed")

    def counts(self) -> None:
        """What the runs say they did adds up to what happened."""
        took: Counter[str] = Counter()
        for permit in self.permits:
            took.update(permit.took)
        for what in ("jobs", *STREAMS, "signals"):
            if {what, TABLE_OF.get(what, what)} & self.decreed:
                continue
            if took[what] != self.verdict.gone[what]:
                self.accuse(f"{what}: runs say {took[what]}, gone are {self.verdict.gone[what]}")
        # A job may have been marked and, later, deleted.
        if not self.marked <= took["marked"] <= self.marked + self.maybe_marked:
            self.accuse(f"marked: runs say {took['marked']}, {self.marked} are")
        if all(permit.counts_cascade for permit in self.permits):
            attributes = took["stripped"] + took["cascaded"]
            if attributes != self.verdict.gone["attributes"]:
                self.accuse(
                    f"attributes: runs say {took['stripped']} stripped and {took['cascaded']}"
                    f" cascaded, gone are {self.verdict.gone['attributes']}"
                )
