"""A run beside an application that writes: no orphan, nothing half, and the run gives way.

Two connections, the order of events forced by locks and seen in the server's own views.
"""

from __future__ import annotations

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import (
    background,
    deploy,
    one,
    pid,
    run,
    wait_blocked,
    warnings_of,
)
from tests.runs.work import (
    OPTIONS,
    Work,
    add_work,
    assert_true_to,
    due,
    halves,
    hold_attribute,
    last,
    last_job,
    patient,
    prune,
    rows,
    running,
    runs,
    said,
)
from tests.support.server import Connection

GATE = 4711  # an advisory lock at which a run waits

TRIGGERS = pytest.mark.parametrize("triggers", ["with triggers", "without"])
ISOLATION = pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
KIND = pytest.mark.parametrize("kind", ["old", "live"])

INSERT = (
    "INSERT INTO myapp.jobs_attributes (job_id, symbol, type) VALUES (%s, 'zzz', 'adata')"
    " RETURNING symbol"
)


def knobs_for(triggers: str, *more: str) -> tuple[str, ...]:
    return (f"disable_triggers => {triggers == 'without'}", *more)


def hasty(conn: Connection) -> Connection:
    """A session in which a run gives way soon, so that a test need not wait for it."""
    run(conn, "SET deadlock_timeout = '40ms'")
    return conn


# --- attributes that come while their job goes -----------------------------------------------


@TRIGGERS
@ISOLATION
@KIND
def test_an_attribute_that_is_not_committed(
    conn: Connection, connect: Connect, work: Work, kind: str, isolation: str, triggers: str
) -> None:
    """Its job is left alone, the others go; the next run takes it whole."""
    writer, caller = connect(), hasty(connect())
    job = last_job(conn, kind)
    run(writer, f"BEGIN ISOLATION LEVEL {isolation}")
    run(writer, INSERT, job)
    before = rows(conn)
    caught = warnings_of(caller)
    stopped = prune(caller, *knobs_for(triggers))
    assert stopped.outcome == ("stopped", "locked")
    assert (stopped.rows, stopped.remaining) == (work.rows - 1, 1)
    assert len(caught) == 1
    assert_true_to(before, conn)
    assert one(conn, "SELECT count(*) FROM myapp.jobs_attributes WHERE job_id = %s", job) == 3

    run(writer, "COMMIT")
    done = prune(caller, *knobs_for(triggers))
    assert done.outcome == ("completed", None)
    assert done.rows == 1
    assert done.cascaded_attributes + done.stripped_attributes == (4 if kind == "old" else 3)
    assert halves(conn) == (0, 0)
    assert due(conn) == 0


@TRIGGERS
@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
def test_an_attribute_that_is_committed_while_the_run_waits(
    conn: Connection, connect: Connect, work: Work, triggers: str, default: str
) -> None:
    """The delete waits for the writer, and must then see what that has written."""
    writer, caller = connect(), patient(connect())
    run(caller, f"SET default_transaction_isolation = '{default}'")
    job = last_job(conn, "old")
    before = rows(conn)
    run(writer, f"BEGIN ISOLATION LEVEL {default}")
    run(writer, INSERT, job)
    with running(caller, *knobs_for(triggers)) as task:
        wait_blocked(conn, pid(caller), pid(writer))
        run(writer, "COMMIT")
        task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == work.rows
    assert last(conn).cascaded_attributes == 3 * (work.jobs + work.transient) + 1
    assert halves(conn) == (0, 0)
    assert rows(conn).jobs == before.jobs - work.jobs - work.transient
    assert one(caller, "SHOW default_transaction_isolation") == default


@TRIGGERS
@ISOLATION
@KIND
def test_an_attribute_that_comes_while_its_job_is_held(
    conn: Connection, connect: Connect, work: Work, kind: str, isolation: str, triggers: str
) -> None:
    """The writer waits; then the job is gone (and it is told so), or stripped (and it may)."""
    holder, writer, caller = connect(), connect(), patient(connect())
    before = rows(conn)
    job = hold_attribute(holder, kind)
    run(writer, f"BEGIN ISOLATION LEVEL {isolation}")
    run(writer, "SELECT count(*) FROM myapp.jobs")  # its snapshot is older than what follows
    with running(caller, *knobs_for(triggers)) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        with background(writer, INSERT, job) as write:
            wait_blocked(conn, pid(writer), pid(caller))
            run(holder, "ROLLBACK")
            error = write.exception()
        run(writer, "ROLLBACK" if error else "COMMIT")
        task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == work.rows
    if kind == "old":
        assert said(error).sqlstate == ("23503" if isolation == "READ COMMITTED" else "40001")
        assert_true_to(before, conn)
    elif isolation == "READ COMMITTED":
        # What HotMesh adds to a job that is finished is legal, and stays.
        assert error is None
        assert halves(conn) == (0, 1)
    else:
        assert error is None or said(error).sqlstate == "40001"
        assert halves(conn)[0] == 0
    assert due(conn) == 0


# --- whoever wants what the run has ----------------------------------------------------------


@TRIGGERS
@KIND
def test_the_application_never_loses_a_deadlock(
    conn: Connection, connect: Connect, work: Work, kind: str, triggers: str
) -> None:
    """It holds an attribute of a job that the run has taken, and now wants the job."""
    before = rows(conn)
    holder, caller = connect(), connect()
    job = hold_attribute(holder, kind)
    with running(caller, *knobs_for(triggers)) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        update = "UPDATE myapp.jobs SET context = '{}' WHERE id = %s RETURNING id::text"
        assert run(holder, update, job) == [(job,)]
        run(holder, "COMMIT")
        task.result()
    assert last(conn).state in ("completed", "stopped")
    prune(caller, *knobs_for(triggers))
    assert due(conn) == 0
    assert sum(run.rows for run in runs(conn)) == work.rows
    assert_true_to(before, conn)


def test_nor_by_a_key_that_it_holds(conn: Connection, connect: Connect, work: Work) -> None:
    """HotMesh's trigger wants a lock for each key that is marked."""
    before = rows(conn)
    writer, caller = connect(), connect()
    job = last_job(conn, "live")
    key = one(conn, "SELECT key FROM myapp.jobs WHERE id = %s", job)
    run(writer, "BEGIN")
    run(writer, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", key)
    with running(caller) as task:
        wait_blocked(conn, pid(caller), pid(writer))
        update = "UPDATE myapp.jobs SET context = '{}' WHERE id = %s RETURNING id::text"
        assert run(writer, update, job) == [(job,)]
        run(writer, "COMMIT")
        task.result()
    prune(caller)
    assert due(conn) == 0
    assert (
        sum(run[0] for run in run(conn, "SELECT marked_pruned FROM hotmesh_dba.run")) == work.live
    )
    assert_true_to(before, conn)


@pytest.mark.parametrize(
    ("way", "size", "triggers"),
    [
        ("", "NULL", "with triggers"),
        ("", "7", "without"),
        ("blocks", "NULL", "without"),
        ("blocks", "1", "with triggers"),
        ("index", "NULL", "without"),
        ("index", "3", "with triggers"),
        ("keys", "NULL", "with triggers"),
        ("keys", "3", "without"),
    ],
)
def test_rows_that_somebody_has_locked(
    conn: Connection, connect: Connect, work: Work, way: str, size: str, triggers: str
) -> None:
    """The rest is done, it says what is left, and a later run finishes."""
    before = rows(conn)
    holder, caller = connect(), hasty(connect())
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    locked = 0
    run(holder, "BEGIN")
    for table, condition, lock, number in (
        ("jobs", "key LIKE 'old-%'", "FOR UPDATE", 3),
        ("jobs", "key LIKE 'brief-%'", "FOR NO KEY UPDATE", 1),
        ("jobs", "key LIKE 'live-%'", "FOR KEY SHARE", 2),
        ("engine_streams", "expired_at IS NOT NULL", "FOR UPDATE", 4),
        ("worker_streams", "expired_at IS NOT NULL", "FOR SHARE", 1),
        ("signal_registry", "expiry IS NOT NULL", "FOR UPDATE", 2),
    ):
        # Among the oldest and the newest ones.
        for order in ("", "DESC"):
            some = (
                f"SELECT ctid, tableoid FROM myapp.{table} WHERE {condition}"
                f" ORDER BY ctid {order} LIMIT {number} {lock}"
            )
            locked += len(run(holder, some))
    stopped = prune(caller, f"batch_size => {size}", *knobs_for(triggers))
    assert stopped.outcome == ("stopped", "locked")
    assert (stopped.rows, stopped.remaining) == (work.rows - locked, locked)
    assert due(conn) == locked
    assert_true_to(before, conn)

    run(holder, "ROLLBACK")
    done = prune(caller, f"batch_size => {size}", *knobs_for(triggers))
    assert done.outcome == ("completed", None)
    assert done.rows == locked
    assert_true_to(before, conn)


@pytest.mark.parametrize("leaves", ["by leaf", "by key"])
def test_for_a_role_that_cannot_lock_messages(
    conn: Connection, connect: Connect, work: Work, role: NewRole, leaves: str
) -> None:
    """It cannot pass over a row that somebody holds; all else is done."""
    name = role("pruner")
    tables = (
        "ALL TABLES IN SCHEMA myapp"
        if leaves == "by leaf"
        else "myapp.jobs, myapp.jobs_attributes, myapp.engine_streams, myapp.worker_streams,"
        " myapp.signal_registry"
    )
    run(
        conn,
        f"GRANT USAGE ON SCHEMA myapp TO {name}; GRANT SELECT, DELETE ON {tables} TO {name};"
        f"GRANT UPDATE (pruned_at) ON myapp.jobs TO {name}",
    )
    run(conn, f"ALTER DATABASE {conn.info.dbname} SET deadlock_timeout = '40ms'")
    before = rows(conn)
    holder, caller = connect(), connect(name)
    run(holder, "BEGIN; SELECT 1 FROM myapp.engine_streams WHERE id = 11 FOR UPDATE")
    run(holder, "SELECT 1 FROM myapp.signal_registry WHERE expiry IS NOT NULL LIMIT 1 FOR UPDATE")
    stopped = prune(caller)
    assert stopped.outcome == ("stopped", "locked")
    # Of the leaf (or, by key, the table) that they are in more may stay; nothing elsewhere.
    assert work.rows - 2 >= stopped.rows > work.rows - 30
    assert stopped.deleted_jobs == work.jobs
    assert stopped.marked_pruned == work.live
    assert stopped.deleted_worker_streams == work.worker
    assert stopped.remaining is not None
    assert stopped.remaining > 0
    run(holder, "ROLLBACK")
    assert prune(caller).rows == work.rows - stopped.rows
    assert_true_to(before, conn)


@pytest.mark.parametrize(
    ("table", "options", "kept"),
    [
        # HotMesh's trigger on a mark looks into all leaves, so only the delete is asked for.
        ("jobs", "'7 days'", {"deleted_jobs"}),
        ("jobs_part_3", "'7 days'", {"deleted_jobs"}),
        ("engine_streams", OPTIONS, {"deleted_engine_streams"}),
        ("signal_registry", OPTIONS, {"deleted_signals"}),
    ],
)
def test_a_table_that_somebody_has_locked(
    conn: Connection, connect: Connect, work: Work, table: str, options: str, kept: set[str]
) -> None:
    """The other steps are done, and the other leaves."""
    before, todo = rows(conn), due(conn, options=options)
    holder, caller = connect(), hasty(connect())
    run(holder, f"BEGIN; LOCK TABLE myapp.{table} IN ACCESS EXCLUSIVE MODE")
    stopped = prune(caller, "batch_size => 10", options=options)
    run(holder, "ROLLBACK")
    assert stopped.outcome == ("stopped", "locked")
    assert stopped.remaining is not None
    assert stopped.remaining > 0
    left = due(conn, options=options)
    assert stopped.rows == todo - left < todo
    done = prune(caller, options=options)
    assert done.outcome == ("completed", None)
    # All that was left was in the locked table.
    assert done.rows == left == sum(getattr(done, column) for column in kept)
    if table == "jobs_part_3":
        assert 0 < left < work.jobs / 2
    assert_true_to(before, conn)


# --- rows that move --------------------------------------------------------------------------

# Wide rows, three or so on a page, so that a row that is updated finds no room on its own.
WIDE = "repeat(md5(random()::text), 75)"
FILL = {
    "jobs": "INSERT INTO myapp.jobs_part_0"
    " (id, key, entity, status, expired_at, origin_id, is_live)"
    " SELECT id, 'n-' || row_number() OVER (), 'book', 0, {time}, {wide}, {live}"
    " FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 600)) r"
    " WHERE satisfies_hash_partition('myapp.jobs'::regclass, 8, 0, id) LIMIT 40",
    "engine_streams": "INSERT INTO myapp.engine_streams (stream_name, message, expired_at)"
    " SELECT 's', {wide}, {time} FROM generate_series(1, 40)",
    "signal_registry": "INSERT INTO myapp.signal_registry (key, value, expiry)"
    " SELECT 'n-' || n, {wide}, {time} FROM generate_series(1, 40) n",
}


def gate(conn: Connection, table: str, row: str, event: str) -> None:
    """A trigger that lets nobody delete (or mark) this row while the gate is shut.

    Whoever keeps it shut has no transaction, so that VACUUM can make room meanwhile.
    """
    result = "NEW" if event == "UPDATE" else "OLD"
    run(
        conn,
        "CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS"
        f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN {result}; END';"
        f"CREATE TRIGGER gate BEFORE {event} ON myapp.{table} FOR EACH ROW"
        f" WHEN ({row}) EXECUTE FUNCTION public.gate()",
    )


def block_of(tid: str) -> int:
    return int(tid[1:].split(",")[0])


@pytest.mark.parametrize("step", ["jobs", "strip", "engine_streams", "signal_registry"])
def test_a_row_that_moves_into_a_passed_block(
    conn: Connection, connect: Connect, app: NewApp, step: str
) -> None:
    """A run that says `completed` has not left it behind."""
    deploy(conn, app("myapp"))
    table = "jobs" if step == "strip" else step
    old = "now() - interval '30 days'"
    time = "now() + interval '1 day'" if step == "strip" else old
    wide = {"jobs": "origin_id", "engine_streams": "message", "signal_registry": "value"}[table]
    run(conn, f"ALTER TABLE myapp.{table} ALTER {wide} SET STORAGE PLAIN")
    run(conn, "ALTER TABLE myapp.jobs_part_0 SET (fillfactor = 100)")
    with conn.transaction():
        run(conn, "SET LOCAL session_replication_role = replica")
        run(conn, FILL[table].format(time=time, wide=WIDE, live=step == "strip"))
    ids = run(
        conn, f"SELECT ctid::text, tableoid::regclass::text FROM myapp.{table} t ORDER BY t.ctid"
    )
    assert len(ids) == 40
    leaf = ids[0][1]
    key = {"jobs": "id", "engine_streams": "id", "signal_registry": "key"}[table]
    (gated,), (mover,) = run(
        conn, f"SELECT {key}::text FROM {leaf} WHERE ctid >= '{ids[-2][0]}'::tid ORDER BY ctid"
    )
    gate(conn, table, f"OLD.{key}::text = '{gated}'", "UPDATE" if step == "strip" else "DELETE")
    keeper, caller = connect(), connect()
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    run(caller, "SET hotmesh_dba.way = 'blocks'")
    with running(caller, "batch_size => 1", "batch_pause => '1 ms'") as task:
        wait_blocked(conn, pid(caller), pid(keeper))
        # In the blocks before there is room now: for one more row each where they are marked.
        run(conn, f"VACUUM {leaf}")
        update = (
            f"UPDATE {leaf} SET {wide} = {WIDE} WHERE {key}::text = '{mover}' RETURNING ctid::text"
        )
        block = gated_block = block_of(ids[-2][0])
        for _ in range(6):
            if block >= gated_block:  # until its own page is full
                block = block_of(one(conn, update))
        assert block < gated_block, "it did not move to a passed block"
        run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
        task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == 40
    assert due(conn) == 0


@pytest.mark.parametrize("step", ["jobs", "engine_streams", "signal_registry"])
@pytest.mark.parametrize("way", ["index", "keys"])
def test_a_row_that_ages_behind_the_mark(
    conn: Connection, connect: Connect, app: NewApp, step: str, way: str
) -> None:
    """Its time was set back to one that the run has gone through."""
    deploy(conn, app("myapp"))
    time = "now() - interval '30 days' + row_number() OVER () * interval '1 second'"
    with conn.transaction():
        run(conn, "SET LOCAL session_replication_role = replica")
        run(conn, FILL[step].format(time=time, wide="'w'", live=False))
    column = "expiry" if step == "signal_registry" else "expired_at"
    key = {"jobs": "id", "engine_streams": "id", "signal_registry": "key"}[step]
    (gated,), (mover,) = run(
        conn,
        f"SELECT {key}::text FROM (SELECT * FROM myapp.{step} ORDER BY {column} DESC LIMIT 2) r"
        f" ORDER BY {column}",
    )
    gate(conn, step, f"OLD.{key}::text = '{gated}'", "DELETE")
    keeper, caller = connect(), connect()
    run(keeper, "SELECT pg_advisory_lock(%s)", GATE)
    run(caller, f"SET hotmesh_dba.way = '{way}'")
    with running(caller, "batch_size => 1") as task:
        wait_blocked(conn, pid(caller), pid(keeper))
        moved = (
            f"UPDATE myapp.{step} SET {column} = now() - interval '60 days'"
            f" WHERE {key}::text = '{mover}' RETURNING 1"
        )
        assert run(conn, moved) == [(1,)]
        run(keeper, "SELECT pg_advisory_unlock(%s)", GATE)
        task.result()
    assert last(conn).outcome == ("completed", None)
    assert last(conn).rows == 40
    assert due(conn) == 0


@pytest.mark.parametrize(
    ("way", "size", "triggers"),
    [
        ("blocks", 3, "with triggers"),
        ("index", 1, "with triggers"),
        ("index", 3, "without"),
        ("index", 50, "with triggers"),
        ("keys", 3, "with triggers"),
    ],
)
def test_rows_of_equal_times(
    conn: Connection, app: NewApp, way: str, size: int, triggers: str
) -> None:
    deploy(conn, app("myapp"))
    work = add_work(conn, work=Work(70, 10, 20, 70, 20, 70))
    for table, column in (
        ("jobs", "expired_at"),
        ("engine_streams", "expired_at"),
        ("signal_registry", "expiry"),
    ):
        with conn.transaction():
            run(conn, "SET LOCAL session_replication_role = replica")
            run(
                conn,
                f"UPDATE myapp.{table} SET {column} = now() - interval '20 days'"
                f" WHERE {column} < now() - interval '20 days'",
            )
    before = rows(conn)
    run(conn, f"SET hotmesh_dba.way = '{way}'")
    done = prune(conn, f"batch_size => {size}", *knobs_for(triggers))
    assert done.outcome == ("completed", None)
    assert done.rows == work.rows
    assert due(conn) == 0
    assert_true_to(before, conn)
