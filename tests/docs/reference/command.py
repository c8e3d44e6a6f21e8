"""docs/command.md, from what every command says with --help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import typer.main

from hotmesh_dba.cli import ending
from hotmesh_dba.cli.app import app
from tests.docs.reference import markdown as md

NAME = "hotmesh-dba"
WIDTH = 80

INTRODUCTION = """# The command hotmesh-dba

`pip install 'hotmesh-dba[cli,binary]'`; it is also `python -m hotmesh_dba`. What was asked for
goes to stdout, everything else (progress, warnings, errors) to stderr. On a terminal tables are
drawn, or where none fits a line for each value, and runs have a bar; into a pipe go a header and
tab-separated lines. Control characters of names, notes and messages are written out (`\\x1b`).

Before it deletes it asks, where stdin is a terminal, and on that terminal, whatever stdout and
stderr are redirected to; `--yes` asks nothing. Elsewhere (cron, a pipe, `</dev/null`) it goes
ahead."""

EXIT_CODES: dict[object, str] = {
    ending.DONE: "done; or `--max-runtime` or `--max-rows` was reached, as asked",
    ending.FAILED: "an error ([errors.md](errors.md)), or a no to the question",
    ending.USAGE: "wrong usage: nothing was tried",
    ending.LEFT: "rows are left that others had locked; of `run-due` also: policies had no turn,"
    " for want of time or as they are left to their owners; with `--strict` also: a budget was"
    " reached",
    ending.LOCKED: "another run holds the app, or somebody a lock",
    ending.ILL: "`doctor` found a problem; with `--fail-on warning` also: a warning",
    ending.UNREACHABLE: "no connection, or it was lost",
    "130, 143": "ended by Ctrl-C (SIGINT), by SIGTERM; what was committed stays",
}

ALL_APPS = """With `--all-apps` every app has its turn, each on its own, and the exit code is
the worst of them: 6, then 1, 4, 3, 5, 0."""

ENVIRONMENT = """Every option can be set by a variable, which its help names: `HOTMESH_DBA_`,
the command and the option. What is given on the command line comes first."""

VARIABLES = {
    "`HOTMESH_DBA_DSN`": "the database, for every command, as `--dsn`: a conninfo, or a URI",
    "`PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGPASSWORD`, `PGSERVICE`, …": (
        "what the DSN leaves out: libpq's own variables. A password is best kept in `~/.pgpass`;"
        " none is ever shown"
    ),
    "`HOTMESH_DBA_JSON`": "`1`: JSON, for every command",
    "`HOTMESH_DBA_YES`": "`1`: ask nothing on a terminal",
    "`NO_COLOR`": "no colours on a terminal",
}

COMPLETION = """`hotmesh-dba --install-completion` sets up completion for bash, zsh, fish and
PowerShell; `--show-completion` prints it."""

JSON = """With `--json` stdout is one JSON document, and every line of stderr an object of its own:
[json.md](json.md)."""


def page() -> str:
    """Return the page."""
    paths = list(commands())
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        helps = pool.map(lambda path: run_help(path), paths)
    parts = []
    for path, text in zip(paths, helps, strict=True):
        parts += [f"## {' '.join((NAME, *path))}", md.code(text)]
    return md.page(
        INTRODUCTION,
        ", ".join(
            f"[`{' '.join(path)}`](#{md.anchor(' '.join((NAME, *path)))})" for path in paths[1:]
        ),
        "## Exit codes",
        md.table(["", ""], [[str(code), words] for code, words in EXIT_CODES.items()]),
        ALL_APPS,
        "## Environment",
        ENVIRONMENT,
        md.table(["variable", ""], [[name, words] for name, words in VARIABLES.items()]),
        COMPLETION,
        "## JSON",
        JSON,
        *parts,
    )


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
