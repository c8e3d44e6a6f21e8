"""App ids that name no app: refused, with the apps that there are."""

from __future__ import annotations

from itertools import product

from tests.deploy.observe import run
from tests.input.refusing import nothing_changed, refuses
from tests.support.server import Connection

ROUTINES = ("app_schema", "deploy", "undeploy", "prune", "preview")

INVALID = [
    None,
    "",
    " ",
    "   \t ",
    "_",
    "---",
    "'",
    '"',
    "myapp'",
    "myapp'; --",
    "myapp; DROP SCHEMA myapp CASCADE",
    '"myapp"',
    "../myapp",
    "../../etc/passwd",
    "my/app",
    "my\\app",
    "myapp\n",
    "my\tapp",
    "$1",
    "%s",
    "myapp()",
    "mÿapp",
    "myapp\u200b",
    "*",
]


def test_ids_that_are_none(conn: Connection, full: str) -> None:
    with nothing_changed(conn, full):
        for routine, app_id in product(ROUTINES, INVALID):
            said = refuses(conn, "42602", f"SELECT * FROM hotmesh_dba.{routine}(%s::text)", app_id)
            assert "'myapp'" in said, (routine, app_id)


def test_an_app_that_is_not_there(conn: Connection, full: str) -> None:
    with nothing_changed(conn, full):
        for routine in ROUTINES:
            said = refuses(conn, "3F000", f"SELECT * FROM hotmesh_dba.{routine}('yourapp')")
            assert "Known apps: 'myapp'" in said
            assert '"yourapp"' in said


def test_a_schema_that_is_no_app(conn: Connection, full: str) -> None:
    schemas = ("public", "pg_catalog", "hotmesh_dba", "information_schema")
    with nothing_changed(conn, full):
        for routine, schema in product(ROUTINES, schemas):
            said = refuses(conn, "42809", f"SELECT * FROM hotmesh_dba.{routine}('{schema}')")
            assert "'myapp'" in said


def test_a_database_without_an_app_says_so(conn: Connection) -> None:
    assert run(conn, "SELECT * FROM hotmesh_dba.app") == []
    assert "no HotMesh app" in refuses(conn, "3F000", "SELECT * FROM hotmesh_dba.prune('myapp')")
