"""Two apps of two owners, who know nothing of each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.conftest import Connect, NewApp, NewRole
from tests.deploy.observe import deploy
from tests.support.server import Connection


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of `mine` and of `yours`, with a connection each."""

    mine: Connection
    yours: Connection
    me: str
    you: str


@pytest.fixture
def owners(conn: Connection, connect: Connect, app: NewApp, role: NewRole) -> Owners:
    """The apps `mine` and `yours`, deployed and empty."""
    me, you = role("me"), role("you")
    app("mine", owner=me)
    app("yours", owner=you)
    deploy(conn, "mine")
    deploy(conn, "yours")
    return Owners(connect(me), connect(you), me, you)
