"""Apps to prune: a database, its routines, an app in it, and the connection that prunes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Protocol

import pytest
from psycopg import sql

from tests.conftest import NewDatabase, NewRole
from tests.oracle.paths import SCHEMA, Path
from tests.oracle.property import Subject
from tests.oracle.session import ZONE, AsyncSession, Session, SyncSession
from tests.oracle.tables import Tables
from tests.support.installation import CHECKOUT
from tests.support.layout import create_app
from tests.support.server import Connection


class NewSubject(Protocol):
    """Builds the app of a path; `script` replaces the routines of a plain install."""

    def __call__(self, path: Path, script: str | None = None) -> Subject: ...


@pytest.fixture(scope="session")
def plain_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `sql/build.py --dist` writes for servers where no file can be copied."""
    target = tmp_path_factory.mktemp("dist")
    build = CHECKOUT / "sql" / "build.py"
    subprocess.run([sys.executable, str(build), "--dist", str(target)], check=True)
    [script] = target.glob("*.plain.sql")
    return script.read_text()


@pytest.fixture
def new_subject(
    new_database: NewDatabase, role: NewRole, template: str, plain_script: str
) -> Iterator[NewSubject]:
    """A factory of subjects, each in a database of its own."""
    opened: list[Connection | AsyncSession] = []

    def create(path: Path, script: str | None = None) -> Subject:
        database = new_database(None if path.plain else template)
        conn = database.connect()
        opened.append(conn)
        if path.plain:
            conn.execute((script or plain_script).encode())
        owner = role("owner") if path.owned else None
        create_app(conn, SCHEMA, path.layout, owner)
        if path.deploy:
            conn.execute("SELECT FROM hotmesh_dba.deploy(%s)", [SCHEMA])
        for statement in path.prepare:
            conn.execute(statement.encode())
        session: Session = SyncSession(conn)
        if path.is_async:
            session = AsyncSession(database.conninfo())
            opened.append(session)
        session.execute(ZONE)
        tables = Tables(session, SCHEMA)
        return Subject(path, session, tables, _pruner(conn, path, tables, role) or owner)

    yield create
    for thing in opened:
        thing.close()


def _pruner(conn: Connection, path: Path, tables: Tables, role: NewRole) -> str | None:
    """A role with just the rights that the path grants."""
    if path.grants is None:
        return None
    name = role("pruner")
    statement = path.grants.format(
        role=name,
        tables=", ".join(sql.Identifier(SCHEMA, table).as_string(conn) for table in tables.names),
    )
    conn.execute(statement.encode())
    return name
