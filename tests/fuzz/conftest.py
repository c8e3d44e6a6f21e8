"""The world that is called, and how often: in CI briefly, and always the same."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.server import Connection, PrivateServer

from .world import World

EXAMPLES = int(os.environ.get("HOTMESH_DBA_FUZZ", "0"))
FUZZ = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
)


@pytest.fixture(scope="module")
def world(server: PrivateServer, template: str) -> Iterator[World]:
    """Two apps of one owner; the owner of nothing else in the cluster."""
    name = server.create_database("fuzz", template)
    with server.connect(name) as admin:
        admin.execute("CREATE ROLE fuzzed LOGIN")
        made = World(admin, "fuzzed")
        made.build()
        yield made
    server.drop_database(name)
    with server.connect() as conn:
        conn.execute("DROP ROLE fuzzed, pruner")


@pytest.fixture(scope="module")
def caller(server: PrivateServer, world: World) -> Iterator[Connection]:
    """The owner's connection. A call that would wait for long is cancelled."""
    with server.connect("fuzz", world.owner) as conn:
        conn.execute("SET statement_timeout = '5s'")
        yield conn
