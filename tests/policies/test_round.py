"""run_due: nothing that one policy's run meets ends the round, or keeps the others waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import background, deploy, one, refused, run, sqlstate, wait_until
from tests.policies.calls import ALL, running, set_policy, setting
from tests.policies.conftest import Owners
from tests.policies.test_run_due import DUE, SIGNALS
from tests.runs.work import Work, add_work, last, runs, said
from tests.support.server import Connection

SLOW = f"{ALL}, every => '1 hour', batch_size => 5, batch_pause => '0.3 s'"


@pytest.fixture
def work(conn: Connection, app: NewApp) -> Work:
    """Two deployed apps, each with the same to do."""
    for name in ("first", "second"):
        deploy(conn, app(name))
        work = add_work(conn, name)
    return work


def remove_its_record(conn: Connection) -> None:
    run(conn, "DELETE FROM hotmesh_dba.run WHERE app = 'first'")


def end_its_record(conn: Connection) -> None:
    run(conn, "UPDATE hotmesh_dba.run SET state = 'interrupted' WHERE app = 'first'")


@pytest.mark.parametrize("meddle", [remove_its_record, end_its_record])
def test_a_run_that_somebody_else_ended(
    conn: Connection, connect: Connect, work: Work, meddle: Callable[[Connection], None]
) -> None:
    set_policy(conn, SLOW, app="first")
    set_policy(conn, SIGNALS, app="second")
    caller = connect()
    with background(caller, DUE) as task:
        try:
            wait_until("a batch", lambda: bool(runs(conn)) and last(conn).batches > 0)
            meddle(conn)
            error = said(task.exception(20))
        except BaseException:
            caller.cancel()
            raise
    assert (error.sqlstate, error.message) == ("55000", "1 of 2 policies failed")
    assert 'Policy "nightly" of app "first"' in error.detail
    assert (last(conn).app, last(conn).outcome) == ("second", ("completed", None))
    assert last(conn).rows == work.signals


def test_a_trigger_that_says_it_was_cancelled(conn: Connection, work: Work) -> None:
    set_policy(conn, SIGNALS, app="first")
    set_policy(conn, SIGNALS, app="second")
    run(
        conn,
        "CREATE FUNCTION first.no() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE query_canceled; END $$;"
        "CREATE TRIGGER no BEFORE DELETE ON first.signal_registry"
        " FOR EACH ROW EXECUTE FUNCTION first.no()",
    )
    refusal = refused(conn, "57014", DUE)
    assert refusal.message == "1 of 2 policies failed"
    assert [(run.app, run.outcome) for run in runs(conn)] == [
        ("first", ("failed", "error")),
        ("second", ("completed", None)),
    ]
    assert runs(conn)[1].rows == work.signals


def test_a_policy_whose_row_is_locked_is_not_waited_for(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """Its app was renamed, so its row would be written; that is left to the next call."""
    for name in ("first", "second"):
        set_policy(conn, SIGNALS, app=name)
    run(conn, "ALTER SCHEMA first RENAME TO renamed")
    holder = connect(autocommit=False)
    run(holder, "SELECT FROM hotmesh_dba.policy WHERE app = 'first' FOR UPDATE")
    run(conn, "SET statement_timeout = '20 s'")
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    assert sorted(run.app for run in runs(conn)) == ["renamed", "second"]
    assert one(conn, "SELECT min(app) FROM hotmesh_dba.policy") == "first"
    holder.rollback()
    assert work.signals


def test_whoever_bypasses_row_level_security_is_no_owner(
    conn: Connection, connect: Connect, owners: Owners, role: NewRole
) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    seer = connect(role("seer", "LOGIN BYPASSRLS"))
    assert one(seer, "SELECT count(*) FROM hotmesh_dba.policy") == 1
    assert run(seer, DUE) == [(0, 0, 0, 0, 0)]
    refused(seer, "42501", "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert runs(conn) == []


def test_a_budget_shorter_than_the_look_is_time_for_a_batch(conn: Connection, work: Work) -> None:
    """Else a policy would look, stop, and never delete anything."""
    set_policy(conn, f"{SIGNALS}, max_runtime => '1 ms', batch_size => 5", app="first")
    run(conn, running(app="first"))
    assert last(conn).rows > 0
    run(conn, "CALL hotmesh_dba.prune_batched('second', max_runtime => '0')")
    assert last(conn).rows == 0
    assert work.signals


def test_an_interval_of_two_signs(conn: Connection, work: Work) -> None:
    """A day to every comparison, and no time at all to an addition."""
    every = "every => make_interval(years => 1000000, days => 1 - 360000000)"
    statement = setting(f"prune_signals => true, {every}", app="first")
    assert "'1 day'" in refused(conn, "22023", statement).hint
    set_policy(conn, SIGNALS, app="first")
    forged = f"UPDATE hotmesh_dba.policy SET {every.replace('=>', '=', 1)}"
    assert sqlstate(conn, forged) == "23514"
    assert work.signals


def test_a_trigger_that_is_deferred_behind_our_back(conn: Connection, work: Work) -> None:
    """Its error belongs to its batch; at the COMMIT it would end the round, and leave no record."""
    for name in ("first", "second"):
        set_policy(conn, SIGNALS, app=name)
    run(
        conn,
        "CREATE FUNCTION first.defer() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN old; END $$;"
        "CREATE FUNCTION first.late() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'late'; END $$;"
        "CREATE TRIGGER a BEFORE DELETE ON first.signal_registry"
        " FOR EACH ROW EXECUTE FUNCTION first.defer();"
        "CREATE CONSTRAINT TRIGGER z AFTER DELETE ON first.signal_registry"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION first.late()",
    )
    refusal = refused(conn, "P0001", DUE)
    assert refusal.message == "1 of 2 policies failed"
    assert [(run.app, run.state) for run in runs(conn)] == [
        ("first", "failed"),
        ("second", "completed"),
    ]
    assert work.signals


def test_a_trigger_that_sets_another_role(
    conn: Connection, connect: Connect, owners: Owners, role: NewRole
) -> None:
    night = role("night")
    run(conn, f"GRANT {owners.me}, {owners.you} TO {night}")
    for owner, name in ((owners.mine, "mine"), (owners.yours, "yours")):
        add_work(conn, name)
        set_policy(owner, SIGNALS, app=name)
    run(
        owners.mine,
        "CREATE FUNCTION mine.be_me() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN SET ROLE {owners.me}; RETURN old; END $$;"
        "CREATE TRIGGER a BEFORE DELETE ON mine.signal_registry"
        " FOR EACH ROW EXECUTE FUNCTION mine.be_me()",
    )
    assert run(connect(night), DUE) == [(2, 0, 0, 0, 0)]
    assert [run.state for run in runs(conn)] == ["completed"] * 2
