"""Where taking over would break somebody, deploy says whom and changes nothing."""

from __future__ import annotations

import pytest

from tests.conftest import NewApp
from tests.deploy.observe import catalogue, contents, deploy, refused, run, state
from tests.support.layout import sdk_replace
from tests.support.sample import load_sample
from tests.support.server import Connection

DEPLOY = "SELECT * FROM hotmesh_dba.deploy('myapp')"

DEPENDENTS = {
    "report": (
        "CREATE VIEW public.report AS SELECT * FROM myapp.prune('1 day', false, false, false)"
    ),
    "nightly": (
        "CREATE FUNCTION public.nightly() RETURNS bigint LANGUAGE sql BEGIN ATOMIC"
        " SELECT deleted_jobs FROM myapp.prune('1 day', true, false, false); END"
    ),
}


@pytest.mark.parametrize("layout", ["0.10.0", "0.10.2", "0.13"])
@pytest.mark.parametrize("name", sorted(DEPENDENTS))
def test_something_that_depends_on_an_old_overload_is_named(
    conn: Connection, app: NewApp, layout: str, name: str
) -> None:
    schema = app("myapp", layout)
    load_sample(conn, schema, jobs=10, attributes=3)
    run(conn, DEPENDENTS[name])
    objects, rows = catalogue(conn, schema), contents(conn, schema)

    refusal = refused(conn, "2BP01", DEPLOY)

    assert name in refusal.detail
    assert "myapp.prune(" in refusal.message
    assert catalogue(conn, schema) == objects
    assert contents(conn, schema) == rows
    run(conn, "DROP VIEW IF EXISTS public.report; DROP FUNCTION IF EXISTS public.nightly")
    assert deploy(conn, schema)


def test_what_depends_on_a_replaced_function_goes_on_working(conn: Connection, app: NewApp) -> None:
    schema = app("myapp", "current")
    sdk_replace(conn, schema)
    for statement in DEPENDENTS.values():
        run(conn, statement)
    deploy(conn, schema)
    assert state(conn, schema) == ("ours", True, True)
    assert run(conn, "SELECT * FROM public.report") == [(0,) * 8]
    refused(conn, "2BP01", "SELECT * FROM hotmesh_dba.undeploy('myapp')")


MAKE = "CREATE FUNCTION myapp.prune({}) RETURNS text LANGUAGE sql AS 'SELECT 1'"

# Functions of nobody knows whom, each of which makes a documented call ambiguous or answers it.
UNKNOWN = {
    "another name of an argument": (
        "interval, prune_jobs boolean = true, p3 boolean = true, p4 boolean = true"
    ),
    "five arguments": "retention interval, a boolean, b boolean, c boolean, d text[] = NULL",
    "text for the window": "text, boolean, boolean, boolean",
    "one argument, which '7 days' could be meant for": "uuid",
    "one more argument": (
        "interval, boolean, boolean, boolean, text[] = NULL, boolean = false, boolean = false,"
        " boolean = NULL, boolean = NULL, interval = NULL, interval = NULL, boolean = true,"
        " dry_run boolean = true"
    ),
}


def test_an_unknown_overload_is_nobodys_to_drop(conn: Connection, app: NewApp) -> None:
    schema = app("myapp", "0.11")
    load_sample(conn, schema, jobs=10, attributes=3)
    for arguments in UNKNOWN.values():
        with conn.transaction(force_rollback=True):
            run(conn, MAKE.format(arguments))
            objects, rows = catalogue(conn, schema), contents(conn, schema)
            refusal = refused(conn, "42725", DEPLOY)
            assert catalogue(conn, schema) == objects
            assert contents(conn, schema) == rows
            assert state(conn, schema) == ("ambiguous", False, False)
            # The hint is the way out.
            run(conn, refusal.hint)
            deploy(conn, schema)
            assert state(conn, schema) == ("ours", True, True)


def test_an_overload_added_later_is_seen(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("myapp"))
    for arguments in UNKNOWN.values():
        with conn.transaction(force_rollback=True):
            run(conn, MAKE.format(arguments))
            assert state(conn, "myapp") == ("ambiguous", True, True)
            refused(conn, "42725", DEPLOY)


def test_an_index_of_our_name_that_is_another_index(conn: Connection, app: NewApp) -> None:
    schema = app("myapp", "0.11")
    run(conn, "CREATE INDEX idx_jobs_pruned_at ON myapp.jobs (key)")
    deploy(conn, schema)
    assert state(conn, schema) == ("ours", True, True)
    assert deploy(conn, schema) == []
