"""Both clients, over everything they can be given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from hotmesh_dba import DBA, Action, App, AsyncDBA, Preview, PruneResult
from tests.conftest import Connect, Database
from tests.support.server import Connection

EVERYTHING: dict[str, Any] = {"expire": "7 days", "attributes": True}
PRUNED = PruneResult(
    jobs=2,
    streams=2,
    engine_streams=1,
    worker_streams=1,
    attributes=6,
    transient=0,
    marked=3,
    signals=1,
    remaining=0,
)
_COUNTS = {name: value for name, value in asdict(PRUNED).items() if name != "remaining"}
PREVIEWED = Preview(**_COUNTS, exact=True)


def count(conn: psycopg.Connection[Any], table: str) -> int:
    """Rows of a table of myapp."""
    row = conn.execute(f"SELECT count(*) FROM myapp.{table}").fetchone()
    assert row is not None
    return int(row[0])


def test_every_method_on_every_kind_of_client(face: Any, conn: Connection, filled: str) -> None:
    [before] = face.apps()
    assert before == App("myapp", "postgres", "none", True, True)
    assert "created" in {action.action for action in face.deploy(filled)}
    assert face.deploy(filled) == []
    assert [found.wrapper for found in face.apps()] == ["ours"]

    assert face.preview(filled, **EVERYTHING) == PREVIEWED
    assert count(conn, "jobs") == 5, "a preview changes nothing"
    assert face.preview(filled, max_rows=1).exact is False

    assert face.prune(filled, **EVERYTHING) == PRUNED
    assert count(conn, "jobs") == 3, "what was pruned is committed"
    assert [action.action for action in face.undeploy(filled)] == ["dropped"]
    assert face.undeploy(filled) == []


def test_every_option_reaches_the_server(dba: DBA, conn: Connection, filled: str) -> None:
    nothing: dict[str, Any] = {"jobs": False, "streams": False, "signals": False}
    assert set(asdict(dba.prune(filled, **nothing)).values()) == {0}
    assert dba.preview(filled, **nothing, engine_streams=True).engine_streams == 1
    assert dba.preview(filled, worker_streams=False).streams == 1
    assert dba.preview(filled, engine_streams_expire=timedelta(days=11)).engine_streams == 0
    assert dba.preview(filled, worker_streams_expire="9 days 23:59").worker_streams == 1
    assert dba.preview(filled, entities=["book"], prune_transient=True).jobs == 1
    assert dba.preview(filled, entities=["book"], prune_transient=True).transient == 1
    assert dba.preview(filled, entities=[]).jobs == 0
    assert dba.preview(filled, expire=timedelta(days=11)).jobs == 0
    assert dba.preview(filled, attributes=True, keep_hmark=True).attributes == 3
    assert count(conn, "jobs") == 5


def test_an_open_transaction_stays_the_callers(
    connect: Connect, conn: Connection, filled: str
) -> None:
    mine = connect(autocommit=False)
    mine.execute("SELECT 1")
    assert DBA(mine).prune(filled, **EVERYTHING) == PRUNED
    assert mine.info.transaction_status is TransactionStatus.INTRANS
    assert count(conn, "jobs") == 5, "not committed"
    mine.rollback()
    assert count(mine, "jobs") == 5
    assert not mine.autocommit


def test_a_failed_call_leaves_the_callers_transaction_usable(connect: Connect, filled: str) -> None:
    mine = connect(autocommit=False)
    mine.execute("INSERT INTO myapp.signal_registry (key) VALUES ('mine')")
    with pytest.raises(Exception, match="unknown app"):
        DBA(mine).preview("elsewhere")
    assert count(mine, "signal_registry") == 2
    mine.rollback()
    assert filled == "myapp"


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_idle_connection_is_idle_again_and_unchanged(
    db: Database, connect: Connect, filled: str, autocommit: bool
) -> None:
    mine = connect(autocommit=autocommit)
    DBA(mine).prune(filled, **EVERYTHING)
    assert mine.info.transaction_status is TransactionStatus.IDLE
    assert mine.autocommit is autocommit
    with closing(db.connect()) as other:
        assert count(other, "jobs") == 3, "committed"


def test_an_autocommit_connection_inside_begin(
    connect: Connect, conn: Connection, filled: str
) -> None:
    mine = connect(autocommit=True)
    mine.execute("BEGIN")
    DBA(mine).prune(filled, **EVERYTHING)
    assert count(conn, "jobs") == 5
    mine.execute("ROLLBACK")
    assert mine.autocommit


def test_the_connections_factories_do_not_matter(db: Database, filled: str) -> None:
    with psycopg.connect(
        db.conninfo(), row_factory=dict_row, cursor_factory=psycopg.ClientCursor
    ) as mine:
        assert DBA(mine).prune(filled, **EVERYTHING) == PRUNED
        assert DBA(mine).apps()[0].schema == "myapp"
        assert mine.row_factory is dict_row
        assert mine.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_an_async_transaction_stays_the_callers(
    db: Database, conn: Connection, filled: str
) -> None:
    async def prune_and_roll_back() -> PruneResult:
        async with await psycopg.AsyncConnection.connect(db.conninfo()) as mine:
            await mine.execute("SELECT 1")
            result = await AsyncDBA(mine).prune(filled, **EVERYTHING)
            assert mine.info.transaction_status is TransactionStatus.INTRANS
            await mine.rollback()
            return result

    assert asyncio.run(prune_and_roll_back()) == PRUNED
    assert count(conn, "jobs") == 5


def test_a_pool_gets_its_connection_back(db: Database, filled: str) -> None:
    with psycopg_pool.ConnectionPool(db.conninfo(), min_size=1, max_size=1, timeout=5) as pool:
        dba = DBA(pool)
        for _ in range(3):
            dba.preview(filled)
        with pytest.raises(Exception, match="unknown app"):
            dba.preview("elsewhere")
        with pool.connection() as mine:
            assert mine.info.transaction_status is TransactionStatus.IDLE


def test_own_connections_read_what_is_committed_whatever_the_default(
    db: Database, conn: Connection, dba: DBA, filled: str
) -> None:
    conn.execute(f"ALTER DATABASE {db.name} SET default_transaction_isolation = 'serializable'")
    assert dba.prune(filled, attributes=True).marked == 3


def test_what_the_server_warns_of_is_logged(
    connect: Connect, filled: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine = connect()
    mine.execute(
        """
        CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE WARNING 'bounded' USING HINT = 'call again'; RETURN NULL; END $$;
        CREATE TRIGGER warn AFTER DELETE ON myapp.signal_registry EXECUTE FUNCTION public.warn()
        """
    )
    DBA(mine).prune(filled)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [(r.name, r.getMessage()) for r in warnings] == [("hotmesh_dba", "bounded\ncall again")]
    caplog.clear()
    mine.execute("DO $$ BEGIN RAISE WARNING 'the caller''s own'; END $$")
    assert caplog.records == [], "the handler is gone with the call"


@pytest.mark.parametrize(
    ("client", "database"),
    [(DBA, 5), (DBA, None), (AsyncDBA, object())],
)
def test_what_is_no_database_is_a_type_error(client: Callable[..., Any], database: object) -> None:
    with pytest.raises(TypeError, match="conninfo"):
        client(database)


def test_the_wrong_kind_of_connection_names_the_right_client(db: Database) -> None:
    use: Callable[..., Any] = AsyncDBA
    with closing(db.connect()) as conn, pytest.raises(TypeError, match="use DBA"):
        use(conn)


def test_actions_carry_the_statements(dba: DBA, filled: str) -> None:
    actions = dba.deploy(filled)
    assert all(isinstance(action, Action) and action.object for action in actions)
    assert any("CREATE" in action.statements for action in actions)
