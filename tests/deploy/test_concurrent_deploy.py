"""deploy beside others: another deploy, the SDK, and sessions that hold locks."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import (
    background,
    catalogue,
    deploy,
    pid,
    refused,
    run,
    state,
    wait_blocked,
    wait_until,
)
from tests.support.layout import sdk_replace
from tests.support.server import Connection

DEPLOY = "SELECT action FROM hotmesh_dba.deploy('myapp')"

# Seconds: "a few", with room for a slow machine.
BOUND = 10


def test_two_deploys_at_once(conn: Connection, connect: Connect, app: NewApp) -> None:
    app("myapp", "mixture")
    run(conn, "DROP INDEX myapp.idx_jobs_pruned_at; ALTER TABLE myapp.jobs DROP pruned_at")
    first, second = connect(autocommit=False), connect()
    done = run(first, DEPLOY)
    with background(second, DEPLOY) as other:
        wait_blocked(conn, pid(second), pid(first))
        first.commit()
        assert other.result() == []
    assert len(done) > 3
    assert state(conn, "myapp") == ("ours", True, True)


def test_two_deploys_the_first_of_which_is_undone(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    app("myapp", "mixture")
    first, second = connect(autocommit=False), connect()
    done = run(first, DEPLOY)
    with background(second, DEPLOY) as other:
        wait_blocked(conn, pid(second), pid(first))
        first.rollback()
        assert other.result() == done
    assert state(conn, "myapp") == ("ours", True, True)


def test_beside_an_sdk_that_deploys_all_the_time(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    app("myapp", "mixture")
    sdk, stop = connect(), threading.Event()
    rounds, codes = 0, set[str | None]()

    def prune_all_the_time() -> None:
        nonlocal rounds
        while not stop.is_set():
            try:
                sdk_replace(sdk, "myapp")
            except psycopg.Error as error:
                codes.add(error.sqlstate)
            rounds += 1

    thread = threading.Thread(target=prune_all_the_time)
    thread.start()
    try:
        wait_until("the SDK's first round", lambda: rounds > 0)
        for _ in range(40):
            deploy(conn, "myapp")
        deployed_by = rounds
        wait_until("the SDK still at it", lambda: rounds > deployed_by)
    finally:
        stop.set()
        thread.join()
    # The SDK has no retry of its own: what it may meet is what it meets beside another SDK.
    assert codes <= {"XX000"}
    deploy(conn, "myapp")
    assert state(conn, "myapp") == ("ours", True, True)


LOCKS = {
    "a reader": "SELECT count(*) FROM myapp.jobs",
    "a row": "SELECT * FROM myapp.jobs FOR UPDATE",
    "a writer": "UPDATE myapp.jobs SET status = 1",
    "a partition's reader": "SELECT count(*) FROM myapp.jobs_part_3",
    "a table lock": "LOCK TABLE myapp.jobs IN ACCESS EXCLUSIVE MODE",
    "a vacuum's lock": "LOCK TABLE myapp.jobs IN SHARE UPDATE EXCLUSIVE MODE",
}


@pytest.mark.parametrize("what", sorted(LOCKS))
def test_a_lock_is_waited_for_with_a_bound_and_its_holder_named(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, what: str
) -> None:
    owner = role("owner")
    app("myapp", "0.11", owner)
    run(conn, "INSERT INTO myapp.jobs (key, status) SELECT n, 0 FROM generate_series(1, 20) n")
    objects = catalogue(conn, "myapp")
    holder = connect(owner)
    deployer = connect()
    # deploy's own bound is looked for; the timeout is for a deploy that has none. The bound goes by
    # deadlock_timeout: one case shows it with PostgreSQL's own, the others need not take as long.
    run(deployer, "SET statement_timeout = '25s'")
    if what != "a reader":
        run(deployer, "SET deadlock_timeout = '200ms'")
    with holder.transaction():
        run(holder, LOCKS[what])
        begun = time.monotonic()
        refusal = refused(deployer, "55P03", DEPLOY)
        assert time.monotonic() - begun < BOUND
    assert str(pid(holder)) in refusal.detail
    assert owner in refusal.detail
    assert catalogue(conn, "myapp") == objects
    assert run(deployer, DEPLOY)


def test_a_lock_that_goes_in_time_is_waited_for(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    app("myapp", "0.11")
    holder, deployer = connect(autocommit=False), connect()
    run(holder, "SELECT count(*) FROM myapp.jobs")
    with background(deployer, DEPLOY) as task:
        wait_blocked(conn, pid(deployer), pid(holder))
        holder.rollback()
        assert task.result()
    assert state(conn, "myapp") == ("ours", True, True)


def test_the_application_never_loses_a_deadlock(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    """A reader that goes on to write: it waits for deploy, and deploy for it."""
    app("myapp", "0.11")
    run(conn, "INSERT INTO myapp.jobs (key, status) SELECT n, 1 FROM generate_series(1, 20) n")
    worker, deployer = connect(autocommit=False), connect()
    run(worker, "SELECT count(*) FROM myapp.jobs")
    with background(deployer, DEPLOY) as task:
        wait_blocked(conn, pid(deployer), pid(worker))
        with background(worker, "UPDATE myapp.jobs SET status = 0 RETURNING id") as write:
            assert len(write.result()) == 20
        worker.commit()
        error = task.exception()
    assert error is None or getattr(error, "sqlstate", None) == "55P03"
    deploy(conn, "myapp")
    assert state(conn, "myapp") == ("ours", True, True)
