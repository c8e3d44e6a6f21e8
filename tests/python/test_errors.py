"""Each cause has its class, and keeps SQLSTATE, detail and hint."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import psycopg
import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA, AsyncDBA, HotMeshDBAError
from tests.conftest import Connect, Database, NewApp, NewDatabase, NewRole
from tests.support.server import Connection


@pytest.mark.parametrize("name", ["prune", "preview", "deploy", "undeploy"])
@pytest.mark.parametrize(
    ("app_id", "error", "state"),
    [
        ("elsewhere", h.UnknownApp, "3F000"),
        ("public", h.NotHotMesh, "42809"),
        ("myapp'; --", h.InvalidAppId, "42602"),
        ("../myapp", h.InvalidAppId, "42602"),
        ("", h.InvalidAppId, "42602"),
        (None, h.InvalidAppId, "42602"),
    ],
)
def test_app_ids(
    dba: DBA, filled: str, name: str, app_id: Any, error: type[HotMeshDBAError], state: str
) -> None:
    with pytest.raises(error) as caught:
        getattr(dba, name)(app_id)
    _is_whole(caught.value, state)
    assert filled in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["prune", "preview"])
@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"expire": "-1 day"}, "22023"),
        ({"expire": "1 month -30 days"}, "22023"),
        ({"expire": None}, "22023"),
        ({"engine_streams_expire": "-1 s"}, "22023"),
        ({"jobs": None}, "22004"),
    ],
    ids=str,
)
def test_options(dba: DBA, filled: str, name: str, options: dict[str, Any], state: str) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        getattr(dba, name)(filled, **options)
    _is_whole(caught.value, state)


@pytest.mark.parametrize("window", ["seven days", "", "999999999999999999 days"])
def test_a_window_that_cannot_be_read(face: Any, filled: str, window: str) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        face.prune(filled, expire=window)
    assert caught.value.sqlstate in ("22007", "22015")
    assert "'7 days'" in (caught.value.hint or "")
    assert isinstance(caught.value.__cause__, psycopg.Error)


def test_max_rows_below_one(dba: DBA, filled: str) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        dba.preview(filled, max_rows=0)
    _is_whole(caught.value, "22023")


def test_read_only(connect: Connect, dba: DBA, filled: str) -> None:
    dba.deploy(filled)
    mine = connect(autocommit=False)
    mine.read_only = True
    with pytest.raises(h.ReadOnly) as caught:
        DBA(mine).prune(filled)
    _is_whole(caught.value, "25006")
    assert DBA(mine).preview(filled).jobs == 2


def test_isolation(connect: Connect, dba: DBA, filled: str) -> None:
    dba.deploy(filled)
    mine = connect(autocommit=False)
    mine.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with pytest.raises(h.WrongIsolation) as caught:
        DBA(mine).prune(filled, attributes=True)
    _is_whole(caught.value, "25001")


def test_permission(db: Database, dba: DBA, filled: str, role: NewRole) -> None:
    dba.deploy(filled)
    stranger = role("stranger")
    with pytest.raises(h.PermissionDenied) as caught:
        DBA(db.conninfo(stranger)).prune(filled)
    _is_whole(caught.value, "42501")
    assert "GRANT" in (caught.value.hint or "")


def test_a_lock_of_somebody_else(connect: Connect, dba: DBA, filled: str) -> None:
    dba.deploy(filled)
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE myapp.jobs IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(h.Locked) as caught:
        dba.prune(filled)
    _is_whole(caught.value, "55P03")


def test_not_deployed(dba: DBA, app: NewApp) -> None:
    schema = app("old", layout="0.10.0")
    with pytest.raises(h.NotDeployed) as caught:
        dba.prune(schema, attributes=True, auto_deploy=False)
    _is_whole(caught.value, "55000")


def test_something_depends_on_an_old_function(conn: Connection, dba: DBA, app: NewApp) -> None:
    schema = app("old", layout="0.10.0")
    conn.execute(f"CREATE VIEW public.v AS SELECT * FROM {schema}.prune()")
    with pytest.raises(h.DependentObjects) as caught:
        dba.deploy(schema)
    _is_whole(caught.value, "2BP01")


def test_an_overload_of_unknown_origin(conn: Connection, dba: DBA, filled: str) -> None:
    conn.execute(
        "CREATE FUNCTION myapp.prune(older_than interval, dry boolean DEFAULT true) RETURNS int"
        " LANGUAGE sql AS 'SELECT 1'"
    )
    with pytest.raises(h.AmbiguousOverload) as caught:
        dba.deploy(filled)
    _is_whole(caught.value, "42725")


@pytest.mark.parametrize("state", ["22023", "3F000", "55000", "P0001", "42809"])
@pytest.mark.parametrize(
    "trigger",
    ["TRIGGER t BEFORE DELETE", "CONSTRAINT TRIGGER t AFTER DELETE"],
    ids=["at-once", "at-commit"],
)
def test_an_error_of_a_users_trigger_is_no_cause_of_ours(
    dba: DBA, conn: Connection, filled: str, state: str, trigger: str
) -> None:
    deferred = "DEFERRABLE INITIALLY DEFERRED" if "CONSTRAINT" in trigger else ""
    conn.execute(
        f"""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}', DETAIL = 'd', HINT = 'h';
        END $$;
        CREATE {trigger} ON myapp.jobs {deferred}
            FOR EACH ROW EXECUTE FUNCTION public.refuse()
        """
    )
    with pytest.raises(HotMeshDBAError) as caught:
        dba.prune(filled)
    error = caught.value
    assert type(error) is HotMeshDBAError
    assert (error.message, error.sqlstate) == ("not this one", state)
    assert (error.detail, error.hint) == ("d", "h")


def test_an_error_at_commit(face: Any, conn: Connection, filled: str) -> None:
    conn.execute(
        """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'late' USING ERRCODE = '23514'; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER DELETE ON myapp.jobs
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuse()
        """
    )
    with pytest.raises(HotMeshDBAError, match="late") as caught:
        face.prune(filled)
    assert caught.value.sqlstate == "23514"


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=127.0.0.1 port=1 dbname=nowhere",
        "postgresql://127.0.0.1:1/nowhere",
    ],
)
def test_no_server(conninfo: str) -> None:
    with pytest.raises(h.ConnectionFailed):
        DBA(conninfo).apps()
    with pytest.raises(h.ConnectionFailed):
        asyncio.run(AsyncDBA(conninfo).apps())


def test_no_such_database_or_role(db: Database) -> None:
    for conninfo in (db.server.conninfo("nowhere"), db.conninfo("nobody_of_that_name")):
        with pytest.raises(h.ConnectionFailed):
            DBA(conninfo).apps()


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://u:hush@hush@127.0.0.1:1/x",
        "host=127.0.0.1 password=x hush",
        "postgresql://u:hush%zz@127.0.0.1/x",
    ],
)
def test_an_unreadable_conninfo_is_not_repeated(conninfo: str) -> None:
    with pytest.raises(h.ConnectionFailed) as caught:
        DBA(conninfo)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_closed_connection(db: Database) -> None:
    conn = db.connect()
    conn.close()
    with pytest.raises(h.ConnectionFailed):
        DBA(conn).apps()


def test_a_killed_connection(db: Database, conn: Connection, connect: Connect) -> None:
    mine = connect()
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [mine.info.backend_pid])
    with pytest.raises(h.ConnectionFailed):
        DBA(mine).apps()
    assert DBA(db.conninfo()).apps() == []


def test_not_installed(new_database: NewDatabase) -> None:
    dba = DBA(new_database().conninfo())
    for call in (dba.apps, lambda: dba.preview("x"), lambda: dba.undeploy("x")):
        with pytest.raises(h.NotInstalled) as caught:
            call()
        assert "deploy" in (caught.value.hint or "")
    with pytest.raises(h.NotInstalled):
        dba.prune("x", auto_deploy=False)


def test_an_error_reads_well_and_pickles() -> None:
    error = h.Locked("held", sqlstate="55P03", detail="by pid 7", hint="wait")
    assert str(error) == "held\nDETAIL: by pid 7\nHINT: wait"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.sqlstate) == (h.Locked, str(error), "55P03")


def _is_whole(error: HotMeshDBAError, state: str) -> None:
    """Whether an error has everything that the server sent."""
    assert error.sqlstate == state
    assert isinstance(error.__cause__, psycopg.Error)
    diag = error.__cause__.diag
    assert error.message
    assert error.message == diag.message_primary
    assert error.detail
    assert error.detail == diag.message_detail
    assert error.hint
    assert error.hint == diag.message_hint
