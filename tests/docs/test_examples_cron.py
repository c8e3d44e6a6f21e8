"""The documents once more, on a server with the real pg_cron: what begins with `-- pg_cron` too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.docs.documents import blocks, named
from tests.docs.test_examples import CRON, DOCUMENTS, ROLES, typed, world
from tests.policies.cron import server_with_cron
from tests.support.server import PrivateServer

pytestmark = pytest.mark.once

WITH_CRON = [
    page for page in DOCUMENTS if any(block.startswith(CRON) for block in blocks(page, "sql"))
]


@pytest.fixture
def cron() -> Iterator[PrivateServer]:
    with server_with_cron() as server:
        yield server


def test_some_documents_speak_of_pg_cron() -> None:
    assert [page.name for page in WITH_CRON] == ["README.md", "operations.md"]


@pytest.mark.parametrize("document", WITH_CRON, ids=named)
def test_every_sql_block_runs_beside_pg_cron(document: Path, cron: PrivateServer) -> None:
    database = Database(cron, "postgres")
    with cron.connect() as conn:
        conn.execute("DROP EXTENSION hotmesh_dba")
        for role in ROLES:
            conn.execute(f"CREATE ROLE {role} LOGIN".encode())
        conn.execute("GRANT USAGE ON SCHEMA cron TO app_owner")
    world(database, {role: role for role in ROLES}, document)
    for block in blocks(document, "sql"):
        shown = typed(database, block)
        if block.startswith(CRON):
            assert "hotmesh_dba run_due" in shown
            assert "CALL hotmesh_dba.run_policy(''myapp''" in shown
