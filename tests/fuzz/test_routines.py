"""Every public routine with hostile arguments."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.deploy.observe import run
from tests.security.test_definitions import PUBLIC_ROUTINES
from tests.support.server import Connection

from .conftest import FUZZ
from .permitted import UNREADABLE, permitted
from .routines import Call, calls, find_routines
from .world import SESSION, World

NAMES = sorted([*(f"hotmesh_dba.{name}" for name in PUBLIC_ROUTINES), "myapp.prune"])
PERMITTED = permitted()


def test_the_catalogue_has_these(world: World) -> None:
    assert sorted(str(routine) for routine in find_routines(world.admin)) == NAMES
    assert len(PERMITTED) > 20


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_or_does_as_it_says(name: str, world: World, caller: Connection) -> None:
    (routine,) = [found for found in find_routines(world.admin) if str(found) == name]

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

    check()


def check_in_transaction(call: Call, world: World, caller: Connection) -> None:
    """A function: PostgreSQL itself takes back what it did before an error."""
    kept = world.kept(world.admin)
    with caller.transaction(force_rollback=True):
        error = called(call, caller)
        if error is None:
            assert world.kept(caller) == kept
        else:
            check_error(error)


def check_committing(call: Call, world: World, caller: Connection) -> None:
    """A procedure commits as it goes: what it refuses, it must refuse before."""
    world.renew()
    before, kept = world.everything(), world.kept(world.admin)
    error = called(call, caller)
    after = world.everything()
    world.changed = after != before
    assert world.kept(world.admin) == kept
    if error is not None:
        check_error(error)
        # Cancelled, it leaves what it had committed, and its record.
        assert after == before or error.sqlstate == "57014"


def called(call: Call, caller: Connection) -> psycopg.Error | None:
    """The error that it ends with."""
    try:
        if call.routine.commits:
            run(caller, call.statement, *call.values)
        else:
            with caller.transaction():
                run(caller, call.statement, *call.values)
    except psycopg.Error as error:
        return error
    return None


def check_error(error: psycopg.Error) -> None:
    """It is in the table, and says what to do."""
    state = error.sqlstate
    assert state in PERMITTED, error
    if state not in UNREADABLE | {"57014"}:
        assert error.diag.message_detail, error
        assert error.diag.message_hint, error


@FUZZ
@given(value=st.sampled_from(["myapp\x00", "\x00"]))
def test_a_nul_never_reaches_the_server(caller: Connection, value: str) -> None:
    with pytest.raises(psycopg.DataError):
        run(caller, "SELECT hotmesh_dba.app_schema(%s)", value)
