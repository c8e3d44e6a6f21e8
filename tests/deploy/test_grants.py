"""Whoever could call an app's old prune can call the new one, and nobody else."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import deploy, one, run, sqlstate, state
from tests.support.layout import sdk_replace
from tests.support.server import Connection

CALL = "SELECT * FROM myapp.prune('1 day', false, false, false, prune_signals => false)"
OVERLOADS = (
    "SELECT oid::regprocedure::text FROM pg_proc"
    " WHERE pronamespace = 'myapp'::regnamespace AND proname = 'prune'"
)


def wrapper(conn: Connection) -> str:
    """The one function prune of myapp."""
    return str(one(conn, OVERLOADS))


def close_to_public(conn: Connection) -> None:
    for (overload,) in run(conn, OVERLOADS):
        run(conn, f"REVOKE EXECUTE ON FUNCTION {overload} FROM PUBLIC")


def may_execute(conn: Connection, role: str, privilege: str = "EXECUTE") -> bool:
    return bool(
        one(conn, "SELECT has_function_privilege(%s, %s, %s)", role, wrapper(conn), privilege)
    )


@pytest.fixture
def others(role: NewRole) -> tuple[str, str]:
    """A cron role and a stranger, who may both enter the schema."""
    return role("cron"), role("stranger")


@pytest.fixture(params=["0.10.0", "0.14.5", "mixture"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_was_open_to_everybody_stays_so(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner, stranger = role("owner"), role("stranger")
    app("myapp", "mixture", owner)
    run(conn, f"GRANT USAGE ON SCHEMA myapp TO {stranger}")
    deploy(connect(owner), "myapp")
    assert may_execute(conn, stranger)
    # EXECUTE alone gives nothing: the tables decide.
    assert sqlstate(connect(stranger), "SELECT * FROM myapp.prune('1 day')") == "42501"


def test_a_cron_role_keeps_its_call_and_public_stays_out(
    conn: Connection,
    connect: Connect,
    app: NewApp,
    role: NewRole,
    others: tuple[str, str],
    layout: str,
) -> None:
    owner, (cron, stranger) = role("owner"), others
    app("myapp", layout, owner)
    close_to_public(conn)
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {cron}, {stranger};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA myapp TO {cron}, {stranger}",
    )
    for (overload,) in run(conn, OVERLOADS):
        run(conn, f"GRANT EXECUTE ON FUNCTION {overload} TO {cron}")

    deploy(connect(owner), "myapp")

    assert may_execute(conn, cron)
    assert not may_execute(conn, cron, "EXECUTE WITH GRANT OPTION")
    assert not may_execute(conn, stranger)
    assert may_execute(conn, owner)
    assert run(connect(cron), CALL) == [(0,) * 8]
    assert sqlstate(connect(stranger), CALL) == "42501"


def test_each_overload_s_callers_are_carried_over(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner = role("owner")
    app("myapp", "mixture", owner)
    close_to_public(conn)
    callers = [role("caller") for _ in run(conn, OVERLOADS)]
    for caller, (overload,) in zip(callers, run(conn, OVERLOADS), strict=True):
        run(conn, f"GRANT EXECUTE ON FUNCTION {overload} TO {caller}")
    actions = deploy(connect(owner), "myapp")
    assert [action.action for action in actions].count("granted") == len(callers)
    for caller in callers:
        assert may_execute(conn, caller)


def test_a_grant_option_is_carried_over(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, layout: str
) -> None:
    owner, cron = role("owner"), role("cron")
    app("myapp", layout, owner)
    close_to_public(conn)
    for (overload,) in run(conn, OVERLOADS):
        run(conn, f"GRANT EXECUTE ON FUNCTION {overload} TO {cron} WITH GRANT OPTION")
    deploy(connect(owner), "myapp")
    assert may_execute(conn, cron, "EXECUTE WITH GRANT OPTION")
    assert deploy(connect(owner), "myapp") == []


def test_names_that_need_quotes(conn: Connection, app: NewApp, role: NewRole) -> None:
    cron = role("Cron's role")
    app("myapp", "0.13")
    close_to_public(conn)
    run(conn, f'GRANT EXECUTE ON FUNCTION {wrapper(conn)} TO "{cron}"')
    deploy(conn, "myapp")
    assert may_execute(conn, cron)


def test_the_wrapper_belongs_to_the_owner_of_the_tables_whoever_deploys(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, layout: str
) -> None:
    owner = role("owner")
    app("myapp", layout, owner)
    deploy(conn, "myapp")
    assert (
        one(
            conn,
            "SELECT proowner::regrole::text FROM pg_proc WHERE oid = %s::regprocedure",
            wrapper(conn),
        )
        == owner
    )
    # So its SDK can still replace it.
    sdk_replace(connect(owner), "myapp")
    assert state(conn, "myapp") == ("foreign", True, True)


def test_a_function_of_another_owner_is_given_to_the_owner_of_the_tables(
    conn: Connection, app: NewApp, role: NewRole
) -> None:
    owner = role("owner")
    app("myapp", "current", owner)
    sdk_replace(conn, "myapp")
    close_to_public(conn)
    # Its old owner could execute it, and still can.
    actions = [action.action for action in deploy(conn, "myapp")]
    assert actions == ["created", "replaced", "owned", "granted"]
    assert may_execute(conn, owner)
    assert deploy(conn, "myapp") == []


def test_default_privileges_that_close_functions_break_no_caller(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner, cron = role("owner"), role("cron")
    app("myapp", "0.13", owner)
    mine = connect(owner)
    run(mine, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    deploy(mine, "myapp")
    assert may_execute(conn, cron)
    assert deploy(mine, "myapp") == []
