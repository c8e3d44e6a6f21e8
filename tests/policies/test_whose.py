"""A policy is its app's owner's, and follows that very app."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.conftest import Connect, Database, NewApp, NewDatabase, NewRole
from tests.deploy.observe import deploy, one, refused, run, sqlstate
from tests.deploy.test_dump_restore import copy_of
from tests.policies.calls import names, policies, set_policy, setting
from tests.policies.conftest import Owners
from tests.runs.work import runs
from tests.support.layout import create_app
from tests.support.server import Connection

SIGNALS = "prune_signals => true"


def test_a_stranger_neither_sees_nor_sets_nor_drops(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    before = policies(conn)
    for statement in (
        setting(SIGNALS, app="mine"),
        "SELECT hotmesh_dba.drop_policy('mine', 'nightly')",
        "SELECT hotmesh_dba.drop_policy('mine', 'nobodys')",
    ):
        hint = refused(owners.yours, "42501", statement).hint
        assert f"GRANT {owners.me} TO {owners.you};" in hint
    assert policies(owners.yours) == []
    run(owners.yours, "UPDATE hotmesh_dba.policy SET enabled = false")
    run(owners.yours, "DELETE FROM hotmesh_dba.policy")
    assert policies(conn) == before == policies(owners.mine)
    set_policy(owners.yours, SIGNALS, app="yours")
    assert names(owners.yours) == [("yours", "nightly")]
    assert names(owners.mine) == [("mine", "nightly")]


@pytest.mark.parametrize(
    "change",
    [
        "app = 'yours'",
        "app_oid = 'yours'::regnamespace",
        "role = 'postgres'",
        "app = 'nobody'",
        "owner = (SELECT relowner FROM pg_class WHERE oid = 'yours.jobs'::regclass)",
    ],
)
def test_nobody_moves_one_to_another_app(conn: Connection, owners: Owners, change: str) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    before = policies(conn)
    assert sqlstate(owners.mine, f"UPDATE hotmesh_dba.policy SET {change}") == "42501"
    copy = f"UPDATE hotmesh_dba.policy SET {change}, origin = 'elsewhere'"
    if not change.startswith("app_oid"):  # without an origin it means nothing
        assert sqlstate(owners.mine, copy) == "42501"
    assert policies(conn) == before


def test_a_pruner_is_no_owner(
    conn: Connection, connect: Connect, owners: Owners, role: NewRole
) -> None:
    pruner = role("pruner")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA mine TO {pruner};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA mine TO {pruner}",
    )
    set_policy(owners.mine, SIGNALS, app="mine")
    theirs = connect(pruner)
    assert policies(theirs) == []
    refused(theirs, "42501", setting(SIGNALS, app="mine"))


def test_a_member_of_the_owner_is_as_good(
    conn: Connection, connect: Connect, owners: Owners, role: NewRole
) -> None:
    member = role("member")
    run(conn, f"GRANT {owners.me} TO {member}")
    theirs = connect(member)
    set_policy(theirs, SIGNALS, app="mine")
    assert names(owners.mine) == [("mine", "nightly")]
    assert set_policy(owners.mine, SIGNALS, app="mine")["role"] == owners.me
    run(theirs, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert policies(conn) == []


def test_a_superusers_app_is_nobodys_to_be_granted(conn: Connection, owners: Owners) -> None:
    create_app(conn, "theirs")
    hint = refused(owners.mine, "42501", setting(SIGNALS, app="theirs")).hint
    assert "GRANT" not in hint


# --- another name ----------------------------------------------------------------------------


def test_it_follows_a_renamed_app(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, SIGNALS, "first", app="mine")
    run(conn, "ALTER SCHEMA mine RENAME TO ours")
    assert names(owners.mine) == [("mine", "first")]
    assert policies(owners.yours) == []
    set_policy(owners.mine, SIGNALS, "second", app="ours")
    assert names(conn) == [("ours", "first"), ("ours", "second")]


def test_where_nobody_may_ask_which_server_it_is(conn: Connection, owners: Owners) -> None:
    """A copy of the database cannot be told from it then, but a policy is as good as elsewhere."""
    run(conn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    assert one(owners.mine, "SELECT hotmesh_dba._origin()") == "unknown"
    set_policy(owners.mine, SIGNALS, app="mine")
    run(owners.mine, "CALL hotmesh_dba.run_policy('mine', 'nightly')")
    assert [(run.app, run.policy, run.state) for run in runs(owners.mine)] == [
        ("mine", "nightly", "completed")
    ]
    assert names(owners.yours) == []


def test_what_is_no_app_any_more_is_not_taken_for_another(
    conn: Connection, owners: Owners, app: NewApp
) -> None:
    """By its normalised name "MINE" would be mine."""
    deploy(conn, app("MINE", owner=owners.you))
    everything = "'0 seconds', prune_jobs => true, max_percent => 100, every => '1 second'"
    set_policy(owners.yours, everything, app="MINE")
    run(
        conn,
        "INSERT INTO mine.jobs (key, status, expired_at)"
        " VALUES ('k', 0, now() - '1 day'::interval)",
    )
    run(conn, 'ALTER TABLE "MINE".jobs_attributes DROP CONSTRAINT jobs_attributes_job_id_fkey')
    with pytest.raises(psycopg.Error, match="1 of 1 policies failed"):
        run(conn, "CALL hotmesh_dba.run_due(trust_owners => true)")
    assert one(conn, "SELECT count(*) FROM mine.jobs") == 1


def test_apps_that_swap_their_names(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, "strip_attributes => true", app="mine")
    set_policy(owners.yours, SIGNALS, app="yours")
    run(
        conn,
        "ALTER SCHEMA mine RENAME TO other; ALTER SCHEMA yours RENAME TO mine;"
        "ALTER SCHEMA other RENAME TO yours",
    )
    (still_mine,) = policies(owners.mine)
    assert (still_mine["app"], still_mine["strip_attributes"]) == ("mine", True)
    run(conn, "SELECT hotmesh_dba._follow_renames()")
    assert [(row["app"], row["role"], row["strip_attributes"]) for row in policies(conn)] == [
        ("mine", owners.you, False),
        ("yours", owners.me, True),
    ]
    assert names(owners.mine) == [("yours", "nightly")]


def test_one_whose_app_is_gone_is_its_authors_to_drop(conn: Connection, owners: Owners) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    run(conn, "DROP SCHEMA mine CASCADE")
    assert names(owners.mine) == [("mine", "nightly")]
    assert policies(owners.yours) == []
    # A new app of that name, and another owner's, inherits nothing.
    create_app(conn, "mine", owner=owners.you)
    assert policies(owners.yours) == []
    refused(owners.yours, "42704", "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    run(owners.mine, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    assert policies(conn) == []


# --- dump and restore ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_they_come_back_from_a_dump(
    db: Database,
    conn: Connection,
    owners: Owners,
    new_database: NewDatabase,
    tmp_path: Path,
    form: str,
) -> None:
    set_policy(owners.mine, SIGNALS, app="mine")
    set_policy(owners.yours, SIGNALS, app="yours")
    restored = new_database()
    copy_of(db, restored, tmp_path / "dump", form)
    with restored.connect(owners.me) as copy:
        assert policies(copy) == policies(owners.mine)
        run(copy, "SELECT hotmesh_dba._follow_renames()")
        (bound,) = policies(copy)
        assert bound["app_oid"] == one(copy, "SELECT 'mine'::regnamespace::oid")
        run(copy, "SELECT hotmesh_dba.drop_policy('mine', 'nightly')")
    with restored.connect() as copy:
        assert names(copy) == [("yours", "nightly")]
    assert len(policies(conn)) == 2


def test_a_restored_one_is_not_an_app_of_another_owner(
    db: Database, conn: Connection, owners: Owners, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Under its name stands what its author has no say in."""
    set_policy(owners.mine, SIGNALS, app="mine")
    run(conn, "DROP SCHEMA mine CASCADE")
    restored = new_database()
    copy_of(db, restored, tmp_path / "dump", "custom")
    with restored.connect() as copy:
        create_app(copy, "mine", owner=owners.you)
        run(copy, "SELECT hotmesh_dba._follow_renames()")
    with restored.connect(owners.you) as copy:
        assert policies(copy) == []
    with restored.connect(owners.me) as copy:
        assert names(copy) == [("mine", "nightly")]
