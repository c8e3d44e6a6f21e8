"""Tables that somebody alters in mid-run: no row goes that is no longer ours to take, none half.

The run is stopped where it hurts: it waits for the very lock of whoever alters the table, so all
that it decided before is out of date when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import background, deploy, one, pid, run, wait_blocked
from tests.runs.work import (
    OPTIONS,
    Work,
    add_work,
    assert_true_to,
    due,
    halves,
    last,
    patient,
    prune,
    rows,
    running,
    said,
    wait_for_batches,
)
from tests.support.server import Connection

JOBS = "'7 days', prune_streams => false, prune_signals => false"
STRIP = f"{JOBS}, prune_jobs => false, strip_attributes => true"
ENGINE = "'7 days', prune_jobs => false, prune_worker_streams => false, prune_signals => false"
SLOWLY = "batch_pause => '30 ms'"


@contextmanager
def altered(
    conn: Connection, admin: Connection, caller: Connection, lock: str, statements: str
) -> Iterator[None]:
    """Once a batch is committed: alter it, have the run wait for that, and commit."""
    wait_for_batches(conn, 1)
    # The run is patient here, and would be the one that wins a deadlock.
    run(
        admin,
        f"BEGIN; SET LOCAL deadlock_timeout = '1 min'; LOCK TABLE {lock} IN ACCESS EXCLUSIVE MODE",
    )
    run(admin, statements)
    wait_blocked(conn, pid(caller), pid(admin))
    yield
    run(admin, "COMMIT")


def last_leaf(conn: Connection, table: str, column: str = "expired_at") -> str:
    """The last leaf that has something due."""
    last_of = f"SELECT tableoid::regclass::text FROM myapp.{table} WHERE {column} < now()"
    return str(one(conn, f"{last_of} ORDER BY tableoid DESC LIMIT 1"))


def size(conn: Connection, table: str) -> int:
    return int(one(conn, f"SELECT count(*) FROM {table}"))


# --- the cascade -----------------------------------------------------------------------------

NO_TRIGGERS = "ALTER TABLE myapp.jobs DISABLE TRIGGER ALL"
NO_KEY = "ALTER TABLE myapp.jobs_attributes DROP CONSTRAINT jobs_attributes_job_id_fkey"


@pytest.mark.parametrize("way", ["", "keys"])
@pytest.mark.parametrize("alteration", [NO_TRIGGERS, NO_KEY])
def test_the_cascade_goes(
    conn: Connection, connect: Connect, work: Work, alteration: str, way: str
) -> None:
    """From then on the attributes are removed by the run itself."""
    admin, caller, before = connect(), patient(connect()), rows(conn)
    todo = due(conn, options=JOBS)
    assert todo > work.jobs
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    with (
        running(caller, "batch_size => 5", SLOWLY, options=JOBS) as task,
        altered(conn, admin, caller, "myapp.jobs", alteration),
    ):
        pass
    task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == todo
    assert_true_to(before, conn)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_the_cascade_goes_while_prune_waits(
    conn: Connection, connect: Connect, work: Work, isolation: str
) -> None:
    """Where it cannot remove the attributes itself, it removes nothing."""
    admin, caller, before = connect(), patient(connect()), rows(conn)
    run(admin, f"BEGIN; {NO_TRIGGERS}")
    run(caller, f"BEGIN ISOLATION LEVEL {isolation}")
    with background(caller, f"SELECT deleted_jobs FROM hotmesh_dba.prune('myapp', {JOBS})") as task:
        wait_blocked(conn, pid(caller), pid(admin))
        run(admin, "COMMIT")
        error = task.exception()
    run(caller, "ROLLBACK" if error else "COMMIT")
    assert halves(conn) == (0, 0)
    # On 14 what is said of a partitioned table's triggers does not reach its partitions' keys.
    if isolation == "READ COMMITTED" or conn.info.server_version < 150000:
        assert error is None
        assert rows(conn).jobs == before.jobs - work.jobs - work.transient - 3
    else:
        assert said(error).sqlstate == "25001"
        assert "READ COMMITTED" in said(error).hint
        assert rows(conn) == before


# --- leaves ----------------------------------------------------------------------------------

DETACHED = "ALTER TABLE myapp.{table} DETACH PARTITION {leaf};"
ATTACHED = (
    "CREATE TABLE public.theirs (LIKE myapp.{table}) PARTITION BY HASH (stream_name);"
    "ALTER TABLE public.theirs ATTACH PARTITION {leaf}"
    " FOR VALUES WITH (MODULUS 8, REMAINDER {remainder})"
)


@pytest.mark.parametrize("alteration", [DETACHED, DETACHED + ATTACHED])
@pytest.mark.parametrize(
    ("way", "batch_size"), [("blocks", "NULL"), ("blocks", "3"), ("index", "3")]
)
def test_a_leaf_goes(
    conn: Connection, connect: Connect, work: Work, way: str, batch_size: str, alteration: str
) -> None:
    """Detached, or attached to another table, it is no longer the app's."""
    admin, caller = connect(), patient(connect())
    leaf = last_leaf(conn, "engine_streams")
    had, todo = size(conn, leaf), due(conn, options=ENGINE)
    of_leaf = one(conn, f"SELECT count(*) FROM {leaf} WHERE expired_at IS NOT NULL")
    statements = alteration.format(
        table="engine_streams", leaf=leaf, remainder=leaf.rsplit("_", 1)[1]
    )
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    with (
        running(caller, f"batch_size => {batch_size}", SLOWLY, options=ENGINE) as task,
        altered(conn, admin, caller, leaf, statements),
    ):
        pass
    task.result()
    assert size(conn, leaf) == had
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == todo - of_leaf == work.engine - of_leaf
    assert due(conn, options=ENGINE) == 0


# On 14 its key to jobs is gone with the DETACH.
REPLACED = (
    "ALTER TABLE myapp.jobs_attributes DETACH PARTITION {leaf};"
    "ALTER TABLE {leaf} DROP CONSTRAINT IF EXISTS jobs_attributes_job_id_fkey;"
    "CREATE TABLE myapp.fresh (LIKE myapp.jobs_attributes INCLUDING ALL);"
    "INSERT INTO myapp.fresh SELECT * FROM {leaf};"
    "ALTER TABLE myapp.jobs_attributes ATTACH PARTITION myapp.fresh"
    " FOR VALUES WITH (MODULUS 8, REMAINDER {remainder})"
)


@pytest.mark.parametrize("options", [JOBS, STRIP])
@pytest.mark.parametrize("triggers", ["true", "false"])
def test_a_leaf_of_attributes_is_replaced(
    conn: Connection, connect: Connect, work: Work, options: str, triggers: str
) -> None:
    """What is in the new one goes, what is in the old one is no longer ours."""
    admin, caller = connect(), patient(connect())
    todo = due(conn, options=options)
    assert todo >= work.live
    remainder = last_leaf(conn, "jobs", "created_at").rsplit("_", 1)[1]
    leaf = f"myapp.jobs_attributes_part_{remainder}"
    had = size(conn, leaf)
    assert had > 0
    knobs = (f"disable_triggers => {triggers}", "batch_size => 3", SLOWLY)
    with (
        running(caller, *knobs, options=options) as task,
        altered(
            conn,
            admin,
            caller,
            "myapp.jobs, myapp.jobs_attributes",
            REPLACED.format(leaf=leaf, remainder=remainder),
        ),
    ):
        had = size(admin, leaf)  # what the run had not yet come to
    task.result()
    assert halves(conn) == (0, 0)
    assert size(conn, leaf) == had
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == todo


SUBPARTITIONED = """
DO $do$
BEGIN
  ALTER TABLE myapp.jobs_attributes DETACH PARTITION myapp.jobs_attributes_part_{part};
  CREATE TABLE myapp.halves (LIKE myapp.jobs_attributes INCLUDING DEFAULTS)
    PARTITION BY HASH (symbol);
  FOR n IN 0..7 LOOP
    EXECUTE format('CREATE TABLE myapp.half_%1$s PARTITION OF myapp.halves
                    FOR VALUES WITH (MODULUS 8, REMAINDER %1$s)', n);
  END LOOP;
  INSERT INTO myapp.halves SELECT * FROM myapp.jobs_attributes_part_{part};
  DROP TABLE myapp.jobs_attributes_part_{part};
  ALTER TABLE myapp.jobs_attributes ATTACH PARTITION myapp.halves
    FOR VALUES WITH (MODULUS 8, REMAINDER {part});
END
$do$
"""


@pytest.mark.parametrize("triggers", ["true", "false"])
@pytest.mark.parametrize("face", ["prune", "prune_batched"])
def test_leaves_below_leaves(
    conn: Connection, connect: Connect, app: NewApp, face: str, triggers: str
) -> None:
    """Bounds are alike by chance: a leaf of a leaf is not beside the leaf of its jobs."""
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(120, 40, 120))
    run(conn, SUBPARTITIONED.format(part=2))
    before, caller = rows(conn), connect()
    run(caller, f"SET hotmesh_dba.disable_triggers = {triggers}")
    if face == "prune":
        run(caller, f"SELECT * FROM hotmesh_dba.prune('myapp', {OPTIONS})")
    else:
        assert prune(caller, f"disable_triggers => {triggers}").rows == work.rows
        assert_true_to(before, conn)
    assert halves(conn) == (0, 0)
    assert due(conn) == 0
    assert rows(conn).jobs == before.jobs - work.jobs - work.transient


# --- rights ----------------------------------------------------------------------------------


@pytest.fixture
def pruner(conn: Connection, work: Work, role: NewRole) -> str:
    """A role that may prune by leaf."""
    assert work.rows
    name = role("pruner")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {name};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA myapp TO {name};"
        f"GRANT UPDATE (pruned_at) ON myapp.jobs TO {name}",
    )
    for remainder in range(8):
        run(conn, f"GRANT UPDATE (pruned_at) ON myapp.jobs_part_{remainder} TO {name}")
    # The wait of a statement is bounded by it; the role may not set it.
    run(conn, f"ALTER ROLE {name} SET deadlock_timeout = '60s'")
    return name


@pytest.mark.parametrize(
    ("way", "batch_size"), [("blocks", "NULL"), ("blocks", "3"), ("index", "3")]
)
def test_a_policy_comes(
    conn: Connection, connect: Connect, pruner: str, way: str, batch_size: str
) -> None:
    """The rows that it hides stay: in the leaf at hand too, and in those that follow."""
    admin, caller = connect(), connect(pruner)
    leaf = last_leaf(conn, "engine_streams")
    had = size(conn, leaf)
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    with (
        running(caller, f"batch_size => {batch_size}", SLOWLY, options=ENGINE) as task,
        altered(
            conn,
            admin,
            caller,
            leaf,
            "ALTER TABLE myapp.engine_streams ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY none ON myapp.engine_streams USING (false)",
        ),
    ):
        pass
    task.result()
    assert size(conn, leaf) == had
    assert last(conn).outcome == ("completed", None)


def test_a_policy_on_attributes_comes(conn: Connection, connect: Connect, pruner: str) -> None:
    """No job is marked whose attributes it hides."""
    admin, caller = connect(), connect(pruner)
    leaf = last_leaf(conn, "jobs", "created_at")
    with (
        running(caller, "batch_size => 3", SLOWLY, options=STRIP) as task,
        altered(
            conn,
            admin,
            caller,
            leaf,
            "ALTER TABLE myapp.jobs_attributes ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY none ON myapp.jobs_attributes USING (false)",
        ),
    ):
        pass
    refusal = said(task.exception())
    assert refusal.sqlstate == "42501"
    assert f"ALTER ROLE {pruner} BYPASSRLS" in refusal.hint
    assert halves(conn) == (0, 0)


@pytest.mark.parametrize("way", ["blocks", "index"])
def test_a_right_on_a_leaf_goes(
    conn: Connection, connect: Connect, work: Work, pruner: str, way: str
) -> None:
    """What the table allows is done through the table."""
    admin, caller, before = connect(), connect(pruner), rows(conn)
    leaf = last_leaf(conn, "engine_streams")
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    with (
        running(caller, "batch_size => 3", SLOWLY, options=ENGINE) as task,
        altered(conn, admin, caller, leaf, f"REVOKE DELETE ON {leaf} FROM {pruner}"),
    ):
        pass
    task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == work.engine
    assert_true_to(before, conn)


def test_a_right_on_the_table_goes(conn: Connection, connect: Connect, pruner: str) -> None:
    """What only its leaves allow is not done."""
    admin, caller, before = connect(), connect(pruner), rows(conn)
    leaf = last_leaf(conn, "engine_streams")
    had = size(conn, leaf)
    with (
        running(caller, "batch_size => 3", SLOWLY, options=ENGINE) as task,
        altered(conn, admin, caller, leaf, f"REVOKE DELETE ON myapp.engine_streams FROM {pruner}"),
    ):
        pass
    refusal = said(task.exception())
    assert refusal.sqlstate == "42501"
    assert refusal.hint == f"GRANT DELETE ON myapp.engine_streams TO {pruner};"
    assert size(conn, leaf) == had
    assert_true_to(before, conn)


def test_the_right_to_the_jobs_goes(conn: Connection, connect: Connect, pruner: str) -> None:
    """With it goes the sight of the run's own record: a batch that cannot be recorded is undone."""
    admin, caller, before = connect(), connect(pruner), rows(conn)
    leaf = last_leaf(conn, "engine_streams")
    with (
        running(caller, "batch_size => 3", SLOWLY, options=ENGINE) as task,
        altered(conn, admin, caller, leaf, f"REVOKE DELETE ON myapp.jobs FROM {pruner}"),
    ):
        pass
    refusal = said(task.exception())
    assert_true_to(before, conn)
    assert refusal.sqlstate == "42501"
    assert refusal.hint == f"GRANT DELETE ON myapp.jobs TO {pruner};"


@pytest.mark.parametrize("action", ["TRIGGER", "RULE"])
def test_somebody_begins_to_watch_the_table(
    conn: Connection, connect: Connect, work: Work, action: str
) -> None:
    """A statement trigger, or a rule, sees every row that goes from then on."""
    admin, caller = connect(), patient(connect())
    leaf = last_leaf(conn, "engine_streams")
    run(
        conn,
        "CREATE TABLE public.log (id bigint);"
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.log SELECT id FROM gone; RETURN NULL; END'",
    )
    watch = {
        "TRIGGER": "AFTER DELETE ON myapp.engine_streams REFERENCING OLD TABLE AS gone"
        " EXECUTE FUNCTION public.note()",
        "RULE": "AS ON DELETE TO myapp.engine_streams DO ALSO INSERT INTO public.log"
        " VALUES (OLD.id)",
    }
    with (
        running(caller, "batch_size => 3", SLOWLY, options=ENGINE) as task,
        altered(conn, admin, caller, leaf, f"CREATE {action} note {watch[action]}"),
    ):
        left = due(admin, options=ENGINE)
        assert left > 0
    task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == work.engine
    assert size(conn, "public.log") == left
