"""From PostgreSQL 15 to 18, by pg_upgrade and by dump and restore: all of it goes on there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.observe import contents, deploy, one, run, state
from tests.policies.calls import policies, running
from tests.runs.work import due, record, runs
from tests.support.server import Connection, PrivateServer

from .catalogue import Catalogue, catalogue, differences
from .major import (
    OWNER,
    add_database,
    add_policy_and_run,
    dump_and_restore,
    new_server,
    old_server,
    pg_upgrade,
    restore_roles,
)
from .test_released import CURRENT, RELEASED, UPDATE

# Servers of their own: whichever the suite is for, this is the same.
pytestmark = pytest.mark.once

WRAPPER = "SELECT * FROM myapp.prune('7 days', true, true, true)"


def test_pg_upgrade() -> None:
    with old_server() as old, new_server() as new:
        fill(old)
        with old.connect("current") as conn:
            kept = everything(conn)
        pg_upgrade(old, new)
        goes_on(new, "current", kept)
        for version in RELEASED:
            is_updated(new, version)


def test_dump_and_restore(tmp_path: Path) -> None:
    with old_server() as old, new_server() as new:
        fill(old)
        with old.connect("current") as conn:
            kept = everything(conn)
        restore_roles(old, new)
        for name in ("current", *RELEASED):
            dump_and_restore(old, new, name, tmp_path / name)
        goes_on(new, "current", kept)
        for version in RELEASED:  # a dump names no version: it comes back with this one
            goes_on_in_this_version(new, version)


def fill(old: PrivateServer) -> None:
    """A database with this version, its policy and its run, and one of each release."""
    add_database(old, "current")
    for version in RELEASED:
        add_database(old, version, version)
    with old.connect("current") as conn, old.connect("current", OWNER) as owner:
        add_policy_and_run(conn, owner)


def everything(conn: Connection) -> tuple[object, ...]:
    """Policies, runs and every row of the app, without the transactions that wrote them."""
    rows = {
        table: sorted(row.split(" ", 1)[1] for row in found)
        for table, found in contents(conn, "myapp").items()
    }
    assert all(rows.values())
    assert [run.policy for run in runs(conn)] == ["nightly"]
    assert len(policies(conn)) == 1
    return policies(conn), runs(conn), rows


def members(conn: Connection) -> Catalogue:
    """What the extension consists of, without what a dump writes in another way.

    Rights that are the default ones are NULL afterwards, and a view is parsed and printed anew.
    """
    other = ("acl", "definition")
    return {
        key: {name: value for name, value in facts.items() if name not in other}
        for key, facts in catalogue(conn).items()
    }


def goes_on(server: PrivateServer, name: str, kept: tuple[object, ...]) -> None:
    """Nothing was lost, the extension is as one made here, and wrapper and policy work."""
    server.create_database("fresh")
    with server.connect("fresh") as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        fresh = members(conn)
    with server.connect(name) as conn, server.connect(name, OWNER) as owner:
        assert conn.info.server_version >= 180000
        assert everything(conn) == kept
        assert differences(members(conn), fresh) == []
        assert state(conn, "myapp") == ("ours", True, True)
        assert deploy(owner, "myapp") == []
        with owner.transaction(force_rollback=True):
            ((jobs, *_),) = run(owner, WRAPPER)
            assert jobs > 0
        done = record(owner, one(owner, running()))
        assert (done.policy, done.state, done.id) == ("nightly", "completed", 2)
        assert done.rows > 0
        assert due(conn) == 0
        run(conn, "DROP EXTENSION hotmesh_dba")
        assert one(conn, "SELECT to_regproc('myapp.prune') IS NULL")


def is_updated(server: PrivateServer, version: str) -> None:
    """A database that came with an older release can be updated, and its wrapper works."""
    with server.connect(version) as conn:
        assert one(conn, "SELECT hotmesh_dba.version()") == version
        run(conn, UPDATE)
    goes_on_in_this_version(server, version)


def goes_on_in_this_version(server: PrivateServer, name: str) -> None:
    """The wrapper that another release had put there prunes."""
    with server.connect(name) as conn:
        assert one(conn, "SELECT hotmesh_dba.version()") == CURRENT
        ((jobs, *_),) = run(conn, WRAPPER)
        assert jobs > 0
