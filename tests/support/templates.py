"""The databases that tests get a copy of: the extension alone, or with an app in it already.

To copy an app's files takes a tenth of what it takes to create its tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property

from psycopg import sql

from .layout import create_app
from .server import Connection, PrivateServer

APP = "myapp"


class Templates:
    """Template databases of a server, each made when it is first asked for."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server

    @cached_property
    def extension(self) -> str:
        """The extension is created in it, or updated from HOTMESH_DBA_INSTALL_FROM."""
        return self._new("template_extension", None, _install)

    @cached_property
    def app(self) -> str:
        """The same, with APP in it as HotMesh leaves it."""
        return self._new("template_app", self.extension, lambda conn: create_app(conn, APP))

    @cached_property
    def deployed(self) -> str:
        """The same, with APP deployed."""
        return self._new("template_deployed", self.app, _deploy)

    def _new(self, name: str, source: str | None, fill: Callable[[Connection], None]) -> str:
        self._server.create_database(name, source)
        with self._server.connect(name) as conn:
            fill(conn)
        with self._server.connect() as conn:
            conn.execute(f"ALTER DATABASE {name} IS_TEMPLATE true ALLOW_CONNECTIONS false")
        return name


def install_statements(release: str | None) -> list[sql.Composed | sql.SQL]:
    """What installs the extension: anew, or in `release` and updated from there."""
    create = sql.SQL("CREATE EXTENSION hotmesh_dba")
    if not release:
        return [create]
    older = create + sql.SQL(" VERSION {}").format(sql.Literal(release))
    return [older, sql.SQL("ALTER EXTENSION hotmesh_dba UPDATE")]


def _install(conn: Connection) -> None:
    for statement in install_statements(os.environ.get("HOTMESH_DBA_INSTALL_FROM")):
        conn.execute(statement)


def _deploy(conn: Connection) -> None:
    conn.execute("SELECT hotmesh_dba.deploy(%s)", [APP])
