"""The commands about apps: deploying, listing, and who may prune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from hotmesh_dba import DBA, Action
from hotmesh_dba.cli.arguments import AllApps, AppId, Dsn, Json
from hotmesh_dba.cli.each import Outcome, chosen, each, with_name
from hotmesh_dba.cli.ending import DONE, reporting
from hotmesh_dba.cli.output import note, show_json, show_table, to_person
from hotmesh_dba.cli.printable import printable

RoleName = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads it at run time
    typer.Argument(metavar="ROLE", help="Name of the role.", show_default=False),
]


def deploy(
    app_id: AppId = None,
    *,
    all_apps: AllApps = False,
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
    chosen(app_id, all_apps)

    def work(dba: DBA, app: str) -> Outcome:
        return _show_actions(dba.deploy(app, trust_installer=trust_installer), as_json)

    each(lambda: DBA(dsn), app_id, as_json, work)


def undeploy(
    app_id: AppId = None, *, all_apps: AllApps = False, dsn: Dsn = "", as_json: Json = False
) -> None:
    """Take prune out of an app's schema."""
    chosen(app_id, all_apps)
    each(
        lambda: DBA(dsn),
        app_id,
        as_json,
        lambda dba, app: _show_actions(dba.undeploy(app), as_json),
    )


def _show_actions(actions: list[Action], as_json: bool) -> Outcome:
    records = [asdict(action) for action in actions]
    if not as_json:
        show_table(records, ("action", "object"))
        if not actions:
            note("nothing to do")
    for action in actions:
        if action.action == "pending":
            note(f"pending, to be run by hand:\n{action.statements}", style="yellow")
    return records, DONE


def apps(dsn: Dsn = "", as_json: Json = False) -> None:
    """List the HotMesh applications of a database."""
    with reporting(as_json):
        records = [asdict(found) for found in DBA(dsn).apps()]
    if as_json:
        show_json(records)
        return
    show_table(records, ("schema", "owner", "wrapper", "migrated", "indexed"))
    if not records:
        note("no HotMesh applications in this database")


def grant(
    app_id: AppId = None,
    role: RoleName = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Let a role prune an app, and no more."""
    _rights(lambda dba, app, to: dba.grant_prune(app, to), app_id, role, all_apps, dsn, as_json)


def revoke(
    app_id: AppId = None,
    role: RoleName = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Take back what grant gave."""
    _rights(lambda dba, app, to: dba.revoke_prune(app, to), app_id, role, all_apps, dsn, as_json)


def _rights(
    change: Callable[[DBA, str, str], list[str]],
    app_id: str | None,
    role: str | None,
    all_apps: bool,
    dsn: str,
    as_json: bool,
) -> None:
    app_id, name = with_name(app_id, role, all_apps, "ROLE")

    def work(dba: DBA, app: str) -> Outcome:
        statements = change(dba, app, name)
        if not as_json:
            # Into a pipe they go as they are, to be run.
            text = "\n".join(statements)
            print(printable(text) if to_person() else text)
        return statements, DONE

    each(lambda: DBA(dsn), app_id, as_json, work)
