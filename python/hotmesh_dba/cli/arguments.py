"""Arguments that commands share, and the options that are made from the one list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Optional

import typer

from hotmesh_dba.cli.flags import flag, negation
from hotmesh_dba.options import Sql

AppId = Annotated[str, typer.Argument(metavar="APP", help="appId, or the name of its schema.")]
Dsn = Annotated[
    str,
    typer.Option(
        envvar="HOTMESH_DBA_DSN",
        show_default=False,
        help="Connection string or URI; what it leaves out comes from the PG* variables.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]

# What Typer reads at run time, by SQL type.
_KINDS: dict[str, Any] = {
    "bool": Optional[bool],  # noqa: UP045
    "text[]": Optional[list[str]],  # noqa: UP045
    "int4": Optional[int],  # noqa: UP045
    "int8": Optional[int],  # noqa: UP045
    "interval": Optional[str],  # noqa: UP045
}


def with_options(known: Mapping[str, Sql]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace ``**given`` of a command by an option each; None where one is not given."""

    def replace(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        every = [*own[:1], *(_option(name, sql) for name, sql in known.items()), *own[1:]]
        every = [p.replace(kind=p.KEYWORD_ONLY) for p in every]
        command.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in every}
        return command

    return replace


def _option(name: str, sql: Sql) -> inspect.Parameter:
    flags = "/".join(filter(None, (flag(name), negation(name))))
    default = "" if sql.default is None else f" (default: {sql.default})"
    if sql.type == "bool":
        default = "" if sql.default is None else f" (default: {'yes' if sql.default else 'no'})"
    elif sql.type == "text[]":
        default = " Repeatable."
    option = typer.Option(
        flags,
        help=sql.help + default,
        metavar={"interval": "INTERVAL", "int4": "N", "int8": "N"}.get(sql.type),
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_KINDS[sql.type], option],
    )
