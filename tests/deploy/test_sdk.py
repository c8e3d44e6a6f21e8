"""HotMesh's SDK replaces the function whenever it prunes: we see it, and take it back."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.calls import CALLS, RESULT
from tests.deploy.observe import deploy, one, run, state
from tests.support.layout import sdk_replace
from tests.support.server import Connection

WRAPPER = "SELECT oid FROM pg_proc WHERE pronamespace = 'myapp'::regnamespace AND proname = 'prune'"


def test_the_sdk_replaces_ours_and_deploy_takes_it_back(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner = role("owner")
    app("myapp", "mixture", owner)
    deploy(conn, "myapp")
    oid = one(conn, WRAPPER)

    sdk_replace(connect(owner), "myapp")
    assert state(conn, "myapp") == ("foreign", True, True)
    (action,) = deploy(conn, "myapp")
    assert action.action == "replaced"
    assert state(conn, "myapp") == ("ours", True, True)
    assert deploy(conn, "myapp") == []

    # The same function all along: what depends on it, and who may call it, stays.
    assert one(conn, WRAPPER) == oid
    assert one(conn, "SELECT proowner::regrole::text FROM pg_proc WHERE oid = %s", oid) == owner
    for call in CALLS.values():
        assert run(conn, call.format("myapp"))


def test_the_sdk_deploys_first(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    owner = role("owner")
    app("myapp", "current", owner)
    sdk_replace(connect(owner), "myapp")
    assert state(conn, "myapp") == ("foreign", True, True)
    actions = [action.action for action in deploy(connect(owner), "myapp")]
    assert actions == ["created", "replaced"]
    assert state(conn, "myapp") == ("ours", True, True)


def test_the_sdks_own_parametrised_call(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("myapp"))
    cursor = conn.execute(
        "SELECT * FROM myapp.prune(%s::interval, %s::boolean, %s::boolean, %s::boolean,"
        " %s::text[], %s::boolean, %s::boolean, %s::boolean, %s::boolean, %s::interval,"
        " %s::interval, %s::boolean)",
        ("7 days", True, True, False, None, False, False, None, None, None, None, True),
    )
    assert cursor.description is not None
    assert tuple(column.name for column in cursor.description) == RESULT
    assert cursor.fetchall() == [(0,) * 8]


@pytest.mark.parametrize("layout", ["0.10.0", "mixture"])
def test_an_sdk_beside_older_overloads_is_ambiguous(
    conn: Connection, app: NewApp, layout: str
) -> None:
    schema = app("myapp", layout)
    sdk_replace(conn, schema)
    wrapper = state(conn, schema)
    assert wrapper is not None
    assert wrapper[0] == "ambiguous"
    assert {action.action for action in deploy(conn, schema)} >= {"dropped", "replaced"}
    assert state(conn, schema) == ("ours", True, True)
