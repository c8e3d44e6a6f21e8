"""prune deploys what is absent, upgrades nothing, and runs no DDL where all is in place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA
from tests.conftest import Connect, NewApp, NewDatabase, NewRole
from tests.support.layout import create_app
from tests.support.server import Connection

# Records every DDL command that ends, and every one that begins (even one that then does nothing).
RECORDER = """
CREATE TABLE public.ddl (event text, tag text);
CREATE FUNCTION public.record_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.ddl VALUES (tg_event, tg_tag); END $$;
CREATE EVENT TRIGGER record_start ON ddl_command_start EXECUTE FUNCTION public.record_ddl();
CREATE EVENT TRIGGER record_end ON ddl_command_end EXECUTE FUNCTION public.record_ddl();
"""


def ddl(conn: Connection) -> list[Any]:
    """The DDL recorded so far."""
    return conn.execute("SELECT * FROM public.ddl").fetchall()


def wrapper(conn: Connection) -> tuple[Any, ...] | None:
    """The identity and version of the row of myapp.prune in the catalogue."""
    return conn.execute(
        "SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = 'myapp'::regnamespace"
        " AND proname = 'prune'"
    ).fetchone()


def test_no_ddl_where_all_is_in_place(face: Any, conn: Connection, filled: str) -> None:
    conn.execute(RECORDER)
    face.prune(filled)
    assert ddl(conn), "the first call deploys, and the recorder sees it"
    conn.execute("DELETE FROM public.ddl")
    before = wrapper(conn)
    assert before is not None
    face.prune(filled, attributes=True)
    assert ddl(conn) == []
    assert wrapper(conn) == before


def test_a_foreign_wrapper_is_left_alone(dba: DBA, conn: Connection, filled: str) -> None:
    dba.deploy(filled)
    row = conn.execute("SELECT pg_get_functiondef('myapp.prune'::regproc)").fetchone()
    assert row is not None
    conn.execute("DROP FUNCTION myapp.prune")
    conn.execute(row[0].replace("hotmesh_dba.prune(", "hotmesh_dba.preview("))  # another body
    conn.execute(RECORDER)
    before = wrapper(conn)
    assert [found.wrapper for found in dba.apps()] == ["foreign"]
    assert dba.prune(filled, attributes=True).marked == 3
    assert (ddl(conn), wrapper(conn)) == ([], before)


def test_a_database_without_the_extension(new_database: NewDatabase) -> None:
    database = new_database()
    with closing(database.connect()) as conn:
        create_app(conn, "myapp")
    dba = DBA(database.conninfo())
    assert dba.prune("myapp").jobs == 0
    assert [found.wrapper for found in dba.apps()] == ["ours"]


def test_an_app_that_is_not_migrated(dba: DBA, app: NewApp) -> None:
    schema = app("old", layout="0.10.0")
    assert dba.prune(schema, attributes=True).attributes == 0
    [found] = dba.apps()
    assert (found.wrapper, found.migrated, found.indexed) == ("ours", True, True)


def test_switched_off(dba: DBA, conn: Connection, filled: str) -> None:
    conn.execute(RECORDER)
    assert dba.prune(filled, auto_deploy=False).jobs == 2
    assert ddl(conn) == []


def test_never_an_upgrade(dba: DBA, conn: Connection, filled: str) -> None:
    dba.deploy(filled)
    conn.execute("UPDATE pg_extension SET extversion = '1.0.0-rc' WHERE extname = 'hotmesh_dba'")
    conn.execute(RECORDER)
    dba.prune(filled)
    assert ddl(conn) == []


def test_rolled_back_with_the_callers_transaction(
    connect: Connect, conn: Connection, filled: str
) -> None:
    mine = connect(autocommit=False)
    mine.execute("SELECT 1")
    DBA(mine).prune(filled)
    mine.rollback()
    assert wrapper(conn) is None


def test_a_role_that_may_only_prune(
    connect: Connect, conn: Connection, dba: DBA, filled: str, role: NewRole
) -> None:
    cron = role("cron")
    conn.execute(
        f"GRANT USAGE ON SCHEMA myapp TO {cron};"
        f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA myapp TO {cron};"
        f"GRANT UPDATE (pruned_at) ON myapp.jobs TO {cron}"
    )
    theirs = DBA(connect(user=cron))
    with pytest.raises(h.PermissionDenied):
        theirs.prune(filled)
    assert wrapper(conn) is None
    dba.deploy(filled)
    assert theirs.prune(filled, attributes=True).marked == 3


@pytest.mark.parametrize("name", ["prune", "deploy"])
def test_many_at_once_on_a_bare_database(new_database: NewDatabase, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    database = new_database()
    with closing(database.connect()) as conn:
        create_app(conn, "myapp")
    call: Callable[[str], object] = getattr(DBA(database.conninfo()), name)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(call, ["myapp"] * 4))
    assert len(results) == 4
    assert [found.wrapper for found in DBA(database.conninfo()).apps()] == ["ours"]
