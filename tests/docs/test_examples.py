"""What the documents tell people to type into psql is typed here, in the order of the page."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Database, NewDatabase, NewRole
from tests.docs.documents import PAGES, blocks, named
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection

ROLES = ("app_owner", "pruner")

# What begins so is typed on a server with pg_cron: tests/policies has one.
CRON = "-- pg_cron"

DOCUMENTS = [page for page in PAGES if blocks(page, "sql")]


def typed(database: Database, block: str) -> str:
    """Type a block into psql; returns what it shows."""
    command = database.server.psql_command(database.name)
    done = subprocess.run(
        [*command, "-X", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=block,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stderr}"
    return done.stdout


def world(database: Database, named_roles: dict[str, str], document: Path) -> None:
    """The database that a document speaks of: an app of somebody's, with the demo's data."""
    with database.connect() as conn:
        create_app(conn, "myapp", owner=named_roles["app_owner"])
        load_sample(conn, "myapp", jobs=300)
        if document.name == "operations.md":
            _make_big(conn)
        else:
            conn.execute("CREATE EXTENSION hotmesh_dba")
            conn.execute("SELECT hotmesh_dba.deploy('myapp')")


def _make_big(conn: Connection) -> None:
    """As an old HotMesh left it: no column, and so many jobs that indexes are left to be typed."""
    conn.execute("SET session_replication_role = replica")
    conn.execute(
        "INSERT INTO myapp.jobs (id, key, status, created_at, updated_at, is_live)"
        " SELECT gen_random_uuid(), 'live-' || n, 1, now(), now(), true"
        " FROM generate_series(1, 100001) n"
    )
    conn.execute("RESET session_replication_role")
    conn.execute("ALTER TABLE myapp.jobs DROP COLUMN pruned_at")
    conn.execute("ANALYZE")


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_sql_block_runs(document: Path, new_database: NewDatabase, role: NewRole) -> None:
    database = new_database()
    typed_ones = [text for text in blocks(document, "sql") if not text.startswith(CRON)]
    if database.server.major < 15 and any("ON PARAMETER" in text for text in typed_ones):
        pytest.skip("PostgreSQL 14 cannot grant the setting of a parameter")
    roles = {name: role(name) for name in ROLES}
    world(database, roles, document)
    shown = [
        typed(database, re.sub(r"\b(?:app_owner|pruner)\b", lambda m: roles[m[0]], block))
        for block in typed_ones
    ]
    assert shown
    check = CHECKS.get(document.name)
    if check:
        check(shown)


def _check_operations(shown: list[str]) -> None:
    """That the examples do what is said of them."""
    pending = next(at for at, text in enumerate(shown) if re.search(r"^ pending +\|", text, re.M))
    assert "CREATE INDEX\n" in shown[pending + 1]
    assert "ALTER INDEX\n" in shown[pending + 1]
    assert "pending" not in shown[pending + 2]
    [few] = [text for text in shown if "longest_batch" in text]
    assert re.search(r"completed|stopped +\| max_rows", few)


CHECKS: dict[str, Callable[[list[str]], None]] = {"operations.md": _check_operations}
