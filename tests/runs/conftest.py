"""An app that a run has something to do in, at every step."""

from __future__ import annotations

import pytest

from tests.runs.work import Work, add_work
from tests.support.server import Connection


@pytest.fixture
def work(conn: Connection, deployed: str) -> Work:
    """A deployed app `myapp` with 260 rows due."""
    return add_work(conn, deployed)
