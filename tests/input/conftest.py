"""An app with data that every bad call could do damage to."""

from __future__ import annotations

import pytest

from tests.deploy.observe import run
from tests.support.sample import load_sample
from tests.support.server import Connection


@pytest.fixture
def full(conn: Connection, deployed: str) -> str:
    """A deployed app `myapp` in which every step has something to take."""
    load_sample(conn, deployed, jobs=60, attributes=5)
    counts = run(
        conn, "SELECT * FROM hotmesh_dba.preview('myapp', '0 s', true, true, true, NULL, false)"
    )[0]
    assert all(count > 0 for count in (*counts[:5], *counts[6:8]))
    return deployed
