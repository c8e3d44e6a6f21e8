"""What is left when the extension, or an app, is dropped: nothing of ours, all of the others'."""

from __future__ import annotations

from tests.conftest import NewApp, NewDatabase, NewRole
from tests.deploy.observe import catalogue, contents, deploy, run, sqlstate, tables
from tests.deploy.plain import install_plain
from tests.support.layout import create_app, sdk_replace
from tests.support.sample import load_sample
from tests.support.server import Connection

# Whatever in the database mentions us. A comment of ours that stayed on a function which the SDK
# replaced later is the SDK's by now, so comments are looked for elsewhere only.
LEFT_BEHIND = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.prokind IN ('f', 'p')
  AND (p.prosrc LIKE '%hotmesh_dba%' OR pg_get_functiondef(p.oid) LIKE '%hotmesh_dba%')
UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hotmesh%'
UNION ALL SELECT extname FROM pg_extension WHERE extname LIKE 'hotmesh%'
UNION ALL SELECT description FROM pg_description
WHERE description LIKE '%hotmesh_dba%' AND classoid <> 'pg_proc'::regclass
"""


def left_behind(conn: Connection) -> list[str]:
    return [row[0] for row in run(conn, LEFT_BEHIND)]


def test_drop_extension_takes_every_wrapper_and_no_data(conn: Connection, app: NewApp) -> None:
    for schema in ("first", "Second One", "theirs"):
        app(schema, "0.13")
        load_sample(conn, schema, jobs=20, attributes=3)
        deploy(conn, schema)
    sdk_replace(conn, "theirs")
    data = {schema: contents(conn, schema) for schema in ("first", "Second One", "theirs")}
    foreign = catalogue(conn, "theirs")
    assert len(left_behind(conn)) > 3

    run(conn, "DROP EXTENSION hotmesh_dba")

    assert left_behind(conn) == []
    assert sqlstate(conn, "SELECT first.prune('7 days')") == "42883"
    assert sqlstate(conn, "SELECT theirs.prune('7 days')") is None
    assert {schema: contents(conn, schema) for schema in data} == data
    assert catalogue(conn, "theirs") == foreign
    # And it comes back.
    run(conn, "CREATE EXTENSION hotmesh_dba")
    assert [action.action for action in deploy(conn, "first")] == ["created"]


def test_drop_schema_of_an_app_leaves_the_others(conn: Connection, app: NewApp) -> None:
    for schema in ("first", "second"):
        app(schema)
        load_sample(conn, schema, jobs=20, attributes=3)
        deploy(conn, schema)
    data, objects = contents(conn, "second"), catalogue(conn, "second")
    run(conn, "DROP SCHEMA first CASCADE")
    assert contents(conn, "second") == data
    assert catalogue(conn, "second") == objects
    assert run(conn, "SELECT schema FROM hotmesh_dba.app") == [("second",)]
    assert run(conn, "SELECT deleted_jobs > 0 FROM second.prune('0 s')") == [(True,)]


def test_drop_schema_takes_a_plain_install(new_database: NewDatabase, role: NewRole) -> None:
    database = new_database()
    owner = role("owner")
    with database.connect() as admin:
        run(admin, f"GRANT CREATE ON DATABASE {database.name} TO {owner}")
    with database.connect(owner) as conn:
        install_plain(conn)
        create_app(conn, "myapp", "mixture")
        load_sample(conn, "myapp", jobs=20, attributes=3)
        deploy(conn, "myapp")
        data = contents(conn, "myapp")
        run(conn, "DROP SCHEMA hotmesh_dba CASCADE")
        assert left_behind(conn) == []
        assert sqlstate(conn, "SELECT myapp.prune('7 days')") == "42883"
        assert contents(conn, "myapp") == data
        assert "jobs" in tables(conn, "myapp")
