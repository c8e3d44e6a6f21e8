"""Strip and mark are one decision, whatever commits meanwhile; and the application never loses.

Two real connections; the order of events is forced by locks and seen in the server's own views.
"""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import background, deploy, one, pid, run, wait_blocked, wait_until
from tests.input.naive import LEAKED, NAIVE, NAIVE_STRIP, OUR_STRIP, add_job
from tests.support.server import Connection

GATE = 4711  # an advisory lock at which a strip waits

KEY = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('done', 0))"
UPDATE = "UPDATE myapp.jobs SET context = '{}' WHERE id = %s RETURNING id::text"


@pytest.fixture
def gated(conn: Connection, app: NewApp) -> str:
    """An app in which every statement that deletes attributes waits at the gate when it is done."""
    deploy(conn, app("myapp"))
    run(conn, NAIVE)
    run(
        conn,
        "CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END';"
        "CREATE TRIGGER gate AFTER DELETE ON myapp.jobs_attributes"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.gate()",
    )
    return "myapp"


@pytest.fixture
def stripper(connect: Connect) -> Connection:
    """It waits at the gate as long as a slow machine needs."""
    conn = connect()
    run(conn, "SET deadlock_timeout = '60s'")
    return conn


@pytest.mark.parametrize(
    ("strip", "leaks"), [(NAIVE_STRIP, 4), (OUR_STRIP, 0)], ids=["naive", "ours"]
)
@pytest.mark.usefixtures("gated")
def test_a_job_that_completes_during_a_strip(
    conn: Connection,
    connect: Connect,
    stripper: Connection,
    strip: str,
    leaks: int,
) -> None:
    job = add_job(conn, "done")
    late = add_job(conn, "late", status=1, beside=job)
    keeper, worker = connect(), connect()
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    with background(stripper, strip) as task:
        wait_blocked(conn, pid(stripper), pid(keeper))
        # The attributes are deleted, nothing is marked: now the other job completes.
        run(worker, "BEGIN")
        run(worker, "UPDATE myapp.jobs SET status = 0 WHERE id = %s", late)
        run(
            worker,
            "INSERT INTO myapp.jobs_attributes (job_id, symbol, type) VALUES (%s, 'z', 'adata')",
            late,
        )
        run(worker, "COMMIT")
        run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
        ((stripped, marked),) = task.result()
    assert stripped == 3
    assert one(conn, LEAKED) == leaks
    if leaks:
        assert marked == 2
    else:
        assert marked == 1
        assert run(conn, OUR_STRIP) == [(4, 1)]
        assert one(conn, LEAKED) == 0


@pytest.mark.parametrize(
    ("strip", "leaks"), [(NAIVE_STRIP, 1), (OUR_STRIP, 0)], ids=["naive", "ours"]
)
def test_an_attribute_that_is_not_committed_yet(
    conn: Connection, connect: Connect, app: NewApp, strip: str, leaks: int
) -> None:
    """Its foreign key holds the job: FOR NO KEY UPDATE would not see that, FOR UPDATE does."""
    deploy(conn, app("myapp"))
    run(conn, NAIVE)
    add_job(conn, "other")
    job = add_job(conn, "done")
    writer = connect(autocommit=False)
    run(
        writer,
        "INSERT INTO myapp.jobs_attributes (job_id, symbol, type) VALUES (%s, 'z', 'adata')",
        job,
    )
    taken = run(conn, strip)
    writer.commit()
    assert one(conn, LEAKED) == leaks
    if not leaks:
        assert taken == [(3, 1)]
        assert run(conn, OUR_STRIP) == [(4, 1)]
        assert one(conn, LEAKED) == 0


@pytest.mark.usefixtures("gated")
def test_an_attribute_that_comes_while_the_job_is_held(
    conn: Connection, connect: Connect, stripper: Connection
) -> None:
    """The writer waits for the strip, not the other way round; what it adds later is legal."""
    job = add_job(conn, "done")
    keeper, writer = connect(), connect()
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    with background(stripper, OUR_STRIP) as task:
        wait_blocked(conn, pid(stripper), pid(keeper))
        insert = (
            "INSERT INTO myapp.jobs_attributes (job_id, symbol, type)"
            " VALUES (%s, 'z', 'adata') RETURNING 1"
        )
        with background(writer, insert, job) as write:
            wait_blocked(conn, pid(writer), pid(stripper))
            run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
            assert task.result() == [(3, 1)]
            assert write.result() == [(1,)]


def test_the_application_never_loses_a_deadlock(
    conn: Connection, connect: Connect, app: NewApp
) -> None:
    """The writer holds a key's lock, the strip the job: each wants the other's."""
    deploy(conn, app("myapp"))
    job = add_job(conn, "done")
    writer, stripper = connect(), connect()
    run(writer, KEY)
    with background(stripper, OUR_STRIP) as task:
        wait_blocked(conn, pid(stripper), pid(writer))
        assert run(writer, UPDATE, job) == [(job,)]
        run(writer, "COMMIT")
        error = task.exception()
    assert error is None or getattr(error, "sqlstate", None) == "55P03"
    run(conn, OUR_STRIP)
    assert run(conn, "SELECT pruned_at IS NOT NULL FROM myapp.jobs") == [(True,)]
    assert one(conn, LEAKED) == 0


@pytest.mark.usefixtures("gated")
def test_nor_where_it_has_waited_for_the_strip_for_long(conn: Connection, connect: Connect) -> None:
    """Its deadlock_timeout runs since its own wait began: the strip must give way sooner."""
    job = add_job(conn, "done")
    keeper, writer, stripper = connect(), connect(), connect()
    for session in (writer, stripper):
        run(session, "SET deadlock_timeout = '600ms'")
    run(conn, "ALTER FUNCTION public.gate() SET lock_timeout = 0")  # it stands for long work
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    run(writer, KEY)
    with background(stripper, OUR_STRIP) as task:
        wait_blocked(conn, pid(stripper), pid(keeper))
        with background(writer, UPDATE, job) as update:
            wait_blocked(conn, pid(writer), pid(stripper))
            long = (
                "SELECT clock_timestamp() - query_start > '450 ms'"
                " FROM pg_stat_activity WHERE pid = %s"
            )
            wait_until("a long wait", lambda: bool(one(conn, long, pid(writer))))
            run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
            assert update.result() == [(job,)]
        run(writer, "COMMIT")
        error = task.exception()
    assert error is None or getattr(error, "sqlstate", None) == "55P03"
    run(conn, OUR_STRIP)
    assert run(conn, "SELECT pruned_at IS NOT NULL FROM myapp.jobs") == [(True,)]
    assert one(conn, LEAKED) == 0


@pytest.mark.usefixtures("gated")
def test_two_prunes_at_once_share_the_work(
    conn: Connection, connect: Connect, stripper: Connection
) -> None:
    """The second leaves to the first what it holds, and neither counts a job twice."""
    add_job(conn, "one")
    keeper = connect()
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    with background(stripper, OUR_STRIP) as task:
        wait_blocked(conn, pid(stripper), pid(keeper))
        assert run(conn, OUR_STRIP) == [(0, 0)]
        run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
        assert task.result() == [(3, 1)]
    assert one(conn, LEAKED) == 0
