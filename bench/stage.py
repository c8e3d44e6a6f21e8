"""Where it is measured: prepared databases on one server, and copies of them.

What is prepared is built once, as a template. Every contender of every repeat gets a copy of its
own, so all of them find the same rows on the same pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg import sql

from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

APP = "bench"
TABLES = ("jobs", "jobs_attributes", "engine_streams", "worker_streams", "signal_registry")

# Stock settings otherwise, autovacuum included; fsync is on.
SETTINGS = {"shared_buffers": "1GB"}

# What a row is known by after a prune. Left out: what differs from run to run.
_IDENTITY = {
    "jobs": "r.id, r.key, r.entity, r.status, r.expired_at, r.pruned_at IS NULL",
    "jobs_attributes": "r.job_id, r.symbol, r.dimension, r.value, r.type",
    "engine_streams": "r.stream_name, r.id, r.expired_at",
    "worker_streams": "r.stream_name, r.id, r.expired_at",
    "signal_registry": "r.key, r.expiry",
}

Build = Callable[[Connection], None]
Digest = tuple[tuple[int, int], ...]


class Stage:
    """Templates and their copies on a running server.

    Attributes:
        longest_batches: of every run of ours, in milliseconds, and on what.
    """

    def __init__(self, server: PrivateServer, say: Callable[[str], None]) -> None:
        self.server = server
        self.say = say
        self.longest_batches: list[tuple[float, str]] = []
        self._templates: set[str] = set()
        self._copies = 0

    def template(
        self, name: str, build: Build, *, analyzed: bool = True, base: str | None = None
    ) -> str:
        """The prepared database of that name, built where it is not there yet, on `base` if any.

        One that is not `analyzed` has no statistics and no visibility map, as a restored dump.
        """
        if name in self._templates:
            return name
        start = time.monotonic()
        self.server.create_database(name, template=base)
        # Autovacuum would analyze what shall have no statistics, and slow down the rest.
        self._autovacuum(on=False)
        with self.server.connect(name) as conn:
            if base is None:
                _create_app(conn)
            conn.execute("SET session_replication_role = replica")
            conn.execute("SET synchronous_commit = off")
            build(conn)
            if analyzed:
                conn.execute("VACUUM (ANALYZE)")
            else:
                conn.execute("SELECT pg_stat_reset()")
        self._autovacuum(on=True)
        self._templates.add(name)
        self.say(f"  prepared {name} in {time.monotonic() - start:.0f} s")
        return name

    def forget(self, name: str) -> None:
        """Drop a template that no later case needs."""
        if name in self._templates:
            self.server.drop_database(name)
            self._templates.remove(name)

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """A copy of a template for one contender; gone when the block ends."""
        self._copies += 1
        name = self.server.create_database(f"copy_{self._copies}", template=template)
        try:
            yield name
        finally:
            self.server.drop_database(name)

    def ready(self, conn: Connection) -> None:
        """Read all of the app once, tables and indexes, and leave nothing to write."""
        for table in TABLES:
            conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(APP, table)))
        if _has_prewarm(conn):
            conn.execute(
                "SELECT public.pg_prewarm(c.oid) FROM pg_class AS c"
                " WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'i')",
                (APP,),
            )
        conn.execute("CHECKPOINT")

    def _autovacuum(self, *, on: bool) -> None:
        with self.server.connect() as conn:
            conn.execute(
                sql.SQL("ALTER SYSTEM SET autovacuum = {}").format(sql.SQL("on" if on else "off"))
            )
            conn.execute("SELECT pg_reload_conf()")


def digest(conn: Connection) -> Digest:
    """What is left in the app: for each table the number of rows and a sum over their hashes."""
    return tuple(_digest(conn, table) for table in TABLES)


def _digest(conn: Connection, table: str) -> tuple[int, int]:
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(row({})::text, 0)), 0) FROM {} AS r"
    ).format(sql.SQL(_IDENTITY[table]), sql.Identifier(APP, table))
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _create_app(conn: Connection) -> None:
    conn.execute("CREATE EXTENSION hotmesh_dba")
    if _has_prewarm(conn):
        conn.execute("CREATE EXTENSION pg_prewarm")
    create_app(conn, APP)
    conn.execute("SELECT FROM hotmesh_dba.deploy(%s)", (APP,))


def _has_prewarm(conn: Connection) -> bool:
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_prewarm')"
    ).fetchone()
    return bool(row and row[0])
