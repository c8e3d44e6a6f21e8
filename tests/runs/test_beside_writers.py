"""Writers beside a run: no attribute without a job, and never the writer that loses."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect
from tests.deploy.observe import background, one, pid, run, wait_blocked
from tests.runs.work import Work, assert_true_to, call, due, halves, last, patient, prune, rows
from tests.support.server import Connection

JOB = "SELECT id::text FROM myapp.jobs WHERE key LIKE '{}-%' ORDER BY id LIMIT 1"
ADD = "INSERT INTO myapp.jobs_attributes (job_id, symbol, type) VALUES (%s, 'new', 'adata')"
TRIGGERS = pytest.mark.parametrize("triggers", ["with triggers", "without"])
ISOLATION = pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])


def knob(triggers: str) -> str:
    return f"disable_triggers => {triggers == 'without'}"


@TRIGGERS
@ISOLATION
@pytest.mark.parametrize("of", ["old", "live"])
def test_an_attribute_that_is_not_committed_yet(
    conn: Connection, connect: Connect, work: Work, triggers: str, isolation: str, of: str
) -> None:
    """Its job is passed over, whichever way it would have gone; the next run takes it."""
    before = due(conn)
    assert before == work.rows
    writer, caller = connect(), connect()
    job = one(conn, JOB.format(of))
    run(writer, f"BEGIN ISOLATION LEVEL {isolation}")
    run(writer, ADD, job)
    stopped = prune(caller, knob(triggers))
    assert stopped.outcome == ("stopped", "locked")
    assert stopped.rows == before - 1
    assert stopped.remaining == 1
    run(writer, "COMMIT")
    assert halves(conn) == (0, 0)
    assert due(conn) == 1
    assert prune(caller, knob(triggers)).outcome == ("completed", None)
    assert halves(conn) == (0, 0)


@TRIGGERS
@ISOLATION
def test_an_attribute_that_comes_while_its_job_goes(
    conn: Connection, connect: Connect, work: Work, triggers: str, isolation: str
) -> None:
    """The writer waits for the batch, and then has no job to add it to."""
    assert work.jobs
    job = one(conn, JOB.format("old"))
    holder, writer, caller = connect(), connect(), patient(connect())
    # An attribute of the job is held, not the job: the run waits in mid-batch, the job being its.
    run(holder, "BEGIN")
    run(holder, "SELECT FROM myapp.jobs_attributes WHERE job_id = %s FOR UPDATE", job)
    with background(caller, call(knob(triggers))) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        run(writer, f"BEGIN ISOLATION LEVEL {isolation}")
        with background(writer, ADD, job) as write:
            wait_blocked(conn, pid(writer), pid(caller))
            run(holder, "ROLLBACK")
            assert task.exception() is None
            error = write.exception()
    # What it meets beside any DELETE of the job; never a deadlock.
    assert isinstance(error, psycopg.Error)
    assert error.sqlstate in {"23503", "40001"}
    run(writer, "ROLLBACK")
    assert halves(conn) == (0, 0)
    assert due(conn) == 0


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
@TRIGGERS
def test_under_another_default_isolation(
    conn: Connection, connect: Connect, work: Work, level: str, triggers: str
) -> None:
    before = rows(conn)
    caller = connect()
    run(caller, f"SET default_transaction_isolation = '{level}'")
    done = prune(caller, "batch_size => 7", knob(triggers))
    assert (done.outcome, done.rows) == (("completed", None), work.rows)
    assert one(caller, "SHOW default_transaction_isolation") == level
    assert_true_to(before, conn)


def test_a_locked_table_keeps_no_other_step(conn: Connection, connect: Connect, work: Work) -> None:
    before = rows(conn)
    holder, caller = connect(), connect()
    run(caller, "SET deadlock_timeout = '100ms'")
    run(holder, "BEGIN; LOCK TABLE myapp.engine_streams IN ACCESS EXCLUSIVE MODE")
    stopped = prune(caller)
    assert stopped.outcome == ("stopped", "locked")
    assert stopped.rows == work.rows - work.engine
    assert stopped.remaining is not None
    assert stopped.remaining > 0
    run(holder, "ROLLBACK")
    assert prune(caller).deleted_engine_streams == work.engine
    assert_true_to(before, conn)


def test_locked_messages_are_passed_over(conn: Connection, connect: Connect, work: Work) -> None:
    before = rows(conn)
    holder, caller = connect(), connect()
    run(
        holder,
        "BEGIN; SELECT FROM myapp.worker_streams WHERE expired_at < now() LIMIT 3 FOR UPDATE",
    )
    stopped = prune(caller)
    assert stopped.outcome == ("stopped", "locked")
    assert (stopped.rows, stopped.remaining) == (work.rows - 3, 3)
    run(holder, "ROLLBACK")
    assert prune(caller).rows == 3
    assert_true_to(before, conn)


@pytest.mark.parametrize("way", ["blocks", "index"])
def test_a_row_that_moves_behind_the_run(
    conn: Connection, connect: Connect, work: Work, way: str
) -> None:
    """Its new version stands where the run has been: `completed` means that it was looked for."""
    before = rows(conn)
    caller = connect()
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    pause = ("batch_size => 1", "batch_pause => '30 ms'")
    with background(caller, call(*pause)) as task:
        while task.running():
            # Every due row is rewritten, over and over; a row that the run holds is left.
            run(
                conn,
                "UPDATE myapp.jobs SET context = '{}' WHERE id IN (SELECT id FROM myapp.jobs"
                " WHERE expired_at < now() - interval '8 days' LIMIT 20 FOR UPDATE SKIP LOCKED)",
            )
        assert task.exception() is None
    assert last(conn).outcome in {("completed", None), ("stopped", "locked")}
    if last(conn).state == "completed":
        assert due(conn) == 0
        assert last(conn).rows == work.rows
    prune(caller)
    assert due(conn) == 0
    assert_true_to(before, conn)
