"""Every option has a variable, which its help names; passwords are never shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from hotmesh_dba.cli.app import app as application
from hotmesh_dba.cli.environment import name_variables

from .command import Command

pytestmark = pytest.mark.once

AT_ONCE = {"--help", "--version", "--install-completion", "--show-completion"}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with the words that call it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from commands(one, (*path, name))


@pytest.fixture(scope="module")
def every() -> list[tuple[tuple[str, ...], Any]]:
    command = get_command(application)
    name_variables(command)
    return list(commands(command))


def test_every_option_names_its_variable(every: list[tuple[tuple[str, ...], Any]]) -> None:
    assert len(every) == 19
    seen = []
    for path, command in every:
        for option in command.params:
            if option.param_type_name == "option" and AT_ONCE.isdisjoint(option.opts):
                own = "_".join(("HOTMESH_DBA", *path, option.opts[0].lstrip("-")))
                shared = {"--dsn", "--json", "--yes"} & set(option.opts)
                own = "HOTMESH_DBA_" + shared.pop()[2:] if shared else own
                assert option.envvar == own.replace("-", "_").upper()
                seen.append((path, option.envvar))
    assert len(seen) > 100
    assert (("policy", "set"), "HOTMESH_DBA_POLICY_SET_TRANSIENT") in seen
    assert (("prune",), "HOTMESH_DBA_PRUNE_MAX_RUNTIME") in seen


def test_help_shows_the_variables(command: Command) -> None:
    text = "".join(command("prune", "--help", COLUMNS="80").stdout.split())
    for name in ("EXPIRE", "WORKERS", "VACUUM", "DRY_RUN", "ALL_APPS", "STRICT"):
        assert f"[envvar:HOTMESH_DBA_PRUNE_{name}" in text
    assert "HOTMESH_DBA_DSN]" in text


def test_variables_are_options(command: Command, filled: str) -> None:
    def counts(**env: str) -> dict[str, str]:
        done = command("prune", filled, "--dry-run", **env)
        assert done.returncode == 0, done.stderr
        return dict(line.split("\t") for line in done.stdout.splitlines())

    assert counts()["jobs"] == "2"
    assert counts(HOTMESH_DBA_PRUNE_EXPIRE="11 days")["jobs"] == "0"
    assert counts(HOTMESH_DBA_PRUNE_JOBS="no")["jobs"] == "0"
    assert counts(HOTMESH_DBA_PRUNE_ENTITY="book author")["jobs"] == "1"
    assert counts(HOTMESH_DBA_PRUNE_ATTRIBUTES="1")["marked"] == "3"
    done = command("runs", HOTMESH_DBA_JSON="true")
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_a_variable_of_prune_is_none_of_a_policy(command: Command, filled: str) -> None:
    """Nobody's policy gets an option that was meant for a run."""
    done = command(
        *("policy", "set", filled, "p", "--signals"),
        HOTMESH_DBA_PRUNE_JOBS="yes",
        HOTMESH_DBA_PRUNE_EXPIRE="1 day",
    )
    assert done.returncode == 0, done.stderr
    [policy] = command.json("policy", "list")
    assert (policy["jobs"], policy["signals"], policy["expire"]) == (False, True, None)


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["words", "json"])
@pytest.mark.parametrize(
    "env",
    [
        {"HOTMESH_DBA_DSN": "postgresql://u:hush@127.0.0.1:1/x"},
        {"HOTMESH_DBA_DSN": "postgresql://u:hu@sh@127.0.0.1:1/x"},
        {"HOTMESH_DBA_DSN": "host=127.0.0.1 port=1 password=hush garbage"},
        {"HOTMESH_DBA_DSN": "host=127.0.0.1 port=1", "PGPASSWORD": "hush"},
    ],
)
def test_passwords_are_never_shown(command: Command, json: list[str], env: dict[str, str]) -> None:
    for arguments in (["runs", *json], ["prune", "--help"], ["prune", *json]):
        done = command(*arguments, **env)
        assert "hush" not in done.stdout + done.stderr
        assert "hu@sh" not in done.stdout + done.stderr
    assert command("doctor", *json, **env).returncode == 6


def test_completion(command: Command) -> None:
    done = command("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert (done.returncode, "complete -o default" in done.stdout) == (0, True)
    done = command(
        _HOTMESH_DBA_COMPLETE="complete_bash", COMP_WORDS="hotmesh-dba policy s", COMP_CWORD="2"
    )
    assert done.stdout.split() == ["set", "schedule"]


def test_the_dsn_of_the_call_wins(command: Command, filled: str) -> None:
    dsn = command.env["HOTMESH_DBA_DSN"]
    done = command("apps", "--dsn", dsn, HOTMESH_DBA_DSN="host=127.0.0.1 port=1")
    assert (done.returncode, filled in done.stdout) == (0, True)
