"""One comparison: every contender on a copy of its own, again and again, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from psycopg import sql

from tests.support.server import Connection

from .contenders import Contender, Place, Record, execute, read_record
from .stage import APP, Digest, Stage, digest

T = TypeVar("T")
Beside = Callable[[Place], AbstractContextManager[None]]


class WrongRowsError(AssertionError):
    """Contenders left different rows: their times mean nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """One contender once: what it took, what its runs recorded, what it left."""

    seconds: float
    record: Record
    left: Digest


@dataclass(slots=True)
class Times:
    """Seconds and records by contender, one for each repeat, so that pairs belong together."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)

    def add(self, name: str, found: Found) -> None:
        """One repeat of a contender."""
        self.seconds.setdefault(name, []).append(found.seconds)
        self.records.setdefault(name, []).append(found.record)

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Ours by theirs, pair by pair."""
        pairs = zip(self.seconds[ours], self.seconds[theirs], strict=True)
        return [mine / other for mine, other in pairs]

    def longest_batches(self, name: str) -> tuple[float, ...]:
        """The longest batch of each run, in milliseconds."""
        return tuple(record.longest_batch_ms for record in self.records[name])


@contextmanager
def nothing(_place: Place) -> Iterator[None]:
    """Nothing else goes on."""
    yield


@contextmanager
def old_snapshot(place: Place) -> Iterator[None]:
    """Another session holds a snapshot from before, so no dead row can be cleaned away."""
    with place.server.connect(place.dbname, autocommit=False) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(APP, "jobs")))
        yield
        conn.rollback()


def compare(
    stage: Stage,
    template: str,
    contenders: Sequence[Contender],
    repeats: int,
    *,
    expected: Digest | None = None,
) -> Times:
    """Time each contender `repeats` times; the first of one turn is the last of the next.

    Raises:
        WrongRowsError: where the rows that are left are not the same, or not `expected`.
    """
    times = Times()
    for repeat in range(repeats):
        for contender in _turned(contenders, repeat):
            found = _one(stage, template, contender, nothing)
            times.add(contender.name, found)
            if contender.leaves_the_same:
                expected = expected or found.left
                _check(contender.name, found.left, expected)
    return times


def series(
    stage: Stage,
    templates: Mapping[str, str],
    contender: Contender,
    expected: Mapping[str, Digest],
    repeats: int,
    *,
    beside: Beside = nothing,
) -> Times:
    """Time one contender on several templates, in turn; its times stand under their names."""
    times = Times()
    for repeat in range(repeats):
        for name in _turned(list(templates), repeat):
            found = _one(stage, templates[name], contender, beside)
            times.add(name, found)
            _check(f"{contender.name} on {name}", found.left, expected[name])
    return times


def reference(stage: Stage, template: str, statements: Sequence[str]) -> Digest:
    """What is left after these statements, run without triggers and untimed."""
    with stage.copy(template) as dbname, stage.server.connect(dbname) as conn:
        set_path(conn)
        conn.execute("SET session_replication_role = replica")
        for statement in statements:
            execute(conn, statement)
        return digest(conn)


def set_path(conn: Connection) -> None:
    """Statements of contenders name plain tables."""
    conn.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(APP)))


def _turned(items: Sequence[T], by: int) -> list[T]:
    turn = by % len(items)
    return [*items[turn:], *items[:turn]]


def _check(name: str, left: Digest, expected: Digest) -> None:
    if left != expected:
        raise WrongRowsError(f"{name}: {left}, expected {expected}")


def _one(stage: Stage, template: str, contender: Contender, beside: Beside) -> Found:
    with stage.copy(template) as dbname, stage.server.connect(dbname) as conn:
        set_path(conn)
        place = Place(stage.server, dbname, conn)
        if contender.prepare is not None:
            contender.prepare(place)
        stage.ready(conn)
        with beside(place):
            start = time.perf_counter()
            contender.work(place)
            seconds = time.perf_counter() - start
        record = read_record(conn)
        assert not record.unfinished, record.unfinished
        if record.batches:
            where = f"{contender.name} on {template}"
            stage.longest_batches.append((record.longest_batch_ms, where))
        return Found(seconds, record, digest(conn))
