"""Every option of the command with hostile text: a documented exit code, and clean output."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, note
from psycopg.conninfo import make_conninfo

from tests.support.installation import CHECKOUT
from tests.support.server import PrivateServer

from .command import Ended, arguments, leaves, run_command
from .conftest import FUZZ
from .world import World

pytestmark = pytest.mark.once

COMMANDS = [" ".join(path) for path in leaves()]
# The README's table; those of signals aside.
CODES = {
    int(code)
    for cell in re.findall(
        r"^\| (\d[\d, ]*) \|", (CHECKOUT / "README.md").read_text(), re.MULTILINE
    )
    for code in cell.split(", ")
    if int(code) < 128
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_the_documented_codes_are_known() -> None:
    assert {0, 1, 2, 3, 4, 5, 6} == CODES
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_it_ends_as_documented(command: str, world: World, server: PrivateServer) -> None:
    words = command.split()
    limited = make_conninfo(
        server.conninfo("fuzz", world.owner), options="-c statement_timeout=5s", connect_timeout=5
    )
    # No program is found, and no other server.
    env = {"PATH": "/nowhere", "HOTMESH_DBA_DSN": limited, "HOME": "/nowhere"}

    @FUZZ
    @given(more=arguments(tuple(words)))
    def check(more: list[str]) -> None:
        note(repr(more))
        world.renew()
        before, kept = world.everything(), world.kept(world.admin)
        ended = run_command([*words, *more], env)
        note(ended.err[:2000])
        after = world.everything()
        world.changed = after != before
        assert world.kept(world.admin) == kept
        assert ended.code in CODES
        # What fails has changed nothing: but one of several apps may, and what takes too long.
        if ended.code in (1, 2, 6) and "--all-apps" not in more and "57014" not in ended.err:
            assert after == before
        check_output(ended, "--json" in more)

    check()


def check_output(ended: Ended, as_json: bool) -> None:
    """No traceback, nothing that a terminal would obey; with --json nothing else than JSON."""
    assert "Traceback" not in ended.err
    assert not CONTROL.search(ended.out + ended.err)
    if ended.code:
        assert ended.err or ended.out
    if as_json:
        if ended.out:
            json.loads(ended.out)
        for line in ended.err.splitlines():
            assert json.loads(line)["level"] in ("error", "warning")
