"""What slows a run down: pauses, the WAL it writes, replicas; and that it costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connect, Database, NewApp, NewRole
from tests.deploy.observe import deploy, one, pid, refused, run, wait_until
from tests.runs.work import (
    Run,
    Work,
    add_work,
    assert_true_to,
    call,
    last,
    prune,
    record,
    rows,
    running,
    said,
    wait_for_batches,
)
from tests.support.server import Connection, PrivateServer


def seconds(done: Run) -> float:
    """How long a run took."""
    assert done.finished_at is not None
    return (done.finished_at - done.started_at).total_seconds()


def wait_for_standstill(watcher: Connection, alive: Run) -> Run:
    """Wait until a second has gone by without a batch, though the run is alive."""
    still = "SELECT clock_timestamp() > updated_at + interval '1 second' FROM hotmesh_dba.run"
    wait_until("a standstill", lambda: bool(one(watcher, f"{still} WHERE id = %s", alive.id)))
    in_view = "SELECT state FROM hotmesh_dba.progress WHERE run_id = %s"
    assert one(watcher, in_view, alive.id) == "running"
    event = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    wait_until("a sleep", lambda: one(watcher, event, alive.pid) == "PgSleep")
    return record(watcher, alive.id)


# --- pauses ----------------------------------------------------------------------------------


def test_a_pause_after_each_batch(conn: Connection, work: Work) -> None:
    before = rows(conn)
    done = prune(conn, "batch_size => 20", "batch_pause => '40 ms'")
    assert done.rows == work.rows
    assert done.batches > 10
    assert seconds(done) > (done.batches - 1) * 0.04
    assert_true_to(before, conn)
    add_work(conn)
    # Room for a slow machine; without pauses it is a fraction.
    assert seconds(prune(conn, "batch_size => 20")) < seconds(done)


def test_a_pause_holds_nothing_for_long(conn: Connection, connect: Connect, work: Work) -> None:
    """Neither a snapshot, which would keep VACUUM from its work, nor a transaction."""
    caller = connect()
    assert work.rows
    with running(caller, "batch_size => 5", "batch_pause => '1 hour'") as task:
        wait_for_batches(conn, 1)
        for _ in range(3):
            now = one(conn, "SELECT pg_current_xact_id()::text::bigint")
            horizon = (
                f"SELECT coalesce(backend_xmin::text::bigint > {now}, true)"
                f" FROM pg_stat_activity WHERE pid = {pid(caller)}"
            )
            wait_until("a younger snapshot", partial(one, conn, horizon))
        # It wrote nothing while it slept.
        assert (
            one(conn, "SELECT backend_xid FROM pg_stat_activity WHERE pid = %s", pid(caller))
            is None
        )
        conn_is_old = "SELECT clock_timestamp() - xact_start < '10 s' FROM pg_stat_activity"
        assert one(conn, f"{conn_is_old} WHERE pid = %s", pid(caller)) in (True, None)
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        assert said(task.exception()).sqlstate == "57014"


# --- WAL -------------------------------------------------------------------------------------


def test_a_rate_that_is_used_up(conn: Connection, connect: Connect, work: Work) -> None:
    """At a byte a second it would take days after the first batch; max_runtime still ends it."""
    before = rows(conn)
    caller = connect()
    with running(caller, "batch_size => 5", "max_wal_rate => 1", "max_runtime => '2 s'") as task:
        alive = wait_for_batches(conn, 1)
        assert wait_for_standstill(conn, alive).batches == 1
        task.result()
    stopped = last(conn)
    assert stopped.outcome == ("stopped", "max_runtime")
    assert stopped.batches == 1
    assert stopped.rows < work.rows
    assert_true_to(before, conn)


def test_a_rate(conn: Connection, app: NewApp) -> None:
    """The same work, at the speed at which its WAL may be written."""
    deploy(conn, app("myapp"))
    work = Work(200, 0, 200, 200, 0, 0)
    took: list[float] = []
    wrote: list[int] = []
    for knobs in ((), ("max_wal_rate => {}",)):
        add_work(conn, work=work)
        begun = one(conn, "SELECT pg_current_wal_insert_lsn()")
        # Fast is what takes 1.5 seconds for what was written the first time.
        rate = round(wrote[0] / 1.5) if wrote else 0
        done = prune(conn, "batch_size => 10", *[knob.format(rate) for knob in knobs])
        assert done.rows == work.rows
        took.append(seconds(done))
        wrote.append(int(one(conn, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", begun)))
    assert took[1] > 0.75
    assert took[1] > took[0]


# --- replicas --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(server: PrivateServer) -> Iterator[str]:
    with server.standby() as conninfo:
        yield conninfo


@pytest.fixture
def replica(standby: str) -> Iterator[Connection]:
    """A superuser's connection to the standby, whose replay goes on when the test is over."""
    with psycopg.connect(standby, autocommit=True) as conn:
        yield conn
        run(conn, "SELECT pg_wal_replay_resume()")


def pause_replay(replica: Connection) -> None:
    run(replica, "SELECT pg_wal_replay_pause()")
    state = "SELECT pg_get_wal_replay_pause_state()"
    wait_until("replay paused", lambda: one(replica, state) == "paused")


# With no lag allowed each batch waits for its own WAL to be there, so these have one or two.
SIGNALS = "'7 days', prune_jobs => false, prune_streams => false"


def test_a_replica_that_keeps_up(conn: Connection, replica: Connection, work: Work) -> None:
    assert one(replica, "SELECT pg_is_in_recovery()")
    done = prune(conn, "batch_size => 15", "max_replica_lag => '0'", options=SIGNALS)
    assert (done.outcome, done.rows) == (("completed", None), work.signals)
    done = prune(conn, "batch_size => 10", "max_replica_lag => '1 second'")
    assert (done.outcome, done.rows) == (("completed", None), work.rows - work.signals)


def test_a_replica_that_falls_behind_in_pauses(
    conn: Connection, replica: Connection, work: Work
) -> None:
    """Whatever else slows the run down, it waits for the replica too."""
    pause_replay(replica)
    knobs = ("batch_size => 10", "batch_pause => '20 ms'", "max_runtime => '2 s'")
    stopped = prune(conn, *knobs, "max_replica_lag => '10 ms'")
    assert stopped.rows < work.rows
    assert stopped.outcome == ("stopped", "max_runtime")


def test_a_replica_that_falls_behind(
    conn: Connection, connect: Connect, replica: Connection, work: Work
) -> None:
    """The run goes on as long as it may, waits, and goes on when the replica has caught up."""
    more = add_work(conn, work=Work(500, 0, 500, 500, 0, 0))  # no matter of 300 milliseconds
    before = rows(conn)
    pause_replay(replica)
    caller = connect()
    with running(caller, "batch_size => 1", "max_replica_lag => '300 ms'") as task:
        alive = wait_for_batches(conn, 1)
        waiting = wait_for_standstill(conn, alive)
        assert waiting.batches > 1
        assert waiting.rows < work.rows + more.rows
        assert not task.done()
        run(replica, "SELECT pg_wal_replay_resume()")
        assert task.result() == [(alive.id,)]
    assert record(conn, alive.id).outcome == ("completed", None)
    assert record(conn, alive.id).rows == work.rows + more.rows
    assert_true_to(before, conn)


def test_no_lag_at_all(conn: Connection, connect: Connect, replica: Connection, work: Work) -> None:
    """Nothing is done while the replica has not replayed the run's own beginning."""
    pause_replay(replica)
    caller = connect()
    with running(caller, "max_replica_lag => '0'", options=SIGNALS) as task:
        alive = wait_for_batches(conn, 0)
        assert wait_for_standstill(conn, alive).batches == 0
        run(replica, "SELECT pg_wal_replay_resume()")
        task.result()
    assert record(conn, alive.id).rows == work.signals


def test_max_runtime_ends_the_wait(conn: Connection, replica: Connection, work: Work) -> None:
    more = add_work(conn, work=Work(500, 0, 500, 500, 0, 0))
    before = rows(conn)
    pause_replay(replica)
    knobs = ("batch_size => 1", "max_replica_lag => '300 ms'", "max_runtime => '1200 ms'")
    stopped = prune(conn, *knobs)
    assert stopped.outcome == ("stopped", "max_runtime")
    assert 0 < stopped.rows < work.rows + more.rows
    assert 1 < seconds(stopped) < 5
    assert_true_to(before, conn)


def test_a_cancel_ends_the_wait(
    conn: Connection, connect: Connect, replica: Connection, work: Work
) -> None:
    pause_replay(replica)
    caller = connect()
    with running(caller, "max_replica_lag => '0'") as task:
        wait_for_batches(conn, 0)
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        assert said(task.exception()).sqlstate == "57014"
    run(replica, "SELECT pg_wal_replay_resume()")
    assert prune(conn).rows == work.rows


def test_a_replica_that_goes_away(
    server: PrivateServer, conn: Connection, connect: Connect, replica: Connection, work: Work
) -> None:
    """Nobody waits for one that is no longer there; all of them must keep up."""
    assert not one(replica, "SELECT pg_is_wal_replay_paused()")
    caller = connect()
    with ExitStack() as stack:
        conninfo = stack.enter_context(server.standby())
        with psycopg.connect(conninfo, autocommit=True) as other:
            pause_replay(other)
        with running(caller, "max_replica_lag => '10 ms'") as task:
            alive = wait_for_standstill(conn, wait_for_batches(conn, 0))
            assert alive.rows < work.rows
            stack.close()
            task.result()
    assert record(conn, alive.id).rows == work.rows


def test_who_may_see_replicas(
    conn: Connection, connect: Connect, role: NewRole, work: Work
) -> None:
    """Whoever may not see them would take them to keep up for ever."""
    name = role("pruner")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {name};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA myapp TO {name};"
        f"GRANT UPDATE (pruned_at) ON myapp.jobs TO {name}",
    )
    caller = connect(name)
    refusal = refused(caller, "42501", call("max_replica_lag => '1 s'"))
    assert name in refusal.detail
    assert refusal.hint == f"GRANT pg_read_all_stats TO {name};"
    run(conn, refusal.hint)
    assert prune(caller, "max_replica_lag => '1 s'").rows == work.rows


def test_on_the_standby(db: Database, conn: Connection, replica: Connection, work: Work) -> None:
    """A clear error before anything is tried."""
    lsn = one(conn, "SELECT pg_current_wal_insert_lsn()::text")
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until("the replica has it all", lambda: bool(one(replica, replayed, lsn)))
    info = replica.info
    there = make_conninfo(host=info.host, port=info.port, dbname=db.name, user="postgres")
    with psycopg.connect(there, autocommit=True) as caller:
        refusal = refused(caller, "25006", call())
        assert refusal.hint
    assert work.rows


# --- memory ----------------------------------------------------------------------------------


def test_a_run_of_many_batches_does_not_grow(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    """What a batch allocates is gone with its transaction, though the CALL goes on."""
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(1000, 0, 1000, 1000, 0, 0))
    caller = connect()
    status = Path("/proc") / str(pid(caller)) / "status"

    def memory() -> int:
        """Kilobytes that are the process's own."""
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1])

    with running(caller, "batch_size => 1") as task:
        wait_for_batches(conn, work.rows // 10)
        early = memory()
        wait_for_batches(conn, work.rows * 9 // 10)
        late = memory()
        task.result()
    assert last(conn).batches >= work.rows
    # A composite of a run is some kilobytes: what 2400 of them would add up to is ten megabytes.
    assert late - early < 4096, (early, late)
