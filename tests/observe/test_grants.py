"""grant_prune gives a role what it needs to prune one app; revoke_prune takes just that back."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import Row, deploy, one, refused, run, sqlstate
from tests.runs.work import add_work, prune, rows
from tests.support.server import Connection

GRANT = "SELECT * FROM hotmesh_dba.grant_prune(%s, %s)"
REVOKE = "SELECT * FROM hotmesh_dba.revoke_prune(%s, %s)"


def rights(conn: Connection, role: str) -> list[Row]:
    """Every right that names the role, on anything of the database."""
    return run(
        conn,
        "SELECT 'table', c.oid::regclass::text, a.privilege_type, a.is_grantable"
        " FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = %(role)s::regrole"
        " UNION ALL SELECT 'column', t.attrelid::regclass || '.' || t.attname, a.privilege_type,"
        " a.is_grantable FROM pg_attribute t, aclexplode(t.attacl) a"
        " WHERE a.grantee = %(role)s::regrole"
        " UNION ALL SELECT 'schema', n.nspname, a.privilege_type, a.is_grantable"
        " FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = %(role)s::regrole"
        " UNION ALL SELECT 'routine', p.oid::regprocedure::text, a.privilege_type, a.is_grantable"
        " FROM pg_proc p, aclexplode(p.proacl) a WHERE a.grantee = %(role)s::regrole"
        " ORDER BY 1, 2, 3".replace("%(role)s", f"'{role}'"),
    )


@pytest.fixture
def owner(role: NewRole) -> str:
    return role("owner")


@pytest.fixture
def pruner(role: NewRole) -> str:
    return role("pruner")


@pytest.mark.parametrize("layout", ["current", "pre-0.10", "mixture"])
def test_the_role_prunes_in_every_way_and_can_do_nothing_else(
    conn: Connection, connect: Connect, app: NewApp, owner: str, pruner: str, layout: str
) -> None:
    deploy(conn, app("myapp", layout, owner))
    theirs = connect(pruner)
    assert sqlstate(theirs, "SELECT * FROM hotmesh_dba.prune('myapp')") == "42501"
    statements = [row[0] for row in run(connect(owner), GRANT, "myapp", pruner)]
    assert f"GRANT USAGE ON SCHEMA myapp TO {pruner};" in statements

    everything = "'7 days', strip_attributes => true, prune_transient => true"
    assert sqlstate(theirs, f"SELECT * FROM hotmesh_dba.prune('myapp', {everything})") is None
    assert sqlstate(theirs, "SELECT * FROM myapp.prune('7 days', true, true, true)") is None
    assert prune(theirs, options=everything).state == "completed"
    for step in run(
        theirs,
        "SELECT hotmesh_dba._works_in_leaves(s) AND hotmesh_dba._may_lock(s.relation)"
        " FROM hotmesh_dba._steps(hotmesh_dba._resolve('myapp', '7 days', true, false, true, NULL,"
        " true, false, NULL, NULL, NULL, NULL, false)) s",
    ):
        assert step == (True,)
    for statement in (
        "INSERT INTO myapp.jobs (key, status) VALUES ('k', 0)",
        "UPDATE myapp.jobs SET status = 1",
        "UPDATE myapp.jobs_attributes SET value = 'v'",
        "TRUNCATE myapp.signal_registry",
        "CREATE TABLE myapp.t ()",
        "SELECT * FROM hotmesh_dba.deploy('myapp')",
        f"SELECT * FROM hotmesh_dba.grant_prune('myapp', '{pruner}')",
    ):
        assert sqlstate(theirs, statement) == "42501", statement


def test_a_run_of_it_takes_all_that_is_due(
    conn: Connection, connect: Connect, app: NewApp, owner: str, pruner: str
) -> None:
    deploy(conn, app("myapp", owner=owner))
    work = add_work(conn)
    run(connect(owner), GRANT, "myapp", pruner)
    done = prune(connect(pruner))
    assert done.rows == work.rows
    assert rows(conn).marked == work.live


def test_what_is_returned_is_what_was_executed(
    conn: Connection, connect: Connect, app: NewApp, owner: str, role: NewRole
) -> None:
    """Typed for another role by hand, the statements give that one just the same."""
    deploy(conn, app("myapp", owner=owner))
    first, second = role("first"), role("second")
    mine = connect(owner)
    for (statement,) in run(mine, GRANT, "myapp", first):
        run(mine, statement.replace(first, second))
    assert rights(conn, first) == rights(conn, second) != []


def test_revoke_takes_back_just_that(
    conn: Connection, connect: Connect, app: NewApp, owner: str, pruner: str
) -> None:
    deploy(conn, app("myapp", owner=owner))
    mine = connect(owner)
    run(mine, f"GRANT INSERT, UPDATE (status) ON myapp.jobs TO {pruner}")
    before = rights(conn, pruner)
    granted = run(mine, GRANT, "myapp", pruner)
    assert run(mine, GRANT, "myapp", pruner) == granted
    assert len(rights(conn, pruner)) > 80
    assert not any(grantable for *_, grantable in rights(conn, pruner))
    revoked = run(mine, REVOKE, "myapp", pruner)
    assert [r[0].replace("REVOKE", "GRANT").replace(" FROM ", " TO ") for r in revoked] == [
        g[0] for g in granted
    ]
    assert rights(conn, pruner) == before
    assert sqlstate(connect(pruner), "SELECT * FROM hotmesh_dba.prune('myapp')") == "42501"


def test_before_the_migration_there_is_no_mark_to_grant(
    connect: Connect, app: NewApp, owner: str, pruner: str
) -> None:
    app("myapp", "0.11", owner)
    mine = connect(owner)
    assert not any("pruned_at" in row[0] for row in run(mine, GRANT, "myapp", pruner))
    deploy(mine, "myapp")
    assert any("pruned_at" in row[0] for row in run(mine, GRANT, "myapp", pruner))


@pytest.mark.parametrize("call", [GRANT, REVOKE])
def test_refusals(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, owner: str, call: str
) -> None:
    app("myapp", owner=owner)
    pruner, stranger = role("pruner"), role("stranger")
    mine = connect(owner)
    assert "CREATE ROLE nobody" in refused(mine, "42704", call, "myapp", "nobody").hint
    refused(mine, "42704", call, "myapp", "public")
    refused(mine, "42704", call, "myapp", None)
    refused(mine, "3F000", call, "noapp", pruner)
    refused(mine, "0LP01", call, "myapp", owner)
    refusal = refused(connect(stranger), "42501", call, "myapp", stranger)
    assert f"GRANT {owner} TO {stranger};" in refusal.hint
    run(conn, f"GRANT {owner} TO {stranger}")
    assert run(connect(stranger), call, "myapp", pruner)


@pytest.mark.parametrize("call", [GRANT, REVOKE])
def test_nobody_passes_on_a_schema_that_is_anothers(
    conn: Connection, connect: Connect, app: NewApp, owner: str, pruner: str, call: str
) -> None:
    app("myapp", owner=owner)
    run(conn, "ALTER SCHEMA myapp OWNER TO postgres")
    run(conn, f"GRANT USAGE ON SCHEMA myapp TO {owner}")
    hint = refused(connect(owner), "42501", call, "myapp", pruner).hint
    run(conn, hint)
    assert run(connect(owner), call, "myapp", pruner)


def test_names_that_need_quotes(conn: Connection, connect: Connect, app: NewApp) -> None:
    schema, role = 'My "App', "Mr. 'Pruner\""
    app(schema)
    run(conn, """CREATE ROLE "Mr. 'Pruner""\" LOGIN""")
    try:
        run(conn, GRANT, schema, role)
        assert one(connect(role), """SELECT count(*) FROM "My ""App".jobs_part_0""") == 0
        run(conn, REVOKE, schema, role)
    finally:
        run(conn, """DROP OWNED BY "Mr. 'Pruner""\" """)
        run(conn, """DROP ROLE "Mr. 'Pruner""\" """)
