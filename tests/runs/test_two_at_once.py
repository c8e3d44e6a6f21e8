"""Two runs at once: of one app one is refused, workers share the work, dead ones are taken over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

from tests.conftest import Connect, Database, NewApp, NewRole
from tests.deploy.observe import (
    PATIENCE,
    Refusal,
    deploy,
    one,
    pid,
    refused,
    run,
    wait_blocked,
    wait_until,
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
    patient,
    prune,
    record,
    rows,
    running,
    runs,
    said,
    wait_for_batches,
)
from tests.support.server import Connection

# "At once", with room for a slow machine: less than the second that a dead run's pid is watched.
AT_ONCE = 5.0
PAUSE = ("batch_size => 5", "batch_pause => '1 hour'")


def wait_for_run(watcher: Connection, number: int) -> None:
    """Wait until so many runs have begun."""
    wait_until(f"run {number}", lambda: len(runs(watcher)) == number)


def refused_by(caller: Connection, holder: int, statement: str) -> Refusal:
    """A refusal that names the holder's process.

    Asked again where that was between two transactions, with no lock, when it was looked for.
    """
    for _ in range(4):
        refusal = refused(caller, "55P03", statement)
        if f"process {holder}" in refusal.detail:
            return refusal
    raise AssertionError(f"process {holder} is not named: {refusal}")


@contextmanager
def at_work(
    conn: Connection, holder: Connection, caller: Connection, moment: str, *knobs: str
) -> Iterator[Run]:
    """A run that is in mid-batch, or in a pause, and goes on for as long as the block lasts."""
    if moment == "in a batch":
        hold_attribute(holder)
        knobs = ("batch_size => 5", *knobs)
    else:
        knobs = (*PAUSE, *knobs)
    with running(patient(caller), *knobs) as task:
        if moment == "in a batch":
            wait_blocked(conn, pid(caller), pid(holder))
        yield wait_for_batches(conn, 1)
        assert not task.done()
        if moment == "in a batch":
            run(holder, "ROLLBACK")
            assert task.exception() is None
        else:
            run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
            assert said(task.exception()).sqlstate == "57014"


@pytest.mark.parametrize("moment", ["in a batch", "in a pause"])
def test_the_second_is_refused(
    conn: Connection, connect: Connect, work: Work, role: NewRole, moment: str
) -> None:
    before = rows(conn)
    name = role("pruner")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {name};"
        f"GRANT SELECT, DELETE, UPDATE ON ALL TABLES IN SCHEMA myapp TO {name}",
    )
    holder, first, second = connect(), connect(), connect(name)
    with at_work(conn, holder, first, moment) as alive:
        # Whoever asks, and whatever for.
        for caller, knobs in (
            (second, ()),
            (conn, ("batch_size => 5",)),
            (second, ("worker => 2", "workers => 2")),
            (conn, ("worker => 1", "workers => 2")),
        ):
            begun = monotonic()
            refusal = refused_by(caller, pid(first), call(*knobs))
            assert monotonic() - begun < AT_ONCE
            for name_of_it in (f"Run {alive.id} ", f'"{alive.role}"', f"process {pid(first)}"):
                assert name_of_it in refusal.detail
            assert "myapp" in refusal.message
            assert "pg_cancel_backend" in refusal.hint
        # It was left alone: it is neither ended nor said to be dead.
        assert [run.id for run in runs(conn)] == [alive.id]
        assert record(conn, alive.id).state == "running"
        assert one(conn, "SELECT state FROM hotmesh_dba.progress") == "running"
    if moment == "in a pause":
        assert prune(second).outcome == ("completed", None)
    assert due(conn) == 0
    assert work.rows == sum(run.rows for run in runs(conn))
    assert_true_to(before, conn)


def test_another_app_is_not_in_the_way(
    conn: Connection, connect: Connect, app: NewApp, work: Work
) -> None:
    deploy(conn, app("other"))
    add_work(conn, "other")
    with at_work(conn, connect(), connect(), "in a pause"):
        done = prune(conn, app="other")
        assert done.outcome == ("completed", None)
        assert (done.rows, done.group_id) == (work.rows, done.id)


def test_a_live_run_is_never_taken_over(conn: Connection, connect: Connect, work: Work) -> None:
    """Not in any of many short pauses, between any two of its transactions."""
    before = rows(conn)
    first, others = connect(), [connect(), connect()]
    refusals = named = 0
    with running(first, "batch_size => 2", "batch_pause => '20 ms'") as task:
        alive = wait_for_batches(conn, 1)
        while not task.done():
            for other in others:
                with running(other) as second:
                    error = second.exception()
                if task.done():
                    break
                assert said(error).sqlstate == "55P03"
                refusals += 1
                named += f"Run {alive.id} " in said(error).detail
        assert task.result() == [(alive.id,)]
    assert refusals > 10
    # Now and then it was between two transactions when the holder was looked for.
    assert named > refusals / 2
    assert record(conn, alive.id).outcome == ("completed", None)
    assert record(conn, alive.id).rows == work.rows
    assert_true_to(before, conn)


# --- workers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("triggers", ["with triggers", "without"])
@pytest.mark.parametrize("way", ["", "keys"])
def test_workers_share_the_work(
    conn: Connection, connect: Connect, app: NewApp, way: str, triggers: str
) -> None:
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(300, 100, 300, 300, 200, 40))
    before = rows(conn)
    preview = due(conn)
    knobs = ("batch_size => 4", f"disable_triggers => {triggers == 'without'}", "workers => 3")
    callers = [connect() for _ in range(3)]
    with ExitStack() as stack:
        tasks = []
        for number, caller in enumerate(callers, 1):
            run(caller, f"SET hotmesh_dba.way = '{way}'")
            tasks.append(stack.enter_context(running(caller, *knobs, f"worker => {number}")))
            wait_for_run(conn, number)
        ids = [task.result()[0][0] for task in tasks]
    done = [record(conn, run_id) for run_id in ids]
    assert {run.outcome for run in done} == {("completed", None)}
    assert [run.worker for run in done] == [1, 2, 3]
    assert {run.workers for run in done} == {3}
    assert {run.group_id for run in done} == {min(ids)}
    cutoffs = {
        (run.jobs_before, run.engine_before, run.worker_before, run.signals_until) for run in done
    }
    assert len(cutoffs) == 1
    assert sum(run.rows for run in done) == preview == work.rows
    assert sum(run.expected for run in done) == preview
    if not way:
        assert all(run.rows > work.rows / 10 for run in done)
    # What has no leaves is the first one's.
    assert [run.deleted_signals for run in done] == [40, 0, 0]
    assert due(conn) == 0
    assert_true_to(before, conn)


def test_who_may_join(conn: Connection, connect: Connect, work: Work) -> None:
    before = rows(conn)
    first, second, third = connect(), connect(), connect()
    with at_work(conn, connect(), first, "in a pause", "worker => 1", "workers => 2") as alive:
        joined = (*PAUSE, "worker => 2", "workers => 2")
        for knobs, reason in (
            ((*PAUSE, "worker => 1", "workers => 2"), "worker 1 of 2"),
            ((*PAUSE, "worker => 2", "workers => 3"), "worker 1 of 2"),
            ((*PAUSE, "worker => 1", "workers => 1"), "worker 1 of 2"),
            ((*PAUSE, "workers => 2", "worker => 2", "disable_triggers => true"), "options"),
            ((*joined, "keep_hmark => true"), "options"),
            ((*joined, "max_rows => 7"), "options"),
        ):
            assert reason in refused_by(third, pid(first), call(*knobs)).detail
        assert (
            "options"
            in refused(
                third, "55P03", call(*joined, options="'8 days', strip_attributes => true")
            ).detail
        )
        with running(second, *joined) as task:
            wait_for_batches(conn, 1, after=alive.id)
            other = last(conn)
            assert (other.group_id, other.jobs_before) == (alive.id, alive.jobs_before)
            # The same worker once more, now that both are there.
            for number, process in ((1, pid(first)), (2, pid(second))):
                twice = (*PAUSE, f"worker => {number}", "workers => 2")
                refused_by(third, process, call(*twice))
            run(conn, "SELECT pg_cancel_backend(%s)", pid(second))
            assert said(task.exception()).sqlstate == "57014"
        # The other one is gone, its place is free; the group lives on.
        again = ("worker => 2", "workers => 2")
        with running(third, *PAUSE, *again) as task:
            wait_for_batches(conn, 1, after=other.id)
            assert last(conn).group_id == alive.id
            run(conn, "SELECT pg_cancel_backend(%s)", pid(third))
            assert said(task.exception()).sqlstate == "57014"
    assert prune(conn).outcome == ("completed", None)
    assert work.rows == sum(run.rows for run in runs(conn))
    assert_true_to(before, conn)


def test_workers_whose_sessions_write_intervals_differently(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """Their options are the same."""
    first, second = connect(), connect()
    run(second, "SET IntervalStyle = 'iso_8601'; SET DateStyle = 'German'")
    with (
        at_work(conn, connect(), first, "in a pause", "worker => 1", "workers => 2") as alive,
        running(second, *PAUSE, "worker => 2", "workers => 2") as task,
    ):
        wait_for_batches(conn, 1, after=alive.id)
        assert last(conn).options == {**alive.options, "worker": 2}
        run(conn, "SELECT pg_cancel_backend(%s)", pid(second))
        assert said(task.exception()).sqlstate == "57014"
    assert prune(conn).outcome == ("completed", None)
    assert work.rows == sum(run.rows for run in runs(conn))


# --- what looks like a run and is none -------------------------------------------------------


def forge(conn: Connection, process: int, started: str, **more: object) -> int:
    """A row that says `running`, as a process that died or a restored dump leaves it."""
    values = {"worker": 1, "workers": 1, "group_id": 0, "options": json.dumps({}), **more}
    names = ", ".join(values)
    return int(
        one(
            conn,
            f"INSERT INTO hotmesh_dba.run (app, pid, started_at, updated_at, jobs_before,"
            f" engine_before, worker_before, signals_until, triggers_disabled, expected,"
            f" deleted_jobs, {names})"
            f" SELECT 'myapp', %s, {started}, {started} + interval '1 second', now(), now(), now(),"
            f" now(), false, 100, 7, {', '.join(['%s'] * len(values))} RETURNING id",
            process,
            *values.values(),
        )
    )


@pytest.mark.parametrize(
    "whose", ["a living session's", "our own", "nobody's", "a busy session's", "another app's run"]
)
@pytest.mark.parametrize("started", ["clock_timestamp()", "pg_postmaster_start_time() - '1 day'"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_run_is_taken_over(
    conn: Connection,
    connect: Connect,
    app: NewApp,
    work: Work,
    whose: str,
    started: str,
    workers: int,
) -> None:
    """Its pid proves nothing: it is used again, or comes from another server."""
    before = rows(conn)
    caller, other = connect(), connect()
    started = started.replace("'1 day'", "interval '1 day'")
    process = {"our own": pid(caller), "nobody's": 2**22 + 7}.get(whose, pid(other))
    with ExitStack() as stack:
        if whose == "a busy session's":
            run(other, "BEGIN; LOCK TABLE myapp.signal_registry IN SHARE MODE")
            run(other, "SELECT pg_advisory_xact_lock(1, 0), pg_advisory_xact_lock(1)")
            run(other, "COMMIT; SELECT pg_advisory_lock(1, 0), pg_advisory_lock(1)")
        elif whose == "another app's run":
            deploy(conn, app("other"))
            add_work(conn, "other")
            stack.enter_context(running(other, *PAUSE, app="other"))
            wait_until("the other run", lambda: bool(runs(conn, "batches > 0")))
        dead = forge(conn, process, started, worker=workers, workers=workers)
        begun = monotonic()
        done = prune(caller, "worker => 1", f"workers => {workers}")
        assert monotonic() - begun < AT_ONCE
        if whose == "another app's run":
            run(conn, "SELECT pg_cancel_backend(%s)", pid(other))
    closed = record(conn, dead)
    assert closed.outcome == ("interrupted", None)
    assert closed.finished_at == closed.updated_at
    assert closed.remaining == 93
    assert done.outcome == ("completed", None)
    assert done.group_id == done.id
    if workers == 1:
        assert done.rows == work.rows
    # What the dead one claims was made up.
    run(conn, "DELETE FROM hotmesh_dba.run WHERE id = %s", dead)
    assert_true_to(before, conn)


def test_a_dead_worker_is_told_from_a_living_one(
    conn: Connection, connect: Connect, work: Work
) -> None:
    before = rows(conn)
    first, second = connect(), connect()
    share = ("workers => 2",)
    with at_work(conn, connect(), first, "in a pause", "worker => 1", *share) as alive:
        dead = forge(
            conn,
            pid(second),
            "clock_timestamp()",
            worker=2,
            workers=2,
            group_id=alive.id,
            options=json.dumps({**alive.options, "worker": 2}),
        )
        with running(second, *PAUSE, "worker => 2", *share) as task:
            wait_for_batches(conn, 1, after=dead)
            assert record(conn, dead).state == "interrupted"
            assert record(conn, alive.id).state == "running"
            assert last(conn).group_id == alive.id
            run(conn, "SELECT pg_cancel_backend(%s)", pid(second))
            assert said(task.exception()).sqlstate == "57014"
        run(conn, "DELETE FROM hotmesh_dba.run WHERE id = %s", dead)
    assert prune(conn).outcome == ("completed", None)
    assert work.rows == sum(run.rows for run in runs(conn))
    assert_true_to(before, conn)


def test_a_queue_for_the_start_is_no_proof_of_life(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """The dead run's session waits to begin another one, behind a worker that looks at its row."""
    before = rows(conn)
    gate, first, second = connect(), connect(), connect()
    run(gate, "SELECT pg_advisory_lock(hotmesh_dba._lock_key('myapp'), -1)")
    dead = forge(conn, pid(second), "clock_timestamp()", worker=2, workers=2)
    run(conn, "UPDATE hotmesh_dba.run SET jobs_before = now() - interval '1 year'")
    with (
        running(first, "worker => 1", "workers => 2") as one_of_two,
        running(second, "worker => 2", "workers => 2") as other,
    ):
        for caller in (first, second):
            wait_blocked(conn, pid(caller), pid(gate))
        run(gate, "SELECT pg_advisory_unlock_all()")
        ids = [task.result(PATIENCE)[0][0] for task in (one_of_two, other)]
    assert record(conn, dead).state == "interrupted"
    done = [record(conn, run_id) for run_id in ids]
    assert {run.outcome for run in done} == {("completed", None)}
    assert sum(run.rows for run in done) == work.rows
    run(conn, "DELETE FROM hotmesh_dba.run WHERE id = %s", dead)
    assert_true_to(before, conn)


def test_many_dead_runs_are_looked_at_together(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """Each might be between two batches, its process lives; the second that this takes is one."""
    other = connect()
    for _ in range(12):
        forge(conn, pid(other), "clock_timestamp()")
    begun = monotonic()
    done = prune(conn)
    assert monotonic() - begun < AT_ONCE
    assert done.rows == work.rows
    assert [run.state for run in runs(conn)] == ["interrupted"] * 12 + ["completed"]


def test_a_run_that_ends_while_it_is_looked_at(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """It has no lock any more, and its process lives on: its record stays as it wrote it."""
    other, caller = connect(), connect()
    ending = forge(conn, pid(other), "clock_timestamp()")
    asleep = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
    with running(caller) as task:
        wait_until("it looks", lambda: bool(one(conn, asleep, pid(caller))))
        run(conn, "UPDATE hotmesh_dba.run SET state = 'completed' WHERE id = %s", ending)
        assert task.exception(PATIENCE) is None
    assert record(conn, ending).state == "completed"
    assert last(conn).rows == work.rows


def test_a_run_that_somebody_else_ended_stops(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """One that was taken for dead, or whose row was removed, does not go on beside the next."""
    before = rows(conn)
    for end in ("UPDATE hotmesh_dba.run SET state = 'interrupted'", "DELETE FROM hotmesh_dba.run"):
        caller = connect()
        newest = max((run.id for run in runs(conn)), default=0)
        with running(caller, *PAUSE) as task:
            alive = wait_for_batches(conn, 1, after=newest)
            run(conn, f"{end} WHERE id = %s", alive.id)
            refusal = said(task.exception(PATIENCE))
        assert refusal.sqlstate == "55000"
        assert refusal.detail
        assert refusal.hint
        left = due(conn)
        if "UPDATE" in end:
            assert record(conn, alive.id).state == "interrupted"
            assert left == work.rows - alive.rows
            assert_true_to(before, conn)
    assert prune(conn).rows == left


def test_strangers_lock(conn: Connection, connect: Connect, work: Work, db: Database) -> None:
    """Whoever holds the app's lock without a run is named by his process."""
    holder = connect()
    run(holder, "SELECT pg_advisory_lock(hotmesh_dba._lock_key('myapp'), 0)")
    begun = monotonic()
    refusal = refused(conn, "55P03", call())
    assert monotonic() - begun < AT_ONCE
    assert str(pid(holder)) in refusal.detail
    assert runs(conn) == []
    # The same key in another database is another lock.
    with db.server.connect() as other:
        key = one(conn, "SELECT hotmesh_dba._lock_key('myapp')")
        run(holder, "SELECT pg_advisory_unlock_all()")
        run(other, "SELECT pg_advisory_lock(%s, 0)", key)
        assert prune(conn).rows == work.rows
