"""Which statements of our routines were executed: kept where HOTMESH_DBA_PROFILE names a directory.

plpgsql_check's profiler counts in the server's shared memory, for each database; so what it knows
of one is read before that is dropped. Of routines in SQL the server counts the calls.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from .installation import offers

if TYPE_CHECKING:
    from .server import PrivateServer, Settings

PRELOAD = "shared_preload_libraries"
SETTINGS = {
    "plpgsql_check.profiler": "on",
    "plpgsql_check.profiler_max_shared_chunks": 50000,
    "track_functions": "all",
}

# A row a statement of PL/pgSQL, with its line; a row a routine in SQL, without one.
_READ = """
SELECT p.oid::regprocedure::text, md5(p.prosrc), s.stmtid, s.stmtname,
       split_part(p.prosrc, E'\\n', s.lineno), s.exec_stmts + s.exec_stmts_err
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql',
     plpgsql_profiler_function_statements_tb(p.oid) s
WHERE p.pronamespace = 'hotmesh_dba'::regnamespace
UNION ALL
SELECT p.oid::regprocedure::text, md5(p.prosrc), NULL, NULL, NULL, coalesce(f.calls, 0)
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'sql'
LEFT JOIN pg_stat_user_functions f ON f.funcid = p.oid
WHERE p.pronamespace = 'hotmesh_dba'::regnamespace
"""
_FORGET = """
SELECT plpgsql_profiler_reset(p.oid) FROM pg_proc p
WHERE p.pronamespace = 'hotmesh_dba'::regnamespace
"""

_WRITTEN: set[tuple[Any, ...]] = set()


def directory() -> Path | None:
    """Where the counts are kept; None where nobody asked for them."""
    named = os.environ.get("HOTMESH_DBA_PROFILE")
    return Path(named) if named else None


def profiled(settings: Settings, pg_config: Path) -> Settings:
    """The settings of a server, with the profiler where it is wanted and there."""
    if directory() is None or not offers(pg_config, "plpgsql_check"):
        return settings
    libraries = [str(settings.get(PRELOAD, "")), "plpgsql_check"]
    return {**settings, **SETTINGS, PRELOAD: ",".join(filter(None, libraries))}


def keep(server: PrivateServer, dbname: str) -> None:
    """Write down what was executed in a database; nothing where it takes no connection."""
    target = directory()
    if target is None:
        return
    with suppress(psycopg.Error), closing(server.connect(dbname)) as conn:
        conn.execute("SET search_path = pg_catalog, public; SET lock_timeout = '5s'")
        if _one(conn, "SELECT to_regnamespace('hotmesh_dba') IS NOT NULL"):
            conn.execute("CREATE EXTENSION IF NOT EXISTS plpgsql_check SCHEMA public")
            rows = conn.execute(_READ.encode()).fetchall()
            conn.execute(_FORGET.encode())
            with (target / f"{os.getpid()}.jsonl").open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows if row[-1] or _is_new(row))


def keep_all(server: PrivateServer) -> None:
    """The same of every database that a server still has."""
    if directory() is None:
        return
    names: list[str] = []
    with suppress(psycopg.Error), closing(server.connect()) as conn:
        found = conn.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")
        names = [name for (name,) in found]
    for name in names:
        keep(server, name)


def _is_new(row: tuple[Any, ...]) -> bool:
    """Whether this process writes of that statement for the first time."""
    new = row[:-1] not in _WRITTEN
    _WRITTEN.add(row[:-1])
    return new


def _one(conn: psycopg.Connection[tuple[Any, ...]], statement: str) -> Any:
    row = conn.execute(statement.encode()).fetchone()
    return None if row is None else row[0]
