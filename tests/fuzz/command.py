"""The command with drawn arguments, run within this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from typer.main import get_command

from hotmesh_dba.cli import main
from hotmesh_dba.cli.app import app
from hotmesh_dba.cli.environment import name_variables
from hotmesh_dba.cli.flags import flag
from hotmesh_dba.cli.output import speak_json

from .hostile import HOSTILE, USUAL_BY_NAME
from .hostile import WAITS as WAITING
from .routines import odd_ones

# What somebody would write, by the parameter's Python name.
USUAL: dict[str, list[str]] = {
    "app_id": ["myapp"],
    "name": ["nightly"],
    "policy": ["nightly"],
    "role": ["pruner"],
    "cron_expression": ["0 2 * * *"],
    "cron": ["0 2 * * *"],
    "expire": ["7 days", "0"],
    "entities": ["book"],
    "format": ["plain", "pgtle"],
    "limit": ["5"],
    "fail_on": ["warning", "problem"],
    **{name: [str(value) for value in values] for name, values in USUAL_BY_NAME.items()},
}
# It would run whatever program that is.
NO_PROGRAM = [
    "",
    "/",
    "/nowhere/pg_config",
    "pg_config; id",
    "/proc/self/mem",
    "\udcff",
    "\x1b[31m",
]
# What no command is called, nor any option.
NO_COMMANDS = [
    *("Policy", "polic", "policy set", "run_due", "commands", "main", "help", "@file", "*", "."),
    *("-", "--", "---", "-x", "-j", "--no-such", "--version=1", "--help=", "--policy", "-h", "="),
]
# They act at once, before any command does.
GLOBALS = ["--version", "--install-completion", "--show-completion", "--help"]
# How a variable may say yes or no, and how it may not.
SWITCHES = ["1", "true", "0", "no", "", " ", "maybe", "2", "-1", "\x1b[31m", "\udcff", "x" * 9_999]
# It would wait as long as that.
WAITS = {"batch_pause": ["-1 s", "2 hours", "x"], "interval": ["-1", "x"], "watch": ["-1", "x"]}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: object
    out: str
    err: str


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The subcommands, each by its words."""
    command = command or get_command(app)
    inner = getattr(command, "commands", {})
    if not inner:
        yield path
    for name, sub in inner.items():
        yield from leaves(sub, (*path, name))


def find(path: tuple[str, ...]) -> Any:
    """One of them, with its options' variables."""
    command: Any = get_command(app)
    name_variables(command)
    for word in path:
        command = command.commands[word]
    return command


def arguments(path: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """What may follow its words: mostly as it should be, one or two values hostile."""
    parameters = [p for p in find(path).params if p.name not in ("help", "version")]
    names = [str(p.name) for p in parameters]

    @st.composite
    def draw_arguments(draw: st.DrawFn) -> list[str]:
        odd = draw(odd_ones(names)) if names else set()
        given: list[str] = []
        for parameter in parameters:
            if parameter.name in odd or parameter.required or draw(st.integers(0, 4)) == 0:
                given += draw(_said(parameter, parameter.name in odd))
        return given

    return draw_arguments()


def groups(command: Any = None) -> Iterator[str]:
    """The words that more words must follow."""
    command = command or get_command(app)
    for name, sub in command.commands.items():
        if getattr(sub, "commands", {}):
            yield name
            yield from groups(sub)


def no_commands() -> st.SearchStrategy[list[str]]:
    """Words that are no command which could change anything."""
    words = [*groups(), *GLOBALS, *NO_COMMANDS]
    return st.lists(st.one_of(st.sampled_from(words), _hostile_word()), max_size=4)


def variables(path: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    """Some of its options as the environment gives them, hostile or as they should be."""
    named = [p for p in find(path).params if p.param_type_name == "option" and p.envvar]

    @st.composite
    def draw_variables(draw: st.DrawFn) -> dict[str, str]:
        chosen = draw(st.lists(st.sampled_from(named), min_size=1, max_size=3, unique_by=id))
        return {p.envvar: draw(_meant(p, draw(st.booleans()))) for p in chosen}

    return draw_variables()


def required(path: tuple[str, ...]) -> list[str]:
    """Its words, and the arguments that it must have, as they should be."""
    needed = [p for p in find(path).params if p.param_type_name == "argument" and p.required]
    return [*path, *(USUAL[str(p.name)][0] for p in needed)]


def may_wait(words: Collection[str], env: Mapping[str, str]) -> bool:
    """Whether it was asked to: only then may the server cut it short."""
    flags = {flag(name) for name in WAITING}
    return not flags.isdisjoint(words) or any(
        variable.endswith(name.upper()) for variable in env for name in WAITING
    )


def _meant(parameter: Any, odd: bool) -> st.SearchStrategy[str]:
    """The value of its variable."""
    if getattr(parameter, "is_flag", False):
        return st.sampled_from(SWITCHES)
    return _value(str(parameter.name), odd)


def _hostile_word() -> st.SearchStrategy[str]:
    hostile = [HOSTILE["text"], HOSTILE["interval"], HOSTILE["integer"]]
    # A byte that is no UTF-8 comes in as a lone surrogate; nothing that is 100,000 long does.
    drawn = st.one_of(*hostile, st.sampled_from(["\udcff", "a\udc80'"])).map(str)
    return drawn.filter(lambda text: len(text) < 10_000 and "\x00" not in text)


def _said(parameter: Any, odd: bool) -> st.SearchStrategy[list[str]]:
    """A parameter as it is written."""
    if parameter.param_type_name == "argument":
        return _value(str(parameter.name), odd).map(lambda value: [value])
    if getattr(parameter, "is_flag", False):
        return st.sampled_from([[flag] for flag in (*parameter.opts, *parameter.secondary_opts)])
    flag = parameter.opts[0]
    return _value(str(parameter.name), odd).map(lambda value: [flag, value])


def _value(name: str, odd: bool) -> st.SearchStrategy[str]:
    if name == "pg_config":
        return st.sampled_from(NO_PROGRAM)
    if name == "dsn":
        return st.sampled_from(["", "x", "host=", "postgresql://127.0.0.1:1/\x1b[31m", "dbname='"])
    if not odd and name in USUAL:
        return st.sampled_from(USUAL[name])
    if name in WAITS:
        return st.sampled_from(WAITS[name])
    return _hostile_word()


def run_command(words: list[str], env: Mapping[str, str]) -> Ended:
    """Run it as `hotmesh-dba` would, with pipes for stdout and stderr."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    speak_json(False)
    code: object = None
    with (
        mock.patch.object(sys, "argv", ["hotmesh-dba", *words]),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        mock.patch.dict("os.environ", env, clear=True),
    ):
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
        out.flush()
        err.flush()
    return Ended(code or 0, _read(out), _read(err))


def _read(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
