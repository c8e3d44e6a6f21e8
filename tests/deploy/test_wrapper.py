"""The function that deploy makes: it follows its schema, and undeploy takes it away."""

from __future__ import annotations

from tests.conftest import NewApp
from tests.deploy.observe import catalogue, contents, deploy, one, run, sqlstate, state, undeploy
from tests.support.layout import create_app, sdk_replace
from tests.support.sample import load_sample
from tests.support.server import Connection

ALL = "SELECT * FROM {}.prune('0 seconds', true, true, true)"


def test_a_renamed_app_prunes_itself_and_nothing_under_its_old_name(
    conn: Connection, app: NewApp
) -> None:
    app("myapp", "current")
    deploy(conn, "myapp")
    run(conn, "ALTER SCHEMA myapp RENAME TO was_myapp")
    create_app(conn, "myapp")
    load_sample(conn, "myapp", jobs=60, attributes=5)
    load_sample(conn, "was_myapp", jobs=60, attributes=5, seed=2)
    untouched, before = contents(conn, "myapp"), contents(conn, "was_myapp")

    counts = run(conn, ALL.format("was_myapp"))[0]

    assert counts[0] > 0
    assert contents(conn, "myapp") == untouched
    after = contents(conn, "was_myapp")
    assert len(before["jobs"]) - len(after["jobs"]) == counts[0]
    # Both are what the view says, and the new one gets a wrapper of its own.
    assert state(conn, "was_myapp") == ("ours", True, True)
    assert state(conn, "myapp") == ("none", True, True)
    assert deploy(conn, "was_myapp") == []
    deploy(conn, "myapp")
    now = contents(conn, "was_myapp")
    assert run(conn, ALL.format("myapp"))[0][0] > 0
    assert contents(conn, "was_myapp") == now


def test_undeploy_takes_the_wrapper_and_nothing_else(conn: Connection, app: NewApp) -> None:
    app("myapp", "mixture")
    run(conn, "CREATE FUNCTION myapp.prune_one(uuid) RETURNS uuid LANGUAGE sql AS 'SELECT $1'")
    deploy(conn, "myapp")
    load_sample(conn, "myapp", jobs=20, attributes=3)
    rows = contents(conn, "myapp")
    (action,) = undeploy(conn, "myapp")
    assert action.action == "dropped"
    assert action.statements.startswith("DROP FUNCTION myapp.prune(")
    assert sqlstate(conn, "SELECT myapp.prune('7 days')") == "42883"
    assert one(conn, "SELECT myapp.prune_one(gen_random_uuid()) IS NOT NULL")
    assert state(conn, "myapp") == ("none", True, True)
    assert contents(conn, "myapp") == rows
    assert undeploy(conn, "myapp") == []
    assert run(conn, "SELECT deleted_jobs > 0 FROM hotmesh_dba.prune('myapp', '0 s')") == [(True,)]
    assert [action.action for action in deploy(conn, "myapp")] == ["created"]


def test_undeploy_leaves_what_it_did_not_make(conn: Connection, app: NewApp) -> None:
    app("myapp", "mixture")
    before = catalogue(conn, "myapp")
    assert undeploy(conn, "myapp") == []
    deploy(conn, "myapp")
    sdk_replace(conn, "myapp")
    assert undeploy(conn, "myapp") == []
    assert state(conn, "myapp") == ("foreign", True, True)
    assert catalogue(conn, "myapp") != before
