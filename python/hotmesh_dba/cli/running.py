"""What all runs have in common: their options, the bar, the result, and VACUUM afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Optional, TypeVar

import typer

from hotmesh_dba import DBA, HotMeshDBAError, Preview, PruneResult, RunResult
from hotmesh_dba.cli.asking import ask, somebody_there
from hotmesh_dba.cli.each import Outcome
from hotmesh_dba.cli.ending import DONE, LEFT
from hotmesh_dba.cli.live import Callback, live
from hotmesh_dba.cli.output import Record, duration, note, show_json, show_table, to_person
from hotmesh_dba.models import Counts
from hotmesh_dba.records import summed

Workers = Annotated[
    Optional[int],  # noqa: UP045 - Typer reads it at run time
    typer.Option(
        "--workers",
        "-j",
        metavar="N",
        min=1,
        show_default=False,
        help="Connections that share the work. (default: 1)",
    ),
]
Vacuum = Annotated[
    bool,
    typer.Option("--vacuum", help="Afterwards VACUUM (ANALYZE) the tables that rows went from."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would go; change nothing.")]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", envvar="HOTMESH_DBA_YES", help="Do not ask, on a terminal."),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 3 where a budget was reached and rows are left."),
]
Every = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Where stderr is no terminal: a line this often; 0 for none.",
    ),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said about how to run."""

    as_json: bool
    yes: bool = False
    dry_run: bool = False
    vacuum: bool = False
    strict: bool = False
    many: bool = False
    """Whether it is one of several apps."""
    every: float = 10


Run = Callable[[Callback | None], RunResult]
Result = TypeVar("Result", bound=RunResult)


def dry(settings: Settings, preview: Preview) -> Outcome:
    """Show a preview."""
    show_counts(preview, settings.as_json)
    if to_person() and not settings.as_json and not any(counts_of(preview).values()):
        print("nothing is due")
    note("a dry run: nothing was changed")
    return asdict(preview), DONE


def confirmed(settings: Settings, app_id: str, preview: Callable[[], Preview]) -> None:
    """Ask, where that was not forbidden and there is somebody to ask."""
    if not settings.yes and somebody_there():
        ask(app_id, preview)


def follow(dba: DBA, app_id: str, title: str, settings: Settings, run: Run) -> Outcome:
    """Run with a bar; show what was done, also where it failed; VACUUM where that was wanted."""
    result = live_result(title, settings, run, show_result)
    record = asdict(result)
    if settings.vacuum:
        record["vacuumed"] = vacuum(dba, app_id, result)
    return record, code_of_result(result, settings.strict)


def live_result(
    title: str,
    settings: Settings,
    run: Callable[[Callback | None], Result],
    show: Callable[[Result, bool], None],
) -> Result:
    """Run with a bar; show what was done, also where it failed."""
    with shown_anyway(settings, show), live(title, settings.every) as callback:
        result = run(callback)
    show(result, settings.as_json)
    return result


def code_of_result(result: RunResult, strict: bool) -> int:
    """Return the exit code of a run that did not fail."""
    if result.stop_reason == "locked" or (strict and result.state == "stopped"):
        return LEFT
    return DONE


def vacuum(dba: DBA, app_id: str, result: PruneResult) -> list[str]:
    """VACUUM what shrank, and say so."""
    tables = dba.vacuum(app_id, only=result)
    note(f"vacuumed: {', '.join(tables)}" if tables else "nothing to vacuum")
    return tables


def vacuum_each(dba: DBA, result: RunResult) -> dict[str, list[str]]:
    """VACUUM what the runs of several policies took rows from, app by app."""
    apps = dict.fromkeys(run.app for run in result.runs)
    return {
        app: vacuum(dba, app, summed([run for run in result.runs if run.app == app]))
        for app in apps
    }


@contextmanager
def shown_anyway(settings: Settings, show: Callable[[Result, bool], None]) -> Iterator[None]:
    """Show what a run had done before it failed or was interrupted."""
    try:
        yield
    except (HotMeshDBAError, KeyboardInterrupt) as error:
        result = getattr(error, "result", None)
        if result is not None and not (settings.as_json and settings.many):
            show(result, settings.as_json)
            if settings.as_json:
                show_json(asdict(result))
        raise


# --- what was done ---------------------------------------------------------------------------


def show_counts(result: Counts, as_json: bool) -> None:
    """Show the counts, a kind of rows a line; on a terminal those that are not 0."""
    if as_json:
        return
    records: list[Record] = [
        {"kind": kind, "rows": rows} for kind, rows in counts_of(result).items()
    ]
    if to_person():
        records = [r for r in records if r["rows"] and r["kind"] != "streams"]
    show_table(records, ("kind", "rows"))


def counts_of(result: Counts) -> dict[str, int]:
    """Return the counts by kind."""
    return {kind: rows for kind, rows in asdict(result).items() if type(rows) is int}


def show_result(result: RunResult, as_json: bool) -> None:
    """Show what a run did, or had done; a person also how long it took."""
    show_counts(result, as_json)
    if sys.stderr.isatty() and result.runs:
        note(summary(result))


def summary(result: RunResult) -> str:
    """Return in a line what became of a run, and how fast it was."""
    runs = result.runs
    ids = ", ".join(str(run.id) for run in runs)
    rows = sum(run.rows_done for run in runs)
    took = max(r.finished_at or r.updated_at for r in runs) - min(r.started_at for r in runs)
    seconds = took.total_seconds()
    speed = f" ({rows / seconds:,.0f}/s)" if rows and seconds > 0 else ""
    reason = f" ({result.stop_reason})" if result.stop_reason else ""
    return (
        f"run{'s' if len(runs) > 1 else ''} {ids}: {result.state}{reason}, {rows:,} rows in"
        f" {duration(took)}{speed}, {sum(run.batches for run in runs):,} batches"
    )
