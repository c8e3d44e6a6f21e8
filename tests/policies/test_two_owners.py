"""Two owners in one database: whatever one of them tries, the other's app stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import Connect
from tests.deploy.observe import background, catalogue, contents, one, pid, run, wait_until
from tests.policies.calls import set_policy
from tests.policies.conftest import Owners
from tests.runs.work import add_work, call
from tests.support.server import Connection
from tests.upgrade.catalogue import catalogue as installed

EVERYTHING = (
    "'0 seconds', prune_jobs => true, prune_streams => true, strip_attributes => true,"
    " prune_signals => true, max_percent => 100, every => '1 second'"
)
# How HotMesh, or anybody, may write the name of the other one's app.
SPELLINGS = ["yours", "YOURS", " yours ", "Yours."]

# Calls that name an app; {app} is the other's, {me} whoever tries.
CALLS = [
    "SELECT * FROM hotmesh_dba.prune('{app}', '0 s', strip_attributes => true)",
    "SELECT * FROM hotmesh_dba.preview('{app}', '0 s', strip_attributes => true)",
    "CALL hotmesh_dba.prune_batched('{app}', '0 s', strip_attributes => true)",
    "CALL hotmesh_dba.prune_batched('{app}', '0 s', worker => 2, workers => 2)",
    "SELECT * FROM hotmesh_dba.deploy('{app}')",
    "SELECT * FROM hotmesh_dba.deploy('{app}', trust_installer => true)",
    "SELECT * FROM hotmesh_dba.undeploy('{app}')",
    "SELECT hotmesh_dba.set_policy('{app}', 'nightly', " + EVERYTHING + ")",
    "SELECT hotmesh_dba.set_policy('{app}', 'another', " + EVERYTHING + ")",
    "SELECT hotmesh_dba.drop_policy('{app}', 'nightly')",
    "CALL hotmesh_dba.run_policy('{app}', 'nightly', force => true)",
    "SELECT hotmesh_dba.schedule('{app}', 'nightly', '* * * * *')",
    "SELECT hotmesh_dba.unschedule('{app}', 'nightly')",
    "SELECT * FROM hotmesh_dba.grant_prune('{app}', '{me}')",
    "SELECT * FROM hotmesh_dba.revoke_prune('{app}', '{me}')",
]
# What there is besides: the wrapper, our tables by hand, and the routines themselves.
STATEMENTS = [
    "SELECT * FROM yours.prune('0 s', true, true, true)",
    "CREATE OR REPLACE FUNCTION yours.prune() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP FUNCTION yours.prune",
    "UPDATE hotmesh_dba.policy SET retention = '0', enabled = true",
    "UPDATE hotmesh_dba.policy SET retention = '0', enabled = false",
    "UPDATE hotmesh_dba.policy SET app = 'yours', name = 'stolen'",
    "UPDATE hotmesh_dba.policy SET app_oid = 'yours'::regnamespace",
    "DELETE FROM hotmesh_dba.policy WHERE app = 'yours'",
    "INSERT INTO hotmesh_dba.policy (app, name, prune_signals) VALUES ('yours', 'nightly', true)"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO hotmesh_dba.policy (app, name, prune_signals) VALUES ('yours', 'forged', true)",
    "TRUNCATE hotmesh_dba.policy",
    "DELETE FROM hotmesh_dba.run WHERE app = 'yours'",
    "UPDATE hotmesh_dba.run SET state = 'interrupted' WHERE app = 'yours'",
    "UPDATE hotmesh_dba.run SET app = 'yours'",
    "INSERT INTO hotmesh_dba.run OVERRIDING SYSTEM VALUE SELECT r.* FROM hotmesh_dba.run r",
    "TRUNCATE hotmesh_dba.run",
    "SELECT setval('hotmesh_dba.run_id_seq', 1)",
    "ALTER TABLE hotmesh_dba.policy DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON hotmesh_dba.policy USING (true)",
    "CREATE TRIGGER t BEFORE INSERT ON hotmesh_dba.run EXECUTE FUNCTION mine.trap()",
    "CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION hotmesh_dba.prune(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OPERATOR hotmesh_dba.= (LEFTARG = name, RIGHTARG = name, FUNCTION = nameeq)",
    "ALTER SCHEMA hotmesh_dba RENAME TO elsewhere",
    "DROP EXTENSION hotmesh_dba",
    "CREATE TABLE mine.leaf PARTITION OF yours.jobs FOR VALUES WITH (MODULUS 8, REMAINDER 0)",
    "ALTER TABLE yours.jobs SET SCHEMA mine",
    "ALTER SCHEMA yours RENAME TO ours",
    "CALL hotmesh_dba.run_due()",
]
# Those that end without an error, and why they may: each is about rows of mine, or about none.
HARMLESS = {
    # Row-level security hides the other's rows: only those of my own policy are found.
    "UPDATE hotmesh_dba.policy SET retention = '0', enabled = true": "UPDATE 1",
    "UPDATE hotmesh_dba.policy SET retention = '0', enabled = false": "UPDATE 1",
    # It hides all that the condition asks for.
    "DELETE FROM hotmesh_dba.policy WHERE app = 'yours'": "DELETE 0",
    "DELETE FROM hotmesh_dba.run WHERE app = 'yours'": "DELETE 0",
    "UPDATE hotmesh_dba.run SET state = 'interrupted' WHERE app = 'yours'": "UPDATE 0",
    # It runs what its caller may run; of mine nothing is enabled by then, or has its time.
    "CALL hotmesh_dba.run_due()": "CALL",
}
ATTEMPTS = [text.replace("{app}", name) for text in CALLS for name in SPELLINGS] + STATEMENTS

# All that is in our schema, whosever it is and whether it is the extension's or not.
IN_OUR_SCHEMA = """
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'hotmesh_dba'::regnamespace
ORDER BY 1
"""

# Code of mine, which somebody else may come to run: it asks for the other's rows.
TRAP = """
CREATE FUNCTION mine.trap() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    DELETE FROM yours.jobs;
    DELETE FROM hotmesh_dba.policy WHERE app = 'yours';
    RETURN NULL;
END $$;
CREATE TRIGGER trap AFTER DELETE ON mine.jobs FOR EACH STATEMENT EXECUTE FUNCTION mine.trap();
"""


@pytest.fixture
def both(conn: Connection, owners: Owners) -> Owners:
    """Each with rows that are due, a policy and a record."""
    for mine, app in ((owners.mine, "mine"), (owners.yours, "yours")):
        add_work(conn, app)
        set_policy(mine, "prune_signals => true, max_percent => 100", app=app)
        run(mine, f"CALL hotmesh_dba.run_policy('{app}', 'nightly')")
        add_work(conn, app)
    return owners


@contextmanager
def unchanged(conn: Connection) -> Iterator[None]:
    """All of `yours` is as it was, objects, rows, policies and records; and all that is ours."""
    before = everything(conn)
    yield
    assert everything(conn) == before


def everything(conn: Connection) -> list[object]:
    ours = [
        run(conn, f"SELECT t.xmin::text, t::text FROM hotmesh_dba.{table} t WHERE app = 'yours'")
        for table in ("policy", "run")
    ]
    assert all(ours)
    routines = run(
        conn,
        "SELECT p.oid, p.xmin::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'hotmesh_dba' ORDER BY 1",
    )
    objects = [installed(conn), run(conn, IN_OUR_SCHEMA), routines]
    return [catalogue(conn, "yours"), contents(conn, "yours"), ours, objects]


def tried(conn: Connection, statement: str) -> str | None:
    """The SQLSTATE it ends with, or what it says that it did; what it did before stays done."""
    try:
        return conn.execute(statement.encode()).statusmessage
    except psycopg.Error as error:
        return error.sqlstate


def expected(attempt: str) -> str:
    """How an attempt has to end: for want of a right, unless we know that it may do otherwise."""
    if "unschedule(" in attempt:
        return "0A000"  # there is no pg_cron; tests/policies/test_schedule.py has one
    return HARMLESS.get(attempt, "42501")


def test_neither_changes_the_others(conn: Connection, both: Owners) -> None:
    with unchanged(conn):
        ended = {
            attempt: tried(both.mine, attempt.format(me=both.me, you=both.you))
            for attempt in ATTEMPTS
        }
    assert len(ended) == len(CALLS) * len(SPELLINGS) + len(STATEMENTS)
    assert ended == {attempt: expected(attempt) for attempt in ATTEMPTS}


def test_neither_sees_the_others(both: Owners) -> None:
    assert one(both.yours, "SELECT count(*) FROM hotmesh_dba.run") > 0
    mine = both.mine
    for table in ("policy", "run", "progress", "schedules"):
        assert (
            run(mine, f"SELECT * FROM hotmesh_dba.{table} t WHERE t::text LIKE '%%yours%%'") == []
        )
    # What is public of the catalogues is no row of it.
    of_yours = "SELECT policy, due, oldest_due FROM hotmesh_dba.backlog() WHERE app = 'yours'"
    assert set(run(mine, of_yours)) <= {(None, None, None)}
    assert ("nightly",) in run(both.yours, "SELECT policy FROM hotmesh_dba.backlog()")
    checks = run(mine, "SELECT status, detail FROM hotmesh_dba.doctor('yours')")
    said = " ".join(f"{status} {detail}" for status, detail in checks)
    assert "nightly" not in said


def test_what_is_left_waiting_for_the_other_catches_nobody(
    conn: Connection, both: Owners, connect: Connect
) -> None:
    """Triggers on my tables, routines of mine, open rights: the other's own calls pass them by."""
    run(both.mine, TRAP)
    run(
        both.mine,
        "GRANT USAGE ON SCHEMA mine TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA mine TO PUBLIC",
    )
    run(
        both.mine,
        "CREATE FUNCTION mine.version() RETURNS text LANGUAGE sql AS 'SELECT 1 / 0';"
        "CREATE OR REPLACE FUNCTION mine.app_schema(text) RETURNS name"
        " LANGUAGE sql AS $$ SELECT 'yours'::name $$",
    )
    set_policy(both.mine, EVERYTHING, "trap", app="mine")
    with unchanged(conn):
        # Mine alone: it fails for want of a right to the other's rows.
        assert tried(both.mine, "CALL hotmesh_dba.run_policy('mine', 'trap')") == "42501"
        assert tried(both.mine, "SELECT * FROM mine.prune('0 s')") == "42501"
    before = contents(conn, "mine")
    with connect(both.you) as yours:
        run(yours, "SET search_path = mine, public")
        run(yours, "CALL hotmesh_dba.run_due()")
        run(yours, "SELECT * FROM hotmesh_dba.backlog()")
        run(yours, "SELECT * FROM hotmesh_dba.doctor()")
        run(yours, "SELECT * FROM hotmesh_dba.preview('yours')")
    assert contents(conn, "mine") == before
    assert one(conn, "SELECT count(*) FROM hotmesh_dba.policy WHERE app = 'yours'") == 1
    assert one(conn, "SELECT count(*) FROM yours.jobs") > 0


def test_a_run_of_the_other_goes_on(conn: Connection, both: Owners, connect: Connect) -> None:
    held = call("batch_size => 1", "batch_pause => '1 hour'", app="yours")
    working = connect(both.you)
    running = (
        "SELECT id FROM hotmesh_dba.run WHERE app = 'yours' AND state = 'running' AND batches > 0"
    )
    with background(working, held) as future:
        wait_until("a batch of it", lambda: bool(run(conn, running)))
        with unchanged(conn):
            assert run(both.mine, "SELECT * FROM hotmesh_dba.progress") == []
            for attempt in ATTEMPTS:
                tried(both.mine, attempt.format(me=both.me, you=both.you))
            assert tried(both.mine, f"SELECT pg_cancel_backend({pid(working)})") == "42501"
        assert run(conn, running)
        run(conn, f"SELECT pg_cancel_backend({pid(working)})")
        with pytest.raises(psycopg.errors.QueryCanceled):
            future.result()
