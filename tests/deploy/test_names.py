"""From an app id to its schema: HotMesh's rule, but a schema of just that name wins."""

from __future__ import annotations

from tests.conftest import NewApp
from tests.deploy.observe import deploy, one, refused, run
from tests.support.server import Connection

LONG = "a" * 63
NORMALISED = {
    "myapp": "myapp",
    "MyApp": "myapp",
    "  myapp  ": "myapp",
    "My App": "my_app",
    "my-app": "my_app",
    "my.app": "my_app",
    "my  ..-- app": "my_app",
    "my__app": "my_app",
    "myapp-": "myapp",
    "myapp_._": "myapp",
    "-myapp": "_myapp",
    "9lives": "9lives",
    LONG + "tail": LONG,
    "b" * 62 + "--tail": "b" * 62,
}


def test_an_app_id_is_normalised_as_hotmesh_does_it(conn: Connection, app: NewApp) -> None:
    for schema in sorted(set(NORMALISED.values())):
        app(schema)
    for app_id, schema in NORMALISED.items():
        assert one(conn, "SELECT hotmesh_dba.app_schema(%s)", app_id) == schema, app_id


def test_a_schema_of_exactly_that_name_wins(conn: Connection, app: NewApp) -> None:
    app("my_app")
    assert one(conn, "SELECT hotmesh_dba.app_schema('My-App')") == "my_app"
    app("My-App")
    assert one(conn, "SELECT hotmesh_dba.app_schema('My-App')") == "My-App"
    assert one(conn, "SELECT hotmesh_dba.app_schema('my-app')") == "my_app"
    # A schema of that name which is no app wins nothing.
    run(conn, 'CREATE SCHEMA "MY-APP"')
    assert one(conn, "SELECT hotmesh_dba.app_schema('MY-APP')") == "my_app"


ODD = ["My App", "a'b", 'a"b', "a;b", "prüfung", "%s", "a\\b", "ä" * 31 + "x", LONG, " "]


def test_every_listed_app_is_reached_by_its_listed_name(conn: Connection, app: NewApp) -> None:
    for schema in ODD:
        app(schema, "0.11")
    listed = [row[0] for row in run(conn, "SELECT schema FROM hotmesh_dba.app")]
    assert sorted(listed) == sorted(ODD)
    for schema in listed:
        assert one(conn, "SELECT hotmesh_dba.app_schema(%s)", schema) == schema
        assert [action.action for action in deploy(conn, schema)] == [
            "added",
            "created",
            "created",
            "dropped",
            "created",
        ]
        assert deploy(conn, schema) == []
        strip = "SELECT remaining FROM hotmesh_dba.prune(%s, strip_attributes => true)"
        assert one(conn, strip, schema) == 0
        assert run(conn, "SELECT exact FROM hotmesh_dba.preview(%s)", schema) == [(True,)]
        quoted = conn.execute("SELECT quote_ident(%s)", (schema,)).fetchall()[0][0]
        assert run(conn, f"SELECT * FROM {quoted}.prune('7 days', true, true, true)")
        assert run(conn, "SELECT action FROM hotmesh_dba.undeploy(%s)", schema) == [("dropped",)]


# What an app schema is: each criterion, taken away.
NOT_QUITE = {
    "no jobs": "DROP TABLE x.jobs CASCADE",
    "jobs is a view": (
        "ALTER TABLE x.jobs RENAME TO jobs_table; CREATE VIEW x.jobs AS SELECT * FROM x.jobs_table"
    ),
    "no attributes": "DROP TABLE x.jobs_attributes",
    "id is no uuid": (
        "DROP TABLE x.jobs_attributes, x.jobs;"
        "CREATE TABLE x.jobs (id text PRIMARY KEY, key text, status int, expired_at timestamptz);"
        "CREATE TABLE x.jobs_attributes (job_id text REFERENCES x.jobs, type x.type_enum)"
    ),
    "no id": "ALTER TABLE x.jobs RENAME id TO job",
    "no key": "ALTER TABLE x.jobs RENAME key TO name",
    "no status": "ALTER TABLE x.jobs RENAME status TO state",
    "no expired_at": "ALTER TABLE x.jobs RENAME expired_at TO ended_at",
    "no job_id": "ALTER TABLE x.jobs_attributes RENAME job_id TO job",
    "no type": "ALTER TABLE x.jobs_attributes RENAME type TO kind",
    "a type that is no enum": (
        "ALTER TABLE x.jobs_attributes ALTER type TYPE text USING type::text"
    ),
    "an enum of another schema": (
        "CREATE TYPE public.type_enum AS ENUM ('adata');"
        "DROP TABLE x.jobs_attributes;"
        "CREATE TABLE x.jobs_attributes (job_id uuid REFERENCES x.jobs, type public.type_enum)"
    ),
    "no foreign key": "ALTER TABLE x.jobs_attributes DROP CONSTRAINT jobs_attributes_job_id_fkey",
    "a foreign key to another table": (
        "ALTER TABLE x.jobs_attributes DROP CONSTRAINT jobs_attributes_job_id_fkey;"
        "CREATE TABLE x.other (id uuid PRIMARY KEY);"
        "ALTER TABLE x.jobs_attributes ADD FOREIGN KEY (job_id) REFERENCES x.other"
    ),
}


def test_a_schema_that_only_looks_like_an_app_is_not_listed(conn: Connection, app: NewApp) -> None:
    app("x", "0.11")
    app("neighbour")
    assert len(run(conn, "SELECT schema FROM hotmesh_dba.app")) == 2
    for what, change in NOT_QUITE.items():
        with conn.transaction(force_rollback=True):
            run(conn, change)
            assert run(conn, "SELECT schema FROM hotmesh_dba.app") == [("neighbour",)], what
            for routine in ("deploy", "undeploy", "prune", "preview", "app_schema"):
                refusal = refused(conn, "42809", f"SELECT hotmesh_dba.{routine}('x')")
                assert "'neighbour'" in refusal.hint


def test_an_app_without_streams_and_signals_is_one(conn: Connection, app: NewApp) -> None:
    app("x", "0.11")
    run(conn, "DROP TABLE x.engine_streams, x.worker_streams, x.signal_registry")
    assert run(conn, "SELECT schema FROM hotmesh_dba.app") == [("x",)]
    deploy(conn, "x")
    assert run(conn, "SELECT * FROM x.prune('7 days', true, true, true)") == [(0,) * 8]
