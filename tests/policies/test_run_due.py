"""run_due: every policy whose time has come, each for itself."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import background, deploy, one, refused, run, wait_until, warnings_of
from tests.policies.calls import ALL, policies, set_policy
from tests.policies.conftest import Owners
from tests.runs.work import Work, add_work, last, rows, runs, said
from tests.support.server import Connection

DUE = "CALL hotmesh_dba.run_due()"
DUE_OF_ALL = "CALL hotmesh_dba.run_due(trust_owners => true)"
HOURLY = f"{ALL}, every => '1 hour'"
SIGNALS = "prune_signals => true, max_percent => 100, every => '1 hour'"


@pytest.fixture
def work(conn: Connection, app: NewApp) -> Work:
    """Three deployed apps, each with the same to do."""
    for name in ("first", "second", "third"):
        deploy(conn, app(name))
        work = add_work(conn, name)
    return work


def ran(conn: Connection) -> list[tuple[str, str | None, str]]:
    """App, policy and state of every run, in order."""
    return [(run.app, run.policy, run.state) for run in runs(conn)]


def age(conn: Connection, by: str) -> None:
    """All that was, was longer ago."""
    run(
        conn,
        f"UPDATE hotmesh_dba.run SET started_at = started_at - interval '{by}';"
        f"UPDATE hotmesh_dba.policy SET created_at = created_at - interval '{by}'",
    )


def test_it_runs_what_is_due(conn: Connection, work: Work) -> None:
    set_policy(conn, HOURLY, app="first")
    set_policy(conn, f"{HOURLY}, enabled => false", app="second")
    set_policy(conn, ALL, app="third")  # it has no `every`
    set_policy(conn, SIGNALS, "signals", app="third")
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    assert ran(conn) == [("first", "nightly", "completed"), ("third", "signals", "completed")]
    assert [run.rows for run in runs(conn)] == [work.rows, work.signals]
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    age(conn, "50 minutes")
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    age(conn, "10 minutes")
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    assert len(runs(conn)) == 4


def test_a_call_by_hand_counts_too(conn: Connection, work: Work) -> None:
    set_policy(conn, HOURLY, app="first")
    run(conn, "CALL hotmesh_dba.run_policy('first', 'nightly')")
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    run(conn, "CALL hotmesh_dba.prune_batched('first')")  # not the policy's
    age(conn, "1 hour")
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    assert work.rows == runs(conn)[0].rows


def test_the_one_that_waits_longest_is_first(conn: Connection, work: Work) -> None:
    for name in ("first", "second", "third"):
        set_policy(conn, SIGNALS, app=name)
    for name in ("third", "first"):
        run(conn, f"CALL hotmesh_dba.run_policy('{name}', 'nightly')")
    age(conn, "2 hours")
    assert run(conn, DUE) == [(3, 0, 0, 0, 0)]
    assert [run.app for run in runs(conn)][2:] == ["second", "third", "first"]
    assert work.rows


def test_each_sees_to_its_own(conn: Connection, owners: Owners) -> None:
    for owner, name in ((owners.mine, "mine"), (owners.yours, "yours")):
        add_work(conn, name)
        set_policy(owner, HOURLY, app=name)
    before = rows(conn, "yours")
    assert run(owners.mine, DUE) == [(1, 0, 0, 0, 0)]
    assert rows(conn, "yours") == before
    assert ran(conn) == [("mine", "nightly", "completed")]
    assert run(conn, DUE_OF_ALL) == [(1, 0, 0, 0, 0)]
    assert last(conn).app == "yours"


# --- one that fails --------------------------------------------------------------------------


def test_one_that_fails_does_not_stop_the_rest(conn: Connection, owners: Owners) -> None:
    """Its rights are gone, so not even its run can begin."""
    for owner, name in ((owners.mine, "mine"), (owners.yours, "yours")):
        add_work(conn, name)
        set_policy(owner, HOURLY, app=name)
    set_policy(owners.mine, SIGNALS, "signals", app="mine")
    run(conn, f"REVOKE DELETE ON mine.jobs FROM {owners.me}")
    caught = warnings_of(owners.mine)
    refusal = refused(owners.mine, "42501", DUE)
    assert refusal.message == "2 of 2 policies failed"
    assert 'Policy "nightly" of app "mine": permission denied' in refusal.detail
    assert len(caught) == 2
    assert "GRANT DELETE" in caught[0].hint
    assert [run.state for run in runs(owners.mine)] == ["failed"] * 2
    failed = last(owners.mine)
    assert (failed.error_sqlstate, failed.rows, failed.group_id) == ("42501", 0, failed.id)
    # `every` is kept to, whatever came of it.
    assert run(owners.mine, DUE) == [(0, 0, 0, 0, 0)]
    assert run(conn, DUE_OF_ALL) == [(1, 0, 0, 0, 0)]
    age(conn, "1 hour")
    run(conn, f"GRANT DELETE ON mine.jobs TO {owners.me}")
    assert run(owners.mine, DUE) == [(2, 0, 0, 0, 0)]


def test_one_whose_failure_cannot_even_be_recorded(conn: Connection, work: Work) -> None:
    for name in ("first", "second"):
        set_policy(conn, SIGNALS, app=name)
    run(
        conn,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RAISE ''no more of it''; END';"
        "CREATE TRIGGER refuse BEFORE INSERT ON hotmesh_dba.run FOR EACH ROW"
        " WHEN (NEW.app = 'first') EXECUTE FUNCTION public.refuse()",
    )
    caught = warnings_of(conn)
    refusal = refused(conn, "P0001", DUE)
    assert refusal.message == "1 of 2 policies failed"
    [unrecorded] = [said for said in caught if "could not be recorded" in said.message]
    assert unrecorded.message.startswith('the failure of policy "nightly" of app "first"')
    assert (unrecorded.sqlstate, unrecorded.detail) == ("P0001", "no more of it")
    assert "disable it" in unrecorded.hint
    assert ran(conn) == [("second", "nightly", "completed")]
    assert last(conn).rows == work.signals


def test_failures_between_others(conn: Connection, work: Work) -> None:
    """By the fuse, in a batch, and by what the policy says."""
    set_policy(conn, HOURLY, "a", app="first")
    set_policy(conn, "prune_signals => true, every => '1 hour'", "fuse", app="second")
    set_policy(
        conn,
        "'7 days', prune_jobs => true, max_percent => 100, every => '1 hour'",
        "held",
        app="third",
    )
    set_policy(conn, SIGNALS, "wrong", app="third")
    set_policy(conn, SIGNALS, "z", app="third")
    run(conn, "UPDATE hotmesh_dba.policy SET batch_size = -1 WHERE name = 'wrong'")
    run(
        conn,
        "CREATE SCHEMA shop; CREATE TABLE shop.bill (job uuid REFERENCES third.jobs);"
        "INSERT INTO shop.bill SELECT id FROM third.jobs WHERE key LIKE 'old-%' LIMIT 1",
    )
    refusal = refused(conn, "55000", DUE)
    assert refusal.message == "3 of 5 policies failed"
    for name in ("fuse", "held", "wrong"):
        assert f'Policy "{name}"' in refusal.detail
    assert [(run.policy, run.state, run.error_sqlstate) for run in runs(conn)] == [
        ("a", "completed", None),
        ("fuse", "failed", "55000"),
        ("held", "failed", "09000"),
        ("wrong", "failed", "22023"),
        ("z", "completed", None),
    ]
    assert runs(conn)[2].rows == work.jobs + work.transient - 1 + 3
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]


@pytest.mark.parametrize("by_owner", [True, False])
def test_one_whose_app_is_gone(conn: Connection, owners: Owners, *, by_owner: bool) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    set_policy(owners.yours, SIGNALS, app="yours")
    run(conn, "DROP SCHEMA mine CASCADE")
    caller = owners.mine if by_owner else conn
    refusal = refused(caller, "55000", DUE_OF_ALL)
    assert '"mine"' in refusal.detail
    assert ran(caller)[0] == ("mine", "nightly", "failed")
    assert len(runs(caller)) == (1 if by_owner else 2)
    assert run(caller, DUE) == [(0, 0, 0, 0, 0)]
    assert runs(owners.yours, "app = 'mine'") == []
    run(owners.mine, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert [policy["app"] for policy in policies(conn)] == ["yours"]


def test_a_renamed_app_is_followed(conn: Connection, owners: Owners) -> None:
    work = add_work(conn, "mine")
    set_policy(owners.mine, SIGNALS, app="mine")
    run(conn, "ALTER SCHEMA mine RENAME TO other")
    assert run(owners.mine, DUE) == [(1, 0, 0, 0, 0)]
    assert (last(conn).app, last(conn).rows) == ("other", work.signals)


# --- others, and time --------------------------------------------------------------------------


def test_one_held_by_another_run_is_skipped(conn: Connection, connect: Connect, work: Work) -> None:
    for name in ("first", "second"):
        set_policy(conn, SIGNALS, app=name)
    other, caught = connect(), warnings_of(conn)
    held = "CALL hotmesh_dba.prune_batched('first', batch_size => 1, batch_pause => '1 hour')"
    with background(other, held) as task:
        try:
            wait_until("a batch", lambda: bool(runs(conn)) and last(conn).batches > 0)
            assert run(conn, DUE) == [(1, 0, 1, 0, 0)]
        finally:
            other.cancel()
        assert said(task.exception()).sqlstate == "57014"
    [warning] = caught
    assert warning.message == (
        'policy "nightly" of app "first" is left for the next call: another run prunes app "first"'
    )
    assert (warning.sqlstate, bool(warning.detail)) == ("55P03", True)
    assert "hotmesh_dba.progress" in warning.hint
    assert last(conn).app == "second"
    # Its turn has not passed.
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    assert (last(conn).app, last(conn).policy) == ("first", "nightly")
    assert work.signals


def test_two_rounds_at_once_run_each_once(conn: Connection, connect: Connect, work: Work) -> None:
    for name in ("first", "second", "third"):
        set_policy(conn, f"{HOURLY}, batch_size => 5", app=name)
    with background(connect(), DUE) as one_round, background(connect(), DUE) as other:
        done = [task.result()[0] for task in (one_round, other)]
    assert sum(row[0] for row in done) == 3
    assert sorted(run.app for run in runs(conn)) == ["first", "second", "third"]
    assert all(run.rows == work.rows for run in runs(conn))


def test_each_gets_a_fair_share_of_the_time(conn: Connection, work: Work) -> None:
    """The first two could go on for hours."""
    slow = "prune_signals => true, max_percent => 100, batch_size => 1, batch_pause => '0.3 s'"
    for name in ("first", "second"):
        set_policy(conn, f"{slow}, every => '1 hour'", app=name)
    set_policy(conn, SIGNALS, app="third")
    caught = warnings_of(conn)
    assert run(conn, "CALL hotmesh_dba.run_due('3 s')") == [(3, 0, 0, 0, 0)]
    done = runs(conn)
    assert [run.outcome for run in done] == [
        ("stopped", "max_runtime"),
        ("stopped", "max_runtime"),
        ("completed", None),
    ]
    assert len(caught) == 2
    for stopped in done[:2]:
        assert stopped.finished_at is not None
        took = stopped.finished_at - stopped.started_at
        assert timedelta(seconds=0.5) < took < timedelta(seconds=2.5)
        assert 0 < stopped.rows < work.signals


def test_the_policys_own_max_runtime_counts_from_its_turn(conn: Connection, work: Work) -> None:
    slow = "prune_signals => true, max_percent => 100, batch_size => 1, batch_pause => '0.2 s'"
    for name in ("first", "second"):
        set_policy(conn, f"{slow}, max_runtime => '1 s', every => '1 hour'", app=name)
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    assert all(run.outcome == ("stopped", "max_runtime") for run in runs(conn))
    assert all(0 < run.rows < work.signals for run in runs(conn))


def test_what_comes_too_late_is_left(conn: Connection, work: Work) -> None:
    for name in ("first", "second"):
        set_policy(conn, SIGNALS, app=name)
    caught = warnings_of(conn)
    assert run(conn, "CALL hotmesh_dba.run_due('0')") == [(0, 0, 0, 2, 0)]
    [warning] = caught
    assert warning.message == "2 policies are left for the next call: max_runtime"
    assert "max_runtime => " in warning.hint
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    assert work.rows


def test_a_cancel_ends_the_round(conn: Connection, connect: Connect, work: Work) -> None:
    set_policy(conn, f"{HOURLY}, batch_size => 1, batch_pause => '1 hour'", app="first")
    set_policy(conn, HOURLY, app="second")
    caller = connect()
    with background(caller, DUE) as task:
        try:
            wait_until("a batch", lambda: bool(runs(conn)) and last(conn).batches > 0)
        finally:
            caller.cancel()
        assert said(task.exception()).sqlstate == "57014"
    assert [run.outcome for run in runs(conn)] == [("failed", "cancelled")]
    assert work.rows


def test_a_seldom_one_is_not_forgotten_for_many_others(conn: Connection, work: Work) -> None:
    """The record keeps a thousand runs an app, and of each policy the last."""
    set_policy(conn, "strip_attributes => true, every => '30 days'", "monthly", app="first")
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    run(
        conn,
        "INSERT INTO hotmesh_dba.run (group_id, app, worker, workers, options, jobs_before,"
        " engine_before, worker_before, signals_until, triggers_disabled, state)"
        " SELECT 0, 'first', 1, 1, '{}', now(), now(), now(), now(), false, 'completed'"
        " FROM generate_series(1, 1200)",
    )
    run(conn, "CALL hotmesh_dba.prune_batched('first')")
    assert len(runs(conn)) < 1010
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    age(conn, "200 days")
    run(conn, "UPDATE hotmesh_dba.policy SET every = '1 year'")
    run(conn, "CALL hotmesh_dba.prune_batched('first')")
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    assert len(runs(conn)) == 2
    assert work.rows


def test_bad_input(conn: Connection, work: Work) -> None:
    assert work.rows
    refused(conn, "22023", "CALL hotmesh_dba.run_due('-1 s')")
    with conn.transaction(), pytest.raises(psycopg.errors.InvalidTransactionTermination):
        run(conn, DUE)
    run(conn, "SET default_transaction_read_only = on")
    refused(conn, "25006", DUE)
    run(conn, "SET default_transaction_read_only = off")
    assert one(conn, "SELECT count(*) FROM hotmesh_dba.run") == 0


def test_a_record_of_the_future_keeps_none_waiting(conn: Connection, work: Work) -> None:
    set_policy(conn, SIGNALS, app="first")
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    for moment in ("infinity", "294000-01-01"):
        run(conn, f"UPDATE hotmesh_dba.run SET started_at = '{moment}'")
        assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    assert work.rows


@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
def test_whatever_isolation_is_the_default(conn: Connection, work: Work, default: str) -> None:
    set_policy(conn, f"{HOURLY}, batch_size => 20", app="first")
    set_policy(conn, SIGNALS, app="second")
    run(conn, f"SET default_transaction_isolation = '{default}'")
    assert run(conn, DUE) == [(2, 0, 0, 0, 0)]
    run(conn, "CALL hotmesh_dba.run_policy('first', 'nightly')")
    assert [run.rows for run in runs(conn)] == [work.rows, work.signals, 0]
    assert one(conn, "SHOW default_transaction_isolation") == default


def test_a_tick_that_comes_a_moment_early(conn: Connection, work: Work) -> None:
    """A run begins after its tick, so the next day's comes before a day has passed."""
    set_policy(conn, f"{ALL}, every => '1 day'", app="first")
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    age(conn, "23 hours 40 minutes")
    assert run(conn, DUE) == [(0, 0, 0, 0, 0)]
    age(conn, "19 minutes 50 seconds")
    assert run(conn, DUE) == [(1, 0, 0, 0, 0)]
    assert work.rows
