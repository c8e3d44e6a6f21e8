"""doctor() on policies: what nobody takes, what nothing runs, what fails, lies or fights."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, NewRole
from tests.deploy.observe import background, run, sqlstate, wait_until
from tests.observe.watch import bad, findings, set_policy, status, typed
from tests.runs.work import Work, add_work, prune, runs, wait_for_batches
from tests.support.server import Connection

CHECKS = ["disable_triggers", "coverage", "unrun_policies", "last_runs", "backlog", "conflicts"]
STREAMS = "retention => '7 days', prune_streams => true, max_percent => 100"
AGE = "UPDATE hotmesh_dba.policy SET updated_at = updated_at - interval '{}' WHERE name = 'p'"
AGE_RUNS = "UPDATE hotmesh_dba.run SET started_at = started_at - interval '{}'"


def test_a_stranger_is_not_told(
    conn: Connection, connect: Connect, owner: str, role: NewRole
) -> None:
    """Not even by what policies do; and what the hint gives is enough to see them."""
    stranger = role("stranger")
    run(conn, "SELECT hotmesh_dba.grant_prune('myapp', %s)", stranger)
    set_policy(conn)
    run(conn, AGE.format("30 days"))
    theirs = connect(stranger)
    for check in CHECKS:
        found = bad(theirs, check)
        assert found.status == "unknown"
        assert found.hint == f"GRANT {owner} TO {stranger};"
    typed(conn, bad(theirs, "coverage"))
    assert bad(theirs, "unrun_policies").status == "problem"


@pytest.mark.usefixtures("owner")
def test_coverage(conn: Connection) -> None:
    """Each table that has many rows and loses none."""
    assert status(conn, "coverage") == {"ok"}
    add_work(conn, work=Work(jobs=1000, attributes=1, engine=1000, worker=1000, signals=1000))
    run(conn, "ANALYZE")
    set_policy(conn, "jobs", "prune_signals => true, enabled => false")
    rows = [row for row in findings(conn, "coverage") if row.status == "warning"]
    assert [row.detail.split()[4].rstrip(",") for row in rows] == [
        "myapp.jobs",
        "myapp.jobs_attributes",
        "myapp.engine_streams",
        "myapp.worker_streams",
        "myapp.signal_registry",
    ]
    for row in rows:
        typed(conn, row)
    assert status(conn, "coverage") == {"ok"}
    names = [name for (name,) in run(conn, "SELECT name FROM hotmesh_dba.policy ORDER BY 1")]
    assert "jobs-2" in names, "a hint never replaces a policy"


@pytest.mark.usefixtures("owner")
def test_coverage_by_the_cascade(conn: Connection) -> None:
    add_work(conn, work=Work(jobs=1000, attributes=1))
    run(conn, "ANALYZE")
    set_policy(conn, options="retention => '7 days', prune_jobs => true")
    assert status(conn, "coverage") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_coverage_by_runs_without_a_policy(conn: Connection) -> None:
    add_work(conn, work=Work(signals=2500))
    run(conn, "ANALYZE myapp.signal_registry")
    assert status(conn, "coverage") == {"warning"}
    prune(conn, "max_rows => 1", options="'7 days', prune_signals => false")
    assert status(conn, "coverage") == {"warning"}
    prune(conn, "max_rows => 1", options="'7 days', false, false")
    assert status(conn, "coverage") == {"ok"}
    run(conn, AGE_RUNS.format("9 days"))
    assert status(conn, "coverage") == {"warning"}


def test_unrun_policies_of_run_due(conn: Connection, connect: Connect, owner: str) -> None:
    set_policy(conn, options=STREAMS + ", every => '1 day'")
    run(conn, AGE.format("47 hours"))
    assert status(conn, "unrun_policies") == {"ok"}
    run(conn, AGE.format("2 hours"))
    found = bad(conn, "unrun_policies")
    assert found.status == "problem"
    assert "never ran" in found.detail
    typed(connect(owner), found)
    assert status(conn, "unrun_policies") == {"ok"}
    run(conn, AGE_RUNS.format("3 days"))
    assert "its last run began on" in bad(conn, "unrun_policies").detail


@pytest.mark.usefixtures("owner")
def test_unrun_policies_of_no_schedule(conn: Connection) -> None:
    set_policy(conn, options=STREAMS)
    run(conn, AGE.format("7 days"))
    assert status(conn, "unrun_policies") == {"ok"}
    run(conn, AGE.format("2 days"))
    typed(conn, bad(conn, "unrun_policies"))
    assert status(conn, "unrun_policies") == {"ok"}
    set_policy(conn, options=STREAMS + ", enabled => false")
    run(conn, AGE_RUNS.format("30 days"))
    assert status(conn, "unrun_policies") == {"ok"}


def test_last_runs_that_failed(conn: Connection, connect: Connect, owner: str) -> None:
    add_work(conn)
    mine = connect(owner)
    set_policy(mine, options=STREAMS)
    run(
        conn,
        "CREATE FUNCTION myapp.no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;"
        "CREATE TRIGGER no BEFORE DELETE ON myapp.engine_streams FOR EACH ROW"
        " EXECUTE FUNCTION myapp.no()",
    )
    with pytest.raises(psycopg.Error):
        run(mine, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    found = bad(mine, "last_runs")
    assert found.status == "problem"
    assert 'policy "p"' in found.detail
    run(conn, "DROP TRIGGER no ON myapp.engine_streams")
    typed(mine, found)
    assert status(mine, "last_runs") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_last_runs_that_were_locked_out(conn: Connection, connect: Connect) -> None:
    add_work(conn)
    other = connect(autocommit=False)
    run(other, "SELECT 1 FROM myapp.worker_streams FOR UPDATE")
    set_policy(conn, options=STREAMS)
    run(conn, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    found = bad(conn, "last_runs")
    assert found.status == "warning"
    assert "40 rows" in found.detail
    other.rollback()
    typed(conn, found)
    assert status(conn, "last_runs") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_last_runs_without_a_policy(conn: Connection, connect: Connect) -> None:
    add_work(conn)
    other = connect(autocommit=False)
    run(other, "SELECT 1 FROM myapp.worker_streams FOR UPDATE")
    done = prune(conn)
    found = bad(conn, "last_runs")
    assert found.hint == f"SELECT * FROM hotmesh_dba.run WHERE id = {done.id};"
    other.rollback()
    prune(conn)
    assert status(conn, "last_runs") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_last_runs_that_the_fuse_stopped(conn: Connection) -> None:
    add_work(conn)
    set_policy(conn, options="retention => '7 days', prune_streams => true")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        run(conn, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    found = bad(conn, "last_runs")
    assert found.status == "problem"
    assert found.hint is not None
    assert found.hint.startswith("SELECT * FROM hotmesh_dba.preview("), "a look comes first"
    typed(conn, found)
    assert status(conn, "last_runs") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_last_runs_whose_process_is_gone(conn: Connection, connect: Connect) -> None:
    """Though its row says that it runs."""
    add_work(conn)
    set_policy(conn, options=STREAMS + ", batch_size => 10, batch_pause => '1 hour'")
    with background(connect(), "CALL hotmesh_dba.run_policy('myapp', 'p')") as task:
        wait_for_batches(conn, 1)
        assert status(conn, "last_runs") == {"ok"}
        run(conn, "SELECT pg_terminate_backend(pid) FROM hotmesh_dba.run")
        assert task.exception() is not None
    wait_until("its end", lambda: status(conn, "last_runs") == {"problem"})
    found = bad(conn, "last_runs")
    assert "was interrupted" in found.detail
    assert [r.state for r in runs(conn)] == ["running"]
    set_policy(conn, options=STREAMS)
    typed(conn, found)
    assert status(conn, "last_runs") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_backlog(conn: Connection) -> None:
    """Due since 23 days under a window of 7; within the grace under one of 28."""
    add_work(conn)
    set_policy(conn, "patient", "retention => '29 days', prune_streams => true")
    assert status(conn, "backlog", "myapp") == {"ok"}
    set_policy(conn, "monthly", STREAMS + ", every => '30 days'")
    assert status(conn, "backlog", "myapp") == {"ok"}
    set_policy(conn, options=STREAMS)
    rows = [row for row in findings(conn, "backlog", "myapp") if row.status != "ok"]
    assert [(row.status, row.detail) for row in rows] == [
        (
            "problem",
            f'{count} rows of myapp.{table} are due under policy "p", the oldest for 23 days.',
        )
        for table, count in (("engine_streams", 60), ("worker_streams", 40))
    ]
    typed(conn, rows[0])
    assert status(conn, "backlog", "myapp") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_backlog_behind_rows_that_the_look_cannot_pass(conn: Connection) -> None:
    """All that it came upon are another entity's: that nothing is due it cannot say."""
    run(
        conn,
        "INSERT INTO myapp.jobs (key, entity, status, expired_at)"
        " SELECT 'k' || n, CASE WHEN n > 1500 THEN 'book' ELSE 'author' END, 0,"
        " now() - interval '90 days' + n * interval '1 minute' FROM generate_series(1, 1510) n",
    )
    set_policy(conn, options=JOBS.format("7 days") + ", entity_list => '{book}'")
    (found,) = findings(conn, "backlog", "myapp")
    assert found.status == "unknown"
    assert "None of the oldest rows of myapp.jobs" in found.detail
    run(conn, "DELETE FROM myapp.jobs WHERE entity = 'author'")
    assert status(conn, "backlog", "myapp") == {"problem"}


JOBS = "retention => '{}', prune_jobs => true"


@pytest.mark.parametrize(
    ("first", "second", "loser"),
    [
        (JOBS.format("7 days"), JOBS.format("30 days"), "b"),
        (JOBS.format("7 days"), JOBS.format("7 days"), None),
        (JOBS.format("7 days"), JOBS.format("30 days") + ", entity_list => '{book}'", "b"),
        (
            JOBS.format("7 days") + ", entity_list => '{author}'",
            JOBS.format("30 days") + ", entity_list => '{book}'",
            None,
        ),
        (JOBS.format("30 days"), "retention => '1 day', prune_transient => true", "a"),
        (JOBS.format("1 day"), "retention => '30 days', prune_transient => true", "b"),
        (
            JOBS.format("30 days") + ", entity_list => '{book}'",
            "retention => '1 day', prune_transient => true",
            None,
        ),
        (
            "prune_engine_streams => true, engine_streams_retention => '1 day'",
            "prune_streams => true, retention => '2 days'",
            "b",
        ),
        (
            "prune_engine_streams => true, engine_streams_retention => '1 day'",
            "prune_worker_streams => true, worker_streams_retention => '2 days'",
            None,
        ),
        ("strip_attributes => true", "strip_attributes => true, keep_hmark => true", "b"),
        ("strip_attributes => true", "strip_attributes => true", None),
        ("strip_attributes => true", JOBS.format("7 days"), None),
        ("prune_signals => true", "prune_signals => true", None),
    ],
)
@pytest.mark.usefixtures("owner")
def test_conflicts(conn: Connection, first: str, second: str, loser: str | None) -> None:
    set_policy(conn, "a", first)
    set_policy(conn, "b", second)
    if loser is None:
        assert status(conn, "conflicts") == {"ok"}
        return
    found = bad(conn, "conflicts")
    assert found.status == "warning"
    assert found.hint == f"SELECT hotmesh_dba.drop_policy('myapp', '{loser}');"
    typed(conn, found)
    assert status(conn, "conflicts") == {"ok"}


@pytest.mark.usefixtures("owner")
def test_conflicts_with_one_that_is_off_are_none(conn: Connection) -> None:
    set_policy(conn, "a", JOBS.format("7 days"))
    set_policy(conn, "b", JOBS.format("30 days") + ", enabled => false")
    assert status(conn, "conflicts") == {"ok"}
    assert sqlstate(conn, "SELECT * FROM hotmesh_dba.doctor()") is None
