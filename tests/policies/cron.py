"""A server that loads the real pg_cron: Debian's PostgreSQL 15, whichever one the tests are for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.deploy.observe import deploy, run
from tests.support.debian import pg_config_with
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

SETTINGS = {
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": "postgres",
    "cron.use_background_workers": True,
    "max_worker_processes": 30,
}
# A job begins with the next full minute.
PATIENCE = 120.0


@contextmanager
def server_with_cron() -> Iterator[PrivateServer]:
    """Start one; pg_cron and hotmesh_dba are in its database postgres."""
    pg_config = pg_config_with("pg_cron", "cron")
    with PrivateServer(pg_config, settings=SETTINGS, in_memory=True) as server:
        with server.connect() as conn:
            conn.execute("CREATE EXTENSION pg_cron")
            conn.execute("CREATE EXTENSION hotmesh_dba")
        yield server


@contextmanager
def app_of_an_owner(server: PrivateServer) -> Iterator[Connection]:
    """A superuser in pg_cron's database, where `owner` has an app; all gone afterwards."""
    with server.connect() as conn:
        run(conn, "CREATE ROLE owner LOGIN; GRANT USAGE ON SCHEMA cron TO owner")
        make_app(conn)
        yield conn
        run(
            conn,
            "DELETE FROM cron.job; DELETE FROM hotmesh_dba.policy; DELETE FROM hotmesh_dba.run",
        )
        run(conn, "DROP SCHEMA myapp CASCADE; DROP OWNED BY owner; DROP ROLE owner")


def make_app(conn: Connection) -> None:
    """The app, deployed."""
    create_app(conn, "myapp", owner="owner")
    deploy(conn, "myapp")


def wait_for_jobs(what: str, condition: Callable[[], bool]) -> None:
    """Ask now and then until it is so: a minute may pass."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.2)
