"""The subcommands."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from hotmesh_dba import DBA, Action, __version__, extension
from hotmesh_dba.cli import pruning
from hotmesh_dba.cli.arguments import AppId, Dsn, Json
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


app.command()(pruning.prune)
app.command()(pruning.runs)
