"""The subcommands, put together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hotmesh_dba import __version__
from hotmesh_dba.cli import apps, files, policies, pruning, watching

_HELP = "Prune HotMesh databases."
_EPILOG = (
    "Exit codes: 0 done, or a budget reached; 1 error; 2 wrong usage; 3 rows are left because"
    " others had locked them, or policies had no turn, or with --strict because a budget was"
    " reached; 4 another run, or somebody's lock; 5 doctor found something; 6 cannot connect; 130"
    " and 143 ended by SIGINT and SIGTERM. With --all-apps the worst: 6, then 1, 4, 3."
)
# Plain help: at 80 columns it reads better than boxes, and it is the same everywhere.
_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}

app = typer.Typer(help=_HELP, epilog=_EPILOG, **_SETTINGS)
extension = typer.Typer(help="The extension's files.", **_SETTINGS)
policy = typer.Typer(help="What is to go, how long it is kept, and how often.", **_SETTINGS)
app.add_typer(extension, name="extension")


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


extension.command("install")(files.install)
extension.command("sql")(files.print_sql)
extension.command("status")(files.status)
app.command()(apps.deploy)
app.command()(apps.undeploy)
app.command()(apps.apps)
app.command()(watching.status)
app.command()(pruning.prune)
app.add_typer(policy, name="policy")
policy.command("set")(policies.set_policy)
policy.command("list")(policies.list_policies)
policy.command("drop")(policies.drop_policy)
policy.command("run")(policies.run_policy)
policy.command("schedule")(policies.schedule)
policy.command("unschedule")(policies.unschedule)
app.command("run-due")(policies.run_due)
app.command()(watching.runs)
app.command()(watching.doctor)
app.command()(apps.grant)
app.command()(apps.revoke)
