"""The server, the database and the app of a campaign, and how they are put right between rounds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.deploy.observe import Row, run, tables, wait_until
from tests.runs.work import Work, add_work
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

from .ledger import APP
from .pruners import BY_KEY, OWNER, PRUNER

DATABASE = "torture"
ROLES = (OWNER, PRUNER, BY_KEY)

# A backlog that gives every step many small batches.
WORK = Work(jobs=120, transient=30, live=120, engine=150, worker=90, signals=40, attributes=2)

DISK_BYTES = 192 * 1024 * 1024
BLOCK = 4096

RECORDS = """
CREATE SCHEMA torture;
CREATE TABLE torture.written (writer text, number int);
CREATE TABLE torture.call (
  id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now(),
  arguments jsonb, counts jsonb);
CREATE TABLE torture.flushed (at timestamptz);
GRANT USAGE ON SCHEMA torture TO PUBLIC;
GRANT INSERT ON torture.call TO PUBLIC;
"""

KEPT = """
SELECT sourcefile, name, setting FROM pg_file_settings
UNION ALL
SELECT format('database %s, role %s', setdatabase, setrole), split_part(s, '=', 1), s
FROM pg_db_role_setting, unnest(setconfig) s
"""


class World:
    """Where a campaign takes place."""

    def __init__(self, server: PrivateServer, disk: Path | None):
        self.server = server
        self.disk = disk
        with server.connect() as conn:
            for role in ROLES:
                run(conn, f"CREATE ROLE {role} LOGIN")
            place = ""
            if disk is not None:
                run(conn, f"CREATE TABLESPACE small LOCATION '{disk}'")
                place = " TABLESPACE small"
            run(conn, f"CREATE DATABASE {DATABASE}{place}")
        with self.connect() as conn:
            run(conn, RECORDS)

    def connect(self, user: str = "postgres") -> Connection:
        """A new connection to the app's database."""
        return self.server.connect(DATABASE, user)

    def renew(
        self, version: str | None = None, layout: str = "current", *, deploy: bool = True
    ) -> None:
        """A fresh extension, of this version, and a fresh app."""
        with self.connect() as conn:
            run(conn, "SET client_min_messages = warning")
            run(conn, f"DROP SCHEMA IF EXISTS {APP} CASCADE")
            run(conn, "DROP EXTENSION IF EXISTS hotmesh_dba")
            of_version = f" VERSION '{version}'" if version else ""
            run(conn, f"CREATE EXTENSION hotmesh_dba{of_version}")
            create_app(conn, APP, layout, OWNER)
            run(conn, "TRUNCATE torture.written, torture.call")
            if deploy:
                run(conn, f"SELECT FROM hotmesh_dba.deploy('{APP}')")
        self.grant()

    def grant(self) -> None:
        """All that the two pruning roles need."""
        with self.connect() as conn:
            by_name = ", ".join(f"{APP}.{table}" for table in tables(conn, APP))
            for role, of_app in ((PRUNER, f"ALL TABLES IN SCHEMA {APP}"), (BY_KEY, by_name)):
                run(conn, f"GRANT USAGE ON SCHEMA {APP} TO {role}")
                run(conn, f"GRANT SELECT, DELETE ON {of_app} TO {role}")
                run(conn, f"GRANT UPDATE (pruned_at) ON {APP}.jobs TO {role}")
            for leaf in range(8):
                run(conn, f"GRANT UPDATE (pruned_at) ON {APP}.jobs_part_{leaf} TO {PRUNER}")

    def add_backlog(self, work: Work = WORK) -> None:
        """Old rows, so that there is something to prune."""
        with self.connect() as conn:
            add_work(conn, APP, work)

    def settings(self) -> set[Row]:
        """What the server keeps of settings, in its files and for databases and roles."""
        with self.connect() as conn:
            return set(run(conn, KEPT))

    def flush(self, conn: Connection) -> None:
        """What was committed before cannot be undone by a crash from here on."""
        run(conn, "SET synchronous_commit = on")
        run(conn, "TRUNCATE torture.flushed; INSERT INTO torture.flushed VALUES (now())")

    def await_server(self) -> None:
        """Until it takes connections again."""

        def back() -> bool:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until("the server back", back)

    def crash(self) -> None:
        """Stop it as a power cut would, as far as a process can; it is started by `start`."""
        self.server.node.stop(["-m", "immediate"])

    def start(self) -> None:
        """Start it again."""
        self.server.node.start()


@contextmanager
def small_disk(server: PrivateServer) -> Iterator[Path | None]:
    """A disk of its own for the database, where this process may mount one; else None."""
    path = server.root / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    mounted = (
        os.geteuid() == 0
        and shutil.which("mount") is not None
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        yield None
        return
    space = path / "space"
    space.mkdir()
    user = server.installation.user
    if user is not None:
        os.chown(space, user.pw_uid, user.pw_gid)
    try:
        yield space
    finally:
        with suppress(Exception):
            server.node.stop(["-m", "immediate"])
        subprocess.run(["umount", str(path)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is free on it."""
    ballast = disk.parent / "ballast"
    with ballast.open("wb", buffering=0) as file:
        # Others write meanwhile: what is free is taken again until nothing is.
        with suppress(OSError):
            while True:
                size = file.seek(0, os.SEEK_END)
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                os.posix_fallocate(file.fileno(), size, max(BLOCK, free - BLOCK * 16))
        with suppress(OSError):
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(BLOCK))
    try:
        yield
    finally:
        ballast.unlink()
