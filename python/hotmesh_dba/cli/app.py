"""The subcommands."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from hotmesh_dba import DBA, Action, __version__, extension
<<<<<<< HEAD
from hotmesh_dba.cli import pruning
from hotmesh_dba.cli.arguments import AppId, Dsn, Json
=======
from hotmesh_dba.cli.flags import flag, negation
>>>>>>> d34261db3cf0b5c729f92d341122106410f31aea
from hotmesh_dba.cli.output import note, reporting, show_json, show_table

_HELP = "Prune HotMesh databases."
_EPILOG = (
    "Exit codes: 0 done, or a budget reached; 1 error; 2 wrong usage; 3 rows are left because"
    " others had locked them; 4 another run, or somebody's lock; 6 cannot connect; 130 and 143"
    " ended by SIGINT and SIGTERM."
)
_SETTINGS: dict[str, Any] = {"no_args_is_help": True, "pretty_exceptions_enable": False}

app = typer.Typer(help=_HELP, epilog=_EPILOG, add_completion=False, **_SETTINGS)
files = typer.Typer(help="The extension's files.", **_SETTINGS)
app.add_typer(files, name="extension")


class Format(str, Enum):
    """The kinds of script."""

    plain = "plain"
    pgtle = "pgtle"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"hotmesh-dba {__version__}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Prune HotMesh databases."""


@files.command("install")
def install_files(
    pg_config: Annotated[
        str, typer.Option(help="pg_config of the server.", metavar="PATH")
    ] = "pg_config",
    as_json: Json = False,
) -> None:
    """Copy the extension's files to where a server on this machine looks for them."""
    with reporting():
        written = [str(path) for path in extension.install(pg_config)]
    if as_json:
        show_json(written)
    else:
        print("\n".join(written))
    note("next: hotmesh-dba deploy APP")


@files.command("sql")
def print_sql(
    kind: Annotated[
        Format,
        typer.Option("--format", help="plain: for psql; pgtle: a registration with pg_tle."),
    ],
) -> None:
    """Print the extension as one script, for servers where no file can be copied."""
    print(extension.sql(kind.value), end="")


@app.command()
def deploy(
    app_id: AppId,
    trust_installer: Annotated[
        bool,
        typer.Option(
            "--trust-installer",
            help="On a plain install: let the app depend on routines of another role.",
        ),
    ] = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Put prune into an app's schema and migrate its tables."""
    with reporting():
        _show_actions(DBA(dsn).deploy(app_id, trust_installer=trust_installer), as_json)


@app.command()
def undeploy(app_id: AppId, dsn: Dsn = "", as_json: Json = False) -> None:
    """Take prune out of an app's schema."""
    with reporting():
        _show_actions(DBA(dsn).undeploy(app_id), as_json)


def _show_actions(actions: list[Action], as_json: bool) -> None:
    records = [asdict(action) for action in actions]
    if as_json:
        show_json(records)
        return
    show_table(records, ("action", "object"))
    if not actions:
        note("nothing to do")
    for action in actions:
        if action.action == "pending":
            note(f"pending, to be run by hand:\n{action.statements}", style="yellow")


@app.command()
def apps(dsn: Dsn = "", as_json: Json = False) -> None:
    """List the HotMesh applications of a database."""
    with reporting():
        records = [asdict(found) for found in DBA(dsn).apps()]
    if as_json:
        show_json(records)
        return
    show_table(records, ("schema", "owner", "wrapper", "migrated", "indexed"))
    if not records:
        note("no HotMesh applications in this database")


<<<<<<< HEAD
app.command()(pruning.prune)
app.command()(pruning.runs)
=======
# --- prune: its options are made from the one list -------------------------------------------


def _option(name: str, sql: Sql) -> inspect.Parameter:
    """Return the command-line option for an option of `prune`; None where it is not given."""
    flags = "/".join(filter(None, (flag(name), negation(name))))
    kind: Any = Optional[str]  # noqa: UP045 - Typer reads it at run time
    default = "" if sql.default is None else f" [default: {sql.default}]"
    if sql.type == "bool":
        kind = Optional[bool]  # noqa: UP045
        default = "" if sql.default is None else f" [default: {'yes' if sql.default else 'no'}]"
    elif sql.type == "text[]":
        kind = Optional[list[str]]  # noqa: UP045
        default = " Repeatable."
    option = typer.Option(
        flags,
        help=sql.help + default.replace("[", "(").replace("]", ")"),
        metavar="INTERVAL" if sql.type == "interval" else None,
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _with_prune_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**given`` by an option each."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    every = [*own[:1], *(_option(name, sql) for name, sql in OPTIONS.items()), *own[1:]]
    every = [p.replace(kind=p.KEYWORD_ONLY) for p in every]
    command.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in every}
    return command


@app.command()
@_with_prune_options
def prune(
    app_id: AppId,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would go; change nothing.")
    ] = False,
    dsn: Dsn = "",
    as_json: Json = False,
    **given: Any,
) -> None:
    """Remove what HotMesh has finished with."""
    options = PruneOptions(**{k: v for k, v in given.items() if v is not None and v != []})  # type: ignore[typeddict-item]
    with reporting():
        dba = DBA(dsn)
        result = dba.preview(app_id, **options) if dry_run else dba.prune(app_id, **options)
    record = asdict(result)
    if as_json:
        show_json(record)
        return
    counts = [{"kind": k, "rows": v} for k, v in record.items() if type(v) is int]
    show_table(counts, ("kind", "rows"))
    if dry_run:
        note("a dry run: nothing was changed")
>>>>>>> d34261db3cf0b5c729f92d341122106410f31aea
