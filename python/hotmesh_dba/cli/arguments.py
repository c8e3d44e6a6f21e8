"""Arguments that commands share, and the options that are made from the one list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Optional

import typer

from hotmesh_dba.cli.flags import flag, negation
from hotmesh_dba.options import Sql

AppId = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads it at run time
    typer.Argument(metavar="APP", help="appId, or the name of its schema.", show_default=False),
]
SomeApp = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="APP", help="Only this app's.", show_default=False),
]
PolicyName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="NAME", help="The policy's name.", show_default=False),
]
AllApps = Annotated[
    bool,
    typer.Option(
        "--all-apps",
        help="Every app of the database instead of APP, each on its own; the exit code is the"
        " worst.",
    ),
]
Dsn = Annotated[
    str,
    typer.Option(
        envvar="HOTMESH_DBA_DSN",
        show_default=False,
        help="Connection string or URI; what it leaves out comes from the PG* variables.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", envvar="HOTMESH_DBA_JSON", help="Write JSON, for programs.")
]

# What Typer reads at run time, by SQL type.
_KINDS: dict[str, Any] = {
    "bool": Optional[bool],  # noqa: UP045
    "text[]": Optional[list[str]],  # noqa: UP045
    "int4": Optional[int],  # noqa: UP045
    "int8": Optional[int],  # noqa: UP045
    "numeric": Optional[float],  # noqa: UP045
    "interval": Optional[str],  # noqa: UP045
    "text": Optional[str],  # noqa: UP045
}
_METAVARS = {"interval": "INTERVAL", "int4": "N", "int8": "N", "numeric": "N", "text": "TEXT"}


def with_options(known: Mapping[str, Sql]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace ``**given`` of a command by an option each; None where one is not given."""

    def replace(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        ours = [_option(name, sql) for name, sql in known.items()]
        first = next(i for i, p in enumerate(own) if p.kind is p.KEYWORD_ONLY)
        every = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own[:first], *ours, *own[first:])]
        command.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in every}
        return command

    return replace


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value not in (None, [])}


def _option(name: str, sql: Sql) -> inspect.Parameter:
    flags = "/".join(filter(None, (flag(name), negation(name, sql))))
    option = typer.Option(
        flags,
        help=sql.help + _default(sql),
        metavar=_METAVARS.get(sql.type),
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_KINDS[sql.type], option],
    )


def _default(sql: Sql) -> str:
    if sql.type == "text[]":
        return " Repeatable; in the variable, names with spaces between."
    if sql.default is None:
        return ""
    value = {True: "yes", False: "no"}[sql.default] if sql.type == "bool" else sql.default  # type: ignore[index]
    return f" (default: {value})"
