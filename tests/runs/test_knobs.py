"""Arguments that make no sense, and calls where no run can be: refused, and nothing is changed."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, Database
from tests.deploy.observe import one, refused, run
from tests.input.refusing import nothing_changed
from tests.runs.work import Work, call, due, prune, runs, settings
from tests.support.server import Connection, PrivateServer

MOST = 9223372036854775807

BAD = {
    "batch_size": ["0", "-1", "-2147483648"],
    "batch_time": ["NULL", "'0'", "'-1 ms'", "'999 us'", "'61 minutes'", "'1 month'"],
    "batch_pause": ["NULL", "'-1 us'", "'-1 month'", "'61 minutes'"],
    "max_runtime": ["'-1 us'", "'-1 day'", "'2 years'"],
    "max_rows": ["0", "-1", f"-{MOST}"],
    "worker": ["NULL", "0", "-1", "2"],
    "workers": ["NULL", "0", "-1", "65"],
    "max_wal_rate": ["0", "-1"],
    "max_replica_lag": ["'-1 us'", "'2 years'"],
}
INFINITE = ["batch_time", "batch_pause", "max_runtime", "max_replica_lag"]


def test_knobs(conn: Connection, connect: Connect, server: PrivateServer, work: Work) -> None:
    caller = connect()
    had = settings(caller)
    bad = [(knob, value) for knob, values in BAD.items() for value in values]
    if server.major >= 17:
        bad += [(knob, f"'{sign}infinity'") for knob in INFINITE for sign in ("", "-")]
    with nothing_changed(conn, "myapp"):
        for knob, value in bad:
            refusal = refused(caller, "22023", call(f"{knob} => {value}"))
            assert refusal.message.startswith(f"{knob} must be "), (knob, value)
            assert f"{knob} => " in refusal.hint
            assert refusal.detail == "Nothing was changed."
        refusal = refused(caller, "22023", call("worker => 4", "workers => 3"))
        assert refusal.message.startswith("worker must be ")
        refusal = refused(caller, "22004", call("disable_triggers => NULL"))
        assert refusal.message.startswith("disable_triggers ")
        assert settings(caller) == had
    assert runs(conn) == []
    assert due(conn) == work.rows


def test_the_arguments_of_prune_are_checked_like_its(conn: Connection, work: Work) -> None:
    with nothing_changed(conn, "myapp"):
        for window in ("NULL", "'-1 day'", "'1 month -30 days'"):
            assert "retention" in refused(conn, "22023", call(options=window)).message
        for flag in ("prune_jobs", "prune_streams", "strip_attributes", "keep_hmark"):
            options = f"'7 days', {flag} => NULL"
            assert flag in refused(conn, "22004", call(options=options)).message
        refused(conn, "3F000", call(app="nobody"))
        refused(conn, "42602", call(app="my;app"))
    assert runs(conn) == []
    assert work.rows == due(conn)


def test_the_widest_that_make_sense(conn: Connection, work: Work) -> None:
    done = prune(
        conn,
        "batch_size => 2147483647",
        "batch_time => '1 hour'",
        "max_runtime => '1 year'",
        f"max_rows => {MOST}",
        f"max_wal_rate => {MOST}",
        "max_replica_lag => '1 year'",
        "workers => 64",
    )
    # Of 64 workers the first has the first leaf of each table, and what has none.
    assert done.outcome == ("completed", None)
    assert work.signals < done.rows < work.rows
    for number in range(2, 9):
        prune(conn, f"worker => {number}", "workers => 64", "batch_time => '1 ms'")
    assert sum(run.rows for run in runs(conn)) == work.rows
    assert prune(conn, "run_id => 4711").id != 4711


# --- where it is called ----------------------------------------------------------------------


def test_in_a_transaction_block(conn: Connection, connect: Connect, work: Work) -> None:
    """PostgreSQL's own word, at the first COMMIT: before anything was tried."""
    caller = connect()
    with nothing_changed(conn, "myapp"):
        for begin in ("BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE"):
            run(caller, begin)
            with pytest.raises(Exception, match="invalid transaction termination") as caught:
                run(caller, call())
            assert getattr(caught.value, "sqlstate", None) == "2D000"
            run(caller, "ROLLBACK")
        # Nor beside another statement, nor from a function.
        with pytest.raises(Exception, match="invalid transaction termination"):
            run(caller, f"{call()}; SELECT 1")
        with pytest.raises(Exception, match="invalid transaction termination"):
            run(
                caller,
                "CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $f$ DECLARE r bigint;"
                " BEGIN CALL hotmesh_dba.prune_batched('myapp', run_id => r); END $f$;"
                "SELECT public.f()",
            )
    assert runs(conn) == []
    assert work.rows == due(conn)


def test_from_a_block(conn: Connection, connect: Connect, work: Work) -> None:
    """DO and other procedures may commit too; the id comes back in a variable."""
    caller = connect()
    knobs = "'myapp', '7 days', batch_size => 7, strip_attributes => true, prune_transient => true"
    run(
        caller,
        f"DO $$ DECLARE v_id bigint; BEGIN CALL hotmesh_dba.prune_batched({knobs}, run_id => v_id);"
        " PERFORM set_config('test.run_id', v_id::text, false); END $$",
    )
    (done,) = runs(conn)
    assert one(caller, "SHOW test.run_id") == str(done.id)
    assert done.outcome == ("completed", None)
    assert done.rows >= work.rows


@pytest.mark.parametrize("scope", ["session", "role and database"])
def test_where_transactions_are_read_only(
    conn: Connection, connect: Connect, work: Work, db: Database, scope: str
) -> None:
    if scope == "session":
        caller = connect()
        run(caller, "SET default_transaction_read_only = on")
    else:
        run(conn, f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")
        caller = connect()
    with nothing_changed(conn, "myapp"):
        refusal = refused(caller, "25006", call())
        assert "read" in refusal.hint or "READ" in refusal.hint
    assert work.rows == due(conn)


def test_a_hostile_search_path(conn: Connection, connect: Connect, work: Work) -> None:
    """The procedure has no SET clause; nothing in it can be turned by what stands before."""
    caller = connect()
    run(
        conn,
        "CREATE SCHEMA evil; CREATE TABLE evil.called ();"
        + "".join(
            f"CREATE FUNCTION evil.{name} RETURNS {result} LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'called'; END $$;"
            for name, result in (
                ("now()", "timestamptz"),
                ("clock_timestamp()", "timestamptz"),
                ("pg_backend_pid()", "int"),
            )
        )
        + "CREATE FUNCTION evil.eq(boolean, boolean) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'called'; END $$;"
        "CREATE OPERATOR evil.= (LEFTARG = boolean, RIGHTARG = boolean, FUNCTION = evil.eq);"
        "CREATE TYPE evil._run AS (id int)",
    )
    run(caller, "SET search_path = evil, hotmesh_dba, pg_catalog")
    assert prune(caller, "batch_size => 20").rows == work.rows
    assert one(caller, "SHOW search_path") == "evil, hotmesh_dba, pg_catalog"


def test_without_the_extensions_statistics(conn: Connection, connect: Connect, work: Work) -> None:
    """Where nothing is counted by the server, the rows are still; only cascades are not."""
    caller = connect()
    run(caller, "SET track_counts = off")
    done = prune(caller)
    assert (done.rows, done.cascaded_attributes) == (work.rows, 0)
    assert due(conn) == 0
