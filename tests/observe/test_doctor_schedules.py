"""doctor() on schedules, with the real pg_cron."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.observe import deploy, one, run
from tests.observe.watch import Finding, bad, findings, set_policy, status, typed
from tests.policies.cron import app_of_an_owner, server_with_cron, wait_for_jobs
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

pytestmark = pytest.mark.once

SIGNALS = "prune_signals => true"
BARE = "CALL hotmesh_dba.run_policy('myapp', 'p')"


@pytest.fixture(scope="module")
def cron() -> Iterator[PrivateServer]:
    with server_with_cron() as server:
        yield server


@pytest.fixture
def root(cron: PrivateServer) -> Iterator[Connection]:
    with app_of_an_owner(cron) as conn:
        yield conn


@pytest.fixture
def mine(cron: PrivateServer, root: Connection) -> Iterator[Connection]:  # noqa: ARG001
    with cron.connect(user="owner") as conn:
        yield conn


def schedule(conn: Connection, policy: str = "p", expression: str = "0 2 29 2 *") -> None:
    run(conn, "SELECT hotmesh_dba.schedule('myapp', %s, %s)", policy, expression)


def test_one_that_never_ran_then_runs_then_is_switched_off(
    root: Connection, mine: Connection
) -> None:
    assert status(mine, "schedules") == {"ok"}
    set_policy(mine, options=SIGNALS)
    schedule(mine, expression="* * * * *")
    found = bad(mine, "schedules")
    assert (found.app, found.status) == ("myapp", "warning")
    assert "never ran" in found.detail
    wait_for_jobs("a run", lambda: status(mine, "schedules") == {"ok"})

    off = "SELECT cron.alter_job(jobid, active => false) FROM cron.job"
    for who in (root, mine):
        run(root, off)
        found = bad(who, "schedules")
        assert "switched off" in found.detail
        typed(who, found)
        assert one(root, "SELECT active FROM cron.job")


def test_one_that_fails(root: Connection, mine: Connection) -> None:
    """Until it has succeeded."""
    set_policy(mine, options=SIGNALS)
    schedule(mine, expression="* * * * *")
    run(root, "REVOKE DELETE ON myapp.jobs FROM owner")
    wait_for_jobs("a failure", lambda: bool(failed(mine)))
    (found,) = failed(mine)
    assert found.status == "problem"
    assert "permission denied" in found.detail
    typed(mine, found)
    run(root, "GRANT DELETE ON myapp.jobs TO owner")
    wait_for_jobs("a success", lambda: status(mine, "schedules") == {"ok"})


def failed(conn: Connection) -> list[Finding]:
    return [row for row in findings(conn, "schedules") if row.status == "problem"]


def test_one_that_serves_no_app_is_the_databases(root: Connection) -> None:
    run(root, "SELECT cron.schedule('all', '0 2 29 2 *', 'CALL hotmesh_dba.run_due()')")
    assert bad(root, "schedules").app is None
    run(root, "UPDATE cron.job SET command = 'CALL hotmesh_dba.prune_batched(''gone'')'")
    assert bad(root, "schedules").app is None
    run(root, "UPDATE cron.job SET command = 'CALL hotmesh_dba.prune_batched(''MyApp'')'")
    assert bad(root, "schedules").app == "myapp"


def test_whoever_may_not_look_is_told_so(cron: PrivateServer, root: Connection) -> None:
    run(root, "REVOKE USAGE ON SCHEMA cron FROM owner")
    with cron.connect(user="owner") as conn:
        found = [row for row in findings(conn, "schedules") if row.status != "ok"]
        assert {row.status for row in found} == {"unknown"}
        typed(root, found[0])
        assert status(conn, "schedules") == {"ok"}


def test_a_superusers(root: Connection, mine: Connection) -> None:
    set_policy(mine, options=SIGNALS)
    schedule(mine)
    assert status(root, "schedule_roles") == {"ok"}
    run(root, "DELETE FROM cron.job")
    run(root, f"SELECT cron.schedule('p', '0 2 29 2 *', $$ {BARE} $$)")
    run(root, "SELECT cron.schedule('own', '0 2 29 2 *', 'CALL hotmesh_dba.run_due()')")
    trusting = "CALL hotmesh_dba.run_due(trust_owners => true)"
    run(root, f"SELECT cron.schedule('all', '0 2 29 2 *', '{trusting}')")
    run(root, "ALTER ROLE owner NOLOGIN")
    rows = [row for row in findings(root, "schedule_roles") if row.status == "problem"]
    assert [row.app for row in rows] == [None, "myapp"]
    assert 'Schedule "all"' in rows[0].detail
    for row in rows:
        typed(root, row)
    assert one(root, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'owner'")
    run(root, "DELETE FROM cron.job WHERE jobname = 'own'")
    assert status(root, "schedule_roles") == {"ok"}
    assert run(root, "SELECT DISTINCT username FROM cron.job") == [("owner",)]


def test_a_superusers_own_app_may_be_his(root: Connection) -> None:
    run(root, "DROP SCHEMA myapp CASCADE")
    create_app(root, "myapp")
    deploy(root, "myapp")
    set_policy(root, options=SIGNALS)
    schedule(root)
    assert status(root, "schedule_roles") == {"ok"}


def test_a_schedule_is_what_runs_a_policy(root: Connection, mine: Connection) -> None:
    set_policy(mine, options=SIGNALS)
    run(root, "UPDATE hotmesh_dba.policy SET updated_at = now() - interval '1 year'")
    assert status(mine, "unrun_policies") == {"problem"}
    schedule(mine)
    assert status(mine, "unrun_policies") == {"ok"}
