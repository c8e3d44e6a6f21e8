"""Who is measured: a DBA's one transaction, the floor, a naive loop of batches, and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from tests.support.server import Connection, PrivateServer

from .stage import APP

DUE_JOBS = "expired_at < now() - interval '7 days'"
DUE_MESSAGES = "expired_at < now() - interval '7 days'"
DUE_STRIP = "status = 0 AND is_live AND pruned_at IS NULL"
STRIPPED = "type NOT IN ('jdata', 'udata', 'jmark')"

NAIVE_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """The database that a contender works on, and the connection it is timed on.

    The app's schema is on that connection's search_path, so statements name plain tables.
    """

    server: PrivateServer
    dbname: str
    conn: Connection


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that prunes.

    Attributes:
        name: what the report calls it.
        work: what is timed.
        prepare: what is done before, untimed.
        leaves_the_same: whether the rows that are left must be those that the baseline leaves.
    """

    name: str
    work: Callable[[Place], None]
    prepare: Callable[[Place], None] | None = None
    leaves_the_same: bool = True


# --- what a DBA would write ------------------------------------------------------------------


def one_transaction(*statements: str) -> Contender:
    """The statements in one transaction."""

    def work(place: Place) -> None:
        with place.conn.transaction():
            for statement in statements:
                execute(place.conn, statement)

    return Contender("one transaction", work)


DELETE_JOBS = f"DELETE FROM jobs WHERE {DUE_JOBS}"
DELETE_ENGINE = f"DELETE FROM engine_streams WHERE {DUE_MESSAGES}"
DELETE_WORKER = f"DELETE FROM worker_streams WHERE {DUE_MESSAGES}"
STRIP = (
    f"DELETE FROM jobs_attributes WHERE {STRIPPED}"
    f" AND job_id IN (SELECT id FROM jobs WHERE {DUE_STRIP})",
    f"UPDATE jobs SET pruned_at = now() WHERE {DUE_STRIP}",
)


# The same rows by statements that need no trigger, for what a contender is checked against.
DELETE_JOBS_PLAINLY = (
    f"DELETE FROM jobs_attributes WHERE job_id IN (SELECT id FROM jobs WHERE {DUE_JOBS})",
    DELETE_JOBS,
)


# --- the floor -------------------------------------------------------------------------------


def floor(*tables: str, kept: Sequence[str]) -> Contender:
    """An unconditional DELETE of whole tables with no triggers, after the `kept` rows have gone.

    Nothing that deletes rows can be much faster.
    """

    def prepare(place: Place) -> None:
        place.conn.execute("SET session_replication_role = replica")
        for statement in kept:
            execute(place.conn, statement)

    def work(place: Place) -> None:
        with place.conn.transaction():
            for table in tables:
                execute(place.conn, f"DELETE FROM {table}")

    return Contender("floor", work, prepare, leaves_the_same=False)


def without_triggers(name: str, *statements: str) -> Contender:
    """The statements in one transaction, with no triggers: a yardstick, and nothing to use."""

    def prepare(place: Place) -> None:
        place.conn.execute("SET session_replication_role = replica")

    return Contender(name, one_transaction(*statements).work, prepare)


# --- the loop that everybody writes first ----------------------------------------------------


def naive_loop(*batches: str) -> Contender:
    """Each statement again and again, a commit each, until it finds nothing more."""

    def work(place: Place) -> None:
        for batch in batches:
            while execute(place.conn, batch) > 0:
                pass

    return Contender("naive loop", work)


def _naive(table: str, key: str, condition: str) -> str:
    return (
        f"DELETE FROM {table} WHERE {key} IN"
        f" (SELECT {key.strip('()')} FROM {table} WHERE {condition} LIMIT {NAIVE_BATCH})"
    )


NAIVE_JOBS = _naive("jobs", "id", DUE_JOBS)
NAIVE_ENGINE = _naive("engine_streams", "(stream_name, id)", DUE_MESSAGES)
NAIVE_WORKER = _naive("worker_streams", "(stream_name, id)", DUE_MESSAGES)
NAIVE_STRIP = (
    f"WITH due AS (SELECT id FROM jobs WHERE {DUE_STRIP} LIMIT {NAIVE_BATCH}),"
    f" gone AS (DELETE FROM jobs_attributes WHERE {STRIPPED} AND job_id IN (SELECT id FROM due))"
    " UPDATE jobs SET pruned_at = now() WHERE id IN (SELECT id FROM due)"
)


# --- ours ------------------------------------------------------------------------------------

STEPS = {
    "prune_jobs": False,
    "prune_streams": False,
    "prune_signals": False,
    "strip_attributes": False,
}

JOBS = {**STEPS, "prune_jobs": True}
STREAMS = {**STEPS, "prune_streams": True}
STRIPS = {**STEPS, "strip_attributes": True}
ALL = dict.fromkeys(STEPS, True)


def ours(options: dict[str, Any], *, workers: int = 1, fast: bool = False) -> Contender:
    """`CALL hotmesh_dba.prune_batched`, at its defaults, on `workers` connections at once."""
    name = "ours, triggers disabled" if fast else "ours"
    name += f", {workers} workers" if workers > 1 else ""
    asked = {**options, "workers": workers, "disable_triggers": fast}

    def work(place: Place) -> None:
        if workers == 1:
            call(place.conn, asked)
            return
        with ThreadPoolExecutor(workers) as pool:
            runs = [pool.submit(_worker, place, asked, n + 1) for n in range(workers)]
            for run in runs:
                run.result()

    return Contender(name, work)


def call(conn: Connection, options: dict[str, Any]) -> None:
    """Call prune_batched with named arguments."""
    arguments = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in options.items()
    )
    conn.execute(sql.SQL("CALL hotmesh_dba.prune_batched({}, {})").format(APP, arguments))


def _worker(place: Place, options: dict[str, Any], number: int) -> None:
    with place.server.connect(place.dbname) as conn:
        call(conn, {**options, "worker": number})


# --- what a run of ours recorded -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """What table run says of the runs in one database."""

    longest_batch_ms: float = 0.0
    batches: int = 0
    unfinished: list[str] = field(default_factory=list)


def read_record(conn: Connection) -> Record:
    """The runs in this database; without any, an empty record."""
    row = conn.execute(
        "SELECT coalesce(extract(epoch FROM max(longest_batch)) * 1000, 0),"
        "       coalesce(sum(batches), 0),"
        "       coalesce(array_agg(concat_ws(' ', state, stop_reason, error_message))"
        "                FILTER (WHERE state <> 'completed'), '{}')"
        "  FROM hotmesh_dba.run"
    ).fetchone()
    assert row is not None
    return Record(float(row[0]), int(row[1]), list(row[2]))


def execute(conn: Connection, statement: str) -> int:
    """Run a statement of ours, planned each time as psql would; returns the rows it took."""
    return conn.execute(statement.encode(), prepare=False).rowcount
