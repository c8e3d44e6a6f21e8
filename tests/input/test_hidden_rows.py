"""Policies and triggers of the user that hide or keep rows: nothing is left half done or unsaid."""

from __future__ import annotations

import pytest
from psycopg import errors

from tests.conftest import Connect, NewRole
from tests.deploy.observe import one, refused, run, warnings_of
from tests.input.refusing import nothing_changed
from tests.support.server import Connection

STRIP = "SELECT marked_pruned, stripped_attributes FROM myapp.prune('0 s', false, false, true)"
ARTIFACTS = (
    "SELECT count(*) FROM myapp.jobs_attributes WHERE type NOT IN ('jdata', 'udata', 'jmark')"
)
MARKED = "SELECT count(*) FROM myapp.jobs WHERE pruned_at IS NOT NULL"


@pytest.fixture
def pruner(conn: Connection, role: NewRole, full: str) -> str:
    """A role that may prune the app and no more."""
    name = role("pruner")
    run(
        conn,
        f"GRANT USAGE ON SCHEMA {full} TO {name};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA {full} TO {name};"
        f"GRANT UPDATE (pruned_at) ON {full}.jobs TO {name}",
    )
    return name


def test_hidden_attributes_are_not_left_on_marked_jobs(
    conn: Connection, connect: Connect, pruner: str
) -> None:
    before = one(conn, ARTIFACTS), one(conn, MARKED)
    run(conn, "ALTER TABLE myapp.jobs_attributes ENABLE ROW LEVEL SECURITY")
    with pytest.raises(errors.InsufficientPrivilege) as refused:
        run(connect(pruner), STRIP)
    assert refused.value.diag.message_detail
    assert f"ALTER ROLE {pruner} BYPASSRLS" in str(refused.value.diag.message_hint)
    assert (one(conn, ARTIFACTS), one(conn, MARKED)) == before

    run(conn, f"ALTER ROLE {pruner} BYPASSRLS")
    marked, stripped = run(connect(pruner), STRIP)[0]
    assert marked > 0
    assert stripped > 0


def test_a_policy_for_deletion_is_enough_to_delete(
    conn: Connection, connect: Connect, pruner: str
) -> None:
    run(
        conn,
        "ALTER TABLE myapp.jobs ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY look ON myapp.jobs FOR SELECT USING (true);"
        "CREATE POLICY remove ON myapp.jobs FOR DELETE USING (true)",
    )
    due = one(conn, "SELECT count(*) FROM myapp.jobs WHERE expired_at < now()")
    assert due > 0
    assert one(connect(pruner), "SELECT deleted_jobs FROM myapp.prune('0 s')") == due


@pytest.mark.parametrize("table", ["jobs", "worker_streams", "signal_registry"])
@pytest.mark.parametrize("face", ["prune", "prune_batched", "preview"])
def test_with_row_security_off(
    conn: Connection, connect: Connect, pruner: str, face: str, table: str
) -> None:
    """PostgreSQL then refuses what a policy would filter; we say so before anything is done."""
    run(
        conn,
        f"ALTER TABLE myapp.{table} ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY everything ON myapp.{table} USING (true)",
    )
    caller = connect(pruner)
    call = "CALL" if face == "prune_batched" else "SELECT * FROM"
    statement = f"{call} hotmesh_dba.{face}('myapp', '0 s')"
    run(caller, "SET row_security = off")
    with nothing_changed(conn, "myapp"):
        refusal = refused(caller, "42501", statement)
    assert f"myapp.{table}" in refusal.message
    assert refusal.hint.startswith("SET row_security = on;")
    run(caller, "SET row_security = on")
    run(caller, statement)


def test_with_row_security_off_there_is_no_record(
    conn: Connection, connect: Connect, pruner: str
) -> None:
    """The table of runs has policies of its own."""
    caller = connect(pruner)
    run(caller, "SET row_security = off")
    with nothing_changed(conn, "myapp"):
        refusal = refused(caller, "42501", "CALL hotmesh_dba.prune_batched('myapp', '0 s')")
    assert "hotmesh_dba.run" in refusal.message
    assert refusal.hint.startswith("SET row_security = on;")
    assert one(caller, "SELECT deleted_jobs FROM hotmesh_dba.prune('myapp', '0 s')") > 0


def test_a_job_whose_mark_a_trigger_swallows_keeps_its_attributes(
    conn: Connection, full: str
) -> None:
    due = "SELECT count(*) FROM myapp.jobs WHERE status = 0 AND is_live AND pruned_at IS NULL"
    jobs = one(conn, due)
    run(
        conn,
        f"CREATE FUNCTION {full}.swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.entity = ''book'' THEN RETURN NULL; END IF; RETURN NEW; END';"
        f"CREATE TRIGGER swallow BEFORE UPDATE ON {full}.jobs"
        f" FOR EACH ROW EXECUTE FUNCTION {full}.swallow()",
    )
    books = one(conn, due + " AND entity = 'book'")
    artifacts = (
        "SELECT count(*) FROM myapp.jobs_attributes a JOIN myapp.jobs j ON j.id = a.job_id"
        " WHERE j.status = 0 AND j.is_live AND j.entity = 'book' AND a.type = 'adata'"
    )
    kept = one(conn, artifacts)
    assert books > 0
    assert kept > 0
    warned = warnings_of(conn)
    marked, _ = run(conn, STRIP)[0]
    assert marked == jobs - books
    assert one(conn, artifacts) == kept
    assert len(warned) >= books


def test_without_the_types_that_stay_nothing_is_stripped(conn: Connection, full: str) -> None:
    before = one(conn, "SELECT count(*) FROM myapp.jobs_attributes")
    for label in ("jdata", "udata", "jmark"):
        run(conn, f"ALTER TYPE {full}.type_enum RENAME VALUE '{label}' TO 'x{label}'")
    with pytest.raises(errors.WrongObjectType) as refused:
        run(conn, STRIP)
    assert refused.value.diag.message_detail
    assert refused.value.diag.message_hint
    assert one(conn, "SELECT count(*) FROM myapp.jobs_attributes") == before
    assert one(conn, MARKED) == 0


# As an interrupted pg_restore leaves it: no cascade, so prune removes the attributes itself.
NO_CASCADE = """
DO $do$
DECLARE
  v_trigger record;
BEGIN
  FOR v_trigger IN
    SELECT t.tgrelid::regclass AS relation, t.tgname AS name
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = 'myapp'::regnamespace AND t.tgconstraint <> 0
  LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', v_trigger.relation, v_trigger.name);
  END LOOP;
END
$do$
"""
OF_OLD_JOBS = (
    "SELECT count(*) FROM myapp.jobs_attributes a JOIN myapp.jobs j ON j.id = a.job_id"
    " WHERE j.expired_at < now()"
)
DELETE = "SELECT deleted_jobs FROM myapp.prune('0 s', prune_streams => false)"


def test_a_policy_that_keeps_jobs_keeps_their_attributes(
    conn: Connection, connect: Connect, pruner: str
) -> None:
    """Without the cascade attributes go first: of jobs too that no policy lets us delete."""
    run(
        conn,
        NO_CASCADE + ";"
        f"GRANT UPDATE ON myapp.jobs TO {pruner};"
        "ALTER TABLE myapp.jobs ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY look ON myapp.jobs FOR SELECT USING (true);"
        "CREATE POLICY remove ON myapp.jobs FOR DELETE USING (entity = 'book')",
    )
    before = one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")
    assert before[0] > 0
    with pytest.raises(errors.InsufficientPrivilege) as refused:
        run(connect(pruner), DELETE)
    assert "myapp.jobs" in str(refused.value.diag.message_primary)
    assert refused.value.diag.message_detail
    assert f"ALTER ROLE {pruner} BYPASSRLS" in str(refused.value.diag.message_hint)
    assert (one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")) == before

    run(conn, f"ALTER ROLE {pruner} BYPASSRLS")
    assert one(connect(pruner), DELETE) > 0
    assert one(conn, OF_OLD_JOBS) == 0


def test_without_the_cascade_jobs_must_be_locked(
    conn: Connection, connect: Connect, pruner: str
) -> None:
    """Which takes a right that DELETE alone does not give."""
    run(conn, f"{NO_CASCADE}; REVOKE UPDATE ON myapp.jobs FROM {pruner}")
    before = one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")
    with pytest.raises(errors.InsufficientPrivilege) as refused:
        run(connect(pruner), DELETE)
    hint = str(refused.value.diag.message_hint)
    assert f"GRANT UPDATE (expired_at) ON myapp.jobs TO {pruner};" in hint
    assert (one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")) == before

    run(conn, f"GRANT UPDATE (expired_at) ON myapp.jobs TO {pruner}")
    assert one(connect(pruner), DELETE) > 0
    assert one(conn, OF_OLD_JOBS) == 0


@pytest.mark.parametrize("without", [NO_CASCADE, "SET session_replication_role = replica"])
def test_a_job_that_a_trigger_keeps_keeps_its_attributes(
    conn: Connection, connect: Connect, full: str, without: str
) -> None:
    run(
        conn,
        f"CREATE FUNCTION {full}.keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF OLD.entity = ''book'' THEN RETURN NULL; END IF; RETURN OLD; END';"
        f"CREATE TRIGGER keep BEFORE DELETE ON {full}.jobs"
        f" FOR EACH ROW EXECUTE FUNCTION {full}.keep();"
        f"ALTER TABLE {full}.jobs ENABLE ALWAYS TRIGGER keep",
    )
    pruning = connect()
    run(pruning, without)
    before = one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")
    with pytest.raises(errors.TriggeredActionException) as refused:
        run(pruning, DELETE)
    assert refused.value.diag.message_detail
    assert refused.value.diag.message_hint
    assert (one(conn, OF_OLD_JOBS), one(conn, "SELECT count(*) FROM myapp.jobs")) == before

    run(conn, f"DROP TRIGGER keep ON {full}.jobs")
    assert one(pruning, DELETE) > 0
    assert one(conn, OF_OLD_JOBS) == 0


def test_where_the_cascade_is_intact_the_kept_job_is_kept_whole(
    conn: Connection, full: str
) -> None:
    run(
        conn,
        f"CREATE FUNCTION {full}.keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF OLD.entity = ''book'' THEN RETURN NULL; END IF; RETURN OLD; END';"
        f"CREATE TRIGGER keep BEFORE DELETE ON {full}.jobs"
        f" FOR EACH ROW EXECUTE FUNCTION {full}.keep()",
    )
    of_books = one(conn, OF_OLD_JOBS + " AND j.entity = 'book'")
    assert of_books > 0
    assert one(conn, DELETE) > 0
    assert one(conn, OF_OLD_JOBS) == of_books
