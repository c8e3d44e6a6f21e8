"""The commands that prune, and that show what was pruned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Optional

import typer

from hotmesh_dba import DBA, ActiveRun, HotMeshDBAError, Run
from hotmesh_dba.cli.arguments import AppId, Dsn, Json, with_options
from hotmesh_dba.cli.flags import flag
from hotmesh_dba.cli.live import live
from hotmesh_dba.cli.output import LEFT, Record, note, reporting, show_json, show_table
from hotmesh_dba.models import Counts
from hotmesh_dba.options import BATCH_OPTIONS, BATCHED_OPTIONS, OPTIONS


@with_options(BATCHED_OPTIONS)
def prune(
    app_id: AppId,
    workers: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads it at run time
        typer.Option(
            "--workers",
            "-j",
            metavar="N",
            min=1,
            show_default=False,
            help="Connections that share the work. (default: 1)",
        ),
    ] = None,
    single_transaction: Annotated[
        bool,
        typer.Option(
            "--single-transaction",
            help="Everything in one transaction: whole, or not at all. Not for a backlog.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would go; change nothing.")
    ] = False,
    dsn: Dsn = "",
    as_json: Json = False,
    **given: Any,
) -> None:
    """Remove what HotMesh has finished with, in short transactions."""
    every = {name: value for name, value in given.items() if value not in (None, [])}
    options: Any = {name: value for name, value in every.items() if name in OPTIONS}
    if single_transaction:
        _refuse([*(n for n in BATCH_OPTIONS if n in every), *(["workers"] if workers else [])])
    with reporting():
        if dry_run:
            _show(DBA(dsn).preview(app_id, **options), as_json)
            note("a dry run: nothing was changed")
        elif single_transaction:
            _show(DBA(dsn).prune(app_id, **options), as_json)
        else:
            with _partial(as_json), live(app_id) as progress:
                result = DBA(dsn).prune_batched(
                    app_id, workers=workers or 1, progress=progress, **every
                )
            _show(result, as_json)
            if result.stop_reason == "locked":
                raise typer.Exit(LEFT)


def _refuse(names: list[str]) -> None:
    if names:
        raise typer.BadParameter(
            "one transaction has no batches; leave one of the two out",
            param_hint=f"--single-transaction with {', '.join(map(flag, names))}",
        )


@contextmanager
def _partial(as_json: bool) -> Iterator[None]:
    """Show what a run had done before it failed or was interrupted."""
    try:
        yield
    except (HotMeshDBAError, KeyboardInterrupt) as error:
        result = getattr(error, "result", None)
        if result is not None:
            _show(result, as_json)
        raise


def _show(result: Counts, as_json: bool) -> None:
    record = asdict(result)
    if as_json:
        show_json(record)
        return
    counts = [{"kind": k, "rows": v} for k, v in record.items() if type(v) is int]
    show_table(counts, ("kind", "rows"))


def runs(
    app_id: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time
        typer.Argument(metavar="APP", help="Only this app's.", show_default=False),
    ] = None,
    active: Annotated[
        bool, typer.Option("--active", help="Those that have not ended: how far they are.")
    ] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many, the newest first.")
    ] = 20,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """List the runs of prune."""
    with reporting():
        dba = DBA(dsn)
        found: list[Run] | list[ActiveRun]
        found = dba.progress(app_id) if active else dba.runs(app_id, limit=limit)
    if as_json:
        show_json([asdict(run) for run in found])
        return
    records = [_progress(run) if isinstance(run, ActiveRun) else _record(run) for run in found]
    show_table(records, tuple(records[0]) if records else ())
    if not records:
        note("no active runs" if active else "no runs")


def _record(run: Run) -> Record:
    return {
        "run": run.id,
        "app": run.app,
        "worker": f"{run.worker}/{run.workers}",
        "role": run.role,
        "started": run.started_at,
        "took": (run.finished_at or run.updated_at) - run.started_at,
        "batches": run.batches,
        "rows": run.rows_done,
        "left": run.rows_left,
        "state": run.state,
        "reason": run.error_message or run.stop_reason,
    }


def _progress(run: ActiveRun) -> Record:
    return {
        "run": run.run_id,
        "app": run.app,
        "worker": f"{run.worker}/{run.workers}",
        "role": run.role,
        "pid": run.pid,
        "started": run.started_at,
        "batches": run.batches,
        "rows": run.rows_done,
        "left": run.rows_left,
        "rows/s": None if run.rows_per_second is None else round(run.rows_per_second),
        "time left": run.time_left,
        "state": run.state,
    }
