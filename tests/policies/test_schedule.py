"""schedule, unschedule and view schedules, on the real pg_cron; and sql/examples/."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conftest import NewApp
from tests.deploy.observe import contents, deploy, one, refused, run, sqlstate
from tests.policies.calls import set_policy
from tests.policies.cron import app_of_an_owner, make_app, server_with_cron, wait_for_jobs
from tests.runs.work import Work, add_work, runs
from tests.support.installation import CHECKOUT
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

pytestmark = pytest.mark.once

EXAMPLES = CHECKOUT / "sql" / "examples"
SIGNALS = "prune_signals => true, max_percent => 100"
NIGHTLY = "SELECT * FROM hotmesh_dba.schedule('myapp', 'nightly', '0 2 * * *')"
END = "SELECT * FROM hotmesh_dba.unschedule('myapp', 'nightly')"
COMMAND = "CALL hotmesh_dba.run_policy('myapp', 'nightly')"


@pytest.fixture(scope="module")
def cron() -> Iterator[PrivateServer]:
    with server_with_cron() as server:
        yield server


@pytest.fixture
def root(cron: PrivateServer) -> Iterator[Connection]:
    with app_of_an_owner(cron) as conn:
        yield conn
        for (name,) in run(conn, "SELECT datname FROM pg_database WHERE datname LIKE 'other%'"):
            cron.drop_database(name)


@pytest.fixture
def mine(cron: PrivateServer, root: Connection) -> Iterator[Connection]:  # noqa: ARG001
    with cron.connect(user="owner") as conn:
        yield conn


@pytest.fixture
def other(cron: PrivateServer, root: Connection) -> Iterator[Connection]:  # noqa: ARG001
    """The owner, in another database of the cluster."""
    cron.create_database("other")
    with cron.connect("other") as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        make_app(conn)
    with cron.connect("other", "owner") as conn:
        yield conn


def schedules(conn: Connection, columns: str = "job_name, app, policy, role") -> list[object]:
    return list(run(conn, f"SELECT {columns} FROM hotmesh_dba.schedules ORDER BY job_id"))


# --- in pg_cron's own database ---------------------------------------------------------------


def test_a_job_is_one_bare_call(mine: Connection) -> None:
    set_policy(mine, SIGNALS)
    name = "hotmesh_dba myapp nightly"
    statement = (
        f"SELECT cron.schedule('{name}', '0 2 * * *',"
        " 'CALL hotmesh_dba.run_policy(''myapp'', ''nightly'')');"
    )
    assert run(mine, NIGHTLY) == [(name, True, statement)]
    assert run(mine, "SELECT jobname, schedule, command, database, username FROM cron.job") == [
        (name, "0 2 * * *", COMMAND, "postgres", "owner")
    ]
    assert schedules(mine) == [(name, "myapp", "nightly", "owner")]
    # Once more: another time, and not another job.
    run(mine, NIGHTLY.replace("0 2", "30 3"))
    assert run(mine, "SELECT schedule FROM cron.job") == [("30 3 * * *",)]
    ((name_of, scheduled, statement),) = run(mine, END)
    assert (name_of, scheduled) == (name, False)
    assert statement.startswith("SELECT cron.unschedule(")
    assert schedules(mine) == []
    assert "schedules" in refused(mine, "42704", END).hint


def test_a_superusers_is_the_owners(root: Connection, mine: Connection) -> None:
    set_policy(mine, SIGNALS)
    run(root, NIGHTLY)
    assert schedules(mine) == schedules(root) == [
        ("hotmesh_dba myapp nightly", "myapp", "nightly", "owner")
    ]  # fmt: skip
    run(root, END)
    assert schedules(root) == []
    run(root, "ALTER ROLE owner NOLOGIN")
    refusal = refused(root, "55000", NIGHTLY)  # for a superuser would execute the owner's code
    assert refusal.hint.startswith("ALTER ROLE owner LOGIN;")
    assert schedules(root) == []
    run(root, "ALTER ROLE owner LOGIN")
    run(root, NIGHTLY)
    assert schedules(root, "role") == [("owner",)]
    run(root, END)


def test_one_whose_policy_or_app_is_gone_can_be_ended(root: Connection, mine: Connection) -> None:
    set_policy(mine, SIGNALS)
    run(mine, NIGHTLY)
    run(mine, "SELECT hotmesh_dba.drop_policy('myapp', 'nightly')")
    run(root, "ALTER SCHEMA myapp RENAME TO gone")
    try:
        run(mine, END)
    finally:
        run(root, "ALTER SCHEMA gone RENAME TO myapp")
    assert schedules(mine) == []


def test_what_is_refused(root: Connection, mine: Connection) -> None:
    assert "set_policy" in refused(mine, "42704", NIGHTLY).hint
    set_policy(mine, SIGNALS)
    for expression in ("", "nonsense", "* * * *", "61 * * * *", "* * * * * *", "0 2 * * x'y"):
        statement = "SELECT * FROM hotmesh_dba.schedule('myapp', 'nightly', %s)"
        assert "* * *" in refused(mine, "22023", statement, expression).hint
    refused(mine, "22023", NIGHTLY.replace("'0 2 * * *'", "NULL"))
    refused(mine, "42704", NIGHTLY.replace("'nightly'", "'it''s'"))
    refused(mine, "3F000", NIGHTLY.replace("'myapp'", "'nobody'"))
    run(root, "REVOKE USAGE ON SCHEMA cron FROM owner")
    for statement in (NIGHTLY, END):
        hint = refused(mine, "42501", statement).hint
    assert hint == "GRANT USAGE ON SCHEMA cron TO owner;"
    assert schedules(mine) == []
    run(root, hint)
    run(mine, NIGHTLY)
    run(root, "CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA cron TO stranger")
    try:
        run(root, "SET ROLE stranger")
        refused(root, "42501", NIGHTLY)
        refused(root, "42704", END)
        assert schedules(root) == []
    finally:
        run(root, "RESET ROLE; DROP OWNED BY stranger; DROP ROLE stranger")
    assert len(schedules(root)) == 1


def test_a_disabled_policy_is_not_scheduled(mine: Connection) -> None:
    set_policy(mine, f"{SIGNALS}, enabled => false")
    assert "enabled => true" in refused(mine, "55000", NIGHTLY).hint
    assert schedules(mine) == []


def test_names_with_a_quote(root: Connection, mine: Connection) -> None:
    create_app(root, "o'brien's", owner="owner")
    try:
        deploy(root, "o'brien's")
        set_policy(mine, SIGNALS, app="o''brien''s")
        run(mine, NIGHTLY.replace("myapp", "o''brien''s"))
        assert schedules(mine) == [
            ("hotmesh_dba o'brien's nightly", "o'brien's", "nightly", "owner")
        ]
        ((command,),) = run(mine, "SELECT command FROM cron.job")
        run(mine, command)
        run(mine, END.replace("myapp", "o''brien''s"))
        assert schedules(mine) == []
    finally:
        run(root, """DROP SCHEMA "o'brien's" CASCADE""")


def test_where_the_extension_is_not_created(root: Connection, mine: Connection) -> None:
    set_policy(mine, SIGNALS)
    with root.transaction(force_rollback=True):
        run(root, "DROP EXTENSION pg_cron")
        assert refused(root, "55000", NIGHTLY).hint == "CREATE EXTENSION pg_cron;"
        assert schedules(root) == []


def test_the_view_knows_every_way_to_call_us(mine: Connection) -> None:
    calls = {
        "a": ("CALL hotmesh_dba.run_due('1 hour')", None, None),
        "b": ("call hotmesh_dba . prune_batched(\n'it''s', '7 days')", "it's", None),
        "c": ("CALL hotmesh_dba.run_policy(app_id => 'x', name => 'y', force => true)", "x", "y"),
        "d": ("SELECT * FROM hotmesh_dba.prune('x')", None, None),
    }
    for name, (command, _, _) in calls.items():
        run(mine, "SELECT cron.schedule(%s, '0 0 1 1 *', %s)", name, command)
    run(mine, "SELECT cron.schedule('not ours', '0 0 1 1 *', 'SELECT 1')")
    found = schedules(mine, "job_name, app, policy, last_status")
    assert found == [(name, app, policy, None) for name, (_, app, policy) in calls.items()]


# --- two owners ------------------------------------------------------------------------------


JOB = "hotmesh_dba myapp nightly"
# What another owner may try against the job {id}, and what each is refused with: XX000 is
# pg_cron's own, where it finds no job of that name that is the caller's.
AGAINST_A_JOB = {
    "UPDATE cron.job SET command = 'SELECT 1', active = false": "42501",
    "UPDATE cron.job SET username = 'rival'": "42501",
    "DELETE FROM cron.job": "42501",
    "INSERT INTO cron.job (schedule, command, username)"
    " VALUES ('* * * * *', 'SELECT 1', 'owner')": "42501",
    "SELECT cron.unschedule({id})": "42501",
    "SELECT cron.unschedule('hotmesh_dba myapp nightly')": "XX000",
    "SELECT cron.alter_job({id}, command => 'SELECT 1')": "XX000",
    "SELECT cron.alter_job({id}, active => false)": "XX000",
    "SELECT cron.alter_job({id}, username => 'rival')": "XX000",
    "SELECT cron.schedule_in_database('x', '* * * * *', 'SELECT 1', 'postgres', 'owner')": "42501",
    "SELECT hotmesh_dba.schedule('myapp', 'nightly', '* * * * *')": "42501",
    "SELECT hotmesh_dba.unschedule('myapp', 'nightly')": "42704",
}
# Those of his jobs that have run to their end.
DETAILS = """
SELECT DISTINCT ON (jobid) jobid, status, return_message FROM cron.job_run_details
WHERE username = 'rival' AND status IN ('succeeded', 'failed') ORDER BY jobid, runid
"""


@pytest.fixture
def rival(cron: PrivateServer, root: Connection) -> Iterator[Connection]:
    """Another owner, of the app `theirs`, with the same right to pg_cron."""
    run(root, "CREATE ROLE rival LOGIN; GRANT USAGE ON SCHEMA cron TO rival")
    # pg_cron gives this to nobody; where an administrator does, it changes but one's own jobs.
    run(root, "GRANT EXECUTE ON FUNCTION cron.alter_job TO rival")
    create_app(root, "theirs", owner="rival")
    deploy(root, "theirs")
    with cron.connect(user="rival") as conn:
        yield conn
    run(root, "DELETE FROM cron.job; DELETE FROM hotmesh_dba.policy")
    run(root, "DROP SCHEMA theirs CASCADE; DROP OWNED BY rival; DROP ROLE rival")


def test_neither_reaches_the_others(root: Connection, mine: Connection, rival: Connection) -> None:
    """Not by our routines, nor by pg_cron's, nor by a job of his own that runs."""
    add_work(root)
    set_policy(mine, SIGNALS)
    run(mine, NIGHTLY.replace("0 2 * * *", "0 0 1 1 *"))
    set_policy(rival, SIGNALS, app="theirs")
    job = "SELECT to_jsonb(j) FROM cron.job j WHERE j.username = 'owner'"
    ((standing,),) = run(root, job)
    before = contents(root, "myapp")

    ended = {text: sqlstate(rival, text.format(id=standing["jobid"])) for text in AGAINST_A_JOB}
    assert ended == AGAINST_A_JOB
    assert schedules(rival) == []
    assert run(root, job) == [(standing,)]

    # A job of the name that the other one's has, and another that asks for all there is.
    forced = COMMAND.replace("')", "', force => true)")
    for name, command in ((JOB, COMMAND), ("forced", forced)):
        run(rival, "SELECT cron.schedule(%s, '* * * * *', %s)", name, command)
    assert run(root, job) == [(standing,)]
    assert schedules(mine) == [(JOB, "myapp", "nightly", "owner")]
    seen = [(JOB, "myapp", "nightly", "rival"), ("forced", "myapp", "nightly", "rival")]
    assert schedules(rival) == seen
    wait_for_jobs("both jobs", lambda: len(run(root, DETAILS)) == 2)
    for _, status, message in run(root, DETAILS):
        assert status == "failed"
        assert "permission denied" in message
    assert contents(root, "myapp") == before
    assert runs(root) == []
    assert run(root, job) == [(standing,)]
    # His own ends by its name, and the other one's of that name stands.
    run(rival, "SELECT cron.unschedule(%s)", JOB)
    assert schedules(mine) == [(JOB, "myapp", "nightly", "owner")]
    run(mine, END)
    assert schedules(root, "job_name") == [("forced",)]


# --- elsewhere -------------------------------------------------------------------------------


def test_without_pg_cron_there_is_a_hint(conn: Connection, app: NewApp) -> None:
    deploy(conn, app("myapp"))
    set_policy(conn, SIGNALS)
    for statement in (NIGHTLY, END):
        assert "run_due" in refused(conn, "0A000", statement).hint
    assert schedules(conn) == []


@pytest.mark.parametrize("by_owner", [True, False])
def test_from_another_database_it_says_what_to_run(
    root: Connection, cron: PrivateServer, other: Connection, *, by_owner: bool
) -> None:
    set_policy(other, SIGNALS)
    with cron.connect("other", "owner" if by_owner else "postgres") as caller:
        ((name, scheduled, statement),) = run(caller, NIGHTLY)
        assert (name, scheduled) == ("hotmesh_dba myapp nightly", False)
        refused(caller, "22023", NIGHTLY.replace("0 2", "02"))
        run(root, statement)
        assert run(root, "SELECT schedule, command, database, username FROM cron.job") == [
            ("0 2 * * *", COMMAND, "other", "owner")
        ]
        assert schedules(root, "app, policy, database") == [("myapp", "nightly", "other")]
        assert schedules(caller) == []
        ((_, scheduled, statement),) = run(caller, END)
        assert not scheduled
        run(root, statement)
    assert schedules(root) == []


# --- the examples, and that jobs run -----------------------------------------------------------


def statements(name: str) -> list[str]:
    """An example's statements; no semicolon stands within one."""
    text = re.sub(r"^--.*\n", "", (EXAMPLES / name).read_text(), flags=re.MULTILINE)
    return [part.strip() for part in text.split(";\n") if part.strip()]


EXAMPLE_JOBS = {
    "hotmesh_dba myapp strip": "marked_pruned",
    "hotmesh_dba myapp streams": "deleted_engine_streams",
    "hotmesh_dba myapp books": "deleted_jobs",
    "hotmesh_dba myapp transient": "deleted_transient",
    "myapp strip": "marked_pruned",
    "myapp streams": "deleted_engine_streams",
    "myapp books": "deleted_jobs",
    "myapp transient": "deleted_transient",
    "hotmesh_dba run_due": "deleted_signals",
}


def test_the_examples_run(
    cron: PrivateServer, root: Connection, mine: Connection, other: Connection
) -> None:
    """Each job in a copy of its own, at the next full minute, beside one whose fuse is blown."""
    with cron.connect("other") as conn:
        work = add_work(conn, work=Work(live=200))
    for example in ("cron.sql", "policies.sql", "run_due.sql"):
        for statement in statements(example):
            run(mine, statement)
            if "cron.schedule" not in statement:
                run(other, statement)
    set_policy(other, "prune_signals => true, max_percent => 1", "fused")
    ((_, _, statement),) = run(
        other, "SELECT * FROM hotmesh_dba.schedule('myapp', 'fused', '0 0 1 1 *')"
    )
    other.close()
    run(root, statement)
    found = run(root, "SELECT jobname, username FROM cron.job")
    assert dict(found) == dict.fromkeys([*EXAMPLE_JOBS, "hotmesh_dba myapp fused"], "owner")

    for number, name in enumerate(EXAMPLE_JOBS):
        cron.create_database(f"other_{number}", "other")
        run(root, "UPDATE cron.job SET database = %s WHERE jobname = %s", f"other_{number}", name)
    run(root, "UPDATE cron.job SET schedule = '* * * * *'")
    ended = "last_status IN ('succeeded', 'failed')"
    wait_for_jobs(
        "all jobs",
        lambda: one(root, f"SELECT bool_and({ended} IS TRUE) FROM hotmesh_dba.schedules"),
    )
    run(root, "UPDATE cron.job SET active = false")

    outcome = "SELECT last_status, last_message FROM hotmesh_dba.schedules WHERE job_name = %s"
    for number, (name, counted) in enumerate(EXAMPLE_JOBS.items()):
        assert run(root, outcome, name) == [("succeeded", "CALL")], name
        with cron.connect(f"other_{number}", "owner") as copy:
            done = runs(copy)
            assert {run.outcome for run in done} == {("completed", None)}
            assert sum(getattr(run, counted) for run in done) > 0, name
            assert {run.role for run in done} == {"owner"}
            policy = one(root, "SELECT policy FROM hotmesh_dba.schedules WHERE job_name = %s", name)
            assert {run.policy for run in done} == (
                {"hourly", "nightly"} if name.endswith("due") else {policy}
            )
    ((status, message),) = run(root, outcome, "hotmesh_dba myapp fused")
    assert status == "failed"
    assert "force => true" in message
    with cron.connect("other") as copy:
        assert [run.outcome for run in runs(copy)] == [("failed", "max_percent")]
        assert one(copy, "SELECT count(*) FROM myapp.signal_registry") == work.signals + 3
