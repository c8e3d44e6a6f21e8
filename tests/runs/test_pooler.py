"""Through a pooler in transaction mode: the session that a run had is somebody else's next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Database
from tests.deploy.observe import one, refused, run
from tests.runs.pooler import connect_through, pgbouncer
from tests.runs.work import (
    Work,
    add_work,
    assert_true_to,
    call,
    last,
    locks,
    prune,
    rows,
    running,
    said,
    settings,
    wait_for_batches,
)
from tests.support.server import Connection, PrivateServer

PID = "SELECT pg_backend_pid()"


@pytest.fixture(scope="module")
def port(server: PrivateServer) -> Iterator[int]:
    with pgbouncer(server) as number:
        yield number


@pytest.fixture
def client(port: int, db: Database) -> Iterator[Connection]:
    with connect_through(port, db.name) as conn:
        yield conn


@pytest.fixture
def neighbour(port: int, db: Database) -> Iterator[Connection]:
    """Another client, who gets the same session of the server."""
    with connect_through(port, db.name) as conn:
        yield conn


@pytest.fixture
def pooled(conn: Connection, client: Connection, neighbour: Connection) -> Iterator[int]:
    """The one pooled session's process, which must be as it was before when the test is over."""
    process = int(one(client, PID))
    assert one(neighbour, PID) == process
    before = settings(client)
    yield process
    assert one(client, PID) == one(neighbour, PID) == process
    assert settings(neighbour) == {
        **before,
        "hotmesh_dba.way": settings(neighbour)["hotmesh_dba.way"],
    }
    assert locks(conn, process) == []


def test_a_run_works(
    conn: Connection, client: Connection, neighbour: Connection, work: Work, pooled: int
) -> None:
    before = rows(conn)
    done = prune(client, "batch_size => 5", "disable_triggers => true")
    assert done.outcome == ("completed", None)
    assert (done.rows, done.pid) == (work.rows, pooled)
    assert prune(neighbour).rows == 0
    assert_true_to(before, conn)


def test_after_an_error(
    conn: Connection, client: Connection, neighbour: Connection, work: Work, pooled: int
) -> None:
    before = rows(conn)
    run(
        conn,
        "CREATE SCHEMA shop; CREATE TABLE shop.bill (job uuid REFERENCES myapp.jobs);"
        "INSERT INTO shop.bill SELECT id FROM myapp.jobs WHERE key LIKE 'old-%' LIMIT 1",
    )
    refused(client, "09000", call("batch_size => 5"))
    assert locks(conn, pooled) == []
    refused(neighbour, "22023", call("batch_size => 0"))
    refused(neighbour, "3F000", call(app="nobody"))
    assert locks(conn, pooled) == []
    run(conn, "DROP SCHEMA shop CASCADE")
    assert prune(neighbour).rows == 1
    assert last(conn).pid == pooled
    assert work.rows
    assert_true_to(before, conn)


@pytest.mark.parametrize("moment", ["in a batch", "in a pause"])
def test_after_a_cancel(
    conn: Connection,
    client: Connection,
    neighbour: Connection,
    work: Work,
    pooled: int,
    moment: str,
) -> None:
    """Cancelled as a client does it, by way of the pooler."""
    add_work(conn, work=Work(1000, 0, 1000, 1000, 0, 0))  # nothing that is over in a moment
    before = rows(conn)
    pause = "1 hour" if moment == "in a pause" else "0"
    with running(client, "batch_size => 1", f"batch_pause => '{pause}'") as task:
        done = wait_for_batches(conn, 1)
        assert done.pid == pooled
        # Whoever comes now waits for the one session; a run through another one is refused.
        refused(conn, "55P03", call())
        client.cancel()
        error = said(task.exception())
    assert error.sqlstate == "57014"
    assert locks(conn, pooled) == []
    assert 0 < last(conn).rows < 3000 + work.rows
    # The neighbour gets the session, and is kept out by nothing.
    finished = prune(neighbour)
    assert finished.outcome == ("completed", None)
    assert finished.pid == pooled
    assert_true_to(before, conn)
