"""Every older deployment is taken over: its documented calls work afterwards, and not before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import NewApp
from tests.deploy.calls import CALLS, DOCUMENTED, RESULT
from tests.deploy.observe import Action, catalogue, deploy, one, run, sqlstate, state
from tests.support.layout import LAYOUTS, create_app
from tests.support.sample import load_sample
from tests.support.server import Connection, PrivateServer

UNDEFINED, AMBIGUOUS, WORKS = "42883", "42725", None

# What becomes of the documented calls before deploy, in the order of DOCUMENTED.
BEFORE: dict[str, list[str | None]] = {
    "current": [UNDEFINED] * 4,
    "pre-0.10": [UNDEFINED] * 4,
    "0.10.0": [WORKS, UNDEFINED, WORKS, UNDEFINED],
    "0.10.2": [WORKS, WORKS, WORKS, UNDEFINED],
    "0.11": [WORKS, WORKS, WORKS, UNDEFINED],
    "0.13": [WORKS] * 4,
    "0.14.5": [WORKS] * 4,
    "mixture": [AMBIGUOUS, AMBIGUOUS, AMBIGUOUS, WORKS],
}

WRAPPER_BEFORE = {0: "none", 1: "foreign", 3: "ambiguous"}


@pytest.fixture(scope="module")
def all_layouts(
    server: PrivateServer, template: str, serial: Iterator[int]
) -> Iterator[Connection]:
    """A database with an app of each layout, which has a little data and its layout's name."""
    name = server.create_database(f"test_{next(serial)}", template)
    with server.connect(name) as conn:
        for layout in LAYOUTS:
            create_app(conn, layout, layout)
            load_sample(conn, layout, jobs=60, attributes=5)
        yield conn
    server.drop_database(name)


@pytest.fixture
def conn(all_layouts: Connection) -> Iterator[Connection]:
    """A transaction in that database; what a test does is undone."""
    with all_layouts.transaction(force_rollback=True):
        yield all_layouts


@pytest.fixture(params=sorted(LAYOUTS))
def older(request: pytest.FixtureRequest) -> str:
    """The name of an app of each layout."""
    return str(request.param)


def columns(conn: Connection, statement: str) -> tuple[str, ...]:
    """The result columns of a call, which is undone."""
    with conn.transaction(force_rollback=True):
        cursor = conn.execute(statement.encode())
        assert len(cursor.fetchall()) == 1
        assert cursor.description is not None
        return tuple(column.name for column in cursor.description)


def test_documented_calls_fail_or_lack_columns_before_and_work_after(
    conn: Connection, older: str
) -> None:
    layout = LAYOUTS[older]
    calls = [call.format(f'"{older}"') for call in DOCUMENTED.values()]
    assert [sqlstate(conn, call) for call in calls] == BEFORE[older]
    assert state(conn, older) == (
        WRAPPER_BEFORE[len(layout.prunes)],
        layout.pruned_at,
        "pruned_at_index" in layout.files,
    )
    if older != "0.14.5":
        for call, fate in zip(calls, BEFORE[older], strict=True):
            if fate is WORKS:
                assert set(columns(conn, call)) < set(RESULT)

    assert deploy(conn, older)

    assert state(conn, older) == ("ours", True, True)
    for call in CALLS.values():
        assert columns(conn, call.format(f'"{older}"')) == RESULT


def test_documented_calls_do_what_the_preview_says(conn: Connection, older: str) -> None:
    deploy(conn, older)
    for call in CALLS.values():
        arguments = call.split("prune(")[1]
        counted = run(conn, f"SELECT * FROM hotmesh_dba.preview('{older}', {arguments}")[0]
        with conn.transaction(force_rollback=True):
            taken = run(conn, call.format(f'"{older}"'))[0]
        assert taken == counted[:-1]
        assert any(taken)


def test_a_second_deploy_has_nothing_to_do(conn: Connection, older: str) -> None:
    assert deploy(conn, older)
    before = catalogue(conn, older)
    assert deploy(conn, older) == []
    assert catalogue(conn, older) == before


def test_the_statements_returned_are_what_was_run(conn: Connection, older: str) -> None:
    untouched = catalogue(conn, older, transactions=False)
    with conn.transaction(force_rollback=True):
        actions = deploy(conn, older)
        deployed = catalogue(conn, older, transactions=False)
    assert catalogue(conn, older, transactions=False) == untouched != deployed

    for action in actions:
        run(conn, action.statements)
    assert catalogue(conn, older, transactions=False) == deployed
    assert deploy(conn, older) == []


def test_each_action_is_true(conn: Connection, older: str) -> None:
    actions = deploy(conn, older)
    for action in actions:
        assert is_true(conn, older, action), action
    # Nothing of the older releases is left, and nothing is left out of the report.
    overloads = run(
        conn,
        "SELECT pronargs FROM pg_proc WHERE pronamespace = %s::regnamespace AND proname = 'prune'",
        f'"{older}"',
    )
    assert overloads == [(12,)]
    dropped = sum(action.action == "dropped" for action in actions)
    assert dropped == len([arity for arity in LAYOUTS[older].prunes if arity != 12])


def is_true(conn: Connection, schema: str, action: Action) -> bool:
    """Whether the object of an action is there, or gone."""
    kind, name = action.object.split(" ", 1)
    if kind == "column":
        assert action.action == "added"
        migrated = run(conn, "SELECT migrated FROM hotmesh_dba.app WHERE schema = %s", schema)
        return migrated == [(True,)] and name.endswith(".pruned_at")
    if kind == "index":
        assert action.action == "created"
        definition = str(one(conn, "SELECT pg_get_indexdef(%s::regclass)", name))
        return definition.endswith(
            (
                "(pruned_at) WHERE (pruned_at IS NULL)",
                "(id) WHERE ((status = 0) AND is_live AND (pruned_at IS NULL))",
            )
        )
    assert kind == "function"
    exists = one(conn, "SELECT to_regprocedure(%s) IS NOT NULL", name)
    return bool(exists) is {"dropped": False, "created": True, "replaced": True}[action.action]


def test_jobs_that_are_not_partitioned(conn: Connection, app: NewApp) -> None:
    schema = app("flat", "0.11")
    run(conn, "DROP TABLE flat.jobs_attributes, flat.jobs")
    run(
        conn,
        "CREATE TABLE flat.jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text,"
        " entity text, status int, expired_at timestamptz, is_live boolean);"
        "CREATE TABLE flat.jobs_attributes (job_id uuid REFERENCES flat.jobs ON DELETE CASCADE,"
        " symbol text, value text, type flat.type_enum, PRIMARY KEY (job_id, symbol));"
        "INSERT INTO flat.jobs (key, status, is_live) VALUES ('k', 0, true);"
        "INSERT INTO flat.jobs_attributes SELECT id, 'abc', 'v', 'adata' FROM flat.jobs",
    )
    assert [action.action for action in deploy(conn, schema)] == [
        "added",
        "created",
        "created",
        "dropped",
        "created",
    ]
    assert state(conn, schema) == ("ours", True, True)
    assert run(conn, CALLS["strip only"].format(schema)) == [(0, 0, 0, 0, 1, 0, 1, 0)]
    assert deploy(conn, schema) == []
