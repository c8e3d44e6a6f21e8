"""A call that is refused: with a reason, and without having changed anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.deploy.observe import catalogue, contents, one, refused
from tests.support.server import Connection

# Settings that our routines touch, or that an attacker would like to see touched.
SETTINGS = (
    "lock_timeout",
    "statement_timeout",
    "enable_seqscan",
    "jit",
    "search_path",
    "session_replication_role",
    "transaction_isolation",
    "role",
)


def settings(conn: Connection) -> dict[str, str]:
    """The session's settings as they are now."""
    return {name: str(one(conn, "SELECT current_setting(%s)", name)) for name in SETTINGS}


@contextmanager
def nothing_changed(conn: Connection, *schemas: str) -> Iterator[None]:
    """Every row and object of the schemas is the same afterwards."""
    before = [(contents(conn, schema), catalogue(conn, schema)) for schema in schemas]
    yield
    assert [(contents(conn, schema), catalogue(conn, schema)) for schema in schemas] == before


def refuses(conn: Connection, expected: str, call: str, *values: object) -> str:
    """A refusal that leaves the session's settings alone; its hint and detail."""
    if conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE and conn.autocommit:
        before = settings(conn)
        refusal = refused(conn, expected, call, *values)
        assert settings(conn) == before
    else:
        refusal = refused(conn, expected, call, *values)
    return f"{refusal.detail} {refusal.hint}"
