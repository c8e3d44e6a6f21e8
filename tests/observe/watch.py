"""What backlog() and doctor() say, and policies for them to look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from psycopg.rows import class_row

from tests.deploy.observe import one, run, wait_until
from tests.support.server import Connection

EVERYTHING = (
    "retention => '7 days', prune_jobs => true, prune_streams => true, strip_attributes => true,"
    " prune_transient => true, prune_signals => true, max_percent => 100"
)


@dataclass(frozen=True, slots=True)
class Due:
    """A row of backlog()."""

    app: str
    table_name: str
    policy: str | None
    due: int | None
    exact: bool | None
    oldest_due: datetime | None
    total_rows: int | None
    total_bytes: int
    dead_rows: int
    last_vacuum: datetime | None
    rows_per_second: Decimal | None
    time_to_drain: timedelta | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of doctor()."""

    app: str | None
    check_name: str
    status: str
    detail: str
    hint: str | None


def backlog(conn: Connection, app_id: str | None = None) -> list[Due]:
    """All rows of it."""
    with conn.cursor(row_factory=class_row(Due)) as cursor:
        return cursor.execute("SELECT * FROM hotmesh_dba.backlog(%s)", [app_id]).fetchall()


def by_table(conn: Connection, policy: str | None = "p", app: str = "myapp") -> dict[str, Due]:
    """The rows of one policy, by table."""
    return {row.table_name: row for row in backlog(conn, app) if row.policy == policy}


def set_policy(
    conn: Connection, name: str = "p", options: str = EVERYTHING, app: str = "myapp"
) -> None:
    """Set a policy."""
    run(conn, f"SELECT hotmesh_dba.set_policy('{app}', '{name}', {options})")


def findings(
    conn: Connection, check: str | None = None, app_id: str | None = None
) -> list[Finding]:
    """What doctor() says, or one check of it."""
    with conn.cursor(row_factory=class_row(Finding)) as cursor:
        rows = cursor.execute("SELECT * FROM hotmesh_dba.doctor(%s)", [app_id]).fetchall()
    return [row for row in rows if check in (None, row.check_name)]


def status(conn: Connection, check: str, app_id: str | None = None) -> set[str]:
    """The statuses that a check gives."""
    return {row.status for row in findings(conn, check, app_id)}


def bad(conn: Connection, check: str) -> Finding:
    """The one thing that a check finds wrong."""
    (found,) = [row for row in findings(conn, check) if row.status != "ok"]
    return found


def typed(conn: Connection, found: Finding) -> None:
    """Type a finding's hint, as a person would: a line at a time."""
    assert found.hint is not None
    for statement in found.hint.split("\n"):
        if not statement.startswith("--"):
            run(conn, statement)


def flush_statistics(conn: Connection) -> None:
    """Let other sessions see this one's counters."""
    if conn.info.server_version >= 150000:
        run(conn, "SELECT pg_stat_force_next_flush()")
        run(conn, "SELECT 1")
        return
    # PostgreSQL 14: a session sends them twice a second, to a process that writes them to a file.
    unsent = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) > 0 FROM pg_stat_xact_all_tables"
    wait_until("counters sent", lambda: not one(conn, unsent))
    sent = one(conn, "SELECT clock_timestamp()")
    written = "SELECT pg_stat_get_snapshot_timestamp() > %s"
    wait_until("counters written", lambda: one(conn, written, sent))
