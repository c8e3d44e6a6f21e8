"""Every option of the command with hostile text: a documented exit code, and clean output."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from shellingham import ShellDetectionFailure  # type: ignore[import-untyped]

from tests.support.installation import CHECKOUT
from tests.support.server import PrivateServer

from .command import (
    Ended,
    arguments,
    leaves,
    may_wait,
    no_commands,
    required,
    run_command,
    variables,
)
from .conftest import EVER, FUZZ, SHORTLY
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


# No program is found, and no other server.
ENV = {"PATH": "/nowhere", "HOME": "/nowhere"}
# One test for all commands.
MORE = settings(FUZZ, max_examples=2 * FUZZ.max_examples)


def test_the_documented_codes_are_known() -> None:
    assert {0, 1, 2, 3, 4, 5, 6} == CODES
    assert len(COMMANDS) > 15


@pytest.fixture(scope="module")
def dsn(world: World, server: PrivateServer) -> str:
    """The owner's connection, but for how long a statement may take."""
    return make_conninfo(server.conninfo("fuzz", world.owner), connect_timeout=5)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_ends_as_documented(command: str, world: World, dsn: str) -> None:
    words = command.split()

    @FUZZ
    @given(more=arguments(tuple(words)))
    def check(more: list[str]) -> None:
        check_command([*words, *more], {"HOTMESH_DBA_DSN": dsn}, world)

    check()


@MORE
@given(path=st.sampled_from(list(leaves())), data=st.data())
def test_its_variables_are_options(
    world: World, dsn: str, path: tuple[str, ...], data: st.DataObject
) -> None:
    env = data.draw(variables(path))
    check_command(required(path), {"HOTMESH_DBA_DSN": dsn, **env}, world)


@MORE
@given(words=no_commands(), shell=st.sampled_from(["bash", "zsh", "fish", "none", None]))
def test_what_is_no_command_changes_nothing(
    world: World, dsn: str, tmp_path: Path, words: list[str], shell: str | None
) -> None:
    """Beyond what --install-completion says that it writes."""
    world.renew()
    before = world.everything()
    found = {"return_value": (shell, shell)} if shell else {"side_effect": ShellDetectionFailure}
    with mock.patch("shellingham.detect_shell", **found):
        ended = run_command(words, {**ENV, "HOTMESH_DBA_DSN": dsn, "HOME": str(tmp_path)})
    note(ended.err[:2000])
    assert world.everything() == before
    assert ended.code in CODES
    assert "--install-completion" in words or not list(tmp_path.iterdir())
    for path in tmp_path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    check_output(ended, as_json=False)


def check_command(words: list[str], env: Mapping[str, str], world: World) -> None:
    """Run it, with a limit to each statement; what it says of itself is so."""
    note(f"{words!r:.2000} {env!r:.2000}")
    waits = may_wait(words, env)
    limit = f"-c statement_timeout={SHORTLY if waits else EVER}"
    world.renew()
    before, kept = world.everything(), world.kept(world.admin)
    ended = run_command(words, {**ENV, "PGOPTIONS": limit, **env})
    note(ended.err[:2000])
    after = world.everything()
    world.changed = after != before
    assert world.kept(world.admin) == kept
    assert ended.code in CODES
    cut_short = "57014" in ended.err
    assert waits or not cut_short
    # What fails has changed nothing: but one of several apps may, and what takes too long.
    several = "--all-apps" in words or any(name.endswith("ALL_APPS") for name in env)
    if ended.code in (1, 2, 6) and not several and not cut_short:
        assert after == before
    check_output(ended, "--json" in words or env.get("HOTMESH_DBA_JSON") in ("1", "true"))


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
