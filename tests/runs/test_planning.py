"""A run is there, for all to see, before it looks at how much there is to do."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.conftest import Connect, NewRole
from tests.deploy.observe import PATIENCE, pid, refused, run, wait_blocked
from tests.runs.test_record import PRUNER
from tests.runs.work import (
    Work,
    assert_true_to,
    call,
    due,
    last,
    locks,
    patient,
    prune,
    rows,
    running,
    runs,
    said,
)
from tests.support.server import Connection

# A look at it waits; the role's rights are asked of the catalogue.
HOLD = "BEGIN; LOCK TABLE myapp.jobs IN ACCESS EXCLUSIVE MODE"


def test_workers_plan_side_by_side(conn: Connection, connect: Connect, work: Work) -> None:
    """None waits for another one's look at the tables, however long that takes."""
    before = rows(conn)
    holder = connect()
    callers = [patient(connect()) for _ in range(6)]
    run(holder, HOLD)
    with ExitStack() as stack:
        tasks = []
        for number, caller in enumerate(callers, 1):
            knobs = (f"worker => {number}", f"workers => {len(callers)}")
            tasks.append(stack.enter_context(running(caller, *knobs)))
        for caller in callers:
            wait_blocked(conn, pid(caller), pid(holder))
        alive = runs(conn)
        assert [run.state for run in alive] == ["running"] * len(callers)
        assert len({run.group_id for run in alive}) == 1
        assert {run.expected for run in alive} == {0}
        run(holder, "ROLLBACK")
        for task in tasks:
            assert task.exception(PATIENCE) is None
    assert {run.outcome for run in runs(conn)} == {("completed", None)}
    assert sum(run.expected for run in runs(conn)) == work.rows
    assert sum(run.rows for run in runs(conn)) == work.rows
    assert_true_to(before, conn)


def test_cancelled_in_its_plan(conn: Connection, connect: Connect, work: Work) -> None:
    """Its row says so, and that nobody knows how much is left."""
    holder, caller = connect(), patient(connect())
    run(holder, HOLD)
    with running(caller) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        refusal = refused(connect(), "55P03", call())
        assert f"process {pid(caller)}" in refusal.detail
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        error = said(task.exception(PATIENCE))
    assert error.sqlstate == "57014"
    cancelled = last(conn)
    assert f"Run {cancelled.id}" in error.detail
    assert cancelled.outcome == ("failed", "cancelled")
    assert (cancelled.rows, cancelled.expected, cancelled.remaining) == (0, 0, None)
    assert locks(conn, pid(caller)) == []
    run(holder, "ROLLBACK")
    assert prune(conn).rows == work.rows


@pytest.mark.parametrize("moment", ["max_runtime => '0'", "max_rows => 1"])
def test_a_budget_leaves_it_its_plan(conn: Connection, work: Work, moment: str) -> None:
    stopped = prune(conn, moment)
    assert stopped.state == "stopped"
    assert stopped.expected == work.rows
    assert stopped.remaining == due(conn)


def test_a_look_that_fails(conn: Connection, connect: Connect, work: Work, role: NewRole) -> None:
    """By a policy of the user's that raises an error: it keeps no other step from its work."""
    name = role("pruner")
    run(conn, PRUNER.format(app="myapp", role=name))
    run(
        conn,
        "ALTER TABLE myapp.signal_registry ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY broken ON myapp.signal_registry USING (1 / (length(key) - 36) > 0)",
    )
    caller = connect(name)
    refusal = refused(caller, "22012", call())
    failed = last(conn)
    assert f"Run {failed.id}" in refusal.detail
    assert failed.outcome == ("failed", "error")
    assert failed.error_sqlstate == "22012"
    assert (failed.rows, failed.remaining) == (work.rows - work.signals, 1)
    assert locks(conn, pid(caller)) == []
    run(conn, "DROP POLICY broken ON myapp.signal_registry")
    run(conn, "ALTER TABLE myapp.signal_registry DISABLE ROW LEVEL SECURITY")
    assert prune(caller).rows == work.signals


def test_a_plan_that_fails(conn: Connection, work: Work) -> None:
    """Its row is not left to say that it runs."""
    run(
        conn,
        "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE disk_full USING DETAIL = 'the detail', HINT = 'the hint'; END $$;"
        "CREATE TRIGGER full_disk BEFORE UPDATE ON hotmesh_dba.run FOR EACH ROW"
        " WHEN (NEW.expected <> OLD.expected) EXECUTE FUNCTION public.full_disk()",
    )
    refused(conn, "53100", call())
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert (failed.error_sqlstate, failed.rows) == ("53100", 0)
    assert run(conn, "SELECT FROM hotmesh_dba.progress") == []
    run(conn, "DROP TRIGGER full_disk ON hotmesh_dba.run")
    assert prune(conn).rows == work.rows
