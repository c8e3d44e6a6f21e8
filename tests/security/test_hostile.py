"""Somebody waits for a privileged caller: in the schema, on the search_path, in the app itself."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, NewApp, NewDatabase, NewRole
from tests.deploy.observe import contents, deploy, one, run, state, undeploy
from tests.support.sample import load_sample
from tests.support.server import Connection

TRAP = "RAISE EXCEPTION 'trapped'"


def test_a_schema_that_stands_there_already_is_refused(
    new_database: NewDatabase, role: NewRole
) -> None:
    database, squatter = new_database(), role("squatter")
    with database.connect() as conn:
        run(conn, f"CREATE SCHEMA hotmesh_dba AUTHORIZATION {squatter}")
        with pytest.raises(psycopg.errors.DuplicateSchema):
            run(conn, "CREATE EXTENSION hotmesh_dba")
        with pytest.raises(psycopg.Error):
            run(conn, "CREATE EXTENSION hotmesh_dba SCHEMA hotmesh_dba")
        assert run(conn, "SELECT 1 FROM pg_extension WHERE extname = 'hotmesh_dba'") == []


# What stands in front of pg_catalog for a caller whose search_path says so.
SHADOWS = f"""
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE FUNCTION hostile.quote_ident(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE FUNCTION hostile.format(text, text, text) RETURNS text
  LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE FUNCTION hostile.set_config(text, text, boolean) RETURNS text
  LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE FUNCTION hostile.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE OPERATOR hostile.= (LEFTARG = name, RIGHTARG = name, FUNCTION = hostile.eq);
CREATE FUNCTION hostile.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.eq);
CREATE FUNCTION hostile.lt(timestamptz, timestamptz) RETURNS boolean
  LANGUAGE plpgsql AS $$BEGIN {TRAP}; END$$;
CREATE OPERATOR hostile.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.lt);
CREATE VIEW hostile.pg_namespace AS SELECT 1 AS oid, 'victim'::name AS nspname;
CREATE VIEW hostile.pg_class AS SELECT 1 AS oid;
"""


@pytest.mark.parametrize("temporary", [False, True])
def test_a_hostile_search_path_does_not_matter(
    conn: Connection, connect: Connect, app: NewApp, temporary: bool
) -> None:
    app("myapp", "mixture")
    load_sample(conn, "myapp", jobs=60, attributes=5)
    run(conn, SHADOWS)
    caller = connect()
    run(caller, "SET search_path = hostile, pg_catalog")
    if temporary:
        run(
            caller,
            "CREATE TEMPORARY TABLE jobs (id uuid); CREATE TEMPORARY TABLE pg_namespace (oid oid)",
        )
        run(caller, "SET search_path = pg_temp, hostile, pg_catalog")
    # The trap is a real one.
    with pytest.raises(psycopg.errors.RaiseException):
        run(caller, "SELECT now()")

    assert deploy(caller, "myapp")
    preview = run(caller, "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', true, true, true)")
    assert run(caller, "SELECT * FROM myapp.prune('7 days', true, true, true)") == [preview[0][:-1]]
    assert preview[0][0] > 0
    assert run(caller, "SELECT deleted_jobs FROM hotmesh_dba.prune('myapp', '0 s')")
    assert run(caller, "SELECT schema FROM hotmesh_dba.app") == [("myapp",)]
    assert undeploy(caller, "myapp")


TEMPORARY = ("jobs", "jobs_attributes", "policy", "run", "pg_class", "pg_namespace", "pg_proc")


def test_nor_to_what_commits(conn: Connection, connect: Connect, deployed: str) -> None:
    """Procedures that commit cannot fix their search_path, so they name every schema."""
    load_sample(conn, deployed, jobs=60, attributes=5)
    run(conn, SHADOWS)
    caller = connect()
    for table in TEMPORARY:
        run(caller, f"CREATE TEMPORARY TABLE {table} (nothing boolean)")
    run(caller, "SET search_path = pg_temp, hostile, pg_catalog")
    with pytest.raises(psycopg.errors.RaiseException):
        run(caller, "SELECT now()")

    every = "'7 days', prune_jobs => true, every => '1 hour', max_percent => 100"
    run(caller, f"SELECT hotmesh_dba.set_policy('myapp', 'nightly', {every})")
    todo = one(caller, "SELECT deleted_jobs FROM hotmesh_dba.preview('myapp', '7 days')")
    assert todo > 2
    run(caller, "CALL hotmesh_dba.prune_batched('myapp', '7 days', max_rows => 1)")
    assert run(caller, "CALL hotmesh_dba.run_due()") == [(1, 0, 0, 0, 0)]
    run(caller, "CALL hotmesh_dba.run_policy('myapp', 'nightly', force => true)")
    states = "SELECT state, deleted_jobs FROM hotmesh_dba.run ORDER BY id"
    assert run(caller, states) == [
        ("stopped", 1),
        ("completed", todo - 1),
        ("completed", 0),
    ]
    assert run(caller, "SELECT * FROM hotmesh_dba.progress") == []
    assert run(caller, "SELECT * FROM hotmesh_dba.backlog('myapp')")
    assert {row[0] for row in run(caller, "SELECT status FROM hotmesh_dba.doctor('myapp')")} <= {
        *("ok", "warning", "problem", "unknown")
    }
    for table in TEMPORARY:
        assert one(caller, f"SELECT pg_catalog.count(*) FROM pg_temp.{table}") == 0


def test_an_app_of_an_enemy_gives_it_nothing(conn: Connection, app: NewApp, role: NewRole) -> None:
    """Names made to break out of a statement, deployed by a superuser."""
    owner = role("enemy")
    evil = 'x"; ALTER ROLE ' + owner + " SUPERUSER; --"
    app(evil, "0.13", owner)
    assert deploy(conn, evil)
    assert state(conn, evil) == ("ours", True, True)
    assert run(conn, "SELECT remaining FROM hotmesh_dba.prune(%s, strip_attributes => true)", evil)
    assert undeploy(conn, evil)
    assert one(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", owner) is False


def test_what_an_enum_is_called_breaks_out_of_nothing(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner = role("enemy")
    app("myapp", "current", owner)
    mine = connect(owner)
    run(mine, "ALTER TYPE myapp.type_enum ADD VALUE 'adata'') OR true --'")
    load_sample(conn, "myapp", jobs=20, attributes=5)
    before = contents(conn, "myapp")
    run(
        mine,
        "SELECT * FROM hotmesh_dba.prune('myapp', strip_attributes => true, prune_jobs => false)",
    )
    after = contents(conn, "myapp")
    assert len(after["jobs"]) == len(before["jobs"])
    assert 0 < len(after["jobs_attributes"]) < len(before["jobs_attributes"])
