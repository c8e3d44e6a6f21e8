"""Runs that are held in mid-way, and what is left of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from hotmesh_dba import DBA, Cancelled
from tests.support.server import Connection

PATIENCE = 30.0

# A run that stops to think for an hour after its first row: a moment at a time, each a transaction.
HELD: dict[str, Any] = {"batch_size": 1, "batch_pause": "1 hour"}
MOMENT = 0.25  # seconds


def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


def begun(conn: Connection, workers: int = 1) -> None:
    """Wait until that many workers have committed a batch and hold, each well within a moment.

    A cancel that came between two transactions of a run would leave its row behind.
    """
    # So late in their moments they are all at once, whenever these began.
    latest = MOMENT * (1 - 1 / workers) + 0.04
    query = """
        SELECT count(*) FROM hotmesh_dba.run r JOIN pg_stat_activity a USING (pid)
        WHERE r.state = 'running' AND r.batches > 0 AND a.wait_event = 'PgSleep'
        AND clock_timestamp() < a.xact_start + make_interval(secs => %s)"""

    def all_hold() -> bool:
        return conn.execute(query, [latest]).fetchone() == (workers,)

    until("a run at work", all_hold)


def backends(conn: Connection) -> list[int]:
    """The processes of the runs that say `running`."""
    query = "SELECT pid FROM hotmesh_dba.run WHERE state = 'running' ORDER BY worker"
    return [pid for (pid,) in conn.execute(query.encode())]


@contextmanager
def held(dba: DBA, conn: Connection, app_id: str) -> Iterator[None]:
    """Another run holds the app meanwhile."""
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, app_id, **HELD)
        try:
            begun(conn)
            yield
        finally:
            for pid in backends(conn):
                conn.execute("SELECT pg_cancel_backend(%s)", [pid])
            with pytest.raises(Cancelled):
                call.result(PATIENCE)


def states(conn: Connection) -> list[tuple[Any, ...]]:
    """The records: state and stop reason, by age."""
    query = "SELECT state, stop_reason FROM hotmesh_dba.run ORDER BY id"
    return conn.execute(query.encode()).fetchall()


def at_rest(conn: Connection) -> None:
    """Nothing of a run is at work on the server any more, and nothing of ours is locked."""
    active = conn.execute(
        "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        " AND state <> 'idle' AND query LIKE 'CALL%'"
    ).fetchall()
    assert active == []
    held = conn.execute(
        "SELECT * FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchall()
    assert held == []
