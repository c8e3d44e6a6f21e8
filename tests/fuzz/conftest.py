"""The world that is called, and how often: in CI briefly, and always the same."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.server import Connection, PrivateServer

from .world import World

# How long a call may take: little where it was asked to wait, else as long as nothing here does.
SHORTLY, EVER = "1s", "30s"

EXAMPLES = int(os.environ.get("HOTMESH_DBA_FUZZ", "0"))
FUZZ = settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
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
    """The owner's connection, opened when the database has its settings."""
    with server.connect("fuzz", world.owner) as conn:
        yield conn
