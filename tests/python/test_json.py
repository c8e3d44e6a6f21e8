"""What --json writes is what docs/json.md says, field for field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA
from tests.conftest import Connect, NewApp, NewRole
from tests.support.installation import CHECKOUT
from tests.support.server import Connection

from .command import Command
from .running import HELD, backends, begun
from .test_batched import refuse_deletes

pytestmark = pytest.mark.once

PAGE = (CHECKOUT / "docs" / "json.md").read_text()
SHAPES: dict[str, Any] = {
    name: json.loads(block)
    for name, block in re.findall(r"^```json ([^\n]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}


def _is_time(value: object) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None


KINDS: dict[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "time": _is_time,
    "any": lambda _: True,
}


def check(value: Any, shape: Any, where: str = "") -> None:
    """Compare a value with a shape of the page."""
    if isinstance(shape, str):
        if shape.endswith("?"):
            if value is None:
                return
            shape = shape[:-1]
        if shape in KINDS:
            assert KINDS[shape](value), f"{where} is no {shape}: {value!r}"
        else:
            check(value, SHAPES[shape], where)
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for item in value:
            check(item, shape[0], f"{where}[]")
    else:
        assert set(value) == set(shape), where
        for name, inner in shape.items():
            check(value[name], inner, f"{where}.{name}")


def said(command: Command, *arguments: str, shape: str | None = None) -> Any:
    """Run it; return what it wrote, once it has the shape."""
    value = command.json(*arguments)
    assert value != [], arguments
    check(value, SHAPES[shape or " ".join(arguments)], " ".join(arguments))
    return value


def test_apps(command: Command, filled: str, role: NewRole) -> None:
    said(command, "apps")
    said(command, "deploy", filled, shape="deploy")
    said(command, "grant", filled, role("pruner"), shape="grant")
    said(command, "extension", "status")
    said(command, "undeploy", filled, shape="deploy")


def test_policies(command: Command, filled: str) -> None:
    options = ["--jobs", "--expire", "7 days", "--entity", "book", "--every", "1 day"]
    said(command, "policy", "set", filled, "p", *options, "--max-percent", "100", shape="policy")
    said(command, "policy", "list")
    said(command, "status")
    done = command("doctor", "--json")
    assert done.returncode in (0, 5)
    check(json.loads(done.stdout), SHAPES["doctor"])
    said(command, "policy", "run", filled, "p", "--dry-run", shape="prune --dry-run")
    result = said(command, "run-due")
    assert result["runs"][0]["policy"] == "p"
    assert said(command, "policy", "run", filled, "p", shape="prune")["runs"]
    said(command, "runs")
    said(command, "status")
    said(command, "policy", "drop", filled, "p", shape="policy drop")


def test_runs(command: Command, filled: str) -> None:
    said(command, "prune", filled, "--dry-run", shape="prune --dry-run")
    single = "prune --single-transaction"
    said(command, "prune", filled, "--single-transaction", "--no-jobs", shape=single)
    said(command, "prune", filled, shape="prune")
    value = command.json("prune", filled, "--vacuum")
    assert value.pop("vacuumed") == []
    check(value, SHAPES["prune"])


def test_runs_at_work(command: Command, dba: DBA, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, filled, **HELD)
        begun(conn)
        said(command, "runs", "--active")
        conn.execute("SELECT pg_cancel_backend(%s)", backends(conn))
        with pytest.raises(h.Cancelled):
            call.result(30)


def test_the_files(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "share" / "extension"
    target.mkdir(parents=True)
    program = tmp_path / "pg_config"
    program.write_text(f'#!/bin/sh\necho "{tmp_path / "share"}"\n')
    program.chmod(0o755)
    said(command, "extension", "install", "--pg-config", str(program), shape="extension install")
    said(command, "extension", "sql", "--format", "plain", shape="extension sql")


def test_all_apps(command: Command, conn: Connection, app: NewApp, filled: str) -> None:
    app("zebra")
    refuse_deletes(conn)
    done = command("prune", "--all-apps", "--json")
    first, second = json.loads(done.stdout)
    check([first, second], SHAPES["all"])
    assert done.returncode == 1
    assert (first["app"], first["exit_code"], first["error"]["sqlstate"]) == (filled, 1, "55000")
    check(first["result"], SHAPES["prune"])
    assert (second["app"], second["exit_code"], second["error"]) == ("zebra", 0, None)
    check(second["result"], SHAPES["prune"])
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line.pop("app") == filled
    check(line, SHAPES["error-line"])


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["prune", "elsewhere"], "UnknownApp", 1),
        (["policy", "run", "myapp", "none"], "UnknownPolicy", 1),
        (["runs", "--dsn", "host=127.0.0.1 port=1"], "ConnectionFailed", 6),
        (["policy", "schedule", "myapp", "p", "0 3 * * *"], "CronMissing", 1),
    ],
    ids=str,
)
def test_errors(command: Command, filled: str, arguments: list[str], error: str, code: int) -> None:
    command("policy", "set", filled, "p", "--signals")
    done = command(*arguments, "--json")
    assert (done.returncode, done.stdout) == (code, "")
    line = json.loads(done.stderr)
    check(line, SHAPES["error-line"])
    assert (line["error"], line["exit_code"], line["level"]) == (error, code, "error")


@pytest.mark.parametrize(
    "arguments", [["prune"], ["nothing"], ["prune", "x", "--expires", "1 day"], ["policy", "set"]]
)
def test_usage(command: Command, arguments: list[str]) -> None:
    for done in (command(*arguments, "--json"), command(*arguments, HOTMESH_DBA_JSON="1")):
        assert (done.returncode, done.stdout) == (2, "")
        line = json.loads(done.stderr)
        assert set(line) == {"level", "message", "error", "exit_code"}
        assert (line["error"], line["exit_code"]) == ("UsageError", 2)


def test_warnings(command: Command, connect: Connect, filled: str) -> None:
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM myapp.jobs WHERE key = 'expired-book' FOR UPDATE")
    done = command("prune", filled, "--json")
    assert done.returncode == 3
    check(json.loads(done.stdout), SHAPES["prune"])
    for line in done.stderr.splitlines():
        check(json.loads(line), SHAPES["line"])
