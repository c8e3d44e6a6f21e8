"""From each released version to this one: the database is the same, and what stood in it works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import NewDatabase, NewRole
from tests.deploy.observe import one, run, state
from tests.deploy.plain import install_plain, plain_script
from tests.support.installation import CHECKOUT
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection

from .catalogue import catalogue, differences

CURRENT = re.findall(
    r"^default_version\s*=\s*'(.*)'", (CHECKOUT / "hotmesh_dba.control").read_text(), re.MULTILINE
)[0]
RELEASED = sorted(
    path.stem.removeprefix("hotmesh_dba--")
    for path in Path(CHECKOUT, "extension").glob("hotmesh_dba--*.sql")
    if path.stem.count("--") == 1 and not path.stem.endswith(CURRENT)
)
CREATE = "CREATE EXTENSION hotmesh_dba VERSION '{}'"
UPDATE = "ALTER EXTENSION hotmesh_dba UPDATE"


def test_there_is_an_older_release() -> None:
    assert "1.0.0" in RELEASED


@pytest.mark.parametrize("version", RELEASED)
def test_an_updated_database_equals_a_fresh_one(new_database: NewDatabase, version: str) -> None:
    with new_database().connect() as conn:
        run(conn, CREATE.format(version))
        before = catalogue(conn)
        run(conn, UPDATE)
        updated = catalogue(conn)
    with new_database().connect() as conn:
        run(conn, CREATE.format(CURRENT))
        fresh = catalogue(conn)
    assert len(fresh) > 200
    assert differences(before, fresh)
    assert differences(updated, fresh) == []


@pytest.mark.parametrize("version", RELEASED)
def test_a_wrapper_works_on_without_a_new_deploy(new_database: NewDatabase, version: str) -> None:
    with new_database().connect() as conn:
        run(conn, CREATE.format(version))
        create_app(conn, "myapp")
        run(conn, "SELECT FROM hotmesh_dba.deploy('myapp')")
        load_sample(conn, "myapp", jobs=40, attributes=5)
        run(conn, UPDATE)
        assert state(conn, "myapp") == ("ours", True, True)
        # The index of 1.1.0 makes the strip faster, and nothing needs it.
        added = run(conn, "SELECT action, object FROM hotmesh_dba.deploy('myapp')")
        missing = [("created", "index myapp.idx_jobs_unstripped")] if version == "1.0.0" else []
        assert added == missing
        ((jobs, *_),) = run(conn, "SELECT * FROM myapp.prune('7 days', true, true, true)")
        assert jobs > 0
        run(conn, "DROP EXTENSION hotmesh_dba")
        assert one(conn, "SELECT to_regproc('myapp.prune') IS NULL")


@pytest.mark.parametrize("version", RELEASED)
def test_rights_survive_the_update(new_database: NewDatabase, role: NewRole, version: str) -> None:
    """Those that were granted, and those that were taken away; what is new is everybody's."""
    dba, other = role("dba"), role("other")
    prune = (
        "hotmesh_dba.prune(text, interval, boolean, boolean, boolean, text[], boolean, boolean,"
        " boolean, boolean, interval, interval, boolean)"
    )
    may = "SELECT has_function_privilege(%s, p.oid, 'EXECUTE') FROM pg_proc p WHERE p.oid = {}"
    with new_database().connect() as conn:
        run(conn, CREATE.format(version))
        run(conn, f"REVOKE EXECUTE ON FUNCTION {prune} FROM PUBLIC")
        run(conn, f"GRANT EXECUTE ON FUNCTION {prune} TO {dba}")
        run(conn, UPDATE)
        oid = f"'{prune}'::regprocedure"
        assert one(conn, may.format(oid), dba) is True
        assert one(conn, may.format(oid), other) is False
        new = "'hotmesh_dba.prune_batched'::regproc"
        assert one(conn, may.format(new), other) is True


def plain_of(version: str) -> str:
    """The plain install as that release made it: its script as an extension would run it."""
    script = (CHECKOUT / "extension" / f"hotmesh_dba--{version}.sql").read_text()
    return re.sub(
        r"^(\\echo|SELECT pg_catalog\.pg_extension_config_dump).*$", "", script, flags=re.M
    )


@pytest.mark.parametrize("version", RELEASED)
def test_a_plain_install_is_updated_by_the_new_script(
    new_database: NewDatabase, version: str
) -> None:
    with new_database().connect() as conn:
        run(conn, "SET check_function_bodies = off")
        run(conn, plain_of(version))
        assert one(conn, "SELECT hotmesh_dba.version()") == version
        install_plain(conn)
        updated = routines(conn)
    with new_database().connect() as conn:
        run(conn, plain_script())
        assert one(conn, "SELECT hotmesh_dba.version()") == CURRENT
        assert updated == routines(conn)
        assert len(updated) > 100


def routines(conn: Connection) -> list[tuple[object, ...]]:
    """Every routine and column of a plain install."""
    return run(
        conn,
        "SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text"
        " FROM pg_proc p WHERE p.pronamespace = 'hotmesh_dba'::regnamespace"
        " UNION ALL SELECT format('%s.%s', c.relname, a.attname), format_type(a.atttypid, -1),"
        " col_description(c.oid, a.attnum)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE c.relnamespace = 'hotmesh_dba'::regnamespace ORDER BY 1, 2",
    )
