"""Rules of the user's on a table: prune and the run do what a plain DELETE or UPDATE of it would.

A rule on a partitioned table is not asked when a statement goes to its leaves.
"""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp
from tests.deploy.observe import deploy, one, refused, run, warnings_of
from tests.runs.work import Rows, Work, add_work, assert_true_to, call, due, halves, last, prune
from tests.runs.work import rows as rows_of
from tests.support.server import Connection

ALL = "'7 days', strip_attributes => true"
KNOBS = pytest.mark.parametrize("knob", ["batch_size => NULL", "batch_size => 3", "prune"])
TABLES = pytest.mark.parametrize("table", ["jobs", "engine_streams", "signal_registry"])
DUE = {
    "jobs": "expired_at < now() - interval '7 days'",
    "engine_streams": "expired_at < now() - interval '7 days'",
    "signal_registry": "expiry < now()",
}
KEY = {"jobs": "id", "engine_streams": "id", "signal_registry": "key"}


@pytest.fixture
def before(conn: Connection, app: NewApp) -> Rows:
    """An app, and how many rows it has: of each table more than fit into a batch are due."""
    deploy(conn, app("myapp"))
    add_work(conn, work=Work(60, 20, 20, 60, 20, 40))
    return rows_of(conn)


def go(conn: Connection, knob: str, options: str = ALL) -> None:
    if knob == "prune":
        run(conn, f"SELECT * FROM hotmesh_dba.prune('myapp', {options})")
    else:
        prune(conn, knob, options=options)


def number(conn: Connection, table: str, condition: str) -> int:
    return int(one(conn, f"SELECT count(*) FROM {table} WHERE {condition}"))


@TABLES
@KNOBS
def test_one_that_writes_down_what_goes(
    conn: Connection, before: Rows, knob: str, table: str
) -> None:
    todo = number(conn, f"myapp.{table}", DUE[table])
    run(
        conn,
        f"CREATE TABLE public.log AS SELECT {KEY[table]} AS key FROM myapp.{table} LIMIT 0;"
        f"CREATE RULE log AS ON DELETE TO myapp.{table}"
        f" DO ALSO INSERT INTO public.log VALUES (OLD.{KEY[table]})",
    )
    go(conn, knob)
    assert due(conn, options=ALL) == 0
    assert number(conn, "public.log", "true") == todo
    assert one(conn, "SELECT count(DISTINCT key) FROM public.log") == todo
    assert halves(conn) == (0, 0)
    if knob != "prune":
        assert last(conn).outcome == ("completed", None)
        assert_true_to(before, conn)


@TABLES
@KNOBS
def test_one_that_keeps_every_row(conn: Connection, before: Rows, knob: str, table: str) -> None:
    """The run ends, and says how many are left; the other steps are done."""
    todo = number(conn, f"myapp.{table}", DUE[table])
    run(conn, f"CREATE RULE keep AS ON DELETE TO myapp.{table} DO INSTEAD NOTHING")
    caught = warnings_of(conn)
    go(conn, knob)
    assert number(conn, f"myapp.{table}", DUE[table]) == todo == due(conn, options=ALL)
    assert halves(conn) == (0, 0)
    if knob != "prune":
        assert last(conn).outcome == ("stopped", "locked")
        assert last(conn).remaining == todo
        assert len(caught) == 1
        assert_true_to(before, conn)


@TABLES
@KNOBS
def test_one_that_keeps_some_rows(conn: Connection, before: Rows, knob: str, table: str) -> None:
    """Among them the oldest, which a batch comes to first."""
    kept = {
        "jobs": "OLD.entity = 'author'",
        "engine_streams": "OLD.id < 20",
        "signal_registry": "OLD.expiry <= (SELECT min(s.expiry) FROM myapp.signal_registry s)"
        " + interval '1 second'",
    }[table]
    run(conn, f"CREATE TABLE public.kept AS SELECT OLD.* FROM myapp.{table} OLD WHERE {kept}")
    stay = number(conn, "public.kept", DUE[table])
    assert 0 < stay < number(conn, f"myapp.{table}", DUE[table])
    run(conn, f"CREATE RULE keep AS ON DELETE TO myapp.{table} WHERE {kept} DO INSTEAD NOTHING")
    go(conn, knob)
    # By batches smaller than what is kept of one time it may stop before it.
    left = number(conn, f"myapp.{table}", DUE[table])
    assert left == stay == due(conn, options=ALL) or (knob == "batch_size => 3" and left >= stay)
    assert halves(conn) == (0, 0)
    if knob != "prune":
        assert last(conn).outcome == ("stopped", "locked")
        assert last(conn).remaining == left
        assert_true_to(before, conn)


@KNOBS
def test_one_that_writes_down_what_is_marked(conn: Connection, before: Rows, knob: str) -> None:
    live = number(conn, "myapp.jobs", "status = 0 AND is_live AND pruned_at IS NULL")
    run(
        conn,
        "CREATE TABLE public.log (id uuid);"
        "CREATE RULE log AS ON UPDATE TO myapp.jobs DO ALSO"
        " INSERT INTO public.log VALUES (OLD.id)",
    )
    go(conn, knob)
    assert number(conn, "public.log", "true") == live > 0
    assert halves(conn) == (0, 0)
    if knob != "prune":
        assert_true_to(before, conn)


def test_one_that_keeps_marks(conn: Connection, before: Rows) -> None:
    """A job that it does not let us mark keeps its attributes."""
    strip = "'7 days', false, false, true, prune_signals => false"
    run(conn, "CREATE RULE keep AS ON UPDATE TO myapp.jobs DO INSTEAD NOTHING")
    refusal = refused(conn, "09000", call(options=strip))
    assert str(last(conn).skipped) in refusal.message
    assert rows_of(conn) == before
    assert_true_to(before, conn)


@pytest.mark.parametrize("table", ["jobs", "jobs_attributes"])
def test_none_is_left_out_with_the_triggers(
    conn: Connection, connect: Connect, before: Rows, table: str
) -> None:
    """A rule is not asked where triggers are off: so they may not be."""
    run(conn, f"CREATE RULE keep AS ON DELETE TO myapp.{table} DO INSTEAD NOTHING")
    caller = connect()
    refusal = refused(caller, "55000", call("disable_triggers => true"))
    assert f"keep on myapp.{table}" in refusal.detail
    assert rows_of(conn) == before


def test_of_attributes(conn: Connection, before: Rows) -> None:
    """One on attributes sees what is stripped."""
    strip = "'7 days', false, false, true, prune_signals => false"
    run(
        conn,
        "CREATE TABLE public.log (id uuid);"
        "CREATE RULE log AS ON DELETE TO myapp.jobs_attributes DO ALSO"
        " INSERT INTO public.log VALUES (OLD.job_id)",
    )
    assert prune(conn, options=strip).stripped_attributes == number(conn, "public.log", "true") > 0
    assert_true_to(before, conn)
