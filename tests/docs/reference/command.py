"""docs/command.md, from what every command says with --help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import typer.main

from hotmesh_dba.cli.app import app
from tests.docs.reference import markdown as md

NAME = "hotmesh-dba"
WIDTH = 80

INTRODUCTION = """# The command hotmesh-dba

`pip install 'hotmesh-dba[cli,binary]'`. Data goes to stdout, everything else to stderr."""


def page() -> str:
    """Return the page."""
    paths = list(commands())
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        helps = pool.map(lambda path: run_help(path), paths)
    parts = []
    for path, text in zip(paths, helps, strict=True):
        parts += [f"## {' '.join((NAME, *path))}", md.code(text)]
    return md.page(INTRODUCTION, *parts)


def commands() -> Iterator[tuple[str, ...]]:
    """Return the words of every command, groups before what is in them."""
    yield from _below((), typer.main.get_command(app))


def _below(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _below((*path, name), inner)


def options() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Return the words of every command, and the options and arguments that it knows."""
    for path in commands():
        command: Any = typer.main.get_command(app)
        for word in path:
            command = command.commands[word]
        known = [
            name
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for name in (
                [*parameter.opts, *parameter.secondary_opts]
                if parameter.param_type_name == "option"
                else [parameter.metavar or parameter.name.upper()]
            )
        ]
        yield path, known


def run_help(path: tuple[str, ...]) -> str:
    """Return what a command says about itself into a pipe that is 80 columns wide."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HOTMESH", "PG"))
    }
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"):
        kept.pop(name, None)
    env = kept | {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "hotmesh_dba", *path, "--help"],
        env=env,
        text=True,
        capture_output=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
