"""Anybody's operators on the search_path of a superuser: nothing of ours takes one of them."""

from __future__ import annotations

import psycopg
import pytest

from hotmesh_dba import DBA
from tests.conftest import Database, NewDatabase, NewRole
from tests.deploy.observe import deploy, one, run, undeploy
from tests.deploy.plain import install_plain
from tests.policies.calls import running, set_policy
from tests.security.shadows import TRAPPED, swarm
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection

EVERYTHING = "'7 days', true, true, true"


def beset(database: Database, enemy: str) -> Connection:
    """A superuser's connection to a database where `enemy` was first."""
    admin = database.connect()
    run(admin, f"GRANT CREATE ON SCHEMA public TO {enemy}")
    with database.connect(enemy) as theirs:
        swarm(theirs, "public")
    # The trap is a real one: pg_catalog has no operator for these two.
    with pytest.raises(psycopg.errors.RaiseException, match=TRAPPED):
        run(admin, "SELECT oid = 'public'::regnamespace FROM pg_namespace")
    return admin


@pytest.fixture
def enemy(role: NewRole) -> str:
    return role("enemy")


def test_the_plain_script_is_run_and_run_again(new_database: NewDatabase, enemy: str) -> None:
    with beset(new_database(), enemy) as admin:
        install_plain(admin)
        install_plain(admin)
        assert one(admin, "SELECT hotmesh_dba.version()")
        deploys_prunes_and_observes(admin)


def test_the_extension_is_created_and_updated(new_database: NewDatabase, enemy: str) -> None:
    with beset(new_database(), enemy) as admin:
        run(admin, "CREATE EXTENSION hotmesh_dba VERSION '1.0.0'")
        run(admin, "ALTER EXTENSION hotmesh_dba UPDATE")
        deploys_prunes_and_observes(admin)


def make_app(admin: Connection) -> None:
    """An app with rows of each kind; the path is the caller's again when they are there."""
    path = one(admin, "SHOW search_path")
    run(admin, "SET search_path = pg_catalog")
    create_app(admin, "myapp")
    load_sample(admin, "myapp", jobs=60, attributes=5)
    run(admin, f"SET search_path = {path}")


def add_due(admin: Connection) -> None:
    """One more job that is due."""
    path = one(admin, "SHOW search_path")
    run(admin, "SET search_path = pg_catalog")
    run(admin, "INSERT INTO myapp.jobs (key, status, expired_at) VALUES ('k', 0, '2001-01-01')")
    run(admin, f"SET search_path = {path}")


def deploys_prunes_and_observes(admin: Connection) -> None:
    """Each routine and view does its work, in whatever order the search_path has the enemy's."""
    make_app(admin)
    assert deploy(admin, "myapp")
    for path in ("public", "public, pg_catalog", "pg_temp, public, pg_catalog"):
        run(admin, f"SET search_path = {path}")
        add_due(admin)
        (counted,) = run(admin, f"SELECT * FROM hotmesh_dba.preview('myapp', {EVERYTHING})")
        assert counted[0] > 0
        assert run(admin, f"SELECT * FROM myapp.prune({EVERYTHING})") == [counted[:-1]]
        add_due(admin)
        run(admin, f"CALL hotmesh_dba.prune_batched('myapp', {EVERYTHING})")
        set_policy(admin)
        add_due(admin)
        run(admin, running("force => true"))
        run(admin, "CALL hotmesh_dba.run_due()")
        newest = run(admin, "SELECT state FROM hotmesh_dba.run ORDER BY id DESC LIMIT 2")
        assert newest == [("completed",)] * 2
        assert run(admin, "SELECT * FROM hotmesh_dba.progress") == []
        for call in ("backlog", "doctor"):
            assert run(admin, f"SELECT * FROM hotmesh_dba.{call}('myapp')")
        assert run(admin, "SELECT schema FROM hotmesh_dba.app") == [("myapp",)]
        run(admin, "SELECT hotmesh_dba.drop_policy('myapp', 'nightly')")
        assert undeploy(admin, "myapp")
        assert deploy(admin, "myapp")


def test_the_client_works(new_database: NewDatabase, enemy: str) -> None:
    with beset(new_database(), enemy) as admin:
        make_app(admin)
        dba = DBA(admin)
        assert dba.deploy("myapp")
        assert dba.preview("myapp", expire="7 days").jobs > 0
        assert dba.prune_batched("myapp", expire="7 days", attributes=True).jobs > 0
        assert dba.prune("myapp", expire="0 seconds").jobs > 0
        dba.set_policy("myapp", "nightly", expire="7 days", jobs=True, every="1 day")
        assert dba.run_due().state == "completed"
        assert dba.runs("myapp", limit=5)
        assert [policy.name for policy in dba.policies("myapp")] == ["nightly"]
        assert dba.backlog("myapp") is not None
        assert dba.doctor("myapp")
        assert [app.schema for app in dba.apps()] == ["myapp"]
        assert dba.progress() == []
        assert "jobs" in dba.vacuum("myapp")
        dba.drop_policy("myapp", "nightly")
        assert dba.undeploy("myapp")
