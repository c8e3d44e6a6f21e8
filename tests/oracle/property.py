"""The property of the oracle: a call leaves and counts what the model says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from time import monotonic

from psycopg import sql

from tests.oracle.paths import Path, Result
from tests.oracle.session import Session, rolled_back, set_role
from tests.oracle.tables import Tables
from tests.support import model
from tests.support.model import Counts, Job, Options, Outcome, Rows
from tests.support.random_app import Case

# So many seconds lie rows beside a cutoff (tests/support/random_app.py); or far less, or far more.
SHIFT = 1.0


class Disagreement(AssertionError):  # noqa: N818 -- it is a finding
    """The SQL and the model differ; the message says where."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An app, and the way in which it is pruned."""

    path: Path
    session: Session
    tables: Tables
    role: str | None = None

    def check(self, case: Case) -> None:
        """Prune an app that has the case's rows, and compare.

        Raises:
            Disagreement: where counts or rows differ, or a preview changed anything.
        """
        if self.path.commits:
            self._check_committed(case)
            return
        with self.filled(case) as (before, now):
            if self.path.preview is not None:
                self._check_preview(self.path.preview, case.options, before, now)
            with self.acting():
                result = self.path.prune(self.session, case.options)
            self._agree(before, case.options, now, result)

    def _check_committed(self, case: Case) -> None:
        """As the model has one time and a call that commits several, it must be done within SHIFT.

        A machine that is too busy for that gets another chance.
        """
        for chances in (2, 1, 0):
            begun = monotonic()
            try:
                self._check_once(case)
            except Disagreement:
                if not chances or monotonic() - begun < SHIFT:
                    raise
            else:
                return

    def _check_once(self, case: Case) -> None:
        """The call's transaction is its own, and its time what it says."""
        self.session.execute("BEGIN")
        self.tables.empty(self.session)
        before = self.tables.insert(self.session, case.rows(self._now()))
        self.session.execute("COMMIT")
        if self.role:
            self.session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
        result = self.path.prune(self.session, case.options)
        self.session.execute("RESET ROLE")
        assert result.now is not None, "a call that commits must tell its time"
        self._agree(before, case.options, result.now.astimezone(timezone.utc), result)

    @contextmanager
    def filled(self, case: Case) -> Iterator[tuple[Rows, datetime]]:
        """A transaction with the case's rows in the app; yields the rows and its now()."""
        with rolled_back(self.session):
            now = self._now()
            yield self.tables.insert(self.session, case.rows(now)), now

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act as the path says: its role, its settings."""
        if self.path.before:
            self.session.execute(self.path.before.encode())
        if self.role:
            set_role(self.session, self.role)
        yield
        self.session.execute("RESET ROLE")

    def _check_preview(
        self,
        preview: Callable[[Session, Options], Counts],
        options: Options,
        before: Rows,
        now: datetime,
    ) -> None:
        with self.acting():
            counts = preview(self.session, options)
        _same("preview counts", counts, model.preview(before, options, now))
        _same_rows("preview changed", self.tables.read(self.session), before)

    def _agree(self, before: Rows, options: Options, now: datetime, result: Result) -> None:
        expected: Outcome = model.prune(before, options, now, self.path.triggers)
        left = self.tables.read(self.session)
        if self.path.batched:
            left = replace(left, jobs=frozenset(_marked_at(now, job) for job in left.jobs))
        _same_rows("rows left", left, expected.rows)
        _same("counts", result.counts, expected.counts)
        if result.remaining is not None:
            _same("remaining", result.remaining, expected.remaining)

    def _now(self) -> datetime:
        [(now,)] = self.session.execute("SELECT now()")
        moment: datetime = now
        return moment.astimezone(timezone.utc)


def _marked_at(now: datetime, job: Job) -> Job:
    """A job as if it had been marked when the run began."""
    late = job.pruned_at is not None and timedelta() < job.pruned_at - now < timedelta(minutes=1)
    return replace(job, pruned_at=now) if late else job


def _same(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise Disagreement(f"{what}: SQL says {actual}, the model says {expected}")


def _same_rows(what: str, actual: Rows, expected: Rows) -> None:
    differences = []
    for table in fields(Rows):
        left, right = getattr(actual, table.name), getattr(expected, table.name)
        differences += [f"only in SQL: {row}" for row in left - right]
        differences += [f"only in the model: {row}" for row in right - left]
    if differences:
        raise Disagreement("\n".join([f"{what}:", *differences]))
