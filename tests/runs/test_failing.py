"""What cannot be removed keeps nothing else from it, and is never passed over in silence."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import Refusal, deploy, one, pid, refused, run, warnings_of
from tests.runs.work import (
    Work,
    add_work,
    assert_true_to,
    call,
    due,
    last,
    locks,
    prune,
    rows,
    runs,
    settings,
)
from tests.support.server import Connection


def refuse_rows(
    conn: Connection, table: str, error: str, condition: str = "true", event: str = "DELETE"
) -> None:
    """A trigger of the user's own that raises an error for some rows."""
    name = f"no_{table}"
    run(
        conn,
        f"CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION 'not this % of mine', '{table}' USING {error}; END $$;"
        f"CREATE TRIGGER {name} BEFORE {event} ON myapp.{table} FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION public.{name}()",
    )


def reference(conn: Connection, job: str, *, deferred: bool = False) -> None:
    """A foreign key of the user's own keeps a job from being deleted."""
    how = "DEFERRABLE INITIALLY DEFERRED" if deferred else "ON DELETE RESTRICT"
    run(
        conn,
        "CREATE SCHEMA shop;"
        f"CREATE TABLE shop.bill (job uuid REFERENCES myapp.jobs (id) {how});"
        f"INSERT INTO shop.bill VALUES ('{job}')",
    )


def some_job(conn: Connection, kind: str = "old") -> str:
    return str(
        one(conn, f"SELECT id FROM myapp.jobs WHERE key LIKE '{kind}-%' ORDER BY id LIMIT 1")
    )


# --- a step that fails -----------------------------------------------------------------------


@pytest.mark.parametrize("code", ["42501", "53100", "XX000", "40001", "25006"])
def test_a_failing_step_keeps_no_other(
    conn: Connection, connect: Connect, work: Work, code: str
) -> None:
    caller = connect()
    before = rows(conn)
    refuse_rows(
        conn, "engine_streams", f"ERRCODE = '{code}', DETAIL = 'the detail', HINT = 'the hint'"
    )
    refusal = refused(caller, code, call())
    failed = last(conn)
    assert refusal.message == "not this engine_streams of mine"
    assert refusal.detail.startswith("the detail")
    assert f"Run {failed.id}" in refusal.detail
    assert str(failed.rows) in refusal.detail
    assert "the hint" in refusal.hint
    assert failed.outcome == ("failed", "error")
    assert (failed.error_sqlstate, failed.error_message) == (code, refusal.message)
    assert failed.error_detail is not None
    assert failed.error_detail.startswith("the detail")
    assert failed.finished_at is not None
    assert failed.deleted_engine_streams == 0
    assert failed.rows == work.rows - work.engine
    assert (failed.skipped, failed.remaining) == (0, work.engine)
    assert_true_to(before, conn)
    assert locks(conn, pid(caller)) == []

    run(conn, "DROP TRIGGER no_engine_streams ON myapp.engine_streams")
    assert prune(conn).rows == work.engine
    assert_true_to(before, conn)


def test_the_first_error_is_the_runs(conn: Connection, work: Work) -> None:
    before = rows(conn)
    refuse_rows(conn, "worker_streams", "ERRCODE = '42501', DETAIL = 'the first'")
    refuse_rows(conn, "signal_registry", "ERRCODE = '53400', DETAIL = 'the second'")
    refuse_rows(conn, "jobs", "ERRCODE = '54000'", "NEW.pruned_at IS NOT NULL", "UPDATE")
    refusal = refused(conn, "42501", call())
    assert refusal.detail.startswith("the first")
    failed = last(conn)
    assert failed.rows == work.jobs + work.transient + work.engine
    assert failed.remaining == work.worker + work.signals + work.live
    assert failed.stripped_attributes == 0
    assert_true_to(before, conn)


def test_a_budget_that_ends_it_hides_no_error(conn: Connection, work: Work) -> None:
    refuse_rows(conn, "jobs", "ERRCODE = '42501', DETAIL = 'the first'", "OLD.entity = 'book'")
    refused(conn, "42501", call("max_rows => 30"))
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert failed.error_sqlstate == "42501"
    assert failed.rows == 30
    assert failed.remaining is not None
    assert failed.remaining >= work.rows - 30


# --- a row that cannot go --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "size", "deferred"),
    [
        ("", "NULL", False),
        ("", "NULL", True),
        ("blocks", "1", False),
        ("blocks", "7", True),
        ("index", "1", True),
        ("index", "7", False),
        ("keys", "7", True),
        ("keys", "NULL", False),
    ],
)
def test_a_job_that_cannot_be_deleted(
    conn: Connection, work: Work, way: str, size: str, deferred: bool
) -> None:
    """A foreign key of a user's own table, checked at once or at the end of the transaction."""
    before = rows(conn)
    poison = some_job(conn)
    reference(conn, poison, deferred=deferred)
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    caught = warnings_of(conn)
    for taken in (work.rows - 1, 0):
        caught.clear()
        refused(conn, "09000", call(f"batch_size => {size}"))
        failed = last(conn)
        assert failed.outcome == ("failed", "error")
        assert (failed.rows, failed.skipped, failed.remaining) == (taken, 1, 1)
        assert failed.error_sqlstate == "09000"
        assert_is_named(caught, poison, "23503", "23001")
        assert due(conn) == 1
        assert_true_to(before, conn)
    # It has kept all that it had.
    kept = "SELECT count(*) FROM myapp.jobs_attributes WHERE job_id = %s"
    assert one(conn, kept, poison) == 3

    run(conn, "DROP TABLE shop.bill")
    assert prune(conn).outcome == ("completed", None)
    assert_true_to(before, conn)


def assert_is_named(caught: list[Refusal], key: str, *codes: str) -> None:
    """One WARNING names the row, its error, and how to look at it."""
    (warning,) = caught
    assert warning.sqlstate in codes
    assert key in warning.message
    assert warning.detail
    assert key in warning.hint


@pytest.mark.parametrize(
    ("way", "size"), [("", "NULL"), ("blocks", "3"), ("index", "3"), ("keys", "NULL")]
)
def test_two_live_jobs_of_one_key(conn: Connection, work: Work, way: str, size: str) -> None:
    """HotMesh's own trigger refuses to let either be marked; none of them is stripped."""
    before = rows(conn)
    run(
        conn,
        "SET session_replication_role = replica;"
        "UPDATE myapp.jobs SET key = 'live-twin' WHERE id IN"
        " (SELECT id FROM myapp.jobs WHERE key LIKE 'live-%' ORDER BY id LIMIT 2);"
        "RESET session_replication_role",
    )
    twins = [job for (job,) in run(conn, "SELECT id::text FROM myapp.jobs WHERE key = 'live-twin'")]
    had = settings(conn)
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    caught = warnings_of(conn)
    for taken in (work.rows - 2, 0):
        caught.clear()
        refused(conn, "09000", call(f"batch_size => {size}"))
        failed = last(conn)
        assert failed.outcome == ("failed", "error")
        assert (failed.rows, failed.skipped, failed.remaining) == (taken, 2, 2)
        assert len(caught) == 2
        assert {twin for twin in twins for said in caught if twin in said.message} == set(twins)
        assert {said.sqlstate for said in caught} == {"23505"}
        assert_true_to(before, conn)
    kept = "SELECT count(*) FROM myapp.jobs_attributes WHERE job_id = ANY (%s::uuid[])"
    assert one(conn, kept, twins) == 6
    run(conn, "SET hotmesh_dba.way = ''")
    assert settings(conn) == {**had, "hotmesh_dba.way": ""}

    # Without triggers nobody refuses.
    assert prune(conn, "disable_triggers => true").outcome == ("completed", None)
    assert_true_to(before, conn)


@pytest.mark.parametrize("table", ["engine_streams", "signal_registry"])
def test_a_row_that_a_trigger_keeps(conn: Connection, work: Work, table: str) -> None:
    """A message or a signal for which a user's trigger raises: the others are done around it."""
    before = rows(conn)
    key, column = ("id", "expired_at") if table == "engine_streams" else ("key", "expiry")
    poison = one(
        conn,
        f"SELECT {key}::text FROM myapp.{table} WHERE {column} IS NOT NULL ORDER BY 1 DESC LIMIT 1",
    )
    tid = one(conn, f"SELECT ctid::text FROM myapp.{table} WHERE {key}::text = %s", poison)
    refuse_rows(conn, table, "ERRCODE = 'P0001', DETAIL = 'why'", f"OLD.{key}::text = '{poison}'")
    caught = warnings_of(conn)
    refused(conn, "09000", call())
    failed = last(conn)
    assert (failed.rows, failed.skipped, failed.remaining) == (work.rows - 1, 1, 1)
    assert_is_named(caught, tid, "P0001")
    assert_true_to(before, conn)


def test_one_row_in_three(conn: Connection, work: Work) -> None:
    """Each of them is named, and the others go."""
    before = rows(conn)
    refuse_rows(conn, "jobs", "ERRCODE = 'P0001', DETAIL = 'why'", "OLD.status = -1")
    caught = warnings_of(conn)
    refusal = refused(conn, "09000", call())
    failed = last(conn)
    assert failed.skipped == len(caught) == due(conn) > 10
    assert str(failed.skipped) in refusal.message
    assert failed.rows == work.rows - failed.skipped
    assert len({said.message for said in caught}) == len(caught)
    assert_true_to(before, conn)


def test_more_rows_than_can_be_the_rows_fault(conn: Connection, work: Work) -> None:
    """They are not looked at one by one for ever: the step fails, with the trigger's own error."""
    run(
        conn,
        "INSERT INTO myapp.engine_streams (stream_name, message, expired_at)"
        " SELECT 'one', 'm', now() - interval '9 days' FROM generate_series(1, 400)",
    )
    before = rows(conn)
    refuse_rows(conn, "engine_streams", "ERRCODE = 'P0001'", "OLD.stream_name = 'one'")
    caught = warnings_of(conn)
    refusal = refused(conn, "P0001", call())
    assert refusal.message == "not this engine_streams of mine"
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert failed.rows >= work.rows - work.engine
    assert failed.marked_pruned == work.live
    assert len(caught) <= 200
    assert_true_to(before, conn)


def test_rows_that_a_trigger_silently_keeps(conn: Connection, work: Work) -> None:
    """It returns NULL, so nothing is deleted and nothing fails: the run does not say completed."""
    before = rows(conn)
    run(
        conn,
        "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE DELETE ON myapp.jobs FOR EACH ROW"
        " WHEN (OLD.status = -1) EXECUTE FUNCTION public.keep()",
    )
    kept = one(conn, "SELECT count(*) FROM myapp.jobs WHERE key LIKE 'old-%' AND status = -1")
    # By marks a batch of such rows alone ends the leaf, so more may stay; along the pages not.
    for way in ("", "index", "keys", "blocks"):
        run(conn, f"SET hotmesh_dba.way = '{way}'")
        run(conn, call("batch_size => 3"))
        ended = last(conn)
        assert ended.state == "stopped"
        assert ended.remaining == due(conn) >= kept
    assert due(conn) == kept
    assert sum(run.rows for run in runs(conn)) == work.rows - kept
    assert_true_to(before, conn)


def test_a_trigger_that_cancels(conn: Connection, connect: Connect, work: Work) -> None:
    """An error that looks like a cancel ends the run, with a true record; a cancel it is not."""
    before = rows(conn)
    caller = connect()
    refuse_rows(conn, "engine_streams", "ERRCODE = '57014', DETAIL = 'why'")
    refused(caller, "57014", call())
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert failed.rows == work.jobs + work.transient
    assert locks(conn, pid(caller)) == []
    assert_true_to(before, conn)


@pytest.mark.parametrize("way", ["", "blocks", "index", "keys"])
def test_an_assertion_of_a_trigger(conn: Connection, work: Work, way: str) -> None:
    """PL/pgSQL's WHEN OTHERS does not catch a failed ASSERT; it is an error as any other."""
    before = rows(conn)
    poison = some_job(conn)
    run(
        conn,
        "CREATE FUNCTION public.check_it() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN ASSERT false, 'not this one'; END $$;"
        "CREATE TRIGGER check_it BEFORE DELETE ON myapp.jobs FOR EACH ROW"
        f" WHEN (OLD.id = '{poison}') EXECUTE FUNCTION public.check_it()",
    )
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    caught = warnings_of(conn)
    refused(conn, "09000", call())
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert (failed.rows, failed.skipped, failed.remaining) == (work.rows - 1, 1, 1)
    assert_is_named(caught, poison, "P0004")
    assert_true_to(before, conn)


@pytest.mark.parametrize("way", ["", "keys"])
def test_an_assertion_of_a_messages_trigger(conn: Connection, work: Work, way: str) -> None:
    before = rows(conn)
    run(
        conn,
        "CREATE FUNCTION public.check_it() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN ASSERT false, 'none of these'; END $$;"
        "CREATE TRIGGER check_it BEFORE DELETE ON myapp.engine_streams FOR EACH ROW"
        " EXECUTE FUNCTION public.check_it()",
    )
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    with pytest.raises(psycopg.Error):
        run(conn, call("batch_size => 20"))
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert failed.rows == work.rows - work.engine
    assert failed.remaining is not None
    assert failed.remaining > 0
    assert_true_to(before, conn)


# --- many rows that cannot go ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "size"), [("", "NULL"), ("blocks", "NULL"), ("index", "20"), ("keys", "NULL")]
)
def test_many_jobs_of_a_leaf(conn: Connection, app: NewApp, way: str, size: str) -> None:
    """More than a hundred a leaf, among good ones, and the next day nothing but them: others go."""
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(jobs=2700, live=10, transient=0, engine=0, worker=0, signals=5))
    before = rows(conn)
    refuse_rows(conn, "jobs", "ERRCODE = 'P0001', DETAIL = 'why'", "OLD.status = -1")
    bad = one(conn, "SELECT count(*) FROM myapp.jobs WHERE key LIKE 'old-%' AND status = -1")
    assert bad == work.jobs / 3 > 8 * 100
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    refusal = refused(conn, "09000", call(f"batch_size => {size}"))
    assert str(bad) in refusal.message
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert (failed.rows, failed.skipped, failed.remaining) == (work.rows - bad, bad, bad)
    assert_true_to(before, conn)

    # All that is old cannot go; what became due since then still does.
    good = "INSERT INTO myapp.jobs (key, entity, status, expired_at) SELECT 'new-' || n, 'book', 1,"
    run(conn, f"{good} now() - interval '8 days' FROM generate_series(1, 400) n")
    # By keys they are all in one lane: so many that it ends there, with their own error.
    refused(conn, "P0001" if way == "keys" else "09000", call(f"batch_size => {size}"))
    assert last(conn).deleted_jobs == 400
    assert due(conn) == bad
    assert way == "keys" or last(conn).remaining == bad


def test_a_leaf_of_which_nothing_can_go(conn: Connection, app: NewApp) -> None:
    """It is given up with the trigger's own error; the other leaves are done."""
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(jobs=8000, live=80, transient=0, engine=0, worker=0, signals=5))
    before = rows(conn)
    refuse_rows(conn, "jobs_part_2", "ERRCODE = 'P0001'", "OLD.expired_at < now()")
    bad = one(conn, "SELECT count(*) FROM myapp.jobs_part_2 WHERE key LIKE 'old-%'")
    assert bad > 800
    caught = warnings_of(conn)
    refusal = refused(conn, "P0001", call("batch_size => 10"))
    assert refusal.message == "not this jobs_part_2 of mine"
    failed = last(conn)
    assert failed.outcome == ("failed", "error")
    assert failed.rows == work.rows - bad
    assert len(caught) == failed.skipped <= 200
    assert failed.remaining is not None
    assert failed.remaining >= bad
    assert due(conn) == bad
    assert_true_to(before, conn)
