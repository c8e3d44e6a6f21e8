"""The command that prunes."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from hotmesh_dba import DBA
from hotmesh_dba.cli.arguments import AllApps, AppId, Dsn, Json, given, with_options
from hotmesh_dba.cli.asking import BOUND
from hotmesh_dba.cli.each import Outcome, chosen, each
from hotmesh_dba.cli.ending import DONE
from hotmesh_dba.cli.flags import flag
from hotmesh_dba.cli.running import (
    DryRun,
    Every,
    Settings,
    Strict,
    Vacuum,
    Workers,
    Yes,
    confirmed,
    dry,
    follow,
    show_counts,
    vacuum,
)
from hotmesh_dba.options import BATCH_OPTIONS, BATCHED_OPTIONS, OPTIONS


@with_options(BATCHED_OPTIONS)
def prune(
    app_id: AppId = None,
    *,
    all_apps: AllApps = False,
    workers: Workers = None,
    single_transaction: Annotated[
        bool,
        typer.Option(
            "--single-transaction",
            help="Everything in one transaction: whole, or not at all. Not for a backlog.",
        ),
    ] = False,
    vacuum_afterwards: Vacuum = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    strict: Strict = False,
    progress_every: Every = 10,
    dsn: Dsn = "",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Remove what HotMesh has finished with, in short transactions."""
    chosen(app_id, all_apps)
    every = given(options)
    if single_transaction:
        _refuse([*(n for n in BATCH_OPTIONS if n in every), *(["workers"] if workers else [])])
    settings = Settings(
        as_json, yes, dry_run, vacuum_afterwards, strict, app_id is None, progress_every
    )

    def work(dba: DBA, app: str) -> Outcome:
        due: Any = {name: value for name, value in every.items() if name in OPTIONS}
        if dry_run:
            return dry(settings, dba.preview(app, **due))
        confirmed(settings, app, partial(dba.preview, app, max_rows=BOUND, **due))
        if single_transaction:
            return _at_once(dba, app, due, settings)
        return follow(
            dba,
            app,
            app,
            settings,
            lambda progress: dba.prune_batched(
                app, workers=workers or 1, progress=progress, **every
            ),
        )

    each(lambda: DBA(dsn), app_id, as_json, work)


def _at_once(dba: DBA, app: str, options: Any, settings: Settings) -> Outcome:
    result = dba.prune(app, **options)
    show_counts(result, settings.as_json)
    record = asdict(result)
    if settings.vacuum:
        record["vacuumed"] = vacuum(dba, app, result)
    return record, DONE


def _refuse(names: list[str]) -> None:
    if names:
        raise typer.BadParameter(
            "one transaction has no batches; leave one of the two out",
            param_hint=f"--single-transaction with {', '.join(map(flag, names))}",
        )
