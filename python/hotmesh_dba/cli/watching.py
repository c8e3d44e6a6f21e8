"""The commands that look: the runs, what is due, and what is wrong."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hotmesh_dba import DBA, ActiveRun, Backlog, Check, Run
from hotmesh_dba.cli.arguments import AllApps, Dsn, Json, SomeApp
from hotmesh_dba.cli.each import one_or_all
from hotmesh_dba.cli.ending import ILL, reporting
from hotmesh_dba.cli.output import Record, note, show_json, show_table, size, to_person
from hotmesh_dba.cli.printable import printable

# --- runs ------------------------------------------------------------------------------------


def runs(
    app_id: SomeApp = None,
    *,
    all_apps: AllApps = False,
    active: Annotated[
        bool, typer.Option("--active", help="Those that have not ended: how far they are.")
    ] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many, the newest first.")
    ] = 20,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """List the runs of prune and of policies."""
    one_or_all(app_id, all_apps)
    with reporting(as_json):
        dba = DBA(dsn)
        found: list[Run] | list[ActiveRun]
        found = dba.progress(app_id) if active else dba.runs(app_id, limit=limit)
    if as_json:
        show_json([asdict(run) for run in found])
        return
    records = [_progress(run) if isinstance(run, ActiveRun) else _record(run) for run in found]
    spare = ("batches", "role", "worker", "pid", "left", "took", "reason", "policy")
    show_table(records, tuple(records[0]) if records else (), spare)
    if not records:
        note("no active runs" if active else "no runs")


def _record(run: Run) -> Record:
    return {
        "run": run.id,
        "app": run.app,
        "policy": run.policy,
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


# --- status ----------------------------------------------------------------------------------


def status(
    app_id: SomeApp = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Show the apps, and what is due in their tables under their policies."""
    one_or_all(app_id, all_apps)
    with reporting(as_json):
        dba = DBA(dsn)
        due = dba.backlog(app_id)
        shown = {row.app for row in due}
        apps = [app for app in dba.apps() if app_id is None or app.schema in shown]
    if as_json:
        show_json({"apps": [asdict(a) for a in apps], "backlog": [asdict(row) for row in due]})
        return
    show_table([asdict(app) for app in apps], ("schema", "owner", "wrapper", "migrated", "indexed"))
    if not apps:
        note("no HotMesh applications in this database")
    if apps and due:
        print()
    spare = ("last vacuum", "dead", "rows/s", "oldest", "size", "drained in", "rows")
    show_table([_due(row) for row in due], _DUE, spare)
    if any(row.policy and row.due is None for row in due):
        note(
            "what is due is not known of a table that is locked or that you may not read, nor, to a"
            " superuser, of other owners' apps unless one is named: hotmesh-dba status APP"
        )


_DUE = (
    *("app", "table", "policy", "due", "oldest", "rows", "size", "dead", "last vacuum", "rows/s"),
    "drained in",
)


def _due(row: Backlog) -> Record:
    person = to_person()
    bytes_ = row.total_bytes
    return {
        "app": row.app,
        "table": row.table_name,
        "policy": row.policy,
        "due": _amount(row, person),
        "oldest": row.oldest_due,
        "rows": row.total_rows,
        "size": size(bytes_) if person and bytes_ is not None else bytes_,
        "dead": row.dead_rows,
        "last vacuum": row.last_vacuum,
        "rows/s": None if row.rows_per_second is None else round(row.rows_per_second),
        "drained in": row.time_to_drain,
    }


def _amount(row: Backlog, person: bool) -> str | None:
    if row.due is None:
        return "?" if person and row.policy else None
    return f"{'' if row.exact else '≥ '}{row.due:{',' * person}}"


# --- doctor ----------------------------------------------------------------------------------


class FailOn(str, Enum):
    """From which status on doctor exits with 5."""

    problem = "problem"
    warning = "warning"


_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "unknown": "dim"}


def doctor(
    app_id: SomeApp = None,
    *,
    all_apps: AllApps = False,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Exit with 5 from this status on.")
    ] = FailOn.problem,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Look for what is wrong, or soon will be; exit with 5 where something is."""
    one_or_all(app_id, all_apps)
    with reporting(as_json):
        checks = DBA(dsn).doctor(app_id)
    if as_json:
        show_json([asdict(check) for check in checks])
    elif to_person():
        _show_checks(checks)
    else:
        columns = ("app", "check", "status", "detail", "hint")
        show_table([{**asdict(c), "check": c.check_name} for c in checks], columns)
    bad = {"problem"} | ({"warning"} if fail_on is FailOn.warning else set())
    if any(check.status in bad for check in checks):
        raise typer.Exit(ILL)


def _show_checks(checks: list[Check]) -> None:
    """Show what is wrong in full; what is well as a number."""
    console = Console(highlight=False)
    for check in checks:
        if check.status == "ok":
            continue
        where = f"{printable(check.app)}: " if check.app else ""
        head = Text.assemble(
            (f"{check.status:8}", _STYLES[check.status]), printable(f"{where}{check.check_name}")
        )
        console.print(head)
        for words, style in ((check.detail, ""), (check.hint, "cyan")):
            for line in printable(words or "").splitlines():
                console.print(Text(_indented(line, console.width), style=style), soft_wrap=True)
    counts = Counter[str](check.status for check in checks)
    console.print(", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status]))


def _indented(line: str, width: int) -> str:
    """Return a line on several, none of them cut within a word: a statement is to be copied."""
    return textwrap.fill(
        line,
        max(width, 20),
        initial_indent=" " * 8,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
