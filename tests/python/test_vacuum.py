"""VACUUM (ANALYZE) of exactly the tables that a prune left dead rows in."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA
from tests.conftest import Connect, Database, NewApp, NewRole
from tests.support.server import Connection

from .command import Command
from .running import until

ALL = {"jobs", "jobs_attributes", "engine_streams", "worker_streams", "signal_registry"}


def vacuumed(conn: Connection) -> set[str]:
    """The tables of myapp that were vacuumed and analyzed by hand, leaves under their parents."""
    rows = conn.execute(
        "SELECT DISTINCT coalesce(i.inhparent, s.relid)::regclass::text"
        " FROM pg_stat_user_tables s LEFT JOIN pg_inherits i ON i.inhrelid = s.relid"
        " WHERE s.schemaname = 'myapp' AND s.vacuum_count > 0 AND s.analyze_count > 0"
    )
    return {name.removeprefix("myapp.") for (name,) in rows}


def seen(conn: Connection, tables: set[str]) -> None:
    """Statistics come a moment later."""
    until(f"vacuum of {tables}", lambda: vacuumed(conn) == tables)


def test_all_of_them(face: Any, conn: Connection, filled: str) -> None:
    assert set(face.vacuum(filled)) == ALL
    seen(conn, ALL)


def test_only_what_shrank(dba: DBA, conn: Connection, filled: str) -> None:
    result = dba.prune_batched(filled, streams=False, signals=False)
    assert dba.vacuum(filled, only=result) == ["jobs", "jobs_attributes"]
    seen(conn, {"jobs", "jobs_attributes"})
    again = dba.prune_batched(filled, streams=False, signals=False)
    assert dba.vacuum(filled, only=again) == []
    assert dba.vacuum(filled, only=["signal_registry", "elsewhere"]) == ["signal_registry"]


def test_not_in_a_transaction(connect: Connect, filled: str) -> None:
    conn = connect(autocommit=False)
    conn.execute("SELECT 1")
    with pytest.raises(h.OpenTransaction, match="vacuum needs a connection without"):
        DBA(conn).vacuum(filled)
    conn.rollback()
    assert set(DBA(conn).vacuum(filled)) == ALL
    assert not conn.autocommit


def test_a_table_of_somebody_else(
    db: Database, conn: Connection, app: NewApp, role: NewRole, caplog: pytest.LogCaptureFixture
) -> None:
    schema = app("theirs", owner=role("owner"))
    pruner = role("pruner")
    conn.execute(f"GRANT USAGE ON SCHEMA {schema} TO {pruner}")
    DBA(db.conninfo(pruner)).vacuum(schema, only=["signal_registry"])
    assert "signal_registry" in caplog.text
    with pytest.raises(h.InvalidOption, match="only must be a list of names"):
        DBA(db.conninfo()).vacuum(schema, only="jobs")


@pytest.mark.parametrize("more", [[], ["--single-transaction"], ["-j", "2"]], ids=str)
def test_the_command(command: Command, conn: Connection, filled: str, more: list[str]) -> None:
    pruned = command.json("prune", filled, "--no-jobs", "--no-signals", "--vacuum", *more)
    assert pruned["vacuumed"] == ["engine_streams", "worker_streams"]
    seen(conn, {"engine_streams", "worker_streams"})


def test_the_command_says_so(command: Command, filled: str) -> None:
    done = command("prune", filled, "--vacuum")
    assert done.returncode == 0
    assert done.stderr == (
        "vacuumed: jobs, jobs_attributes, engine_streams, worker_streams, signal_registry\n"
    )
    assert command("prune", filled, "--vacuum").stderr == "nothing to vacuum\n"


def test_a_cancel_ends_it(db: Database, connect: Connect, filled: str) -> None:
    """It waits for a lock for as long as it takes, and a cancel gets through."""
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE myapp.signal_registry IN ACCESS EXCLUSIVE MODE")
    with (
        psycopg.connect(db.conninfo(), options="-c statement_timeout=300", autocommit=True) as conn,
        pytest.raises(h.Cancelled),
    ):
        DBA(conn).vacuum(filled, only=["signal_registry"])
