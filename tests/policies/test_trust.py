"""Whose code is executed, and whose tables are pruned.

A superuser goes near other owners' tables only where the app is named or they are said to be
trusted; and an owner speaks for his own tables alone."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, NewRole
from tests.deploy.observe import background, deploy, one, refused, run, warnings_of
from tests.observe.watch import backlog, findings
from tests.policies.calls import ALL, names, policies, running, set_policy, setting
from tests.policies.conftest import Owners
from tests.policies.test_run_due import DUE, DUE_OF_ALL, SIGNALS
from tests.runs.test_record import OLDER
from tests.runs.work import add_work, last, rows, runs, said, wait_for_batches
from tests.support.layout import create_app
from tests.support.server import Connection

# The planner asks the predicate of an index, with the rights of whoever reads the table.
SPY = """
CREATE FUNCTION mine.spy() RETURNS boolean IMMUTABLE LANGUAGE plpgsql
AS $$ BEGIN RAISE NOTICE 'spied on %', current_user; RETURN true; END $$;
CREATE INDEX ON mine.signal_registry (key) WHERE mine.spy()
"""


def spied_on(conn: Connection) -> list[str]:
    """Whose rights the code on the table has had, on this connection."""
    caught: list[str] = []

    def keep(diag: psycopg.errors.Diagnostic) -> None:
        if (diag.message_primary or "").startswith("spied on "):
            caught.append((diag.message_primary or "").removeprefix("spied on "))

    conn.add_notice_handler(keep)
    return caught


@pytest.fixture
def spied(conn: Connection, owners: Owners) -> Owners:
    """Owner `me` has put code on a table, and has something due there."""
    add_work(conn, "mine")
    set_policy(owners.mine, SIGNALS, app="mine")
    run(owners.mine, SPY)
    return owners


@pytest.fixture
def ours(conn: Connection) -> None:
    """A superuser's app, deployed, with something due."""
    create_app(conn, "ours")
    deploy(conn, "ours")
    add_work(conn, "ours")


def test_a_superuser_who_names_no_app_reads_none_of_others(conn: Connection, spied: Owners) -> None:
    victims, theirs, warnings = spied_on(conn), spied_on(spied.mine), warnings_of(conn)
    assert {row.due for row in backlog(spied.mine) if row.policy} == {20}
    assert set(theirs) == {spied.me}

    assert {row.due for row in backlog(conn) if row.policy} == {None}
    (found,) = [row for row in findings(conn, "backlog") if row.app == "mine"]
    assert found.status == "unknown"
    assert f'tables of "{spied.me}"' in found.detail
    assert run(conn, DUE) == [(0, 0, 0, 0, 1)]
    assert victims == []
    assert warnings[-1].message.startswith("1 policies are left to the owners of their apps")
    assert "trust_owners => true" in warnings[-1].hint
    assert runs(conn) == []


def test_a_superuser_who_names_it_does(conn: Connection, spied: Owners) -> None:
    victims = spied_on(conn)
    assert {row.due for row in backlog(conn, "mine") if row.policy} == {20}
    assert {row.status for row in findings(conn, "backlog", "mine")} == {"problem"}
    assert "postgres" in victims
    assert run(conn, DUE_OF_ALL) == [(1, 0, 0, 0, 0)]
    assert (last(conn).app, last(conn).deleted_signals) == ("mine", 20)
    assert spied.me


@pytest.mark.usefixtures("ours")
def test_a_superusers_own_apps_are_pruned(conn: Connection, spied: Owners) -> None:
    set_policy(conn, SIGNALS, app="ours")
    assert run(conn, DUE) == [(1, 0, 0, 0, 1)]
    assert last(conn).app == "ours"
    assert spied.me


def test_a_member_of_all_owners_prunes_all(
    conn: Connection, connect: Connect, spied: Owners, role: NewRole
) -> None:
    night = role("night")
    run(conn, f"GRANT {spied.me}, {spied.you} TO {night}")
    set_policy(spied.yours, SIGNALS, app="yours")
    assert run(connect(night), DUE) == [(2, 0, 0, 0, 0)]


def test_trust_owners_is_true_or_false(conn: Connection) -> None:
    refused(conn, "22004", "CALL hotmesh_dba.run_due(trust_owners => NULL)")


# --- a table of somebody else's ---------------------------------------------------------------


def test_a_table_of_another_owner_is_not_an_apps_to_prune(conn: Connection, owners: Owners) -> None:
    add_work(conn, "mine")
    run(conn, f"ALTER TABLE mine.signal_registry OWNER TO {owners.you}")
    for caller in (owners.mine, conn):
        refusal = refused(caller, "42501", setting(SIGNALS, app="mine"))
        assert "mine.signal_registry" in refusal.message
        assert refusal.hint == f"ALTER TABLE mine.signal_registry OWNER TO {owners.me};"
    assert policies(conn) == []
    set_policy(owners.mine, "strip_attributes => true", app="mine")
    run(conn, refusal.hint)
    set_policy(owners.mine, SIGNALS, app="mine")


def test_nor_is_one_that_was_given_away_since(conn: Connection, owners: Owners) -> None:
    add_work(conn, "mine")
    set_policy(owners.mine, SIGNALS, app="mine")
    run(conn, f"ALTER TABLE mine.signal_registry OWNER TO {owners.you}")
    before = rows(conn, "mine")
    refused(conn, "42501", running(app="mine"))
    refusal = refused(conn, "42501", DUE_OF_ALL)
    assert "mine.signal_registry" in refusal.detail
    assert rows(conn, "mine") == before


# --- another owner -----------------------------------------------------------------------------


def test_an_app_that_was_given_to_another_owner(conn: Connection, owners: Owners) -> None:
    """What the old one said counts no more; the new one sees it, and says it anew or drops it."""
    add_work(conn, "mine")
    set_policy(owners.mine, SIGNALS, app="mine")
    before = rows(conn, "mine")
    run(conn, f"REASSIGN OWNED BY {owners.me} TO {owners.you}")
    for caller in (owners.yours, conn):
        refusal = refused(caller, "55000", running(app="mine"))
        assert "another owner" in refusal.message
        assert "set_policy" in refusal.hint
    caught = warnings_of(conn)
    refused(conn, "55000", DUE_OF_ALL)
    assert "another owner" in caught[0].message
    assert rows(conn, "mine") == before
    assert policies(owners.mine) == []
    assert names(owners.yours) == [("mine", "nightly")]
    set_policy(owners.yours, SIGNALS, app="mine")
    run(owners.yours, running(app="mine"))
    assert last(conn).deleted_signals == 20


def test_a_name_that_an_app_had_before_is_free(conn: Connection, owners: Owners) -> None:
    """The policy of the dropped one is still its author's, and in nobody's way."""
    set_policy(owners.mine, "strip_attributes => true, every => '1 hour'", app="mine")
    run(conn, "DROP SCHEMA mine CASCADE")
    create_app(conn, "mine", owner=owners.you)
    deploy(conn, "mine")
    add_work(conn, "mine")
    set_policy(owners.yours, SIGNALS, app="mine")
    run(owners.yours, running(app="mine"))
    assert (last(conn).deleted_signals, last(conn).policy) == (20, "nightly")
    assert [row["prune_signals"] for row in policies(owners.yours)] == [True]
    assert [row["prune_signals"] for row in policies(owners.mine)] == [False]
    # Nor does its owner read what became of the other.
    run(conn, "UPDATE hotmesh_dba.run SET started_at = started_at - interval '1 day'")
    refused(conn, "55000", DUE_OF_ALL)
    assert {run.state for run in runs(owners.yours)} == {"completed"}
    run(owners.yours, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert policies(owners.yours) == []
    run(owners.mine, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert policies(conn) == []


def test_one_set_anew_in_a_restored_database_wins(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, "strip_attributes => true", app="mine")
    run(conn, "UPDATE hotmesh_dba.policy SET origin = 'elsewhere', app_oid = 1, owner = 1")
    run(owners.yours, "SELECT hotmesh_dba._follow_renames()")
    assert one(conn, "SELECT origin FROM hotmesh_dba.policy") == "elsewhere"
    set_policy(owners.mine, SIGNALS, app="mine")
    assert [row["prune_signals"] for row in policies(conn)] == [True]


def test_a_record_from_before_there_was_a_policy_keeps_none_waiting(
    conn: Connection, owners: Owners
) -> None:
    """Whoever had an app of the name could leave it there."""
    add_work(conn, "mine")
    run(conn, OLDER, "mine", "failed", "0", 1, 1)
    run(conn, "UPDATE hotmesh_dba.run SET policy = 'nightly'")
    set_policy(owners.mine, SIGNALS, app="mine")
    assert run(owners.mine, DUE) == [(1, 0, 0, 0, 0)]


# --- what a review tried ----------------------------------------------------------------------


@pytest.mark.usefixtures("ours")
def test_what_is_no_app_for_a_while_is_asked_again_at_its_turn(
    conn: Connection, connect: Connect, spied: Owners
) -> None:
    set_policy(conn, f"{SIGNALS}, batch_size => 5, batch_pause => '0.5 s'", "a", app="ours")
    set_policy(spied.mine, SIGNALS, "z", app="mine")
    run(spied.mine, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    run(spied.mine, "ALTER TABLE mine.jobs RENAME TO away")
    run(conn, "UPDATE hotmesh_dba.policy SET app = 'zzz' WHERE name = 'z'")  # its turn is later
    caller = connect()
    victims = spied_on(caller)
    with background(caller, DUE) as task:
        wait_for_batches(conn, 1)
        run(spied.mine, "ALTER TABLE mine.away RENAME TO jobs")
        assert task.result() == [(1, 0, 0, 0, 1)]
    assert victims == []


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    "give",
    [
        "ALTER SCHEMA ours OWNER TO {you}",
        "ALTER TABLE ours.signal_registry OWNER TO {you}",
        "ALTER TABLE ours.jobs_part_0 OWNER TO {you}",
    ],
)
def test_one_part_of_anothers_makes_it_his(conn: Connection, owners: Owners, give: str) -> None:
    """He can put what he likes there, and a superuser would execute it."""
    everything = f"retention => '7 days', prune_jobs => true, {SIGNALS}"
    set_policy(conn, everything, app="ours")
    run(conn, give.format(you=owners.you))
    assert {row.due for row in backlog(conn) if row.policy} == {None}
    assert run(conn, DUE) == [(0, 0, 0, 0, 1)]
    if "TABLE" in give:
        refused(conn, "42501", running(app="ours"))
        refused(conn, "42501", setting(everything, app="ours"))


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("how", ["was his", "may add triggers"])
def test_nor_where_his_code_hangs_on_it(conn: Connection, owners: Owners, how: str) -> None:
    set_policy(conn, SIGNALS, app="ours")
    if how == "was his":
        run(owners.mine, SPY)
        run(conn, "CREATE INDEX ON ours.signal_registry (key) WHERE mine.spy()")
    else:
        run(conn, f"GRANT ALL ON ALL TABLES IN SCHEMA ours TO {owners.me}")
    victims = spied_on(conn)
    assert {row.due for row in backlog(conn) if row.policy} == {None}
    assert run(conn, DUE) == [(0, 0, 0, 0, 1)]
    assert victims == []


def test_doctor_looks_into_no_table_of_others(conn: Connection, spied: Owners) -> None:
    run(conn, "DROP INDEX mine.idx_jobs_unstripped")
    run(spied.mine, "CREATE INDEX ON mine.jobs (key) WHERE mine.spy()")
    victims = spied_on(conn)
    assert {row.status for row in findings(conn, "migration") if row.app == "mine"} == {"warning"}
    assert victims == []


def test_a_superusers_policy_is_set_in_the_owners_name(conn: Connection, owners: Owners) -> None:
    """So that in a restored copy it is not whoever's has the app's name there."""
    assert set_policy(conn, SIGNALS, app="mine")["role"] == owners.me
    create_app(conn, "ours")
    assert set_policy(conn, SIGNALS, app="ours")["role"] == "postgres"
    run(conn, "UPDATE hotmesh_dba.policy SET origin = 'elsewhere'")
    for name in ("mine", "ours"):
        run(conn, f"DROP SCHEMA {name} CASCADE")
        create_app(conn, name, owner=owners.you)
        deploy(conn, name)
        add_work(conn, name)
    assert run(owners.yours, DUE) == [(0, 0, 0, 0, 0)]
    assert policies(owners.yours) == []


def test_an_owner_who_changes_ends_the_run(
    conn: Connection, connect: Connect, owners: Owners
) -> None:
    add_work(conn, "mine")
    set_policy(owners.mine, f"{SIGNALS}, batch_size => 2, batch_pause => '0.3 s'", app="mine")
    with background(connect(), running(app="mine")) as task:
        wait_for_batches(conn, 1)
        run(conn, f"REASSIGN OWNED BY {owners.me} TO {owners.you}")
        error = said(task.exception(20))
    assert (error.sqlstate, last(conn).outcome) == ("55000", ("failed", "error"))
    assert "was given to another owner under its run" in error.message
    assert rows(conn, "mine").signals > 0


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("table", ["signal_registry", "jobs_part_0"])
def test_a_table_that_is_given_away_ends_the_run(
    conn: Connection, connect: Connect, owners: Owners, table: str
) -> None:
    what = SIGNALS if table == "signal_registry" else f"{ALL}, every => '1 hour'"
    set_policy(conn, f"{what}, batch_size => 2, batch_pause => '0.3 s'", app="ours")
    with background(connect(), DUE) as task:
        wait_for_batches(conn, 1)
        run(conn, f"ALTER TABLE ours.{table} OWNER TO {owners.you}")
        error = said(task.exception(20))
    assert (error.sqlstate, last(conn).outcome) == ("55000", ("failed", "error"))
    assert "another owner" in error.detail


def test_a_restored_one_is_its_owners_and_nobody_elses(
    conn: Connection, connect: Connect, owners: Owners, role: NewRole
) -> None:
    """Set by one who has a say in both; under the name stands another owner's app now."""
    night = role("night")
    run(conn, f"GRANT {owners.me}, {owners.you} TO {night}")
    both = connect(night)
    assert set_policy(both, SIGNALS, app="mine")["role"] == owners.me
    run(conn, "UPDATE hotmesh_dba.policy SET origin = 'elsewhere', app_oid = 1, owner = 1")
    run(conn, "DROP SCHEMA mine CASCADE")
    create_app(conn, "mine", owner=owners.you)
    deploy(conn, "mine")
    add_work(conn, "mine")
    before = rows(conn, "mine")
    run(both, "SELECT hotmesh_dba._follow_renames()")
    refused(both, "42704", running(app="mine"))
    assert rows(conn, "mine") == before


def test_a_place_that_is_not_committed_is_not_waited_for(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    run(owners.mine, "UPDATE hotmesh_dba.policy SET origin = 'elsewhere', app_oid = 1")
    with owners.mine.transaction():
        run(
            owners.mine,
            "INSERT INTO hotmesh_dba.policy"
            " SELECT (hotmesh_dba._bind_policy(p, 'mine')).* FROM hotmesh_dba.policy p",
        )
        run(conn, "SET statement_timeout = '8 s'")
        assert run(conn, DUE) == [(0, 0, 0, 0, 1)]


@pytest.mark.parametrize("moment", ["9000-01-01", "infinity"])
def test_the_age_of_a_policy_is_its_owners(conn: Connection, owners: Owners, moment: str) -> None:
    add_work(conn, "mine")
    set_policy(owners.mine, SIGNALS, app="mine")
    run(owners.mine, f"UPDATE hotmesh_dba.policy SET created_at = '{moment}'")
    run(conn, f"REASSIGN OWNED BY {owners.me} TO {owners.you}")
    set_policy(owners.yours, SIGNALS, app="mine")
    assert run(owners.yours, DUE) == [(1, 0, 0, 0, 0)]
    assert run(owners.yours, DUE) == [(0, 0, 0, 0, 0)]
