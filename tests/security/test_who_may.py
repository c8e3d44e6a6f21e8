"""Owner, stranger, pruner: each may do just what its rights on the tables say."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewDatabase, NewRole
from tests.deploy.calls import CALLS
from tests.deploy.observe import (
    catalogue,
    contents,
    deploy,
    one,
    refused,
    run,
    sqlstate,
    state,
    undeploy,
)
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection

# A call of each routine that acts on an app.
ROUTINES = {
    "prune": "SELECT * FROM hotmesh_dba.prune('{}', '0 s', strip_attributes => true)",
    "preview": "SELECT * FROM hotmesh_dba.preview('{}', '0 s', strip_attributes => true)",
    "deploy": "SELECT * FROM hotmesh_dba.deploy('{}')",
    "undeploy": "SELECT * FROM hotmesh_dba.undeploy('{}')",
    "prune_batched": "CALL hotmesh_dba.prune_batched('{}', '0 s', strip_attributes => true)",
    "set_policy": "SELECT hotmesh_dba.set_policy('{}', 'mine', strip_attributes => true)",
    "drop_policy": "SELECT hotmesh_dba.drop_policy('{}', 'mine')",
    "run_policy": "CALL hotmesh_dba.run_policy('{}', 'mine')",
    "schedule": "SELECT hotmesh_dba.schedule('{}', 'mine', '0 2 * * *')",
}
WRAPPER = "SELECT * FROM {}.prune('7 days', true, true, true)"


def snapshot(conn: Connection, schema: str) -> tuple[object, object]:
    return catalogue(conn, schema), contents(conn, schema)


def test_an_owner_without_superuser_installs_deploys_and_prunes(
    new_database: NewDatabase, role: NewRole
) -> None:
    database, owner = new_database(), role("owner")
    with database.connect() as admin:
        run(admin, f"GRANT CREATE ON DATABASE {database.name} TO {owner}")
    with database.connect(owner) as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        create_app(conn, "myapp", "mixture")
        load_sample(conn, "myapp", jobs=40, attributes=5)
        assert deploy(conn, "myapp")
        assert state(conn, "myapp") == ("ours", True, True)
        for call in CALLS.values():
            assert run(conn, call.format("myapp"))
        assert undeploy(conn, "myapp")


def test_the_routines_are_the_bootstrap_superusers_whoever_installs(
    new_database: NewDatabase, role: NewRole
) -> None:
    database, owner = new_database(), role("owner")
    with database.connect() as admin:
        run(admin, f"GRANT CREATE ON DATABASE {database.name} TO {owner}")
    with database.connect(owner) as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        owners = run(
            conn,
            "SELECT proowner FROM pg_proc WHERE pronamespace = 'hotmesh_dba'::regnamespace"
            " UNION SELECT relowner FROM pg_class WHERE relnamespace = 'hotmesh_dba'::regnamespace"
            " UNION SELECT typowner FROM pg_type WHERE typnamespace = 'hotmesh_dba'::regnamespace"
            " UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'hotmesh_dba'",
        )
        assert owners == [(10,)]
        (body,) = run(conn, "SELECT pg_get_functiondef('hotmesh_dba.version()'::regprocedure)")[0]
        attempts = [
            body,
            "CREATE FUNCTION hotmesh_dba.prune(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TABLE hotmesh_dba.t (i int)",
            "CREATE OR REPLACE VIEW hotmesh_dba.app AS SELECT 1 AS one",
            "ALTER FUNCTION hotmesh_dba.version() OWNER TO CURRENT_USER",
            "ALTER SCHEMA hotmesh_dba RENAME TO mine",
            "DROP FUNCTION hotmesh_dba.version()",
        ]
        for attempt in attempts:
            with pytest.raises(Exception, match=r"must be owner|permission denied"):
                run(conn, attempt)


def test_a_stranger_changes_and_learns_nothing(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner, stranger = role("owner"), role("stranger")
    app("myapp", "current", owner)
    deploy(conn, "myapp")
    load_sample(conn, "myapp", jobs=40, attributes=5)
    before = snapshot(conn, "myapp")
    theirs = connect(stranger)
    for call in ROUTINES.values():
        refusal = refused(theirs, "42501", call.format("myapp"))
        # Nothing that was counted or read: no number but those of a name.
        said = f"{refusal.message} {refusal.detail} {refusal.hint}"
        digits = {c for c in said.replace(stranger, "").replace(owner, "") if c.isdigit()}
        assert digits == set(), said
    assert sqlstate(theirs, WRAPPER.format("myapp")) == "42501"
    # Not by the way of our private routines either, nor with USAGE on the schema.
    assert snapshot(conn, "myapp") == before
    run(conn, f"GRANT USAGE ON SCHEMA myapp TO {stranger}")
    before = snapshot(conn, "myapp")
    for call in ROUTINES.values():
        refused(theirs, "42501", call.format("myapp"))
    options = (
        "hotmesh_dba._resolve('myapp', '0 s', true, true, false, NULL, false, false,"
        " NULL, NULL, NULL, NULL, true)"
    )
    steps = f"hotmesh_dba._steps({options})"
    assert sqlstate(theirs, f"SELECT hotmesh_dba._count_due(s, NULL) FROM {steps} s") == "42501"
    lanes = f"{steps} s, hotmesh_dba._lanes(s, false) l"
    batch = f"SELECT hotmesh_dba._run_batch(l, NULL, true) FROM {lanes}"
    assert sqlstate(theirs, batch) == "42501"
    assert snapshot(conn, "myapp") == before


def test_a_pruner_prunes_and_does_not_deploy(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner, cron = role("owner"), role("cron")
    app("myapp", "0.13", owner)
    load_sample(conn, "myapp", jobs=60, attributes=5)
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {cron};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA myapp TO {cron};"
        f"GRANT UPDATE (pruned_at) ON myapp.jobs TO {cron}",
    )
    theirs, mine = connect(cron), connect(owner)
    before = snapshot(conn, "myapp")
    refused(theirs, "42501", ROUTINES["deploy"].format("myapp"))
    refused(theirs, "42501", ROUTINES["undeploy"].format("myapp"))
    assert snapshot(conn, "myapp") == before

    deploy(mine, "myapp")
    expected = run(
        conn, "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', strip_attributes => true)"
    )
    assert run(theirs, WRAPPER.format("myapp")) == [expected[0][:-1]]
    assert all(expected[0][at] > 0 for at in (0, 1, 4, 6, 7))
    refused(theirs, "42501", ROUTINES["undeploy"].format("myapp"))


def test_what_deploy_hints_at_makes_it_work(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    """Whatever right is missing, the hint typed by whoever can give it is the way on."""
    owner, migrator = role("owner"), role("migrator")
    app("myapp", "0.13", owner)
    theirs = connect(migrator)
    run(conn, f"REVOKE CREATE ON SCHEMA myapp FROM {owner}")
    typed = []
    while (code := sqlstate(theirs, ROUTINES["deploy"].format("myapp"))) is not None:
        assert code == "42501"
        hint = refused(theirs, code, ROUTINES["deploy"].format("myapp")).hint
        statement = hint[hint.index("GRANT") :].split(";")[0]
        assert statement not in typed
        typed.append(statement)
        run(conn, statement)
    assert typed[0] == f"GRANT {owner} TO {migrator}"
    assert f"GRANT CREATE ON SCHEMA myapp TO {owner}" in typed
    assert deploy(theirs, "myapp")
    assert (
        one(
            conn,
            "SELECT proowner::regrole::text FROM pg_proc"
            " WHERE proname = 'prune' AND pronamespace = 'myapp'::regnamespace",
        )
        == owner
    )


def test_what_prune_hints_at_makes_it_work(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    """From no right at all to a full prune, one hint after the other."""
    owner, cron = role("owner"), role("Cron role")
    app("My App", "mixture", owner)
    deploy(conn, "My App")
    load_sample(conn, "My App", jobs=60, attributes=5)
    theirs = connect(cron)
    call = (
        "SELECT * FROM hotmesh_dba.prune('My App', '7 days', strip_attributes => true,"
        " prune_transient => true)"
    )
    before = contents(conn, "My App")
    typed = []
    while sqlstate(theirs, call) is not None:
        refusal = refused(theirs, "42501", call)
        assert cron in refusal.detail
        assert refusal.hint not in typed
        typed.append(refusal.hint)
        assert contents(conn, "My App") == before
        run(connect(owner), refusal.hint)
    assert any("UPDATE (pruned_at)" in hint for hint in typed)
    # Schema, and SELECT and DELETE on six tables, and the mark.
    assert len(typed) == 1 + 2 * 6 + 1
    assert run(theirs, call)[0][0] > 0


def test_two_apps_two_owners(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    first, second = role("first"), role("second")
    app("first_app", "mixture", first)
    app("second_app", "mixture", second)
    mine = connect(first)
    assert deploy(mine, "first_app")
    load_sample(conn, "second_app", jobs=20, attributes=3)
    before = snapshot(conn, "second_app")
    for call in ROUTINES.values():
        refused(mine, "42501", call.format("second_app"))
    deploy(connect(second), "second_app")
    before = snapshot(conn, "second_app")
    for call in ROUTINES.values():
        refused(mine, "42501", call.format("second_app"))
    assert sqlstate(mine, WRAPPER.format("second_app")) == "42501"
    assert snapshot(conn, "second_app") == before
    assert run(mine, "SELECT schema, owner FROM hotmesh_dba.app ORDER BY 1") == [
        ("first_app", first),
        ("second_app", second),
    ]


def test_a_member_of_the_owner_deploys_for_it(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner, member = role("owner"), role("member")
    app("myapp", "0.11", owner)
    run(conn, f"GRANT {owner} TO {member}")
    assert deploy(connect(member), "myapp")
    assert deploy(connect(owner), "myapp") == []
    assert undeploy(connect(member), "myapp")


def test_default_privileges_of_the_installer_close_nothing(
    new_database: NewDatabase, role: NewRole
) -> None:
    installer, caller = role("installer"), role("caller")
    fresh = new_database()
    with fresh.connect() as conn:
        run(conn, f"GRANT CREATE ON DATABASE {fresh.name} TO {installer}")
        run(
            conn,
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {installer}"
            " REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        )
    with fresh.connect(installer) as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
    with fresh.connect(caller) as conn:
        assert run(conn, "SELECT * FROM hotmesh_dba.app") == []
        refused(conn, "3F000", "SELECT * FROM hotmesh_dba.prune('myapp')")


@pytest.mark.parametrize("name", ["deploy", "undeploy"])
def test_a_refusal_says_what_was_refused(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, name: str
) -> None:
    owner, stranger = role("owner"), role("stranger")
    app("myapp", "current", owner)
    refusal = refused(connect(stranger), "42501", ROUTINES[name].format("myapp"))
    assert refusal.message == f'permission denied to {name} app "myapp"'
    assert f"GRANT {owner} TO {stranger}" in refusal.hint
    run(conn, f"GRANT {owner} TO {stranger}; REVOKE CREATE ON SCHEMA myapp FROM {owner}")
    refusal = refused(connect(stranger), "42501", ROUTINES[name].format("myapp"))
    assert refusal.message == f'permission denied to {name} app "myapp"'


@pytest.mark.parametrize("name", ["deploy", "undeploy"])
def test_nobody_is_told_to_grant_a_superuser(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, name: str
) -> None:
    """Neither where it owns the tables, nor where it owns an old function prune."""
    chief, owner, stranger = role("chief", "SUPERUSER"), role("owner"), role("stranger")
    app("myapp", "0.13", chief)
    refusal = refused(connect(stranger), "42501", ROUTINES[name].format("myapp"))
    assert "GRANT" not in refusal.hint
    assert f"SET ROLE {chief}" in refusal.hint

    app("theirs", "0.13", owner)
    ((prune,),) = run(
        conn,
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE proname = 'prune' AND pronamespace = 'theirs'::regnamespace",
    )
    run(conn, f"ALTER FUNCTION {prune} OWNER TO {chief}")
    refusal = refused(connect(owner), "42501", ROUTINES[name].format("theirs"))
    assert "GRANT" not in refusal.hint
    assert chief in refusal.detail
    typed = refusal.hint[refusal.hint.index("ALTER") :]
    run(conn, typed)
    run(connect(owner), ROUTINES[name].format("theirs"))
