"""backlog(): true, within its bound, and cheap beside any amount of rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import deploy, one, refused, run, wait_until
from tests.observe.watch import EVERYTHING, backlog, by_table, flush_statistics, set_policy
from tests.runs.work import Work, add_work, last
from tests.support.sample import load_sample
from tests.support.server import Connection

TABLES = ["jobs", "jobs_attributes", "engine_streams", "worker_streams", "signal_registry"]
# What is counted no further.
BOUND = 1000
Fill = Callable[[str], None]


@pytest.fixture
def fill(conn: Connection) -> Fill:
    """Runs an INSERT without triggers, and with no more indexes on jobs than are looked at."""

    def insert(statement: str) -> None:
        run(
            conn,
            "DROP INDEX IF EXISTS myapp.idx_jobs_entity_status, myapp.idx_jobs_context,"
            " myapp.idx_jobs_live_key, myapp.idx_jobs_key_expired_at,"
            " myapp.idx_jobs_entity_created_at",
        )
        with conn.transaction():
            run(conn, "SET LOCAL session_replication_role = replica")
            run(conn, statement)

    return insert


def rows_read(conn: Connection) -> int:
    """How many rows of the app's tables this transaction has fetched."""
    read = one(
        conn,
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE schemaname = 'myapp'",
    )
    return int(read)


def blocks(conn: Connection, table: str) -> int:
    """How many blocks of a table and its indexes were looked at so far, by whomever."""
    looked = one(
        conn,
        "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit"
        " FROM pg_statio_user_tables WHERE schemaname = 'myapp' AND relname = %s",
        table,
    )
    return int(looked)


# --- what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["current", "mixture", "pre-0.10"])
def test_it_counts_what_preview_counts(conn: Connection, app: NewApp, layout: str) -> None:
    load_sample(conn, app("myapp", layout), jobs=60)
    deploy(conn, "myapp")
    set_policy(conn)
    (preview,) = run(
        conn,
        "SELECT deleted_jobs + deleted_transient, marked_pruned, deleted_engine_streams,"
        " deleted_worker_streams, deleted_signals FROM hotmesh_dba.preview('myapp', '7 days', true,"
        " true, true, prune_transient => true)",
    )
    found = by_table(conn)
    assert all(row.exact for row in found.values())
    due = {table: row.due or 0 for table, row in found.items()}
    streams = due.get("engine_streams", 0) + due.get("worker_streams", 0) + due.get("streams", 0)
    assert all(preview)
    assert (due["jobs"], due["jobs_attributes"], streams, due["signal_registry"]) == (
        preview[0],
        preview[1],
        preview[2] + preview[3],
        preview[4],
    )


@pytest.mark.usefixtures("owner")
def test_the_oldest_is_the_oldest_that_is_due(conn: Connection) -> None:
    add_work(conn)
    set_policy(conn, options=EVERYTHING + ", entity_list => ARRAY['book']")
    run(conn, "UPDATE myapp.jobs SET entity = 'author' WHERE key LIKE 'old%' AND status = 1")
    found = by_table(conn)
    # Transient jobs have no entity, and go as well.
    assert found["jobs"].oldest_due == one(
        conn,
        "SELECT min(expired_at) FROM myapp.jobs WHERE expired_at < now() - interval '7 days'"
        " AND coalesce(entity, 'book') = 'book'",
    )
    for table, column in (("engine_streams", "expired_at"), ("signal_registry", "expiry")):
        assert found[table].oldest_due == one(conn, f"SELECT min({column}) FROM myapp.{table}")
    assert found["jobs_attributes"].oldest_due is None


@pytest.mark.usefixtures("owner")
def test_totals(conn: Connection) -> None:
    work = add_work(conn)
    flush_statistics(conn)
    set_policy(conn)
    found = by_table(conn)
    assert found["jobs"].total_rows == work.jobs + work.transient + work.live + 9
    assert found["signal_registry"].total_rows == work.signals + 3
    assert found["engine_streams"].total_bytes == one(
        conn,
        "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits"
        " WHERE inhparent = 'myapp.engine_streams'::regclass",
    )
    assert found["jobs"].last_vacuum is None
    run(conn, "DELETE FROM myapp.signal_registry")
    flush_statistics(conn)
    assert by_table(conn)["signal_registry"].dead_rows == work.signals + 3
    run(conn, "VACUUM myapp.signal_registry")
    flush_statistics(conn)
    after = by_table(conn)["signal_registry"]
    assert (after.dead_rows, after.total_rows) == (0, 0)
    assert after.last_vacuum is not None
    assert datetime.now(timezone.utc) - after.last_vacuum < timedelta(minutes=5)


@pytest.mark.usefixtures("owner")
def test_what_nobody_has_counted_is_unknown_and_not_none(conn: Connection) -> None:
    add_work(conn)
    flush_statistics(conn)
    run(conn, "SELECT pg_stat_reset()")
    unknown = dict.fromkeys(TABLES, None)

    def found() -> dict[str, int | None]:
        return {row.table_name: row.total_rows for row in backlog(conn)}

    # On 14 a process of its own resets them, in its own time.
    wait_until("the counts to be forgotten", lambda: found() == unknown)
    run(conn, "ANALYZE")
    run(conn, "SELECT pg_stat_reset()")
    assert found()["jobs"] == 149


@pytest.mark.usefixtures("owner")
def test_a_row_a_table_and_policy(conn: Connection) -> None:
    add_work(conn)
    assert [(row.table_name, row.policy, row.due) for row in backlog(conn, "myapp")] == [
        (table, None, None) for table in TABLES
    ]
    set_policy(conn, "a", "retention => '7 days', prune_jobs => true")
    set_policy(conn, "b", "retention => '90 days', prune_jobs => true, prune_signals => true")
    set_policy(conn, "c", "strip_attributes => true, enabled => false")
    assert [(row.table_name, row.policy, row.due) for row in backlog(conn, "myapp")] == [
        ("jobs", "a", 83),
        ("jobs", "b", 0),
        ("jobs_attributes", None, None),
        ("engine_streams", None, None),
        ("worker_streams", None, None),
        ("signal_registry", "b", 20),
    ]


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("moment", ["-infinity", "infinity", "294000-01-01"])
def test_a_forged_record_hides_nothing(conn: Connection, moment: str) -> None:
    add_work(conn)
    set_policy(conn)
    run(conn, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    add_work(conn, work=Work(signals=500))
    run(conn, f"UPDATE hotmesh_dba.run SET started_at = '{moment}', updated_at = '{moment}'")
    found = by_table(conn)["signal_registry"]
    assert (found.due, found.rows_per_second, found.time_to_drain) == (500, None, None)


@pytest.mark.usefixtures("owner")
def test_rate_and_time_are_those_of_the_last_run(conn: Connection) -> None:
    add_work(conn)
    set_policy(conn)
    assert all(row.rows_per_second is None for row in backlog(conn))
    run(conn, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    done = last(conn)
    took = (done.updated_at - done.started_at).total_seconds()
    add_work(conn, work=Work(signals=500))
    found = by_table(conn)
    for row in found.values():
        assert row.rows_per_second is not None
        assert float(row.rows_per_second) == pytest.approx(done.rows / took, rel=0.01)
    signals = found["signal_registry"]
    assert signals.due == 500
    assert signals.time_to_drain is not None
    expected = 500 * took / done.rows
    assert signals.time_to_drain.total_seconds() == pytest.approx(expected, rel=0.01)


@pytest.mark.usefixtures("owner")
def test_above_its_bound_it_says_at_least(conn: Connection) -> None:
    """And takes the time to drain from what the planner expects, not from the bound."""
    add_work(conn)
    set_policy(conn)
    run(conn, "CALL hotmesh_dba.run_policy('myapp', 'p')")
    add_work(conn, work=Work(jobs=3000, live=3000, engine=3000, worker=3000, signals=3000))
    run(conn, "ANALYZE")
    for row in by_table(conn).values():
        assert row.exact is False
        assert row.due is not None
        assert 0 < row.due <= BOUND + 20
        assert row.time_to_drain is not None
        assert row.rows_per_second is not None
        rows = row.time_to_drain.total_seconds() * float(row.rows_per_second)
        assert 2000 < rows < 5000, row


@pytest.mark.usefixtures("owner")
def test_a_renamed_app_keeps_its_policies(conn: Connection) -> None:
    work = add_work(conn)
    set_policy(conn)
    run(conn, "ALTER SCHEMA myapp RENAME TO yours")
    found = by_table(conn, app="yours")
    assert found["signal_registry"].due == work.signals


@pytest.mark.usefixtures("owner")
def test_a_strip_of_an_app_that_lost_its_column_is_unknown(conn: Connection) -> None:
    add_work(conn)
    set_policy(conn)
    run(conn, "ALTER TABLE myapp.jobs DROP COLUMN pruned_at")
    found = by_table(conn)
    assert found["jobs_attributes"].due is None
    assert found["jobs"].due == 83


# --- who may look, and what stands in the way ------------------------------------------------


def test_nobody_sees_anothers_policies(
    conn: Connection, connect: Connect, owner: str, app: NewApp, role: NewRole
) -> None:
    other = role("other")
    deploy(conn, app("theirs", owner=other))
    set_policy(connect(owner))
    set_policy(connect(other), "q", app="theirs")
    add_work(conn)
    for user, seen in ((owner, ("myapp", "p")), (other, ("theirs", "q"))):
        rows = backlog(connect(user))
        assert {row.app for row in rows} == {"myapp", "theirs"}
        assert {(row.app, row.policy) for row in rows if row.policy} == {seen}
        assert all(row.due is None for row in rows if row.policy is None)


def test_what_the_caller_may_not_read_is_unknown(
    conn: Connection, connect: Connect, owner: str
) -> None:
    add_work(conn)
    flush_statistics(conn)
    mine = connect(owner)
    set_policy(mine)
    run(mine, f"REVOKE SELECT ON myapp.jobs FROM {owner}")
    found = by_table(mine)
    assert (found["jobs"].due, found["jobs"].exact) == (None, None)
    assert found["engine_streams"].due == 60
    run(conn, f"REVOKE ALL ON SCHEMA myapp FROM {owner}; ALTER SCHEMA myapp OWNER TO postgres")
    assert {row.due for row in by_table(mine).values()} == {None}
    assert {row.total_rows for row in by_table(mine).values()} != {None}


def test_rows_that_are_hidden_are_not_all(conn: Connection, connect: Connect, owner: str) -> None:
    add_work(conn)
    mine = connect(owner)
    set_policy(mine)
    run(conn, "ALTER TABLE myapp.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    assert (by_table(mine)["jobs"].due, by_table(mine)["jobs"].exact) == (0, False)


def test_a_locked_table_is_unknown_and_not_waited_for(
    conn: Connection, connect: Connect, owner: str
) -> None:
    add_work(conn)
    flush_statistics(conn)
    mine, other = connect(owner), connect(autocommit=False)
    set_policy(mine)
    run(other, "LOCK TABLE myapp.jobs IN ACCESS EXCLUSIVE MODE")
    run(mine, "SET statement_timeout = '5 s'")
    found = by_table(mine)
    assert found["jobs"].due is None
    assert found["jobs_attributes"].due is None
    assert found["signal_registry"].due == 20
    other.rollback()
    assert by_table(mine)["jobs"].due == 83


@pytest.mark.usefixtures("owner")
def test_a_read_only_transaction_suffices(conn: Connection) -> None:
    add_work(conn)
    set_policy(conn)
    before = one(conn, "SELECT count(*) FROM hotmesh_dba.run")
    run(conn, "SET default_transaction_read_only = on")
    assert by_table(conn)["signal_registry"].due == 20
    assert one(conn, "SELECT count(*) FROM hotmesh_dba.run") == before


@pytest.mark.usefixtures("owner")
def test_an_app_that_there_is_not(conn: Connection) -> None:
    refused(conn, "3F000", "SELECT * FROM hotmesh_dba.backlog('noapp')")
    refused(conn, "42602", "SELECT * FROM hotmesh_dba.backlog('; --')")
    run(conn, "DROP SCHEMA myapp CASCADE")
    assert backlog(conn) == []


# --- what it costs ---------------------------------------------------------------------------

NEW = "INSERT INTO myapp.jobs (key, entity, status, is_live, expired_at) SELECT n, "


def looks_cheap(connect: Connect, user: str) -> None:
    """As the app's owner, within a second; and few rows are read."""
    conn = connect(user)
    run(conn, "SET statement_timeout = '1 s'")
    with conn.transaction():
        backlog(conn)
        assert rows_read(conn) <= 10 * (BOUND + 1)


def test_beside_a_million_jobs_that_are_not_due(
    conn: Connection, connect: Connect, owner: str, fill: Fill
) -> None:
    """All of them stand in HotMesh's index of what is not marked yet, and none in ours."""
    mine = connect(owner)
    set_policy(mine)
    fill(NEW + "'book', n % 2 * 2 - 1, true, NULL FROM generate_series(1, 1000000) n")
    for exact in (True, False):
        looks_cheap(connect, owner)
        found = by_table(mine)
        assert (found["jobs_attributes"].due, found["jobs_attributes"].exact) == (0, exact)
        assert (found["jobs"].due, found["jobs"].exact) == (0, True)
        run(conn, "DROP INDEX IF EXISTS myapp.idx_jobs_unstripped")


def test_beside_many_due_jobs_of_other_entities(connect: Connect, owner: str, fill: Fill) -> None:
    mine = connect(owner)
    set_policy(mine, options="retention => '7 days', prune_jobs => true, entity_list => '{book}'")
    fill(NEW + "'author', 0, false, now() - '1 year'::interval FROM generate_series(1, 50000) n")
    fill(NEW + "'book', 0, false, now() - '30 days'::interval FROM generate_series(1, 10) n")
    looks_cheap(connect, owner)
    assert (by_table(mine)["jobs"].due, by_table(mine)["jobs"].exact) == (0, False)


def test_without_an_index_it_reads_no_more(
    conn: Connection, connect: Connect, owner: str, fill: Fill
) -> None:
    mine = connect(owner)
    set_policy(mine)
    run(
        conn,
        "DROP INDEX myapp.idx_jobs_expired_at, myapp.idx_jobs_pruned_at, myapp.idx_jobs_unstripped",
    )
    fill(NEW + "'book', 1, true, NULL FROM generate_series(1, 50000) n")
    looks_cheap(connect, owner)
    assert by_table(mine)["jobs"].exact is False
    run(conn, "DELETE FROM myapp.jobs")
    add_work(conn)
    found = by_table(mine)
    assert (found["jobs"].due, found["jobs"].exact) == (83, True)
    assert (found["jobs_attributes"].due, found["jobs_attributes"].exact) == (60, True)


def test_dead_entries_of_an_index_are_not_walked(
    conn: Connection, connect: Connect, owner: str, fill: Fill
) -> None:
    """While somebody holds a snapshot, each of them costs a look into the table."""
    holder = connect(autocommit=False)
    set_policy(conn)
    signals = "INSERT INTO myapp.signal_registry (key, expiry) SELECT n, now() - interval "
    fill(signals + "'9 days' FROM generate_series(1, 300000) n")
    run(conn, "VACUUM (ANALYZE) myapp.signal_registry")
    run(holder, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    run(holder, "SELECT 1 FROM pg_class")
    run(conn, "DELETE FROM myapp.signal_registry")
    fill(signals + "'8 days' FROM generate_series(300001, 340000) n")
    flush_statistics(conn)
    wait_until(
        "the counters",
        lambda: (
            one(
                conn, "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'signal_registry'"
            )
            > 200000
        ),
    )
    before = blocks(conn, "signal_registry")
    row = by_table(conn)["signal_registry"]
    assert row.exact is False
    assert row.due is not None
    assert 0 < row.due <= 40000
    flush_statistics(conn)
    wait_until("the counters", lambda: blocks(conn, "signal_registry") > before)
    assert blocks(conn, "signal_registry") - before < 300
    looks_cheap(connect, owner)


def test_a_policy_that_was_spoilt_by_hand_hides_nobody_elses(
    conn: Connection, app: NewApp, owner: str
) -> None:
    set_policy(conn)
    deploy(conn, app("yours"))
    set_policy(conn, app="yours")
    run(conn, "UPDATE hotmesh_dba.policy SET retention = '-1 day' WHERE app = 'myapp'")
    found = {(row.app, row.policy) for row in backlog(conn)}
    assert ("yours", "p") in found
    assert ("myapp", None) in found
    assert owner
