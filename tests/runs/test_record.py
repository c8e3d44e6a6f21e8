"""Table run and view progress: who sees them, what stays, and that they say the truth."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Connect, Database, NewApp, NewDatabase, NewRole
from tests.deploy.observe import deploy, one, pid, run, sqlstate, wait_until
from tests.deploy.test_dump_restore import copy_of
from tests.runs.work import (
    Work,
    add_work,
    assert_true_to,
    due,
    prune,
    record,
    rows,
    running,
    runs,
    said,
    wait_for_batches,
)
from tests.support.layout import create_app
from tests.support.server import Connection

PAUSE = ("batch_size => 5", "batch_pause => '1 hour'")
PRUNER = (
    "GRANT USAGE ON SCHEMA {app} TO {role}; GRANT SELECT, DELETE ON {app}.jobs,"
    " {app}.jobs_attributes, {app}.engine_streams, {app}.worker_streams, {app}.signal_registry"
    " TO {role}; GRANT UPDATE (pruned_at) ON {app}.jobs TO {role}"
)
# Rows of earlier times, as many as are asked for, each a minute older than the one before.
OLDER = (
    "INSERT INTO hotmesh_dba.run (group_id, app, worker, workers, options, jobs_before,"
    " engine_before, worker_before, signals_until, triggers_disabled, state, started_at)"
    " SELECT 0, %s, 1, 1, '{}', now(), now(), now(), now(), false, %s,"
    " now() - %s::interval - ((%s + 1 - n) * interval '1 minute') FROM generate_series(1, %s) n"
)


# --- whose it is -----------------------------------------------------------------------------


@pytest.fixture
def owners(conn: Connection, app: NewApp, role: NewRole) -> tuple[str, str]:
    """The owners of the apps `mine` and `yours`."""
    names = (role("mine"), role("yours"))
    for name, schema in zip(names, ("mine", "yours"), strict=True):
        deploy(conn, app(schema, owner=name))
        add_work(conn, schema)
    return names


def test_each_sees_its_own(
    conn: Connection, connect: Connect, owners: tuple[str, str], role: NewRole
) -> None:
    mine, yours = (connect(owner) for owner in owners)
    stranger, pruner = connect(role("stranger")), role("pruner")
    run(conn, PRUNER.format(app="mine", role=pruner))
    helper = connect(pruner)

    done = prune(mine, app="mine")
    other = prune(yours, app="yours")
    helped = prune(helper, app="mine")
    assert (done.role, other.role, helped.role) == (*owners, pruner)
    assert [run.id for run in runs(mine)] == [done.id, helped.id]
    assert [run.id for run in runs(helper)] == [done.id, helped.id]
    assert [run.id for run in runs(yours)] == [other.id]
    assert runs(stranger) == []
    assert len(runs(conn)) == 3

    # Nor may anybody write what he may not see.
    for someone in (yours, stranger):
        for statement in (
            "UPDATE hotmesh_dba.run SET state = 'running' WHERE app = 'mine' RETURNING id",
            "DELETE FROM hotmesh_dba.run WHERE app = 'mine' RETURNING id",
        ):
            assert run(someone, statement) == []
        assert sqlstate(someone, OLDER, "mine", "running", "0", 1, 1) == "42501"
        assert sqlstate(someone, "TRUNCATE hotmesh_dba.run") == "42501"
    moved = "UPDATE hotmesh_dba.run SET app = 'mine' RETURNING id"
    assert sqlstate(yours, moved) == "42501"
    assert [run.state for run in runs(conn)] == ["completed"] * 3

    # Whoever loses the right to delete loses the view of it.
    run(conn, f"REVOKE DELETE ON mine.jobs FROM {pruner}")
    assert runs(helper) == []


def test_each_sees_its_own_progress(
    conn: Connection, connect: Connect, owners: tuple[str, str], role: NewRole
) -> None:
    mine, yours = (connect(owner) for owner in owners)
    watchers = [connect(owner) for owner in owners]
    stranger = connect(role("stranger"))
    look = "SELECT app, role, state FROM hotmesh_dba.progress"
    with running(mine, *PAUSE, app="mine") as first:
        alive = wait_for_batches(conn, 1)
        with running(yours, *PAUSE, app="yours") as second:
            wait_for_batches(conn, 1, after=alive.id)
            for watcher, app_name, owner in zip(watchers, ("mine", "yours"), owners, strict=True):
                assert run(watcher, look) == [(app_name, owner, "running")]
            assert run(stranger, look) == []
            assert len(run(conn, look)) == 2
            for session, task in ((mine, first), (yours, second)):
                run(conn, "SELECT pg_cancel_backend(%s)", pid(session))
                assert said(task.exception()).sqlstate == "57014"


def test_a_pruner_with_the_least_rights(
    conn: Connection, connect: Connect, work: Work, role: NewRole
) -> None:
    before = rows(conn)
    name = role("pruner")
    run(conn, PRUNER.format(app="myapp", role=name))
    done = prune(connect(name), "batch_size => 7")
    assert (done.outcome, done.rows, done.role) == (("completed", None), work.rows, name)
    assert_true_to(before, conn)


def test_nobody_gives_a_row_its_id_or_its_start(
    conn: Connection, connect: Connect, owners: tuple[str, str], role: NewRole
) -> None:
    """An id of the future would stop every app's runs when theirs come to it, and a start of the
    future a policy's."""
    mine, yours = (connect(owner) for owner in owners)
    pruner = role("pruner")
    run(conn, PRUNER.format(app="mine", role=pruner))
    for someone in (mine, connect(pruner)):
        assert sqlstate(someone, OLDER, "mine", "failed", "0", 1, 1) == "42501"
        now = OLDER.replace(", started_at", "").partition(", now() - %s")[0]
        forged = now.replace("(group_id", "(id, group_id").replace("SELECT 0", "SELECT 2, 0")
        forged = forged.replace(" SELECT", " OVERRIDING SYSTEM VALUE SELECT", 1)
        assert sqlstate(someone, forged, "mine", "failed") == "42501"
        assert sqlstate(someone, now, "mine", "failed") is None
        for moved in ("id = DEFAULT", "started_at = 'infinity'"):
            assert sqlstate(someone, f"UPDATE hotmesh_dba.run SET {moved}") == "42501"
        assert sqlstate(someone, "UPDATE hotmesh_dba.run SET pid = 7") is None
        assert prune(someone, app="mine").outcome == ("completed", None)
    assert prune(yours, app="yours").outcome == ("completed", None)


FORGED = {
    "sum": "deleted_jobs = 9223372036854775807, deleted_signals = 9223372036854775807",
    "negative": "deleted_jobs = -9223372036854775808, marked_pruned = -9223372036854775808",
    "left": "expected = 9223372036854775807, deleted_jobs = -9223372036854775808",
    "overdone": "expected = -9223372036854775808, deleted_jobs = 9223372036854775807",
    "slow": "expected = 9223372036854775807, deleted_jobs = 1, updated_at = now() + '999 years'",
    "for ever": "deleted_jobs = 1, updated_at = 'infinity', started_at = '-infinity'",
    "ages": "deleted_jobs = 1, updated_at = '294000-01-01', started_at = '4713-01-01 BC'",
    "backwards": "deleted_jobs = 1, updated_at = '-infinity', started_at = 'infinity'",
    "process": "pid = -2147483648, worker = -1, workers = 0",
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_row_is_in_nobodys_way(
    conn: Connection, connect: Connect, owners: tuple[str, str], forged: str
) -> None:
    """Whoever may write an app's rows can write nonsense; the view stands, and so does a run."""
    mine, yours = (connect(owner) for owner in owners)
    run(conn, OLDER, "mine", "running", "0", 1, 1)
    # When it began only a superuser or a restored record says.
    run(conn if "started_at" in forged else mine, f"UPDATE hotmesh_dba.run SET {forged}")
    with running(yours, *PAUSE, app="yours") as task:
        wait_until("a batch", lambda: bool(runs(conn, "app = 'yours' AND batches > 0")))
        seen = run(
            conn,
            "SELECT app, rows_left >= 0 AND rows_per_second IS DISTINCT FROM 'NaN'"
            " AND time_left IS DISTINCT FROM '-1 s', progress::text"
            " FROM hotmesh_dba.progress ORDER BY app",
        )
        assert [(app_name, sound) for app_name, sound, _ in seen] == [
            ("mine", True),
            ("yours", True),
        ]
        run(conn, "SELECT pg_cancel_backend(%s)", pid(yours))
        assert said(task.exception()).sqlstate == "57014"
    run(mine, "CALL hotmesh_dba.prune_batched('mine')")
    # One that began ages ago is trimmed as well.
    states = run(conn, "SELECT state FROM hotmesh_dba.run WHERE app = 'mine' ORDER BY id")
    assert states in ([("interrupted",), ("completed",)], [("completed",)])


# --- that it is true -------------------------------------------------------------------------


def test_what_it_says_at_the_end(conn: Connection, work: Work) -> None:
    expected = due(conn)
    (times,) = run(conn, "SELECT clock_timestamp()")
    done = prune(conn, "batch_size => 9", "max_rows => 1000")
    (ended,) = run(conn, "SELECT clock_timestamp()")
    assert done.outcome == ("completed", None)
    assert (done.expected, done.rows, done.remaining) == (expected, work.rows, 0)
    assert (done.group_id, done.worker, done.workers) == (done.id, 1, 1)
    assert (done.app, done.role, done.pid) == ("myapp", "postgres", pid(conn))
    assert not done.triggers_disabled
    assert done.finished_at is not None
    assert times[0] <= done.started_at <= done.updated_at <= done.finished_at <= ended[0]
    assert 0 < done.longest_batch.total_seconds() < (ended[0] - times[0]).total_seconds()
    assert done.batches >= work.rows / 9
    assert (done.deleted_jobs, done.deleted_transient) == (work.jobs, work.transient)
    assert done.cascaded_attributes == 3 * (work.jobs + work.transient)
    assert done.stripped_attributes == 2 * work.live
    assert (done.error_sqlstate, done.error_message, done.error_detail) == (None, None, None)
    week = "SELECT ((%s::timestamptz AT TIME ZONE 'UTC' - '7 days'::interval) AT TIME ZONE 'UTC')"
    for cutoff in (done.jobs_before, done.engine_before, done.worker_before):
        assert cutoff == one(conn, week, done.signals_until)
    assert times[0] <= done.signals_until <= done.started_at


@pytest.mark.usefixtures("deployed")
def test_what_it_says_of_more_than_it_looks_at_again(conn: Connection) -> None:
    """Behind many messages the last look is at a sample of their pages."""
    many = 24_000
    run(
        conn,
        "INSERT INTO myapp.engine_streams (stream_name, message, expired_at)"
        " SELECT 's', 'm', CASE WHEN n % 1000 > 0 THEN now() - interval '30 days' END"
        f" FROM generate_series(1, {many}) n",
    )
    done = prune(conn, "batch_size => 5000", options="'7 days', prune_jobs => false")
    assert done.outcome == ("completed", None)
    assert (done.rows, done.remaining) == (many - many // 1000, 0)
    assert one(conn, "SELECT count(*) FROM myapp.engine_streams") == many // 1000


def test_every_argument_is_in_it(conn: Connection, work: Work) -> None:
    arguments = one(
        conn,
        "SELECT array_agg(name::text) FROM pg_proc, unnest(proargnames) name"
        " WHERE pronamespace = 'hotmesh_dba'::regnamespace AND proname = 'prune_batched'",
    )
    done = prune(conn, "batch_size => 9", "max_runtime => '1 hour'", "keep_hmark => true")
    assert work.rows == done.rows
    assert set(done.options) == set(arguments) - {"app_id", "run_id"}
    assert {name: done.options[name] for name in ("batch_size", "keep_hmark", "entity_list")} == {
        "batch_size": 9,
        "keep_hmark": True,
        "entity_list": ["book"],
    }
    same = "SELECT interval '1 hour' = %s::interval AND interval '7 days' = %s::interval"
    assert one(conn, same, done.options["max_runtime"], done.options["retention"])


def test_progress_is_the_rows(conn: Connection, connect: Connect, work: Work) -> None:
    caller = connect()
    with running(caller, *PAUSE, "workers => 2", "worker => 1") as task:
        alive = wait_for_batches(conn, 1)
        (seen,) = run(
            conn,
            "SELECT run_id, group_id, app, worker, workers, role, pid, started_at, updated_at,"
            " batches, rows_done, rows_expected, rows_left FROM hotmesh_dba.progress",
        )
        assert seen == (
            *(alive.id, alive.group_id, alive.app, alive.worker, alive.workers, alive.role),
            *(alive.pid, alive.started_at, alive.updated_at, alive.batches, alive.rows),
            *(alive.expected, alive.expected - alive.rows),
        )
        assert 0 < alive.rows < alive.expected < work.rows
        (rate, left, true_rate) = run(
            conn,
            "SELECT p.rows_per_second, extract(epoch FROM p.time_left)::float8,"
            " p.rows_done / extract(epoch FROM p.updated_at - p.started_at)::float8"
            " FROM hotmesh_dba.progress p",
        )[0]
        assert rate == pytest.approx(true_rate)
        assert left == pytest.approx((alive.expected - alive.rows) / rate, abs=1e-3)
        run(conn, "SELECT pg_cancel_backend(%s)", pid(caller))
        assert said(task.exception()).sqlstate == "57014"


# --- what stays ------------------------------------------------------------------------------


def test_it_trims_itself(conn: Connection, app: NewApp, work: Work) -> None:
    """A thousand rows and ninety days an app, this run's row among them; other apps' stay."""
    deploy(conn, app("other"))
    run(conn, OLDER, "other", "completed", "100 days", 30, 30)
    run(conn, OLDER, "myapp", "completed", "91 days", 30, 30)
    for state in ("completed", "stopped", "failed", "interrupted"):
        run(conn, OLDER, "myapp", state, "1 hour", 300, 300)
    newest = [run.id for run in runs(conn, "app = 'myapp'")][-999:]
    done = prune(conn)
    assert done.rows == work.rows
    assert [run.id for run in runs(conn, "app = 'myapp'")] == [*newest, done.id]
    assert len(runs(conn, "app = 'other'")) == 30

    run(conn, "DELETE FROM hotmesh_dba.run WHERE app = 'myapp'")
    run(conn, OLDER, "myapp", "failed", "90 days", 5, 5)
    run(conn, OLDER, "myapp", "failed", "89 days 23 hours 50 minutes", 5, 5)
    young = [run.id for run in runs(conn, "app = 'myapp'")][-5:]
    assert [run.id for run in runs(conn, "app = 'myapp'")][-5:] == young
    done = prune(conn)
    assert [run.id for run in runs(conn, "app = 'myapp'")] == [*young, done.id]


def test_a_row_that_says_running_is_closed_before_it_is_trimmed(
    conn: Connection, work: Work
) -> None:
    run(conn, OLDER, "myapp", "running", "1 day", 3, 3)
    run(conn, "UPDATE hotmesh_dba.run SET pid = 2 ^ 22 + id")
    done = prune(conn)
    assert done.rows == work.rows
    assert [run.state for run in runs(conn)] == ["interrupted"] * 3 + ["completed"]


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_it_survives_a_dump(
    db: Database,
    conn: Connection,
    connect: Connect,
    new_database: NewDatabase,
    work: Work,
    tmp_path: Path,
    form: str,
) -> None:
    """With a run under way: restored it is dead, though a process of its number lives."""
    caller, holder = connect(), connect()
    earlier = prune(caller, "max_rows => 30")
    with running(caller, *PAUSE) as task:
        alive = wait_for_batches(conn, 1, after=earlier.id)
        restored = new_database()
        copy_of(db, restored, tmp_path / "dump", form)
        expected = [record(conn, earlier.id), record(conn, alive.id)]
        with restored.connect() as copy:
            assert runs(copy) == expected
            before = rows(copy)
            # So soon after its last batch it might be between two.
            state = "SELECT state FROM hotmesh_dba.progress"
            wait_until("interrupted", lambda: one(copy, state) == "interrupted")
            done = prune(copy)
            assert done.id > alive.id
            assert done.outcome == ("completed", None)
            assert done.rows == work.rows - 30 - alive.rows
            assert record(copy, alive.id).outcome == ("interrupted", None)
            assert record(copy, earlier.id) == expected[0]
            assert rows(copy).jobs == before.jobs - done.deleted_jobs - done.deleted_transient
        assert not task.done()
        run(holder, "SELECT pg_cancel_backend(%s)", pid(caller))
        assert said(task.exception()).sqlstate == "57014"


def test_an_owner_may_dump_his_database(
    new_database: NewDatabase, role: NewRole, tmp_path: Path
) -> None:
    """No superuser, with one of the switches that the README names."""
    owner = role("owner")
    source, target = new_database(), new_database()
    with source.connect() as admin:
        run(admin, f"ALTER DATABASE {source.name} OWNER TO {owner}")
    with source.connect(owner) as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        create_app(conn, "myapp")
        deploy(conn, "myapp")
        done = prune(conn)
        expected = runs(conn)
    for switch, kept in (
        ("--enable-row-security", expected),
        ("--exclude-table-data=hotmesh_dba.*", []),
    ):
        archive = tmp_path / switch.strip("-*").replace("=", "_")
        dump = [str(source.server.bin_dir / "pg_dump"), switch, "--format=custom"]
        where = ["-d", source.conninfo(owner), "-f", str(archive)]
        told = subprocess.run([*dump, *where], capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        restore = [str(source.server.bin_dir / "pg_restore"), "--exit-on-error"]
        where = ["-d", target.conninfo(), str(archive)]
        subprocess.run([*restore, *where], check=True, capture_output=True)
        with target.connect() as copy:
            assert runs(copy) == kept
            assert prune(copy).id == (done.id + 1 if kept else 1)
        target = new_database()


def test_an_app_that_is_renamed(conn: Connection, work: Work) -> None:
    """Its earlier runs keep the name that it had, and hinder nobody."""
    # HotMesh's triggers know the schema by its name, so nothing is marked here.
    options = "'7 days'"
    todo = due(conn, options=options)
    prune(conn, "max_rows => 20", options=options)
    run(conn, "UPDATE hotmesh_dba.run SET state = 'running'")
    run(conn, "ALTER SCHEMA myapp RENAME TO ourapp")
    done = prune(conn, app="ourapp", options=options)
    assert (done.app, done.outcome) == ("ourapp", ("completed", None))
    assert done.rows == todo - 20 < work.rows
    assert [run.app for run in runs(conn)] == ["myapp", "ourapp"]
