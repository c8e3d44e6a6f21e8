"""Killed in mid-run, with everything that a kill can reach: what is left is whole, and goes on."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from tests.deploy.observe import background, deploy, one, pid, run, wait_until
from tests.runs.work import (
    Work,
    add_work,
    assert_true_to,
    call,
    due,
    halves,
    hold_attribute,
    last,
    patient,
    prune,
    rows,
    running,
    runs,
    wait_for_batches,
)
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

STATES = "SELECT state FROM hotmesh_dba.progress"


@pytest.fixture
def mortal() -> Iterator[PrivateServer]:
    """A server of the test's own, with an app: a killed backend takes the whole server down."""
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG"), fsync=True) as server:
        with server.connect() as conn:
            run(conn, "CREATE EXTENSION hotmesh_dba")
            create_app(conn, "myapp")
            deploy(conn, "myapp")
            add_work(conn, work=Work(600, 100, 600, 600, 400, 100))
        yield server


def is_lost(conn: Connection) -> bool:
    """The postmaster ends all sessions when one is killed; not at the same instant."""
    try:
        run(conn, "SELECT 1")
    except psycopg.OperationalError:
        conn.close()
        return True
    return False


def reconnect(server: PrivateServer) -> Connection:
    """As soon as the server is back."""
    found: list[Connection] = []

    def back() -> bool:
        try:
            found.append(server.connect())
        except psycopg.OperationalError:
            return False
        return True

    wait_until("the server back", back)
    return found[0]


@pytest.mark.parametrize("what", ["the backend", "the server"])
@pytest.mark.parametrize("triggers", ["with triggers", "without"])
def test_killed_in_mid_run(mortal: PrivateServer, what: str, triggers: str) -> None:
    watcher, caller = mortal.connect(), mortal.connect()
    before, todo = rows(watcher), due(watcher)
    knobs = (
        "batch_size => 7",
        "batch_pause => '5 ms'",
        f"disable_triggers => {triggers == 'without'}",
    )
    with background(caller, call(*knobs)) as task:
        wait_for_batches(watcher, 20)
        # A run's commits are asynchronous; one that is not takes those before it to the disk.
        run(watcher, "CREATE TABLE public.committed ()")
        if what == "the backend":
            os.kill(pid(caller), signal.SIGKILL)
        else:
            mortal.node.stop(["-m", "immediate"])
        assert isinstance(task.exception(), psycopg.OperationalError)
    wait_until("every session ended", lambda: is_lost(watcher))
    caller.close()
    if what == "the server":
        mortal.node.start()

    conn = reconnect(mortal)
    # Its row and its rows are one: what the record says is gone, and no more.
    (dead,) = runs(conn)
    assert dead.state == "running"
    assert 0 < dead.rows < todo
    assert one(conn, STATES) == "interrupted"
    assert_true_to(before, conn)

    assert prune(conn).outcome == ("completed", None)
    closed, finished = runs(conn)
    assert closed.outcome == ("interrupted", None)
    assert closed.remaining == todo - dead.rows
    assert closed.rows + finished.rows == todo
    assert due(conn) == 0
    assert run(conn, STATES) == []
    assert_true_to(before, conn)
    conn.close()


def test_killed_again_and_again(mortal: PrivateServer) -> None:
    """At random moments, in mid-batch too: what a crash undoes, it undoes in the record as well."""
    dice = random.Random(5)
    conn = mortal.connect()
    before, todo = rows(conn), due(conn)
    for turn in range(8):
        caller, holder = patient(mortal.connect()), mortal.connect()
        newest = max((found.id for found in runs(conn)), default=0)
        knobs = [f"batch_size => {dice.choice((1, 5))}"]
        knobs += dice.sample(
            ["batch_pause => '5 ms'", "disable_triggers => true"], dice.randint(0, 2)
        )
        if dice.random() < 0.5:
            hold_attribute(holder, dice.choice(("old", "live")))
        victim = pid(caller)
        with running(caller, *knobs) as task:
            wait_for_batches(conn, 0, after=newest)
            blocked = "SELECT %s = ANY (pg_blocking_pids(%s))"
            batches = dice.randint(0, 15)
            while last(conn).batches < batches and not one(conn, blocked, pid(holder), victim):
                assert not task.done()
            if turn % 2:
                run(
                    conn, f"COMMENT ON SCHEMA myapp IS '{turn}'"
                )  # takes what was before to the disk
            if dice.random() < 0.7:
                os.kill(victim, signal.SIGKILL)
            else:
                mortal.node.stop(["-m", "immediate"])
                mortal.node.start()
            assert isinstance(task.exception(), psycopg.OperationalError)
        wait_until("every session ended", partial(is_lost, conn))
        caller.close()
        holder.close()
        conn = reconnect(mortal)
        assert halves(conn) == (0, 0)
        assert_true_to(before, conn)
    finished = prune(conn)
    assert finished.outcome == ("completed", None)
    assert {found.state for found in runs(conn)} == {"interrupted", "completed"}
    assert sum(found.rows for found in runs(conn)) == todo
    assert finished.rows < todo
    assert due(conn) == 0
    assert_true_to(before, conn)
    conn.close()
