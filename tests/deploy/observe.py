"""What the tests of deploy, security and input look at: rows, catalogues, refusals, waits.

Nothing here sleeps: what has to be waited for is asked of the server until it is so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus

from tests.support.server import Connection

Row = tuple[Any, ...]

# How long a condition may take to come true, in seconds; only a failing test waits that long.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Action:
    """A row of deploy() or undeploy()."""

    action: str
    object: str
    statements: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error or a warning, as whoever called sees it."""

    sqlstate: str
    message: str
    detail: str
    hint: str


def run(conn: Connection, statement: str, *values: object) -> list[Row]:
    """Run SQL text; its rows, or none where it returns none."""
    cursor = conn.execute(statement.encode(), values or None)
    return cursor.fetchall() if cursor.description else []


def one(conn: Connection, statement: str, *values: object) -> Any:
    """The only column of the only row."""
    ((value,),) = run(conn, statement, *values)
    return value


def deploy(conn: Connection, app_id: str, **named: object) -> list[Action]:
    """Call deploy()."""
    options = "".join(f", {name} => %s" for name in named)
    statement = f"SELECT * FROM hotmesh_dba.deploy(%s{options})"
    return [Action(*row) for row in run(conn, statement, app_id, *named.values())]


def undeploy(conn: Connection, app_id: str) -> list[Action]:
    """Call undeploy()."""
    return [Action(*row) for row in run(conn, "SELECT * FROM hotmesh_dba.undeploy(%s)", app_id)]


def state(conn: Connection, schema: str) -> tuple[str, bool, bool] | None:
    """What view app says: wrapper, migrated, indexed; None where the app is not listed."""
    rows = run(
        conn, "SELECT wrapper, migrated, indexed FROM hotmesh_dba.app WHERE schema = %s", schema
    )
    return cast("tuple[str, bool, bool]", rows[0]) if rows else None


def sqlstate(conn: Connection, statement: str, *values: object) -> str | None:
    """The SQLSTATE that a statement fails with; None where it works. It has no effect."""
    with conn.transaction(force_rollback=True):
        try:
            with conn.transaction():
                run(conn, statement, *values)
        except psycopg.Error as error:
            return error.sqlstate
    return None


def _said(diag: psycopg.errors.Diagnostic) -> Refusal:
    return Refusal(
        diag.sqlstate or "",
        diag.message_primary or "",
        diag.message_detail or "",
        diag.message_hint or "",
    )


def refused(conn: Connection, expected: str, statement: str, *values: object) -> Refusal:
    """The statement fails with this SQLSTATE, and says in detail and hint why and what to do."""
    idle = conn.info.transaction_status == TransactionStatus.IDLE
    # In a transaction a savepoint keeps it usable.
    with pytest.raises(psycopg.Error) as caught, nullcontext() if idle else conn.transaction():
        run(conn, statement, *values)
    refusal = _said(caught.value.diag)
    assert refusal.sqlstate == expected, refusal
    assert refusal.detail, refusal
    assert refusal.hint, refusal
    assert refusal.message[0].islower() or not refusal.message[0].isalpha(), refusal
    assert not refusal.message.endswith("."), refusal
    return refusal


def tables(conn: Connection, schema: str) -> list[str]:
    """The tables of a schema, the partitions aside."""
    rows = run(
        conn,
        "SELECT c.relname FROM pg_class c"
        " WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %s)"
        "   AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1",
        schema,
    )
    return [row[0] for row in rows]


def contents(conn: Connection, schema: str) -> dict[str, list[str]]:
    """Every row of every table of a schema, as text, with the transaction that wrote it."""
    return {
        table: [
            row[0]
            for row in conn.execute(
                sql.SQL("SELECT t.xmin || ' ' || t::text FROM {} t ORDER BY 1").format(
                    sql.Identifier(schema, table)
                )
            )
        ]
        for table in tables(conn, schema)
    }


# All that makes up a schema, a line an object, with the transaction that wrote its row.
_OBJECTS = """
SELECT 'function', concat_ws(' ', p.xmin, p.oid::regprocedure, p.proowner::regrole,
       coalesce(p.proacl, acldefault('f', p.proowner)), md5(pg_get_functiondef(p.oid)),
       obj_description(p.oid, 'pg_proc'))
FROM pg_proc p WHERE p.pronamespace = %(oid)s AND p.prokind = 'f'
UNION ALL
SELECT 'relation', concat_ws(' ', c.xmin, c.oid::regclass, c.relkind, c.relowner::regrole,
       coalesce(c.relacl, acldefault('r', c.relowner)), pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relnamespace = %(oid)s
UNION ALL
SELECT 'column', concat_ws(' ', a.xmin, a.attrelid::regclass, a.attname,
       format_type(a.atttypid, a.atttypmod), a.attnotnull)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = %(oid)s AND a.attnum > 0
UNION ALL
SELECT 'dependency', concat_ws(' ', pg_describe_object(d.classid, d.objid, d.objsubid), d.deptype,
       pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE p.pronamespace = %(oid)s
UNION ALL
SELECT 'schema', concat_ws(' ', n.xmin, n.nspname, n.nspowner::regrole, n.nspacl)
FROM pg_namespace n WHERE n.oid = %(oid)s
ORDER BY 1, 2
"""


def catalogue(conn: Connection, schema: str, *, transactions: bool = True) -> list[Row]:
    """Every object of a schema: what it is, whose, who may use it, and which transaction wrote it.

    With transactions=False only what it is: two ways to the same result then compare equal.
    """
    oid = one(conn, "SELECT oid FROM pg_namespace WHERE nspname = %s", schema)
    text = _OBJECTS
    if not transactions:
        for alias in "pcan":
            text = text.replace(f"{alias}.xmin, ", "")
    return conn.execute(text.encode(), {"oid": oid}).fetchall()


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    """Ask until it is so; the short rests leave the processor to those who are waited for."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.002)


def wait_blocked(watcher: Connection, waiting: int, by: int) -> None:
    """Wait until process `waiting` waits for a lock that process `by` holds."""
    wait_until(
        f"{waiting} blocked by {by}",
        lambda: by in one(watcher, "SELECT pg_blocking_pids(%s)", waiting),
    )


@contextmanager
def background(conn: Connection, statement: str, *values: object) -> Iterator[Future[list[Row]]]:
    """Run a statement on another connection meanwhile; it is over when the block ends."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run, conn, statement, *values)


def pid(conn: Connection) -> int:
    """The server process of a connection."""
    return conn.info.backend_pid


def warnings_of(conn: Connection) -> list[Refusal]:
    """A list that the WARNINGs of a connection will be added to."""
    caught: list[Refusal] = []

    def keep(diag: psycopg.errors.Diagnostic) -> None:
        if diag.severity_nonlocalized == "WARNING":
            caught.append(_said(diag))

    conn.add_notice_handler(keep)
    return caught


def statements_of(action: Action) -> Sequence[str]:
    """A pending action's statements one by one, as a person types them."""
    return [part.strip() for part in action.statements.split(";\n") if part.strip()]
