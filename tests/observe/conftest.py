"""An app that is deployed, and whose owner is no superuser."""

from __future__ import annotations

import pytest

from tests.conftest import NewApp, NewRole
from tests.deploy.observe import deploy
from tests.support.server import Connection


@pytest.fixture
def owner(conn: Connection, app: NewApp, role: NewRole) -> str:
    """The owner of a deployed app `myapp`."""
    name = role("owner")
    app("myapp", owner=name)
    deploy(conn, "myapp")
    return name
