"""A cancel at any moment: what was committed stays, and nothing of ours is left in the session."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import (
    deploy,
    one,
    pid,
    refused,
    run,
    wait_blocked,
    wait_until,
    warnings_of,
)
from tests.runs.work import (
    Run,
    Work,
    add_work,
    assert_true_to,
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
    settings,
    wait_for_batches,
)
from tests.support.server import Connection

MOMENTS = 100


def assert_left(stopped: Run, left: int) -> None:
    """What it says is left: a leaf whose last row was taken is not known yet to be done."""
    assert stopped.remaining in (left, left + 1)


def test_at_a_hundred_random_moments(conn: Connection, connect: Connect, app: NewApp) -> None:
    """In a batch, a COMMIT, a pause, at the start and at the end, in two sessions that live on."""
    dice = random.Random(3)
    deploy(conn, app("myapp"))
    add_work(conn, work=Work(2000, 500, 2000, 2000, 1500, 500))
    before = rows(conn)
    sessions = [connect(), connect()]
    for session in sessions:
        run(
            session,
            "SET lock_timeout = '7s'; SET search_path = myapp, public; SET enable_seqscan = on;"
            "SET synchronous_commit = local",
        )
    as_it_was = [settings(session) for session in sessions]
    states: Counter[str | None] = Counter()
    for _ in range(MOMENTS):
        # Mostly the session that was cancelled before; its old run must not keep anybody out.
        at = dice.choices((0, 1), (9, 1))[0]
        knobs = [f"batch_size => {dice.choice((1, 2, 5))}"]
        knobs += dice.sample(
            ["batch_pause => '5 ms'", "disable_triggers => true"], dice.randint(0, 2)
        )
        run(sessions[at], f"SET hotmesh_dba.way = '{dice.choice(['', 'blocks', 'index', 'keys'])}'")
        as_it_was[at] = settings(sessions[at])
        newest = max((run.id for run in runs(conn)), default=0)
        with running(sessions[at], *knobs) as task:
            if dice.random() < 0.8:
                wait_for_batches(conn, dice.randint(0, 12), after=newest)
            run(conn, "SELECT pg_sleep(%s)", dice.uniform(0, 0.05))  # the random moment itself
            run(conn, "SELECT pg_cancel_backend(%s)", pid(sessions[at]))
            error = task.exception()
        states[said(error).sqlstate if error else None] += 1
        assert locks(conn, pid(sessions[at])) == []
        assert settings(sessions[at]) == as_it_was[at]
    # A cancel that comes too late, or before the statement, hits nothing.
    assert set(states) <= {"57014", None}
    assert states["57014"] > MOMENTS * 0.8
    assert_true_to(before, conn)

    done = runs(conn)
    assert {run.state for run in done} <= {"failed", "running", "interrupted", "completed"}
    assert {run.error_sqlstate for run in done if run.state == "failed"} == {"57014"}
    assert {run.stop_reason for run in done if run.state == "failed"} == {"cancelled"}
    # Nearly all of them left a true record.
    assert sum(run.state == "failed" for run in done) > MOMENTS / 2
    assert prune(sessions[0]).outcome == ("completed", None)
    assert "running" not in {run.state for run in runs(conn)}
    assert due(conn) == 0
    assert_true_to(before, conn)


@pytest.mark.parametrize("triggers", ["with triggers", "without"])
def test_in_mid_batch(conn: Connection, connect: Connect, work: Work, triggers: str) -> None:
    """The batch that it hits is undone whole; those before it stay, and the record says so."""
    before = rows(conn)
    holder, caller = connect(), patient(connect())
    hold_attribute(holder)
    had = settings(caller)
    knobs = ("batch_size => 5", f"disable_triggers => {triggers == 'without'}")
    with running(caller, *knobs) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        done = last(conn)
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        error = said(task.exception())
    assert error.sqlstate == "57014"
    assert f"Run {done.id}" in error.detail
    assert str(done.rows) in error.detail
    assert error.hint
    assert locks(conn, pid(caller)) == []
    assert settings(caller) == had

    cancelled = last(conn)
    assert cancelled.outcome == ("failed", "cancelled")
    assert (cancelled.error_sqlstate, cancelled.error_message) == ("57014", error.message)
    assert (cancelled.rows, cancelled.batches) == (done.rows, done.batches)
    assert 0 < cancelled.rows < work.rows
    assert cancelled.finished_at is not None
    assert_left(cancelled, work.rows - cancelled.rows)
    assert due(conn) == work.rows - cancelled.rows
    assert_true_to(before, conn)

    run(holder, "ROLLBACK")
    assert prune(caller).rows == work.rows - cancelled.rows
    assert_true_to(before, conn)


def test_in_a_pause(conn: Connection, connect: Connect, work: Work) -> None:
    before = rows(conn)
    caller = connect()
    with running(caller, "batch_size => 5", "batch_pause => '1 hour'") as task:
        done = wait_for_batches(conn, 1)
        assert 0 < done.rows <= 5
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        assert said(task.exception()).sqlstate == "57014"
    assert locks(conn, pid(caller)) == []
    assert last(conn).outcome in {("failed", "cancelled"), ("running", None)}
    # Where it slipped between two transactions the row still says running; nobody is kept out.
    other = connect()
    assert prune(other).rows == work.rows - done.rows
    assert {run.state for run in runs(conn)} <= {"failed", "interrupted", "completed"}
    assert_true_to(before, conn)


@pytest.mark.parametrize("moment", ["in a batch", "in a pause"])
def test_terminated(conn: Connection, connect: Connect, work: Work, moment: str) -> None:
    before = rows(conn)
    holder, caller = connect(), patient(connect())
    gone, pause = pid(caller), "0"
    if moment == "in a batch":
        hold_attribute(holder)
    else:
        pause = "1 hour"
    with running(caller, "batch_size => 5", f"batch_pause => '{pause}'") as task:
        if moment == "in a batch":
            wait_blocked(conn, gone, pid(holder))
        done = wait_for_batches(conn, 1)
        run(conn, "SELECT pg_terminate_backend(%s)", gone)
        assert said(task.exception()).sqlstate == "57P01"
    run(holder, "ROLLBACK")
    in_view = "SELECT state FROM hotmesh_dba.progress WHERE run_id = %s"
    wait_until("interrupted", lambda: one(conn, in_view, done.id) == "interrupted")
    assert locks(conn, gone) == []
    assert_true_to(before, conn)

    assert prune(conn).outcome == ("completed", None)
    dead = runs(conn)[0]
    assert dead.outcome == ("interrupted", None)
    assert dead.finished_at == dead.updated_at
    assert (dead.rows, dead.batches) == (done.rows, done.batches)
    assert dead.remaining == work.rows - done.rows
    assert run(conn, "SELECT FROM hotmesh_dba.progress") == []
    assert_true_to(before, conn)


def test_by_statement_timeout(conn: Connection, connect: Connect, work: Work) -> None:
    """Where max_runtime is later than it; WHEN OTHERS does not catch it."""
    before = rows(conn)
    caller = connect()
    run(caller, "SET statement_timeout = '400ms'")
    refusal = refused(
        caller, "57014", call("batch_size => 5", "batch_pause => '50 ms'", "max_runtime => '1 h'")
    )
    assert "timeout" in refusal.message
    stopped = last(conn)
    assert stopped.outcome == ("failed", "cancelled")
    assert 0 < stopped.rows < work.rows
    assert locks(conn, pid(caller)) == []
    assert_true_to(before, conn)
    run(caller, "RESET statement_timeout")
    assert prune(caller).rows == work.rows - stopped.rows


@pytest.mark.parametrize("bound", ["statement_timeout", "max_runtime"])
def test_max_runtime(conn: Connection, connect: Connect, work: Work, bound: str) -> None:
    """Given, or nine tenths of statement_timeout: it ends at a batch boundary, with a warning."""
    before = rows(conn)
    caller = connect()
    knobs = ["batch_size => 5", "batch_pause => '20 ms'"]
    if bound == "statement_timeout":
        run(caller, "SET statement_timeout = '500ms'")
    else:
        knobs.append("max_runtime => '450 ms'")
    caught = warnings_of(caller)
    stopped = prune(caller, *knobs)
    assert stopped.outcome == ("stopped", "max_runtime")
    assert stopped.finished_at is not None
    assert (stopped.finished_at - stopped.started_at).total_seconds() < 0.5
    assert 0 < stopped.rows < work.rows
    assert_left(stopped, work.rows - stopped.rows)
    assert due(conn) == work.rows - stopped.rows
    assert stopped.error_sqlstate is None
    (warning,) = caught
    assert f"run {stopped.id}" in warning.message
    assert "max_runtime" in warning.message
    assert str(stopped.rows) in warning.detail
    assert str(stopped.remaining) in warning.detail
    assert warning.hint
    assert_true_to(before, conn)
    run(caller, "RESET statement_timeout")
    assert prune(caller).outcome == ("completed", None)


def test_max_runtime_ends_a_pause(conn: Connection, work: Work) -> None:
    """Nobody waits for the end of a pause that is longer than the time that is left."""
    stopped = prune(conn, "batch_size => 5", "batch_pause => '1 hour'", "max_runtime => '300 ms'")
    assert stopped.outcome == ("stopped", "max_runtime")
    assert stopped.batches == 1
    assert_left(stopped, work.rows - stopped.rows)
    assert prune(conn, "max_runtime => '0'").outcome == ("stopped", "max_runtime")
    assert due(conn) == work.rows - stopped.rows


@pytest.mark.parametrize("way", ["", "blocks", "index", "keys"])
def test_max_rows(conn: Connection, work: Work, way: str) -> None:
    """It takes that many, no more and no fewer, whatever the size of a batch."""
    before, left = rows(conn), work.rows
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    caught = warnings_of(conn)
    for most, size in ((1, "NULL"), (17, "NULL"), (50, "3"), (60, "60"), (100, "1000")):
        caught.clear()
        stopped = prune(conn, f"max_rows => {most}", f"batch_size => {size}")
        left -= most
        assert stopped.outcome == ("stopped", "max_rows")
        assert stopped.rows == most
        assert due(conn) == left
        assert_left(stopped, left)
        (warning,) = caught
        assert "max_rows" in warning.message
    assert prune(conn, "max_rows => 1000000").outcome == ("completed", None)
    assert_true_to(before, conn)


def test_nothing_is_due(conn: Connection, work: Work) -> None:
    prune(conn)
    nothing = prune(conn, "max_rows => 1", "max_runtime => '1 hour'")
    assert nothing.outcome == ("completed", None)
    assert (nothing.rows, nothing.batches, nothing.expected, nothing.remaining) == (0, 0, 0, 0)
    assert len(runs(conn)) == 2
    assert work.rows == runs(conn)[0].rows
