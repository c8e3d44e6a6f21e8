"""One run at a time: a second is refused and told by whom; workers share one without meeting."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.deploy.observe import background, one, pid, refused, run, wait_blocked, wait_until
from tests.runs.work import (
    Work,
    assert_true_to,
    call,
    due,
    hold_attribute,
    last,
    patient,
    prune,
    rows,
    runs,
    said,
    wait_for_batches,
)
from tests.support.server import Connection


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("moment", ["in a batch", "in a pause"])
def test_a_second_run_is_refused(conn: Connection, connect: Connect, moment: str) -> None:
    before = rows(conn)
    holder, first, second = connect(), patient(connect()), connect()
    pause = "1 hour"
    if moment == "in a batch":
        hold_attribute(holder)
        pause = "0"
    with background(first, call("batch_size => 5", f"batch_pause => '{pause}'")) as task:
        if moment == "in a batch":
            wait_blocked(conn, pid(first), pid(holder))
        held = wait_for_batches(conn, 1)
        refusal = refused(second, "55P03", call())
        for told in (f"Run {held.id} ", f"process {pid(first)}", '"postgres"'):
            assert told in refusal.detail
        assert one(conn, "SELECT state FROM hotmesh_dba.progress") == "running"
        run(conn, "SELECT pg_cancel_backend(%s)", pid(first))
        assert said(task.exception()).sqlstate == "57014"
    assert len(runs(conn)) == 1
    run(holder, "ROLLBACK")
    assert prune(second).outcome == ("completed", None)
    assert_true_to(before, conn)


def test_two_workers_share_a_run(conn: Connection, connect: Connect, work: Work) -> None:
    before = rows(conn)
    first, second = connect(), connect()
    pause = ("batch_size => 5", "batch_pause => '10 ms'", "workers => 2")
    with background(first, call(*pause, "worker => 1")) as one_of_them:
        wait_for_batches(conn, 1)
        with background(second, call(*pause, "worker => 2")) as other:
            assert other.exception() is None
        assert one_of_them.exception() is None
    one_run, other_run = runs(conn)
    assert (one_run.worker, other_run.worker) == (1, 2)
    assert other_run.group_id == one_run.group_id == one_run.id
    assert other_run.jobs_before == one_run.jobs_before
    assert other_run.signals_until == one_run.signals_until
    assert one_run.rows + other_run.rows == work.rows
    assert min(one_run.rows, other_run.rows) > 0
    assert due(conn) == 0
    assert_true_to(before, conn)


@pytest.mark.parametrize(
    "knobs",
    [
        ("workers => 2", "worker => 1"),
        ("workers => 3", "worker => 2"),
        ("workers => 2", "worker => 2", "batch_size => 9"),
        (),
    ],
    ids=["the same worker", "another number", "other options", "alone"],
)
def test_who_does_not_fit_is_refused(
    conn: Connection, connect: Connect, work: Work, knobs: tuple[str, ...]
) -> None:
    first, second = connect(), connect()
    long = ("batch_size => 5", "batch_pause => '1 hour'")
    mine = call(*long, "workers => 2", "worker => 1")
    with background(first, mine) as task:
        held = wait_for_batches(conn, 1)
        refusal = refused(second, "55P03", call(*knobs))
        assert f"process {pid(first)}" in refusal.detail
        run(conn, "SELECT pg_cancel_backend(%s)", pid(first))
        assert said(task.exception()).sqlstate == "57014"
    assert len(runs(conn)) == 1
    assert 0 < held.rows < work.rows


def test_a_row_that_only_says_running_keeps_nobody_out(
    conn: Connection, connect: Connect, work: Work
) -> None:
    """A living session has the pid of one that is dead; another row is from before a restart."""
    prune(conn, "max_rows => 1")
    other = connect()
    forge = (
        "INSERT INTO hotmesh_dba.run (group_id, app, worker, workers, pid, options, jobs_before,"
        " engine_before, worker_before, signals_until, triggers_disabled, started_at)"
        " SELECT r.id, app, 1, 1, {}, options, jobs_before, engine_before, worker_before,"
        " signals_until, false, {} FROM hotmesh_dba.run r WHERE state = 'stopped' LIMIT 1"
    )
    for whose in (pid(other), pid(conn), 999_999):
        run(conn, forge.format(whose, "now()"))
    run(conn, forge.format(pid(other), "pg_postmaster_start_time() - interval '1 day'"))
    wait_until(
        "all seen as interrupted",
        lambda: set(run(conn, "SELECT state FROM hotmesh_dba.progress")) == {("interrupted",)},
    )
    assert prune(conn).rows == work.rows - 1
    assert [run.state for run in runs(conn)].count("interrupted") == 4
    assert last(conn).state == "completed"
