"""What both clients need of connections: checks, settings, and the server's notices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PipelineStatus, TransactionStatus

from hotmesh_dba.errors import ConnectionFailed, InvalidOption, OpenTransaction

logger = logging.getLogger("hotmesh_dba")


def checked(conninfo: str) -> str:
    """Return the conninfo; refuse one that cannot be read, without repeating a word of it.

    libpq quotes the unreadable part in its message, and that may be the password.
    """
    readable = True
    try:
        conninfo_to_dict(conninfo)
        # libpq ends the password at the first @, and would name the rest as the host.
        readable = "://" not in conninfo or urlsplit(conninfo).netloc.count("@") < 2
    except (psycopg.Error, ValueError):
        readable = False
    if readable:
        return conninfo
    raise ConnectionFailed(
        "the connection string cannot be read",
        hint="Write postgresql://user@host:port/dbname or host=… dbname=…; in a URI,"
        " percent-encode special characters of the password.",
    )


def connect_options() -> dict[str, Any]:
    """Return the settings of a connection that a client opens for itself."""
    return {"autocommit": True, "fallback_application_name": "hotmesh_dba"}


def kind_error(database: object, client: str, other: str | None = None) -> TypeError:
    """Return the error for something that is no database to this client."""
    kind = type(database).__name__
    advice = f"use {other}" if other else "give a conninfo, a psycopg connection or a pool"
    return TypeError(f"{client} cannot use a {kind}: {advice}")


def check_idle(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], what: str) -> None:
    """Refuse a connection on which nothing can be committed; ask the server nothing."""
    busy = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
    if conn.info.transaction_status in busy or conn.pgconn.pipeline_status != PipelineStatus.OFF:
        raise OpenTransaction(
            f"{what} needs a connection without an open transaction",
            detail="It commits by itself. Nothing was sent to the server.",
            hint="Commit or roll back first"
            + ("; or call prune, which can be part of one." if what == "prune_batched" else "."),
        )


def check_alone(workers: int) -> None:
    """Refuse several workers on a single connection."""
    if workers > 1:
        raise InvalidOption(
            f"{workers} workers need {workers} connections, and there is one",
            detail="The client was given a connection.",
            hint="Give it a conninfo or a pool, or leave workers at 1.",
        )


@contextmanager
def heard(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Log what the server says meanwhile: warnings as such, the rest as debug."""
    conn.add_notice_handler(_log)
    try:
        yield
    finally:
        conn.remove_notice_handler(_log)


def _log(notice: psycopg.errors.Diagnostic) -> None:
    level = logging.WARNING if notice.severity_nonlocalized == "WARNING" else logging.DEBUG
    parts = (notice.message_primary, notice.message_detail, notice.message_hint)
    logger.log(level, "%s", "\n".join(part for part in parts if part))
