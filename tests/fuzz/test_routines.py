"""Every public routine with hostile arguments."""

from __future__ import annotations

from contextlib import nullcontext

import psycopg
import pytest
from hypothesis import example, given, note
from hypothesis import strategies as st

from tests.deploy.observe import run
from tests.security.test_definitions import PUBLIC_ROUTINES
from tests.support.server import Connection

from .conftest import EVER, FUZZ, SHORTLY
from .permitted import UNREADABLE, permitted
from .routines import Call, Routine, calls, calls_always, find_routines, usual_call
from .world import SESSION, World

NAMES = sorted([*(f"hotmesh_dba.{name}" for name in PUBLIC_ROUTINES), "myapp.prune"])
PERMITTED = permitted()


def test_the_catalogue_has_these(world: World) -> None:
    assert sorted(str(routine) for routine in find_routines(world.admin)) == NAMES
    assert len(PERMITTED) > 20


def find(name: str, world: World) -> Routine:
    """One of them."""
    (routine,) = [found for found in find_routines(world.admin) if str(found) == name]
    return routine


@pytest.mark.parametrize("name", NAMES)
def test_the_usual_call_gets_through(name: str, world: World, caller: Connection) -> None:
    """So what is made hostile of it is looked at where it is used."""
    world.renew()
    call = usual_call(find(name, world))
    world.changed = call.routine.commits
    whole = nullcontext() if call.routine.commits else caller.transaction(force_rollback=True)
    with whole:
        assert called(call, caller) is None


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_or_does_as_it_says(name: str, world: World, caller: Connection) -> None:
    routine = find(name, world)

    @FUZZ
    @given(call=calls(routine))
    def check(call: Call) -> None:
        note(repr(call))
        session = run(caller, SESSION)
        if call.routine.commits:
            check_committing(call, world, caller)
        else:
            check_in_transaction(call, world, caller)
        assert run(caller, SESSION) == session

    for call in calls_always(routine):
        check = example(call=call)(check)
    check()


def check_in_transaction(call: Call, world: World, caller: Connection) -> None:
    """A function: PostgreSQL itself takes back what it did before an error."""
    world.renew()
    kept, neighbours = world.kept(world.admin), world.neighbours(world.admin)
    with caller.transaction(force_rollback=True):
        error = called(call, caller)
        if error is None:
            assert world.kept(caller) == kept
            assert world.neighbours(caller) == neighbours
        else:
            check_error(error, call)


def check_committing(call: Call, world: World, caller: Connection) -> None:
    """A procedure commits as it goes: what it refuses, it must refuse before."""
    world.renew()
    before, kept = world.everything(), world.kept(world.admin)
    neighbours = world.neighbours(world.admin)
    error = called(call, caller)
    after = world.everything()
    world.changed = after != before
    assert world.kept(world.admin) == kept
    if call.routine.name != "run_due":  # of all apps
        assert world.neighbours(world.admin) == neighbours
    if error is not None:
        check_error(error, call)
        # Cancelled, it leaves what it had committed, and its record.
        assert after == before or error.sqlstate == "57014"


def called(call: Call, caller: Connection) -> psycopg.Error | None:
    """The error that it ends with."""
    limit = SHORTLY if call.may_wait else EVER
    run(caller, "SELECT set_config('statement_timeout', %s, false)", limit)
    try:
        if call.routine.commits:
            run(caller, call.statement, *call.values)
        else:
            with caller.transaction():
                run(caller, call.statement, *call.values)
    except psycopg.Error as error:
        return error
    return None


def check_error(error: psycopg.Error, call: Call) -> None:
    """It is in the table, and says what to do; only what was asked to wait is cut short."""
    state = error.sqlstate
    assert state != "57014" or call.may_wait, error
    assert state in PERMITTED, error
    if state not in UNREADABLE | {"57014"}:
        assert error.diag.message_detail, error
        assert error.diag.message_hint, error


@FUZZ
@given(value=st.sampled_from(["myapp\x00", "\x00"]))
def test_a_nul_never_reaches_the_server(caller: Connection, value: str) -> None:
    with pytest.raises(psycopg.DataError):
        run(caller, "SELECT hotmesh_dba.app_schema(%s)", value)
