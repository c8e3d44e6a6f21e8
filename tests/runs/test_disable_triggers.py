"""The fast path around triggers: refused where it could do harm, and gone when the call is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import deploy, one, refused, run, sqlstate
from tests.input.refusing import nothing_changed
from tests.runs.work import (
    OPTIONS,
    Work,
    add_work,
    assert_true_to,
    call,
    due,
    halves,
    last,
    prune,
    rows,
    running,
    runs,
    settings,
    wait_for_batches,
)
from tests.support.server import Connection, PrivateServer

FAST = call("disable_triggers => true")
SET = "SET hotmesh_dba.disable_triggers = on"
PRUNE = f"SELECT * FROM hotmesh_dba.prune('myapp', {OPTIONS})"
ORPHAN = (
    "INSERT INTO myapp.jobs_attributes (job_id, symbol, type)"
    " VALUES (gen_random_uuid(), 'abc', 'adata')"
)

# What stands in the way, as statements; the SQLSTATE; what the detail and the hint must name.
NOTHING = (
    "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
)
OBSTACLES = {
    "a trigger on jobs": (
        f"{NOTHING}; CREATE TRIGGER mine AFTER DELETE ON myapp.jobs"
        " FOR EACH ROW EXECUTE FUNCTION public.nothing()",
        "55000",
        ("mine", "myapp.jobs"),
    ),
    "a statement trigger on attributes": (
        f"{NOTHING}; CREATE TRIGGER mine BEFORE DELETE ON myapp.jobs_attributes"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.nothing()",
        "55000",
        ("mine", "myapp.jobs_attributes"),
    ),
    "a trigger on one leaf": (
        f"{NOTHING}; CREATE TRIGGER mine AFTER UPDATE ON myapp.jobs_part_5"
        " FOR EACH ROW EXECUTE FUNCTION public.nothing()",
        "55000",
        ("mine", "myapp.jobs_part_5"),
    ),
    "HotMesh's trigger, always": (
        "ALTER TABLE myapp.jobs ENABLE ALWAYS TRIGGER trg_enforce_live_job_uniqueness",
        "55000",
        ("trg_enforce_live_job_uniqueness",),
    ),
    "HotMesh's trigger, always, on one leaf": (
        "ALTER TABLE myapp.jobs_part_4 ENABLE ALWAYS TRIGGER trg_enforce_live_job_uniqueness",
        "55000",
        ("trg_enforce_live_job_uniqueness", "myapp.jobs_part_4"),
    ),
    "HotMesh's trigger, on replicas": (
        "ALTER TABLE myapp.jobs_attributes ENABLE REPLICA TRIGGER trg_update_attributes_updated_at",
        "55000",
        ("trg_update_attributes_updated_at",),
    ),
    "a foreign key to jobs": (
        "CREATE TABLE public.bill (job uuid REFERENCES myapp.jobs ON DELETE CASCADE)",
        "55000",
        ("bill",),
    ),
    "a foreign key to one leaf": (
        "CREATE TABLE public.bill (job uuid REFERENCES myapp.jobs_part_2)",
        "55000",
        ("bill",),
    ),
    "a foreign key to attributes": (
        "CREATE TABLE public.note (job uuid, symbol text, dimension text,"
        " FOREIGN KEY (job, symbol, dimension) REFERENCES myapp.jobs_attributes)",
        "55000",
        ("note",),
    ),
    "a second key from attributes": (
        "ALTER TABLE myapp.jobs_attributes ADD CONSTRAINT again"
        " FOREIGN KEY (job_id) REFERENCES myapp.jobs",
        "55000",
        ("2 of them",),
    ),
    # Citus is not at hand: its catalogue of distributed schemas is, with this app in it.
    "an app that Citus distributes": (
        "SET allow_system_table_mods = on;"
        "CREATE TABLE pg_catalog.pg_dist_schema AS"
        " SELECT oid AS schemaid FROM pg_namespace WHERE nspname = 'myapp'",
        "0A000",
        ("Citus",),
    ),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_refused(conn: Connection, connect: Connect, work: Work, obstacle: str) -> None:
    """By the run and by the function; nothing was changed, and without it both work."""
    statements, code, names = OBSTACLES[obstacle]
    run(conn, statements)
    caller, before = connect(), rows(conn)
    run(caller, SET)
    had = settings(caller)
    with nothing_changed(conn, "myapp"):
        for statement in (FAST, PRUNE):
            refusal = refused(caller, code, statement)
            assert "triggers" in refusal.message
            for name in names:
                assert name in refusal.detail
            assert "disable_triggers" in refusal.hint
            assert settings(caller) == had
    assert runs(conn) == []
    assert sqlstate(conn, ORPHAN) == "23503"
    # The setting is prune's; the run's own argument decides for it.
    assert prune(caller).rows == work.rows
    assert_true_to(before, conn)


def test_a_step_without_jobs_needs_none_of_it(conn: Connection, work: Work) -> None:
    run(conn, OBSTACLES["a trigger on jobs"][0])
    done = prune(conn, "disable_triggers => true", options="'7 days', prune_jobs => false")
    assert done.rows == work.engine + work.worker + work.signals
    assert done.triggers_disabled


# --- who may ---------------------------------------------------------------------------------


@pytest.fixture
def owner(conn: Connection, app: NewApp, role: NewRole) -> str:
    """Owns myapp, and is no superuser."""
    name = role("owner")
    deploy(conn, app("myapp", owner=name))
    add_work(conn)
    return name


@pytest.fixture
def granted(conn: Connection, owner: str, server: PrivateServer) -> Iterator[str]:
    """The owner, with the right to the setting (PostgreSQL 15 and later)."""
    if server.major < 15:
        pytest.skip("PostgreSQL 14 cannot grant the setting of a parameter")
    run(conn, f"GRANT SET ON PARAMETER session_replication_role TO {owner}")
    yield owner
    run(conn, f"REVOKE SET ON PARAMETER session_replication_role FROM {owner}")


def test_without_the_right(conn: Connection, connect: Connect, owner: str) -> None:
    caller = connect(owner)
    run(caller, SET)
    with nothing_changed(conn, "myapp"):
        for statement in (FAST, PRUNE):
            refusal = refused(caller, "42501", statement)
            assert owner in refusal.detail
            assert f"GRANT SET ON PARAMETER session_replication_role TO {owner};" in refusal.hint


def test_with_the_right(conn: Connection, connect: Connect, granted: str) -> None:
    caller, before, todo = connect(granted), rows(conn), due(conn)
    had = settings(caller)
    done = prune(caller, "disable_triggers => true", "batch_size => 5")
    assert done.outcome == ("completed", None)
    assert (done.rows, done.triggers_disabled, done.role) == (todo, True, granted)
    assert settings(caller) == had
    assert_true_to(before, conn)
    assert sqlstate(caller, ORPHAN) == "23503"


def test_the_right_through_another_role(
    conn: Connection, connect: Connect, granted: str, role: NewRole
) -> None:
    """A member of the owner has what the owner has."""
    member = role("member")
    run(conn, f"GRANT {granted} TO {member}")
    todo = due(conn)
    assert prune(connect(member), "disable_triggers => true").rows == todo


@pytest.mark.parametrize(
    ("take", "names"),
    [
        ("UPDATE ON myapp.jobs", ("UPDATE", "pruned_at")),
        ("SELECT ON myapp.jobs_attributes", ("SELECT", "jobs_attributes")),
        ("DELETE ON myapp.jobs_attributes", ("DELETE", "jobs_attributes")),
    ],
)
def test_every_privilege_is_asked_for_first(
    conn: Connection,
    connect: Connect,
    granted: str,
    role: NewRole,
    take: str,
    names: tuple[str, ...],
) -> None:
    """A cascade acts as the tables' owner; this acts as whoever calls."""
    pruner = role("pruner")
    assert granted
    run(
        conn,
        f"GRANT SET ON PARAMETER session_replication_role TO {pruner};"
        f"GRANT USAGE ON SCHEMA myapp TO {pruner};"
        f"GRANT SELECT, DELETE, UPDATE ON ALL TABLES IN SCHEMA myapp TO {pruner};"
        f"REVOKE {take} FROM {pruner}",
    )
    with nothing_changed(conn, "myapp"):
        fast = call("disable_triggers => true", options="'7 days'")
        refusal = refused(connect(pruner), "42501", fast)
        for name in (*names, pruner):
            assert name in f"{refusal.message} {refusal.detail} {refusal.hint}"
    run(conn, f"REVOKE ALL ON PARAMETER session_replication_role FROM {pruner}")


@pytest.mark.parametrize("table", ["jobs", "jobs_attributes"])
def test_under_row_level_security(
    conn: Connection, connect: Connect, granted: str, table: str
) -> None:
    """What it hides would be left behind, and a cascade does not ask it."""
    run(
        conn,
        f"ALTER TABLE myapp.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY all_of_it ON myapp.{table} USING (true)",
    )
    with nothing_changed(conn, "myapp"):
        refusal = refused(connect(granted), "42501", FAST)
    assert granted in f"{refusal.detail} {refusal.hint}"


def test_a_key_that_comes_during_the_run(conn: Connection, connect: Connect, work: Work) -> None:
    """It is not looked after by a run without triggers, so the run may not go on."""
    caller = connect()
    knobs = ("disable_triggers => true", "batch_size => 3", "batch_pause => '15 ms'")
    with running(caller, *knobs) as task:
        wait_for_batches(conn, 2)
        kept = "SELECT id FROM myapp.jobs WHERE key LIKE 'old-%' ORDER BY tableoid DESC LIMIT 1"
        run(conn, "CREATE TABLE public.bill (job uuid REFERENCES myapp.jobs)")
        run(conn, f"INSERT INTO public.bill {kept}")
        task.exception()
    dangling = (
        "SELECT count(*) FROM public.bill b"
        " WHERE NOT EXISTS (SELECT FROM myapp.jobs j WHERE j.id = b.job)"
    )
    assert one(conn, dangling) == 0
    assert last(conn).error_sqlstate == "55000"
    assert last(conn).rows < work.rows


# --- the function, in the caller's transaction -----------------------------------------------


def test_what_comes_after_it_is_checked(conn: Connection, connect: Connect, work: Work) -> None:
    """Nothing of it outlasts the call, though the transaction goes on."""
    before, caller = rows(conn), connect()
    run(caller, "BEGIN")
    run(caller, SET)
    counts = run(caller, PRUNE)[0]
    assert counts[0] == work.jobs
    assert counts[6] == work.live
    assert one(caller, "SHOW session_replication_role") == "origin"
    assert sqlstate(caller, ORPHAN) == "23503"
    run(caller, "COMMIT")
    assert rows(conn).jobs == before.jobs - work.jobs - work.transient
    assert halves(conn) == (0, 0)


def test_nor_where_it_fails(conn: Connection, connect: Connect, work: Work) -> None:
    caller = connect()
    run(caller, "BEGIN")
    run(caller, SET)
    run(conn, "ALTER TABLE myapp.jobs_attributes RENAME COLUMN job_id TO other")
    with nothing_changed(conn, "myapp"):
        assert sqlstate(caller, PRUNE) is not None
        assert one(caller, "SHOW session_replication_role") == "origin"
    run(conn, "ALTER TABLE myapp.jobs_attributes RENAME COLUMN other TO job_id")
    assert sqlstate(caller, ORPHAN) == "23503"
    run(caller, "ROLLBACK")
    assert due(conn) == work.rows


@pytest.mark.parametrize("role_of_the_session", ["replica", "local"])
def test_what_was_set_before_is_set_again(
    conn: Connection, connect: Connect, work: Work, role_of_the_session: str
) -> None:
    before, caller = rows(conn), connect()
    run(caller, f"SET session_replication_role = {role_of_the_session}")
    run(caller, SET)
    assert run(caller, PRUNE)[0][0] == work.jobs
    assert one(caller, "SHOW session_replication_role") == role_of_the_session
    add_work(conn)
    assert prune(caller, "disable_triggers => true").rows == work.rows
    assert one(caller, "SHOW session_replication_role") == role_of_the_session
    assert halves(conn) == (0, 0)
    assert rows(conn).signals == before.signals - work.signals + 3


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_only_in_read_committed(
    conn: Connection, connect: Connect, work: Work, isolation: str
) -> None:
    caller = connect()
    run(caller, SET)
    only = "'7 days', true, false, prune_signals => false"
    delete_only = f"SELECT * FROM hotmesh_dba.prune('myapp', {only})"
    with nothing_changed(conn, "myapp"):
        run(caller, f"BEGIN ISOLATION LEVEL {isolation}")
        refusal = refused(caller, "25001", delete_only)
        assert "READ COMMITTED" in refusal.hint
        run(caller, "ROLLBACK")
    # With the cascade a delete is as good in any.
    run(caller, f"BEGIN ISOLATION LEVEL {isolation}; SET LOCAL hotmesh_dba.disable_triggers = off")
    assert run(caller, delete_only)[0][0] == due(conn, options=only) > work.jobs
    run(caller, "ROLLBACK")


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_the_setting_is_on_or_off(
    conn: Connection, connect: Connect, work: Work, value: str
) -> None:
    caller = connect()
    run(caller, f"SET hotmesh_dba.disable_triggers = '{value}'")
    with nothing_changed(conn, "myapp"):
        assert "disable_triggers" in refused(caller, "22023", PRUNE).message
    run(caller, "SET hotmesh_dba.disable_triggers = ''")
    assert run(caller, PRUNE)[0][0] == work.jobs


def test_it_strips_any_number_in_one_call(conn: Connection, connect: Connect, app: NewApp) -> None:
    """30,000 live jobs on stock settings, where marking takes no lock."""
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(0, 0, 30_000, 0, 0, 0))
    caller = connect()
    run(caller, SET)
    strip = (
        "SELECT marked_pruned, stripped_attributes, remaining"
        " FROM hotmesh_dba.prune('myapp', '7 days', false, false, true, prune_signals => false)"
    )
    with caller.transaction():
        ((marked, stripped, left),) = run(caller, strip)
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
        assert one(conn, held, caller.info.backend_pid) == 0
    assert (marked, stripped, left) == (work.live, 2 * work.live, 0)
    assert halves(conn) == (0, 0)
