"""Tables and rows that somebody else has locked."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Connect, NewApp, NewDatabase, NewRole
from tests.deploy.observe import background, contents, one, pid, run, wait_blocked
from tests.input.refusing import nothing_changed, refuses
from tests.support.server import Connection

PRUNE = "SELECT * FROM myapp.prune('7 days', true, true, true)"

# Seconds: "a few", with room for a slow machine.
BOUND = 10


@pytest.mark.parametrize(
    "table", ["jobs", "jobs_part_3", "jobs_attributes", "engine_streams", "signal_registry"]
)
def test_a_locked_table_is_not_waited_for_long(
    conn: Connection, connect: Connect, role: NewRole, full: str, table: str
) -> None:
    name = role("locker")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA {full} TO {name};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA {full} TO {name}",
    )
    holder, caller = connect(name), connect()
    run(caller, "SET statement_timeout = '25s'")  # for a prune that has no bound of its own
    # Looking at the rows is a wait of the test's own, so it is done without the lock.
    with nothing_changed(conn, full):
        run(holder, f"BEGIN; LOCK TABLE {full}.{table} IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        said = refuses(caller, "55P03", PRUNE)
        assert time.monotonic() - begun < BOUND
        assert str(pid(holder)) in said
        assert name in said
        run(holder, "ROLLBACK")
    assert run(caller, PRUNE)[0][0] > 0


def test_a_lock_that_goes_in_time_is_waited_for(
    conn: Connection, connect: Connect, full: str
) -> None:
    expected = run(conn, "SELECT * FROM hotmesh_dba.preview('myapp', '7 days', true, true, true)")
    holder, caller = connect(), connect()
    # Room for a slow machine: half of deadlock_timeout is what prune waits.
    run(caller, "SET deadlock_timeout = '30s'")
    run(holder, f"BEGIN; LOCK TABLE {full}.jobs IN ACCESS EXCLUSIVE MODE")
    with background(caller, PRUNE) as task:
        wait_blocked(conn, pid(caller), pid(holder))
        run(holder, "ROLLBACK")
        assert task.result() == [expected[0][:-1]]


@pytest.mark.usefixtures("full")
def test_locked_jobs_are_left_for_the_next_call(conn: Connection, connect: Connect) -> None:
    counts, options = "SELECT deleted_jobs, marked_pruned", "'7 days', strip_attributes => true"
    due = f"{counts} FROM hotmesh_dba.preview('myapp', {options})"
    take = f"{counts} FROM myapp.prune({options})"
    ((jobs, marks),) = run(conn, due)
    assert jobs > 2
    assert marks > 2
    holder = connect()
    run(holder, "BEGIN")
    old = one(
        holder,
        "SELECT id FROM myapp.jobs WHERE expired_at < now() - interval '7 days' LIMIT 1 FOR UPDATE",
    )
    # KEY SHARE is what an attribute's foreign key takes.
    live = one(
        holder,
        "SELECT id FROM myapp.jobs WHERE status = 0 AND is_live AND pruned_at IS NULL"
        " AND expired_at > now() LIMIT 1 FOR KEY SHARE",
    )
    before = contents(conn, "myapp")["jobs_attributes"]
    assert run(conn, take) == [(jobs - 1, marks - 1)]
    assert one(conn, "SELECT count(*) FROM myapp.jobs WHERE id IN (%s, %s)", old, live) == 2
    kept = contents(conn, "myapp")["jobs_attributes"]
    for job in (old, live):
        mine = [row for row in before if str(job) in row]
        assert mine
        assert [row for row in kept if str(job) in row] == mine
    run(holder, "ROLLBACK")
    assert run(conn, take) == [(1, 1)]
    assert run(conn, due) == [(0, 0)]


def test_locked_messages_are_left_for_the_next_call(
    connect: Connect, conn: Connection, full: str
) -> None:
    call = f"SELECT deleted_engine_streams FROM {full}.prune('7 days')"
    due = f"FROM {full}.engine_streams WHERE expired_at < now() - interval '7 days'"
    messages = one(conn, f"SELECT count(*) {due}")
    holder = connect()
    run(holder, f"BEGIN; SELECT 1 {due} LIMIT 5 FOR UPDATE")
    assert one(conn, call) == messages - 5
    run(holder, "ROLLBACK")
    assert one(conn, call) == 5


def test_who_cannot_lock_messages_does_not_wait_for_them_for_long(
    connect: Connect, conn: Connection, role: NewRole, full: str
) -> None:
    name = role("deleter")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA {full} TO {name};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA {full} TO {name}",
    )
    holder, caller = connect(), connect(name)
    call = f"SELECT deleted_engine_streams FROM {full}.prune('7 days')"
    with nothing_changed(conn, full):
        run(holder, f"BEGIN; SELECT 1 FROM {full}.engine_streams FOR UPDATE")
        said = refuses(caller, "55P03", call)
        assert str(pid(holder)) in said
        run(holder, "ROLLBACK")
    assert one(caller, call) > 0


KEY = (
    "INSERT INTO {0}.jobs (key, status) VALUES ('the same key', 0);"
    "INSERT INTO {0}.jobs_attributes (job_id, symbol, type) SELECT id, 'a', 'adata' FROM {0}.jobs"
    " WHERE key = 'the same key'"
)
STRIP = "SELECT * FROM myapp.prune('7 days', false, false, true)"


def test_who_holds_a_key_is_named_though_it_touches_another_app(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole, full: str
) -> None:
    """The lock of a key is the same in every app, and shows no table."""
    owner = role("owner")
    app("other", owner=owner)
    for schema in (full, "other"):
        run(conn, KEY.format(schema))
    writer, caller = connect(owner), connect()
    run(writer, "BEGIN; UPDATE other.jobs SET context = '{}' WHERE key = 'the same key'")
    with nothing_changed(conn, full):
        said = refuses(caller, "55P03", STRIP)
        assert f"Process {pid(writer)} (role {owner}) holds an advisory lock." in said
    # After those who hold something of the app's own.
    reader = connect()
    run(reader, f"BEGIN; SELECT 1 FROM {full}.signal_registry LIMIT 1 FOR KEY SHARE")
    said = refuses(caller, "55P03", STRIP)
    assert 0 <= said.index(str(pid(reader))) < said.index(str(pid(writer)))
    run(writer, "ROLLBACK")
    assert run(caller, STRIP)[0][6] > 0


def test_an_advisory_lock_that_nobody_waits_for_is_not_named(
    conn: Connection, connect: Connect, new_database: NewDatabase, full: str
) -> None:
    """Neither of another key space or database, nor to who wants no key: preview and deploy."""
    elsewhere = new_database().connect()
    holder, pair, caller = connect(), connect(), connect()
    run(elsewhere, "SELECT pg_advisory_lock(1)")
    run(pair, "SELECT pg_advisory_lock(1, 1)")
    run(holder, f"BEGIN; LOCK TABLE {full}.jobs IN ACCESS EXCLUSIVE MODE")
    said = refuses(caller, "55P03", PRUNE)
    assert str(pid(holder)) in said
    for other in (pair, elsewhere):
        assert f"Process {pid(other)} " not in said
    run(pair, "SELECT pg_advisory_lock(1)")
    run(conn, f"DROP FUNCTION {full}.prune")
    assert f"Process {pid(pair)} " in refuses(
        caller, "55P03", "SELECT * FROM hotmesh_dba.prune('myapp')"
    )
    for call in ("preview", "deploy"):
        said = refuses(caller, "55P03", f"SELECT * FROM hotmesh_dba.{call}('myapp')")
        assert str(pid(holder)) in said
        assert f"Process {pid(pair)} " not in said
    elsewhere.close()
