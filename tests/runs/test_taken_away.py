"""An app, a table or a leaf that goes away under a run, or gets another name."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewRole
from tests.deploy.observe import (
    PATIENCE,
    background,
    pid,
    refused,
    run,
    wait_blocked,
    wait_until,
)
from tests.runs.test_record import PRUNER
from tests.runs.work import (
    OPTIONS,
    Work,
    call,
    due,
    hold_attribute,
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

WHO = ("a superuser", "a pruner")


def session_of(who: str, conn: Connection, connect: Connect, role: NewRole) -> Connection:
    """A patient session of a superuser, or of a role with no more rights than it needs."""
    if who == "a superuser":
        return patient(connect())
    name = role("pruner")
    run(conn, PRUNER.format(app="myapp", role=name))
    run(conn, f"ALTER ROLE {name} SET deadlock_timeout = '60s'")
    return connect(name)


@pytest.mark.parametrize("gone", ["worker_streams_part_3", "worker_streams", "signal_registry"])
@pytest.mark.parametrize("knobs", [("batch_size => 5",), ()])
def test_a_table_that_is_dropped(
    conn: Connection, connect: Connect, work: Work, gone: str, knobs: tuple[str, ...]
) -> None:
    """Its rows are gone as well; the other tables are done to the end."""
    holder, caller = connect(), patient(connect())
    hold_attribute(holder)
    with running(caller, *knobs) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        run(conn, f"DROP TABLE myapp.{gone}")
        run(holder, "ROLLBACK")
        assert task.exception(PATIENCE) is None
    ended = last(conn)
    assert (ended.outcome, ended.remaining) == (("completed", None), 0)
    lost = {"signal_registry": work.signals}.get(gone, work.worker)
    assert work.rows - lost <= ended.rows < work.rows
    assert due(conn) == 0


@pytest.mark.parametrize("gone", ["engine_streams", "signal_registry"])
@pytest.mark.parametrize("way", ["", "keys"])
def test_a_table_that_is_dropped_under_prune(
    conn: Connection, connect: Connect, work: Work, gone: str, way: str
) -> None:
    """In one transaction too it is a step with nothing to do, and no right to it is missing."""
    holder, caller = connect(), patient(connect())
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    hold_attribute(holder)
    with background(caller, f"SELECT * FROM hotmesh_dba.prune('myapp', {OPTIONS})") as task:
        wait_blocked(conn, pid(caller), pid(holder))
        run(conn, f"DROP TABLE myapp.{gone}")
        run(holder, "ROLLBACK")
        (counts,) = task.result()
    lost = {"signal_registry": work.signals}.get(gone, work.engine)
    # The messages' sum is a column of its own; attributes are not rows of the work.
    assert sum(counts) - counts[1] - counts[4] == work.rows - lost
    assert due(conn) == 0


def test_a_table_that_is_dropped_while_a_batch_waits_for_it(
    conn: Connection, connect: Connect, work: Work
) -> None:
    owner, caller = connect(), patient(connect())
    with running(caller, "batch_size => 5", "batch_pause => '50 ms'") as task:
        wait_until("a batch", lambda: bool(runs(conn, "batches > 0")))
        run(owner, "BEGIN; DROP TABLE myapp.signal_registry")
        wait_blocked(conn, pid(caller), pid(owner))
        run(owner, "COMMIT")
        assert task.exception(PATIENCE) is None
    ended = last(conn)
    assert (ended.outcome, ended.remaining) == (("completed", None), 0)
    assert (ended.rows, ended.deleted_signals) == (work.rows - work.signals, 0)


@pytest.mark.parametrize("who", WHO)
def test_a_schema_that_is_dropped(
    conn: Connection, connect: Connect, work: Work, role: NewRole, who: str
) -> None:
    """The run ends, and its row says how."""
    caller = session_of(who, conn, connect, role)
    with running(caller, "batch_size => 5", "batch_pause => '1 hour'") as task:
        wait_until("a batch", lambda: bool(runs(conn, "batches > 0")))
        run(conn, "DROP SCHEMA myapp CASCADE")
        error = said(task.exception(PATIENCE))
    assert error.sqlstate == "3F000"
    assert "myapp" in error.message
    assert error.hint
    ended = last(conn)
    assert f"Run {ended.id}" in error.detail
    assert ended.outcome == ("failed", "error")
    assert (ended.error_sqlstate, ended.error_message) == ("3F000", error.message)
    assert 0 < ended.rows < work.rows
    assert locks(conn, pid(caller)) == []


@pytest.mark.parametrize("who", WHO)
def test_a_schema_that_is_renamed(
    conn: Connection, connect: Connect, work: Work, role: NewRole, who: str
) -> None:
    """The run ends before its next batch, and the app's next run waits for it as before."""
    # HotMesh's triggers know the schema by its name, so nothing is marked here.
    options = "'7 days'"
    before, todo = rows(conn), due(conn, options=options)
    assert todo < work.rows
    holder = connect()
    caller = session_of(who, conn, connect, role)
    hold_attribute(holder)
    with running(caller, "batch_size => 5", options=options) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        run(conn, "ALTER SCHEMA myapp RENAME TO ourapp")
        refusal = refused(conn, "55P03", call(app="ourapp", options=options))
        assert f"process {pid(caller)}" in refusal.detail
        run(holder, "ROLLBACK")
        error = said(task.exception(PATIENCE))
    assert error.sqlstate == "55000"
    for name in ("myapp", "ourapp"):
        assert name in error.message
    assert "ourapp" in error.hint
    (ended,) = runs(conn)
    assert ended.outcome == ("failed", "error")
    assert (ended.app, ended.error_message) == ("myapp", error.message)
    assert 0 < ended.rows < todo
    assert locks(conn, pid(caller)) == []
    done = prune(conn, app="ourapp", options=options)
    assert done.outcome == ("completed", None)
    assert done.rows == todo - ended.rows
    now = rows(conn, "ourapp")
    assert before.jobs - now.jobs == sum(run.deleted_jobs for run in runs(conn))


def test_renamed_in_mid_batch_it_lets_nobody_in(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """Nor between its batches: the lock is the schema's, whatever that is called."""
    other = connect()
    caller = connect()
    with running(caller, "batch_size => 5", "batch_pause => '1 hour'", options="'7 days'") as task:
        wait_until("a batch", lambda: bool(runs(conn, "batches > 0")))
        run(other, "BEGIN; SELECT pg_advisory_xact_lock(hotmesh_dba._lock_key('myapp'), 0)")
        run(other, "ALTER SCHEMA myapp RENAME TO ourapp; SAVEPOINT renamed")
        wait_blocked(conn, pid(caller), pid(other))
        run(other, "COMMIT")
        assert said(task.exception(PATIENCE)).sqlstate == "55000"
    assert last(conn).outcome == ("failed", "error")
    assert work.rows > last(conn).rows > 0
