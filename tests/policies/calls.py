"""Policies as tests see them: a call that sets one, and its row."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from tests.support.server import Connection

# What a policy says where it says nothing.
DEFAULTS: dict[str, Any] = {
    "retention": None,
    "prune_jobs": False,
    "prune_streams": False,
    "strip_attributes": False,
    "entity_list": None,
    "prune_transient": False,
    "keep_hmark": False,
    "prune_engine_streams": False,
    "prune_worker_streams": False,
    "engine_streams_retention": None,
    "worker_streams_retention": None,
    "prune_signals": False,
    "batch_size": None,
    "batch_time": "00:00:00.2",
    "batch_pause": "00:00:00",
    "max_runtime": None,
    "max_rows": None,
    "disable_triggers": False,
    "max_wal_rate": None,
    "max_replica_lag": None,
    "max_percent": 50,
    "every": None,
    "enabled": True,
    "note": None,
}
# Everything that Work has, however much of a table it is.
ALL = (
    "retention => '7 days', prune_jobs => true, entity_list => ARRAY['book'],"
    " prune_transient => true, prune_streams => true, strip_attributes => true,"
    " prune_signals => true, max_percent => 100"
)


def setting(options: str, name: str = "nightly", app: str = "myapp") -> str:
    """The statement that sets a policy."""
    return f"SELECT * FROM hotmesh_dba.set_policy('{app}', '{name}', {options})"


def set_policy(
    conn: Connection, options: str = ALL, name: str = "nightly", app: str = "myapp"
) -> dict[str, Any]:
    """Set it, and what is returned."""
    return _only(conn, setting(options, name, app))


def policies(conn: Connection, condition: str = "true") -> list[dict[str, Any]]:
    """The policies that a role sees."""
    statement = f"SELECT * FROM hotmesh_dba.policy WHERE {condition} ORDER BY app, name"
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode()).fetchall()


def names(conn: Connection) -> list[tuple[str, str]]:
    """App and name of each."""
    return [(row["app"], row["name"]) for row in policies(conn)]


def running(*arguments: str, name: str = "nightly", app: str = "myapp") -> str:
    """The CALL that runs a policy."""
    more = "".join(f", {argument}" for argument in arguments)
    return f"CALL hotmesh_dba.run_policy('{app}', '{name}'{more})"


def _only(conn: Connection, statement: str) -> dict[str, Any]:
    with conn.cursor(row_factory=dict_row) as cursor:
        (row,) = cursor.execute(statement.encode()).fetchall()
    return row
