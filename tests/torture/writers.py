"""The app at work, as HotMesh works: each connection a writer that keeps a journal.

A transaction of a writer leaves a mark of its own (a row of torture.written), so that of one whose
COMMIT was never answered it is known afterwards whether it is there.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone

import psycopg

from tests.deploy.observe import run
from tests.support.server import Connection

from .ledger import APP, Attribute, Job, Rows

TYPES = ("adata",) * 6 + ("jdata", "jdata", "other", "jmark", "hmark", "status", "udata")
ENTITIES = ("book", "author", None)

Connect = Callable[[], Connection]


@dataclass(slots=True)
class Entry:
    """A transaction: its number, what it wrote, and whether its COMMIT was answered."""

    number: int
    rows: Rows = field(default_factory=Rows)
    committed: bool = False


def is_lost(error: psycopg.Error) -> bool:
    """Whether an error means no more than that the server, or the connection, is not there."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (
        state is None or state.startswith("08") or state in ("57P01", "57P02", "57P03", "57P05")
    )


def said(error: psycopg.Error) -> str:
    """An error in full: SQLSTATE, message, detail, and where it was raised."""
    diag = error.diag
    where = " < ".join((diag.context or "").splitlines()[:3])
    return f"{error.sqlstate} {diag.message_primary} ({diag.message_detail}) at {where}"


class Writer(threading.Thread):
    """One connection of the app; works until it is told to stop."""

    def __init__(self, name: str, connect: Connect, dice: random.Random, stop: threading.Event):
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._dice = dice
        self._stopping = stop
        self.journal: list[Entry] = []
        self.errors: Counter[str] = Counter()
        self.said: list[str] = []
        self.broken: BaseException | None = None
        self._entry = Entry(0)
        self._running: list[str] = []
        self._done: list[str] = []
        self._signals: list[str] = []
        self._zone = dice.choice(("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"))

    def run(self) -> None:
        """Write, and connect again where the connection is lost."""
        try:
            while not self._stopping.is_set():
                try:
                    with self._connect() as conn:
                        run(conn, f"SET timezone = '{self._zone}'")
                        self._work(conn)
                except psycopg.Error as error:
                    self._note(error)
                    # Its own jobs are not told apart from those that a crash undid: new ones.
                    self._running, self._done, self._signals = [], [], []
                    self._stopping.wait(0.02)
        except BaseException as error:
            self.broken = error

    def _note(self, error: psycopg.Error) -> None:
        state = "lost" if is_lost(error) else error.sqlstate or type(error).__name__
        self.errors[state] += 1
        if state != "lost":
            self.said.append(said(error))

    def _work(self, conn: Connection) -> None:
        ways = (
            (self._start, 4),
            (self._progress, 5),
            (self._complete, 3),
            (self._expire, 2),
            (self._add_late, 3),
            (self._signal, 2),
            (self._consume, 1),
            (self._enqueue, 4),
            (self._dequeue, 3),
        )
        choices, weights = zip(*ways, strict=True)
        while not self._stopping.is_set():
            (write,) = self._dice.choices(choices, weights)
            self._transact(conn, write)

    def _transact(self, conn: Connection, write: Callable[[Connection], None]) -> None:
        self._entry = Entry(len(self.journal))
        run(conn, "BEGIN")
        try:
            write(conn)
            values = (self.name, self._entry.number)
            run(conn, "INSERT INTO torture.written VALUES (%s, %s)", *values)
        except psycopg.Error:
            if not conn.closed:
                run(conn, "ROLLBACK")
            raise
        self.journal.append(self._entry)
        run(conn, "COMMIT")
        self._entry.committed = True

    # --- jobs ------------------------------------------------------------------------------

    def _start(self, conn: Connection) -> None:
        for _ in range(self._dice.randint(1, 3)):
            entity = self._dice.choice(ENTITIES)
            ((job, *row),) = run(
                conn,
                f"INSERT INTO {APP}.jobs (key, entity, status) VALUES (%s, %s, 1) RETURNING {JOB}",
                f"{self.name}-{self._entry.number}-{self._dice.random()}",
                entity,
            )
            self._wrote_job(job, row)
            self._add_attributes(conn, job, self._dice.randint(2, 8))
            self._running.append(job)

    def _progress(self, conn: Connection) -> None:
        if self._running:
            job = self._dice.choice(self._running)
            self._update_job(conn, job, "status = %s", self._dice.randint(1, 9))
            self._add_attributes(conn, job, self._dice.randint(1, 5))

    def _complete(self, conn: Connection) -> None:
        """Completed or failed; mostly it stays readable for a while, sometimes for a moment."""
        if self._running:
            job = self._running.pop(self._dice.randrange(len(self._running)))
            status = self._dice.choice((0, 0, 0, 0, -1))
            seconds = self._dice.choice((0.2, 3600, 86400, 86400, None))
            assignments = "status = %s, expired_at = now() + make_interval(secs => %s)"
            self._add_attributes(conn, job, 2)
            self._update_job(conn, job, assignments, status, seconds)
            self._done.append(job)

    def _expire(self, conn: Connection) -> None:
        """Into the past, as if it had been done long ago; from then on it is not touched."""
        if self._done:
            job = self._done.pop(self._dice.randrange(len(self._done)))
            self._update_job(conn, job, "expired_at = %s", self._past())

    def _add_late(self, conn: Connection) -> None:
        """An attribute for a job that is finished and still readable for long."""
        if self._done:
            # Mostly to one that has only just finished, which a strip may be at.
            job = self._dice.choice((self._done[-1], self._done[-1], *self._done[:1]))
            found = run(
                conn,
                f"SELECT FROM {APP}.jobs WHERE id = %s"
                " AND (expired_at IS NULL OR expired_at > now() + interval '10 minutes')",
                job,
            )
            if found:
                self._add_attributes(conn, job, 1)

    def _update_job(self, conn: Connection, job: str, assignments: str, *values: object) -> None:
        statement = f"UPDATE {APP}.jobs SET {assignments} WHERE id = %s RETURNING {JOB}"
        for _, *row in run(conn, statement, *values, job):
            self._wrote_job(job, row)

    def _wrote_job(self, job: str, row: list[object]) -> None:
        entity, status, expired_at, live, marked = row
        strippable = status == 0 and live is True and marked is None
        self._entry.rows.jobs[job] = Job(entity, status, expired_at, strippable)  # type: ignore[arg-type]

    def _add_attributes(self, conn: Connection, job: str, count: int) -> None:
        """By now their foreign key holds the job: it is marked already, or not before we commit."""
        kinds = self._dice.choices(TYPES, k=count)
        symbols = [f"w{self._dice.randrange(26**3)}" for _ in kinds]
        added = run(
            conn,
            f"INSERT INTO {APP}.jobs_attributes (job_id, symbol, dimension, value, type)"
            f" SELECT %s::uuid, s, ',0', repeat(s, 4), k::{APP}.type_enum"
            " FROM unnest(%s::text[], %s::text[]) AS a (s, k)"
            " ON CONFLICT DO NOTHING RETURNING symbol, dimension, type::text",
            job,
            symbols,
            kinds,
        )
        ((late,),) = run(conn, f"SELECT pruned_at IS NOT NULL FROM {APP}.jobs WHERE id = %s", job)
        for symbol, dimension, kind in added:
            self._entry.rows.attributes[job, symbol, dimension] = Attribute(kind, late)

    # --- signals and messages --------------------------------------------------------------

    def _signal(self, conn: Connection) -> None:
        key = f"{self.name}-{self._entry.number}-{self._dice.random()}"
        seconds = self._dice.choice((None, 0.1, 3600))
        self._wrote_signals(
            run(
                conn,
                f"INSERT INTO {APP}.signal_registry (key, value, expiry)"
                " VALUES (%s, 'v', now() + make_interval(secs => %s)) RETURNING key, expiry",
                key,
                seconds,
            )
        )
        self._signals.append(key)

    def _consume(self, conn: Connection) -> None:
        if self._signals:
            key = self._signals.pop(self._dice.randrange(len(self._signals)))
            consume = f"UPDATE {APP}.signal_registry SET expiry = now() WHERE key = %s"
            self._wrote_signals(run(conn, f"{consume} RETURNING key, expiry", key))

    def _wrote_signals(self, rows: Iterable[tuple[str, datetime | None]]) -> None:
        self._entry.rows.signals.update(rows)

    def _enqueue(self, conn: Connection) -> None:
        table = self._table()
        self._wrote_messages(
            table,
            run(
                conn,
                f"INSERT INTO {APP}.{table} (stream_name, message)"
                " SELECT 's' || (n + %s) %% 12, 'm' FROM generate_series(1, %s) n"
                " RETURNING stream_name, id, expired_at",
                self._dice.randrange(12),
                self._dice.randint(1, 8),
            ),
        )

    def _dequeue(self, conn: Connection) -> None:
        """Reserve some that nobody else has, and acknowledge them."""
        table = self._table()
        reserved = run(
            conn,
            f"UPDATE {APP}.{table} m SET reserved_at = now(), reserved_by = %s"
            f" FROM (SELECT stream_name, id FROM {APP}.{table} WHERE expired_at IS NULL"
            "        AND stream_name = %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) q"
            " WHERE (m.stream_name, m.id) = (q.stream_name, q.id) RETURNING m.stream_name, m.id",
            self.name,
            f"s{self._dice.randrange(12)}",
            self._dice.randint(1, 8),
        )
        for stream, number in reserved:
            self._wrote_messages(
                table,
                run(
                    conn,
                    f"UPDATE {APP}.{table} SET expired_at = %s WHERE (stream_name, id) = (%s, %s)"
                    " RETURNING stream_name, id, expired_at",
                    self._past(),
                    stream,
                    number,
                ),
            )

    def _wrote_messages(self, table: str, rows: Iterable[tuple[str, int, datetime | None]]) -> None:
        for stream, number, expired_at in rows:
            self._entry.rows.messages[table, stream, number] = expired_at

    def _table(self) -> str:
        return self._dice.choice(("engine_streams", "worker_streams"))

    def _past(self) -> datetime:
        seconds = self._dice.choice((0, 1, 3600, 7 * 86400, 8 * 86400, 31 * 86400, 40 * 86400))
        return datetime.fromtimestamp(
            datetime.now(timezone.utc).timestamp() - seconds, timezone.utc
        )


JOB = "id::text, entity, status, expired_at, is_live, pruned_at"


def settle(conn: Connection, writers: Iterable[Writer]) -> tuple[Rows, int]:
    """What the writers wrote since they began, and how many of their COMMITs went unanswered."""
    rows, unanswered = Rows(), 0
    there = set(run(conn, "SELECT writer, number FROM torture.written"))
    for writer in writers:
        for entry in writer.journal:
            if not entry.committed:
                unanswered += 1
            if entry.committed or (writer.name, entry.number) in there:
                rows.write(entry.rows)
    return rows, unanswered


def lost_writes(conn: Connection, writers: Iterable[Writer]) -> list[str]:
    """COMMITs that were answered and are not there: the server's fault, or the harness's."""
    there = set(run(conn, "SELECT writer, number FROM torture.written"))
    return [
        f"{writer.name}: transaction {entry.number} was committed and is not there"
        for writer in writers
        for entry in writer.journal
        if entry.committed and (writer.name, entry.number) not in there
    ]
