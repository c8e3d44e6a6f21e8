"""The records of runs: reading them, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta

from hotmesh_dba.installed import require_version
from hotmesh_dba.models import ActiveRun, DueResult, Progress, Run, RunResult, StepPace
from hotmesh_dba.options import whole_number as whole
from hotmesh_dba.steps import Query, Row, Steps

# The steps as ``expected_by_step`` calls them, in their order, and where they are counted.
STEPS = {
    "jobs": "deleted_jobs",
    "transient": "deleted_transient",
    "engine_streams": "deleted_engine_streams",
    "worker_streams": "deleted_worker_streams",
    "strip": "marked_pruned",
    "signals": "deleted_signals",
}


def runs(app_id: str | None = None, *, limit: int = 20) -> Steps[list[Run]]:
    """Return the records of `prune_batched`, the newest first.

    :param app_id: only this app's; None means every app's whose jobs you may delete.
    :param limit: how many.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    number = whole("limit", limit)
    yield from require_version("runs", (1, 1))
    condition, values = of_app("r.app", app_id)
    rows = yield Query(
        f"{SELECT} {condition} ORDER BY r.id DESC LIMIT %s::pg_catalog.int8", [*values, number]
    )
    return [run_of(row) for row in rows]


def progress(app_id: str | None = None) -> Steps[list[ActiveRun]]:
    """Return the runs that have not ended, of everybody: how far they are, and who runs them.

    :param app_id: only this app's; None means every app's whose jobs you may delete.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    yield from require_version("progress", (1, 1))
    condition, values = of_app("p.app", app_id)
    names = [field.name for field in fields(ActiveRun)]
    rows = yield Query(
        f"SELECT {', '.join(f'p.{name}' for name in names)} FROM hotmesh_dba.progress p"
        f" {condition} ORDER BY p.run_id",
        values,
    )
    return [ActiveRun(*row) for row in rows]


def of_app(app: str, app_id: str | None) -> tuple[str, list[object]]:
    """Return the condition for the rows of one app, or of all, and its values.

    :param app: SQL for the app of a row.
    """
    if app_id is None:
        return "", []
    return f"WHERE {app} = hotmesh_dba.app_schema(%s::pg_catalog.text)", [app_id]


# --- the record ------------------------------------------------------------------------------


def _column(name: str) -> str:
    if name == "state":
        return "coalesce(p.state, r.state)"  # the view knows the dead
    if name.endswith(("_before", "_until")):
        # A window of thousands of years is fine for the server, but not for Python's datetime.
        return f"CASE WHEN r.{name} < '0002-01-01' THEN '0002-01-01' ELSE r.{name} END"
    if name in ("policy", "expected_by_step"):  # 1.1 has no such column
        text = f"pg_catalog.to_jsonb(r) ->> '{name}'"
        return text if name == "policy" else f"coalesce(({text})::pg_catalog.jsonb, '{{}}')"
    return f"r.{name}"


SELECT = (
    f"SELECT {', '.join(_column(field.name) for field in fields(Run))} FROM hotmesh_dba.run r"
    " LEFT JOIN hotmesh_dba.progress p ON p.run_id = r.id"
)


def run_of(row: Row) -> Run:
    """Return a row of `SELECT`."""
    return Run(*row)


# The worst first: what one worker met is true of the whole. What is not known is worse.
_STATES = ("failed", "interrupted", "running", "stopped", "completed")
_REASONS = ("error", "cancelled", "locked", "max_runtime", "max_rows", None)


def summed(runs: list[Run]) -> RunResult:
    """Return what runs add up to; of none, that nothing was to be done."""

    def total(*names: str) -> int:
        return sum(getattr(run, name) for run in runs for name in names)

    return RunResult(
        jobs=total("deleted_jobs"),
        streams=total("deleted_engine_streams", "deleted_worker_streams"),
        engine_streams=total("deleted_engine_streams"),
        worker_streams=total("deleted_worker_streams"),
        attributes=total("stripped_attributes"),
        transient=total("deleted_transient"),
        marked=total("marked_pruned"),
        signals=total("deleted_signals"),
        remaining=total("rows_left"),
        state=min((run.state for run in runs), key=_rank(_STATES), default="completed"),
        stop_reason=min((run.stop_reason for run in runs), key=_rank(_REASONS), default=None),
        cascaded=total("cascaded_attributes"),
        skipped=total("skipped"),
        runs=tuple(runs),
    )


def of_round(
    runs: list[Run], left_out: tuple[int, int, int] | tuple[None, None, None]
) -> DueResult:
    """Return what a round of policies adds up to; one that left any out has not completed."""
    result = summed(runs)
    busy, postponed, others = left_out
    left = ["locked"] * bool(busy) + ["max_runtime"] * bool(postponed)
    sums = {field.name: getattr(result, field.name) for field in fields(RunResult)}
    sums["state"] = min(result.state, "stopped" if left else result.state, key=_rank(_STATES))
    sums["stop_reason"] = min(result.stop_reason, *left, None, key=_rank(_REASONS))
    return DueResult(**sums, busy=busy, postponed=postponed, others=others)


def _rank(known: tuple[object, ...]) -> Callable[[object], int]:
    return lambda value: known.index(value) if value in known else -1


def progress_of(result: RunResult) -> Progress:
    """Return what the callback is told."""
    done = sum(run.rows_done for run in result.runs)
    began = min(run.started_at for run in result.runs)
    seconds = (max(run.updated_at for run in result.runs) - began).total_seconds()
    rate = done / seconds if seconds > 0 else None
    return Progress(
        rows_done=done,
        rows_expected=sum(run.expected for run in result.runs),
        rows_left=result.remaining,
        rows_per_second=rate,
        time_left=timedelta(seconds=result.remaining / rate) if rate else None,
        result=result,
        steps=steps_of(result.runs),
    )


def steps_of(runs: tuple[Run, ...]) -> tuple[StepPace, ...]:
    """Return how far each step has come that has something to do."""
    found = []
    for step, column in STEPS.items():
        done = sum(getattr(run, column) for run in runs)
        expected = [run.expected_by_step.get(step, 0) for run in runs if run.expected_by_step]
        if done or any(expected):
            found.append(StepPace(step, done, sum(expected) if expected else None))
    return tuple(found)
