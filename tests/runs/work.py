"""An app with a known amount of work, calls of prune_batched on it, and what a run leaves.

The numbers that a run claims are never taken for granted: they are compared with the rows that
are really gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

from tests.deploy.observe import Refusal, Row, background, one, run, wait_until
from tests.support.server import Connection

# Every step has something to do: jobs of the entity book, transient ones of none.
OPTIONS = (
    "'7 days', strip_attributes => true, entity_list => ARRAY['book'], prune_transient => true"
)


def call(*knobs: str, app: str = "myapp", options: str = OPTIONS) -> str:
    """The CALL of a run."""
    return f"CALL hotmesh_dba.prune_batched('{app}', {', '.join([options, *knobs])})"


def prune(conn: Connection, *knobs: str, app: str = "myapp", options: str = OPTIONS) -> Run:
    """Run to the end, and the run's row."""
    return record(conn, one(conn, call(*knobs, app=app, options=options)))


# --- the app ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """What is due in an app; a job has `attributes` of each of the types adata, other and jdata."""

    jobs: int = 60
    transient: int = 20
    live: int = 60
    engine: int = 60
    worker: int = 40
    signals: int = 20
    attributes: int = 1

    @property
    def rows(self) -> int:
        """All that a run counts: jobs, messages, signals, and jobs stripped."""
        return self.jobs + self.transient + self.live + self.engine + self.worker + self.signals


def add_work(conn: Connection, schema: str = "myapp", work: Work = Work()) -> Work:
    """Add it, and of everything a few rows that are not due. A superuser's: no trigger fires."""
    with conn.transaction():
        run(conn, "SET LOCAL session_replication_role = replica")
        # Many rows share a time: a mark that passes over equal times would lose some.
        old = "now() - interval '30 days' - (n / 7) * interval '1 second'"
        for count, entity, key, status, expired in (
            (work.jobs, "'book'", "old", "n % 3 - 1", old),
            (work.transient, "NULL", "brief", "0", old),
            (work.live, "'book'", "live", "0", "now() + interval '1 day'"),
            (3, "'book'", "running", "1", "NULL"),
            (3, "'book'", "failed", "-1", "now() + interval '1 day'"),
            (3, "'author'", "kept", "0", "now() - interval '60 days'"),
        ):
            run(
                conn,
                f"INSERT INTO {schema}.jobs (key, entity, status, expired_at, is_live)"
                f" SELECT '{key}-' || gen_random_uuid(), {entity}, {status}, {expired},"
                f" '{key}' NOT IN ('old', 'brief', 'kept') FROM generate_series(1, {count}) n",
            )
        run(
            conn,
            f"INSERT INTO {schema}.jobs_attributes (job_id, symbol, dimension, value, type)"
            f" SELECT j.id, left(kind, 3), ',' || n, 'v', kind::{schema}.type_enum"
            f" FROM {schema}.jobs j, unnest('{{adata,other,jdata}}'::text[]) kind,"
            f" generate_series(1, {work.attributes}) n"
            # What is not due has rows as well; what was there before has its own.
            f" WHERE NOT EXISTS (SELECT FROM {schema}.jobs_attributes a WHERE a.job_id = j.id)",
        )
        for table, count in (("engine_streams", work.engine), ("worker_streams", work.worker)):
            run(
                conn,
                f"INSERT INTO {schema}.{table} (stream_name, message, expired_at)"
                f" SELECT 's' || n % 12, 'm', CASE WHEN n > 3 THEN {old} END"
                f" FROM generate_series(1, {count + 3}) n",
            )
        run(
            conn,
            f"INSERT INTO {schema}.signal_registry (key, expiry)"
            f" SELECT gen_random_uuid(), CASE WHEN n > 3 THEN {old} END"
            f" FROM generate_series(1, {work.signals + 3}) n",
        )
    return work


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows an app has."""

    jobs: int
    marked: int
    attributes: int
    engine: int
    worker: int
    signals: int


def rows(conn: Connection, schema: str = "myapp") -> Rows:
    """Count them."""
    (row,) = run(
        conn,
        f"SELECT (SELECT count(*) FROM {schema}.jobs),"
        f" (SELECT count(*) FROM {schema}.jobs WHERE pruned_at IS NOT NULL),"
        + ", ".join(
            f"(SELECT count(*) FROM {schema}.{table})"
            for table in ("jobs_attributes", "engine_streams", "worker_streams", "signal_registry")
        ),
    )
    return Rows(*row)


def halves(conn: Connection, schema: str = "myapp") -> tuple[int, int]:
    """What must never be: attributes without a job; artifacts on a job that is marked."""
    (row,) = run(
        conn,
        f"SELECT (SELECT count(*) FROM {schema}.jobs_attributes a"
        f"        WHERE NOT EXISTS (SELECT FROM {schema}.jobs j WHERE j.id = a.job_id)),"
        f" (SELECT count(*) FROM {schema}.jobs_attributes a JOIN {schema}.jobs j ON j.id = a.job_id"
        "   WHERE j.pruned_at IS NOT NULL AND a.type NOT IN ('jdata', 'udata', 'jmark'))",
    )
    return row[0], row[1]


def due(conn: Connection, schema: str = "myapp", options: str = OPTIONS) -> int:
    """How many rows a run would take now, by preview."""
    (row,) = run(
        conn,
        "SELECT deleted_jobs + deleted_transient + deleted_streams + deleted_signals"
        f" + marked_pruned FROM hotmesh_dba.preview('{schema}', {options})",
    )
    return int(row[0])


# --- the record ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """A row of hotmesh_dba.run."""

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
    state: str
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
    expected_by_step: dict[str, int]
    app_owner: int | None

    @property
    def rows(self) -> int:
        """Jobs, messages and signals deleted and jobs stripped."""
        return (
            self.deleted_jobs
            + self.deleted_transient
            + self.deleted_engine_streams
            + self.deleted_worker_streams
            + self.deleted_signals
            + self.marked_pruned
        )

    @property
    def outcome(self) -> tuple[str, str | None]:
        """How it ended."""
        return self.state, self.stop_reason


def runs(conn: Connection, condition: str = "true") -> list[Run]:
    """The rows of table run, the oldest first."""
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        statement = f"SELECT * FROM hotmesh_dba.run WHERE {condition} ORDER BY id"
        return cursor.execute(statement.encode()).fetchall()


def record(conn: Connection, run_id: int) -> Run:
    """The row of one run."""
    (found,) = runs(conn, f"id = {run_id}")
    return found


def last(conn: Connection) -> Run:
    """The newest run."""
    return runs(conn)[-1]


def gone(done: Iterable[Run]) -> Rows:
    """The rows that runs claim to have removed (of marked: to have marked)."""
    done = list(done)

    def total(*names: str) -> int:
        return sum(getattr(run, name) for run in done for name in names)

    return Rows(
        jobs=total("deleted_jobs", "deleted_transient"),
        marked=total("marked_pruned"),
        attributes=total("stripped_attributes", "cascaded_attributes"),
        engine=total("deleted_engine_streams"),
        worker=total("deleted_worker_streams"),
        signals=total("deleted_signals"),
    )


def assert_true_to(before: Rows, conn: Connection, schema: str = "myapp") -> None:
    """What all runs of the app say they did is what happened to its rows; and nothing by half."""
    now = rows(conn, schema)
    happened = {
        name.name: abs(getattr(now, name.name) - getattr(before, name.name))
        for name in fields(Rows)
    }
    assert gone(runs(conn, f"app = '{schema}'")) == Rows(**happened)
    assert halves(conn, schema) == (0, 0)


# --- what a session has ----------------------------------------------------------------------

# Whatever a run sets for its own transactions, and whatever could hurt if it stayed.
SETTINGS = (
    "session_replication_role",
    "lock_timeout",
    "statement_timeout",
    "synchronous_commit",
    "search_path",
    "transaction_isolation",
    "default_transaction_isolation",
    "transaction_read_only",
    "enable_seqscan",
    "enable_indexscan",
    "enable_indexonlyscan",
    "enable_bitmapscan",
    "jit",
    "role",
    "hotmesh_dba.way",
    "hotmesh_dba.disable_triggers",
)


def settings(conn: Connection) -> dict[str, str | None]:
    """The session's settings as they are now."""
    return {name: one(conn, "SELECT current_setting(%s, true)", name) for name in SETTINGS}


def locks(watcher: Connection, pid: int) -> list[tuple[Any, ...]]:
    """All that a process holds in pg_locks, of whatever kind; its own transaction aside."""
    return run(
        watcher,
        "SELECT locktype, classid, objid, objsubid, relation::regclass::text, mode FROM pg_locks"
        " WHERE pid = %s AND locktype <> 'virtualxid'",
        pid,
    )


# --- waits and errors ------------------------------------------------------------------------


def wait_for_batches(watcher: Connection, batches: int, after: int = 0) -> Run:
    """Wait until the newest run (newer than `after`) has committed so many batches."""

    def there() -> bool:
        newest = runs(watcher, f"id > {after}")
        return bool(newest) and newest[-1].batches >= batches

    wait_until(f"{batches} batches", there)
    return last(watcher)


@contextmanager
def running(
    conn: Connection, *knobs: str, app: str = "myapp", options: str = OPTIONS
) -> Iterator[Future[list[Row]]]:
    """A run on another connection meanwhile; ended where the test fails, so that none hangs."""
    with background(conn, call(*knobs, app=app, options=options)) as task:
        try:
            yield task
        except BaseException:
            conn.cancel()
            raise


def said(error: BaseException | None) -> Refusal:
    """What the server said in an error."""
    assert isinstance(error, psycopg.Error), error
    diag = error.diag
    return Refusal(
        diag.sqlstate or "",
        diag.message_primary or "",
        diag.message_detail or "",
        diag.message_hint or "",
    )


def last_job(conn: Connection, kind: str = "old", schema: str = "myapp") -> str:
    """A job that is due, in the last leaf that has one: batches are committed before its own."""
    of_kind = f"SELECT id FROM {schema}.jobs WHERE key LIKE '{kind}-%'"
    return str(one(conn, f"{of_kind} ORDER BY tableoid DESC, id LIMIT 1"))


def hold_attribute(holder: Connection, kind: str = "old", schema: str = "myapp") -> str:
    """Lock an attribute of last_job, which is returned, not the job: a run waits in mid-batch."""
    job = last_job(holder, kind, schema)
    of_job = f"SELECT FROM {schema}.jobs_attributes WHERE symbol = 'ada' AND job_id = '{job}'"
    run(holder, f"BEGIN; {of_job} FOR UPDATE")
    return job


def patient(conn: Connection) -> Connection:
    """A session in which a run waits for locks as long as a slow machine may need."""
    run(conn, "SET deadlock_timeout = '60s'")
    return conn
