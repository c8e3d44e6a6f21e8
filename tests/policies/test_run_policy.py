"""run_policy: a run of what the policy says, by whoever may; and the fuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Database, NewApp, NewDatabase
from tests.deploy.observe import (
    Refusal,
    background,
    deploy,
    one,
    refused,
    run,
    wait_until,
    warnings_of,
)
from tests.deploy.test_dump_restore import copy_of
from tests.policies.calls import ALL, running, set_policy
from tests.policies.conftest import Owners
from tests.runs.work import (
    Run,
    Work,
    add_work,
    assert_true_to,
    last,
    record,
    rows,
    runs,
    said,
)
from tests.support.server import Connection


@pytest.fixture
def work(conn: Connection, deployed: str) -> Work:
    return add_work(conn, deployed)


def run_policy(conn: Connection, *arguments: str, app: str = "myapp") -> Run:
    return record(conn, one(conn, running(*arguments, app=app)))


def test_it_does_what_it_says(conn: Connection, work: Work) -> None:
    before = rows(conn)
    set_policy(conn, "strip_attributes => true, prune_signals => true, max_percent => 100")
    done = run_policy(conn)
    assert (done.policy, done.outcome) == ("nightly", ("completed", None))
    assert (done.marked_pruned, done.deleted_signals) == (work.live, work.signals)
    assert done.rows == work.live + work.signals
    assert_true_to(before, conn)
    set_policy(conn)
    assert run_policy(conn).rows == work.jobs + work.transient + work.engine + work.worker
    assert [run.policy for run in runs(conn)] == ["nightly"] * 2
    run(conn, "CALL hotmesh_dba.prune_batched('myapp')")
    assert last(conn).policy is None


def test_the_knobs_are_its(conn: Connection, work: Work) -> None:
    set_policy(conn, f"{ALL}, batch_size => 3, max_rows => 7, batch_pause => '1 ms'")
    done = run_policy(conn)
    assert (done.outcome, done.rows) == (("stopped", "max_rows"), 7)
    assert (done.options["batch_size"], done.options["batch_pause"]) == (3, "00:00:00.001")
    assert work.rows > 7


def test_a_disabled_one_runs_by_force_alone(conn: Connection, work: Work) -> None:
    """Its schedules call it on, and whoever disabled it did not mean so."""
    before = rows(conn)
    set_policy(conn, f"{ALL}, enabled => false")
    hint = refused(conn, "55000", running()).hint
    assert rows(conn) == before
    assert runs(conn) == []
    run(conn, hint[hint.index("CALL") :])
    assert last(conn).rows == work.rows


def test_what_is_refused(conn: Connection, work: Work) -> None:
    assert work.rows
    assert "set_policy('myapp'" in refused(conn, "42704", running()).hint
    set_policy(conn)
    assert "'nightly'" in refused(conn, "42704", running(name="it''s")).hint
    refused(conn, "3F000", running(app="nobody"))
    refused(conn, "22004", running("force => NULL"))
    refused(conn, "22023", running("worker => 3", "workers => 2"))
    assert runs(conn) == []


def test_a_row_that_came_another_way_is_checked_again(conn: Connection, work: Work) -> None:
    set_policy(conn)
    for change, hint in (
        ("retention = '-1 day'", "retention => "),
        ("retention = NULL", "retention => "),
        ("max_percent = 1000", "max_percent => "),
        ("batch_size = -1", "batch_size => "),
        ("entity_list = '{}'", "entity_list => "),
    ):
        run(conn, f"UPDATE hotmesh_dba.policy SET {change}")
        assert hint in refused(conn, "22023", running()).hint
        set_policy(conn)
    assert run_policy(conn).rows == work.rows


def test_a_stranger_and_a_pruner_run_nothing(conn: Connection, owners: Owners) -> None:
    add_work(conn, "mine")
    set_policy(owners.mine, app="mine")
    before = rows(conn, "mine")
    refused(owners.yours, "42501", running(app="mine"))
    run(
        conn,
        f"GRANT USAGE ON SCHEMA mine TO {owners.you};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA mine TO {owners.you}",
    )
    refused(owners.yours, "42501", running(app="mine"))
    assert rows(conn, "mine") == before
    assert run_policy(owners.mine, app="mine").role == owners.me


def test_two_apps_have_policies_of_one_name(conn: Connection, owners: Owners) -> None:
    for name in ("mine", "yours"):
        add_work(conn, name)
    set_policy(owners.mine, "strip_attributes => true", app="mine")
    set_policy(owners.yours, "prune_signals => true, max_percent => 100", app="yours")
    before = rows(conn, "yours")
    assert run_policy(owners.mine, app="mine").deleted_signals == 0
    assert rows(conn, "yours") == before
    assert run_policy(owners.yours, app="yours").marked_pruned == 0


def test_it_waits_for_nobody(conn: Connection, db: Database, work: Work) -> None:
    set_policy(conn, f"{ALL}, batch_size => 1, batch_pause => '1 hour'")
    assert work.rows
    with db.connect() as other, background(other, running()) as task:
        try:
            wait_until("its record", lambda: bool(runs(conn)))
            assert "progress" in refused(conn, "55P03", running()).hint
        finally:
            other.cancel()
        assert said(task.exception()).sqlstate == "57014"
    assert last(conn).outcome == ("failed", "cancelled")


def test_workers_share_it(conn: Connection, work: Work) -> None:
    before = rows(conn)
    set_policy(conn)
    done = [run_policy(conn, f"worker => {n}", "workers => 3") for n in (1, 2, 3)]
    assert sum(run.rows for run in done) == work.rows
    assert {run.policy for run in done} == {"nightly"}
    assert_true_to(before, conn)


# --- a renamed app, and a restored one ---------------------------------------------------------


def test_it_follows_a_renamed_app(conn: Connection, owners: Owners) -> None:
    """The strip aside: HotMesh's own triggers do not follow."""
    work = add_work(conn, "mine")
    add_work(conn, "yours")
    set_policy(owners.mine, ALL.replace("strip_attributes => true, ", ""), app="mine")
    run(conn, "ALTER SCHEMA mine RENAME TO other; ALTER SCHEMA yours RENAME TO mine")
    before = rows(conn, "mine")
    refused(owners.mine, "42501", running(app="mine"))
    refused(owners.yours, "42704", running(app="mine"))
    refused(conn, "42704", running(app="mine"))
    assert rows(conn, "mine") == before
    assert run_policy(owners.mine, app="other").rows == work.rows - work.live


@pytest.mark.parametrize("by_owner", [True, False])
def test_it_runs_in_a_restored_database(
    db: Database,
    conn: Connection,
    owners: Owners,
    new_database: NewDatabase,
    tmp_path: Path,
    *,
    by_owner: bool,
) -> None:
    work = add_work(conn, "mine")
    set_policy(owners.mine, app="mine")
    run_policy(owners.mine, app="mine")
    add_work(conn, "mine")
    restored = new_database()
    copy_of(db, restored, tmp_path / "dump", "custom")
    with restored.connect(owners.me if by_owner else "postgres") as copy:
        done = run_policy(copy, app="mine")
        assert (done.rows, done.policy) == (work.rows, "nightly")
        assert [run.policy for run in runs(copy)] == ["nightly"] * 2


def test_an_app_made_anew_has_no_policy_of_the_old(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("myapp"))
    set_policy(conn)
    run(conn, "DROP SCHEMA myapp CASCADE")
    deploy(conn, app("myapp"))
    add_work(conn)
    refusal = refused(conn, "42704", running())
    assert "set_policy" in refusal.hint
    assert runs(conn) == []
    set_policy(conn)
    assert run_policy(conn).rows > 0


# --- the fuse --------------------------------------------------------------------------------

# A table, and the policy that takes `due` of its 100 rows.
TABLES = {
    "jobs": (
        "INSERT INTO myapp.jobs (key, entity, status, expired_at) SELECT 'k' || n, 'book', 0,"
        " now() - CASE WHEN n <= {due} THEN interval '9 days' ELSE interval '-1 day' END"
        " FROM generate_series(1, 100) n",
        "'7 days', prune_jobs => true",
    ),
    "jobs and transient": (
        "INSERT INTO myapp.jobs (key, entity, status, expired_at)"
        " SELECT 'k' || n, CASE WHEN n % 2 = 0 THEN 'book' END, 0,"
        " now() - CASE WHEN n <= {due} THEN interval '9 days' ELSE interval '-1 day' END"
        " FROM generate_series(1, 100) n",
        "'7 days', prune_jobs => true, entity_list => ARRAY['book'], prune_transient => true",
    ),
    "engine_streams": (
        "INSERT INTO myapp.engine_streams (stream_name, message, expired_at)"
        " SELECT 's' || n % 9, 'm', CASE WHEN n <= {due} THEN now() - interval '9 days' END"
        " FROM generate_series(1, 100) n",
        "'7 days', prune_streams => true",
    ),
    "worker_streams": (
        "INSERT INTO myapp.worker_streams (stream_name, message, expired_at)"
        " SELECT 's' || n % 9, 'm', CASE WHEN n <= {due} THEN now() - interval '9 days' END"
        " FROM generate_series(1, 100) n",
        "'7 days', prune_streams => true",
    ),
    "streams": (
        "INSERT INTO myapp.streams (stream_name, message, group_name, expired_at)"
        " SELECT 's' || n % 9, 'm', CASE WHEN n % 2 = 0 THEN 'ENGINE' ELSE 'WORKER' END,"
        " CASE WHEN n <= {due} THEN now() - interval '9 days' END"
        " FROM generate_series(1, 100) n",
        "'7 days', prune_streams => true",
    ),
    "signal_registry": (
        "INSERT INTO myapp.signal_registry (key, expiry)"
        " SELECT 'k' || n, CASE WHEN n <= {due} THEN now() ELSE now() + interval '1 day' END"
        " FROM generate_series(1, 100) n",
        "prune_signals => true",
    ),
}


@pytest.fixture
def old_app(conn: Connection, app: NewApp) -> None:
    """With every table there ever was, streams too; empty."""
    deploy(conn, app("myapp", "mixture"))


def hinted(refusal: Refusal) -> list[str]:
    """The statements of a hint, in their order: a look comes before what deletes."""
    return re.findall(r"(?:SELECT|CALL) [^;]*(?=;)", refusal.hint)


@pytest.mark.usefixtures("old_app")
@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_more_than_half_of_a_table_does_not_go(
    conn: Connection, name: str, *, analyzed: bool
) -> None:
    insert, options = TABLES[name]
    table = name.split()[0]
    run(conn, insert.format(due=51))
    if analyzed:
        run(conn, "ANALYZE")
    set_policy(conn, options)
    before = rows(conn)
    refusal = refused(conn, "55000", running())
    assert refusal.message == f"51 of 100 rows of myapp.{table} are due"
    assert "max_percent" in refusal.detail
    look, force = hinted(refusal)
    assert force == "CALL hotmesh_dba.run_policy('myapp', 'nightly', force => true)"
    (would_go,) = run(conn, look)
    jobs, messages, *_, transient, _, signals, exact = would_go
    assert (jobs + messages + transient + signals, exact) == (51, True)
    stopped = last(conn)
    assert (stopped.outcome, stopped.rows, stopped.batches) == (("failed", "max_percent"), 0, 0)
    assert (stopped.error_sqlstate, stopped.policy) == ("55000", "nightly")
    assert stopped.error_message == refusal.message
    assert rows(conn) == before
    assert one(conn, f"SELECT count(*) FROM myapp.{table}") == 100

    run(conn, refusal.hint[refusal.hint.index("CALL") :])
    assert (last(conn).outcome, last(conn).rows) == (("completed", None), 51)
    assert one(conn, f"SELECT count(*) FROM myapp.{table}") == 49


@pytest.mark.usefixtures("old_app")
def test_the_hint_looks_at_what_the_policy_would_take(conn: Connection) -> None:
    """Whatever it says: what it looks at is what goes by force."""
    add_work(conn, work=Work(live=0))
    options = (
        "entity_list => ARRAY['it''s', 'book'], prune_jobs => true, retention => '8 days'",
        "prune_transient => true, retention => '1 mon -1 day', prune_signals => true",
        "prune_engine_streams => true, engine_streams_retention => '29 days 12:00'",
        "prune_streams => true, worker_streams_retention => '9 days', retention => '1 year'",
    )
    for each in options:
        set_policy(conn, f"{each}, max_percent => 0.001")
        look, force = hinted(refused(conn, "55000", running()))
        (would_go,) = run(conn, look)
        run(conn, force)
        done = last(conn)
        assert done.rows > 0
        assert would_go == (
            done.deleted_jobs,
            done.deleted_engine_streams + done.deleted_worker_streams,
            done.deleted_engine_streams,
            done.deleted_worker_streams,
            done.stripped_attributes,
            done.deleted_transient,
            done.marked_pruned,
            done.deleted_signals,
            True,
        )


@pytest.mark.usefixtures("old_app")
@pytest.mark.parametrize("name", TABLES)
def test_half_of_it_goes(conn: Connection, name: str) -> None:
    insert, options = TABLES[name]
    run(conn, insert.format(due=50))
    set_policy(conn, options)
    assert run_policy(conn).rows == 50


@pytest.mark.usefixtures("old_app")
def test_how_much_is_the_policys_to_say(conn: Connection) -> None:
    run(conn, TABLES["jobs"][0].format(due=20))
    set_policy(conn, "'7 days', prune_jobs => true, max_percent => 19.9")
    refused(conn, "55000", running())
    set_policy(conn, "'7 days', prune_jobs => true, max_percent => 20")
    assert run_policy(conn).rows == 20
    run(conn, "DELETE FROM myapp.jobs")
    run(conn, TABLES["jobs"][0].format(due=100))
    set_policy(conn, "'7 days', prune_jobs => true, max_percent => 99.9")
    refused(conn, "55000", running())
    set_policy(conn, "'7 days', prune_jobs => true, max_percent => 100")
    assert run_policy(conn).rows == 100


@pytest.mark.usefixtures("old_app")
def test_one_table_stops_them_all(conn: Connection) -> None:
    """Nothing goes of the others either: the run stops before its first row."""
    run(conn, TABLES["jobs"][0].format(due=10))
    run(conn, TABLES["signal_registry"][0].format(due=90))
    set_policy(conn, "'7 days', prune_jobs => true, prune_signals => true")
    before = rows(conn)
    assert "signal_registry" in refused(conn, "55000", running()).message
    assert rows(conn) == before


@pytest.mark.usefixtures("old_app")
def test_a_strip_deletes_no_row_of_jobs(conn: Connection) -> None:
    run(conn, TABLES["jobs"][0].format(due=0))
    set_policy(conn, "strip_attributes => true")
    assert run_policy(conn).marked_pruned == 100


@pytest.mark.usefixtures("old_app")
def test_no_worker_begins(conn: Connection) -> None:
    """Each looks at whole tables, though its own leaves may have little."""
    insert, options = TABLES["engine_streams"]
    run(conn, insert.format(due=51))
    set_policy(conn, options)
    for worker in (2, 1, 3):
        refused(conn, "55000", running(f"worker => {worker}", "workers => 3"))
    assert {run.outcome for run in runs(conn)} == {("failed", "max_percent")}
    assert one(conn, "SELECT count(*) FROM myapp.engine_streams") == 100


@pytest.mark.usefixtures("old_app")
def test_statistics_that_are_wrong_do_not_fool_it(conn: Connection) -> None:
    """Analyzed when it held a hundred times as much."""
    run(conn, "ALTER TABLE myapp.signal_registry SET (autovacuum_enabled = off)")
    more = TABLES["signal_registry"][0].replace("'k' ||", "'old' ||").replace("100)", "10000)")
    run(conn, more.format(due=0))
    run(conn, "ANALYZE myapp.signal_registry; DELETE FROM myapp.signal_registry")
    run(conn, TABLES["signal_registry"][0].format(due=51))
    set_policy(conn, "prune_signals => true")
    assert "51 of 100 " in refused(conn, "55000", running()).message


@pytest.mark.usefixtures("old_app")
@pytest.mark.parametrize(("lies", "due"), [("first", 500), ("last", 10)])
def test_where_the_rows_lie_makes_no_difference(conn: Connection, lies: str, due: int) -> None:
    """After a first big clean-up they all lie at one end of a table that is mostly empty."""
    run(
        conn,
        "ALTER TABLE myapp.signal_registry SET (autovacuum_enabled = off);"
        "INSERT INTO myapp.signal_registry (key, value, expiry) SELECT 'k' || n, repeat('v', 200),"
        f" CASE WHEN n % 500 < {due} THEN now() END FROM generate_series(1, 50000) n;"
        "DELETE FROM myapp.signal_registry WHERE ctid NOT IN (SELECT ctid FROM"
        f" myapp.signal_registry ORDER BY ctid {'' if lies == 'first' else 'DESC'} LIMIT 500)",
    )
    set_policy(conn, "prune_signals => true, max_percent => 10")
    if due == 500:
        assert "500 of 500 " in refused(conn, "55000", running()).message
    else:
        assert run_policy(conn).rows == 10


def test_without_rights_on_leaves_it_counts_through_the_parent(
    conn: Connection, owners: Owners
) -> None:
    """The owner of the tables is not always the owner of their leaves."""
    run(
        conn,
        TABLES["engine_streams"][0].replace("myapp", "mine").format(due=51)
        + "; ALTER TABLE mine.engine_streams_part_3 OWNER TO postgres",
    )
    leaf = one(conn, "SELECT 'mine.engine_streams_part_3'::regclass::text")
    run(conn, f"REVOKE ALL ON {leaf} FROM PUBLIC, {owners.me}")
    set_policy(owners.mine, "'7 days', prune_streams => true", app="mine")
    assert "51 of 100 " in refused(owners.mine, "55000", running(app="mine")).message


def test_a_table_that_is_locked_is_not_guessed_at(
    conn: Connection, db: Database, work: Work
) -> None:
    set_policy(conn, "prune_signals => true")
    assert work.rows
    with db.connect(autocommit=False) as holder:
        run(holder, "LOCK TABLE myapp.signal_registry")
        refusal = refused(conn, "55P03", running())
        assert "signal_registry" in refusal.detail
    assert last(conn).outcome == ("failed", "error")
    set_policy(conn, "prune_signals => true, max_percent => 100")
    assert run_policy(conn).rows == work.signals


def test_a_stopped_run_warns_as_any(conn: Connection, work: Work) -> None:
    set_policy(conn, f"{ALL}, max_runtime => '0'")
    caught = warnings_of(conn)
    assert run_policy(conn).outcome == ("stopped", "max_runtime")
    assert [warning.message.rpartition(": ")[2] for warning in caught] == ["max_runtime"]
    assert work.rows
