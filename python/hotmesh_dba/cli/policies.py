"""The commands about policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Optional

import typer

from hotmesh_dba import DBA, DueResult, Policy, Preview, Scheduled
from hotmesh_dba.cli.arguments import (
    AllApps,
    AppId,
    Dsn,
    Json,
    PolicyName,
    SomeApp,
    given,
    with_options,
)
from hotmesh_dba.cli.asking import BOUND, confirm, somebody_there
from hotmesh_dba.cli.each import Outcome, each, one_or_all, with_name
from hotmesh_dba.cli.ending import DONE, LEFT, LOCKED, reporting, worst
from hotmesh_dba.cli.output import Record, draw_table, note, show_json, show_table, to_person
from hotmesh_dba.cli.printable import printable
from hotmesh_dba.cli.running import (
    DryRun,
    Every,
    Settings,
    Strict,
    Vacuum,
    Workers,
    Yes,
    code_of_result,
    confirmed,
    dry,
    follow,
    live_result,
    vacuum_each,
)
from hotmesh_dba.errors import UnknownPolicy
from hotmesh_dba.options import OPTIONS, POLICY_OPTIONS

# --- keeping them ----------------------------------------------------------------------------


@with_options(POLICY_OPTIONS)
def set_policy(
    app_id: AppId = None,
    name: PolicyName = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Say what is to go from an app: replaces the whole policy. A step not named is off."""
    app_id, policy_name = with_name(app_id, name, all_apps)
    every: Any = given(options)

    def work(dba: DBA, app: str) -> Outcome:
        policy = dba.set_policy(app, policy_name, **every)
        if not as_json:
            _show_policies([policy])
        return asdict(policy), DONE

    each(lambda: DBA(dsn), app_id, as_json, work)


def list_policies(
    app_id: SomeApp = None, *, all_apps: AllApps = False, dsn: Dsn = "", as_json: Json = False
) -> None:
    """List the policies."""
    one_or_all(app_id, all_apps)
    with reporting(as_json):
        found = DBA(dsn).policies(app_id)
    if as_json:
        show_json([asdict(policy) for policy in found])
        return
    _show_policies(found)
    if not found:
        note("no policies")


def _show_policies(found: list[Policy]) -> None:
    show_table([_record(policy) for policy in found], _COLUMNS, _SPARE)


_COLUMNS = ("app", "policy", "steps", "every", "enabled", "limits", "role", "note")
_SPARE = ("role", "limits", "note")


def _record(policy: Policy) -> Record:
    return {
        "app": policy.app,
        "policy": policy.name,
        "steps": "; ".join(_steps(policy)),
        "every": policy.every,
        "enabled": policy.enabled,
        "limits": ", ".join(_limits(policy)),
        "role": policy.role,
        "note": policy.note,
    }


def _steps(policy: Policy) -> list[str]:
    """Return what goes, in words."""
    of = f" of {', '.join(policy.entities)}" if policy.entities is not None else ""
    words = []
    if policy.jobs:
        words.append(f"jobs{of} after {policy.expire}")
    if policy.prune_transient:
        words.append(f"transient after {policy.expire}")
    if policy.engine_streams:
        words.append(f"engine messages after {policy.engine_streams_expire or policy.expire}")
    if policy.worker_streams:
        words.append(f"worker messages after {policy.worker_streams_expire or policy.expire}")
    if policy.attributes:
        words.append(f"strip{of}{' but hmark' if policy.keep_hmark else ''}")
    if policy.signals:
        words.append("signals")
    return words


def _limits(policy: Policy) -> list[str]:
    words = [f"{policy.max_percent:g} %"]
    words += [f"{policy.max_rows:,} rows"] if policy.max_rows is not None else []
    words += [policy.max_runtime] if policy.max_runtime is not None else []
    return words


def drop_policy(
    app_id: AppId = None,
    name: PolicyName = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Forget a policy; the records of its runs stay."""
    app_id, policy_name = with_name(app_id, name, all_apps)

    def work(dba: DBA, app: str) -> Outcome:
        dba.drop_policy(app, policy_name)
        note(f'dropped policy "{policy_name}" of app "{app}"')
        return {"app": app, "policy": policy_name}, DONE

    each(lambda: DBA(dsn), app_id, as_json, work)


# --- following them --------------------------------------------------------------------------


def run_policy(
    app_id: AppId = None,
    name: PolicyName = None,
    *,
    all_apps: AllApps = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also a disabled one, and whatever share goes.")
    ] = False,
    workers: Workers = None,
    vacuum_afterwards: Vacuum = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    strict: Strict = False,
    progress_every: Every = 10,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Run prune with the options of a policy."""
    app_id, policy_name = with_name(app_id, name, all_apps)
    settings = Settings(
        as_json, yes, dry_run, vacuum_afterwards, strict, app_id is None, progress_every
    )

    def work(dba: DBA, app: str) -> Outcome:
        if dry_run:
            return dry(settings, preview_of(dba, app, policy_name))
        dba._check_policy(app, policy_name, force=force)  # nobody is asked about what is refused
        confirmed(settings, app, partial(preview_of, dba, app, policy_name, BOUND))
        return follow(
            dba,
            app,
            f"{app} {policy_name}",
            settings,
            lambda progress: dba.run_policy(
                app, policy_name, force=force, workers=workers or 1, progress=progress
            ),
        )

    each(lambda: DBA(dsn), app_id, as_json, work)


def preview_of(dba: DBA, app: str, name: str, max_rows: int | None = None) -> Preview:
    """Count what a policy would remove now."""
    known = dba.policies(app)
    for policy in known:
        if policy.name == name:
            options: Any = {option: getattr(policy, option) for option in OPTIONS}
            if options["expire"] is None:
                del options["expire"]  # nothing that it prunes has a window
            return dba.preview(app, max_rows=max_rows, **options)
    names = ", ".join(policy.name for policy in known) or "none"
    raise UnknownPolicy(
        f"unknown policy: '{name}'",
        sqlstate="42704",
        detail=f'App "{app}" has no policy of that name that you may see.',
        hint=f"Its policies: {names}.",
    )


def run_due(
    max_runtime: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads it at run time
        typer.Option(
            metavar="INTERVAL",
            show_default=False,
            help="Stop after this time; each policy gets its fair share of it.",
        ),
    ] = None,
    trust_owners: Annotated[
        bool,
        typer.Option(
            "--trust-owners",
            help="As a superuser, prune other owners' apps too: whatever these have put on their"
            " tables is executed with all rights.",
        ),
    ] = False,
    vacuum_afterwards: Vacuum = False,
    yes: Yes = False,
    strict: Strict = False,
    progress_every: Every = 10,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Run every policy of every app whose time has come: one line for any scheduler."""
    settings = Settings(as_json, yes, False, vacuum_afterwards, strict, False, progress_every)
    with reporting(as_json):
        dba = DBA(dsn)
        if not yes and somebody_there():
            _ask_due(dba.policies())
        result = live_result(
            "run-due",
            settings,
            lambda progress: dba.run_due(max_runtime, trust_owners=trust_owners, progress=progress),
            _show_due,
        )
        record = asdict(result)
        if vacuum_afterwards:
            record["vacuumed"] = vacuum_each(dba, result)
    if as_json:
        show_json(record)
    code = _code_of_round(result, strict)
    if code:
        raise typer.Exit(code)


def _code_of_round(result: DueResult, strict: bool) -> int:
    """Return the exit code of a round that did not fail; what had no turn is no success."""
    busy = LOCKED if result.busy else DONE
    left = LEFT if result.postponed or result.others else DONE
    return worst([busy, left, code_of_result(result, strict)])


def _ask_due(known: list[Policy]) -> None:
    regular = [_record(p) for p in known if p.enabled and p.every is not None]
    if regular:
        confirm(
            "Run those of them whose time has come?",
            lambda console: draw_table(console, regular, _COLUMNS, _SPARE),
        )


def _show_due(result: DueResult, as_json: bool) -> None:
    if as_json:
        return
    records: list[Record] = [
        {
            "run": run.id,
            "app": run.app,
            "policy": run.policy,
            "rows": run.rows_done,
            "left": run.rows_left,
            "state": run.state,
            "reason": run.error_message or run.stop_reason,
        }
        for run in result.runs
    ]
    show_table(records, ("run", "app", "policy", "rows", "left", "state", "reason"))
    if not records:
        print(_nothing_ran(result))


def _nothing_ran(result: DueResult) -> str:
    """Return why there is no run to show; which policies were busy, a warning has said."""
    left = {
        "busy": result.busy,
        "postponed": result.postponed,
        "left to their owners (see --trust-owners)": result.others,
    }
    words = [f"{count} {why}" for why, count in left.items() if count]
    return f"nothing was run: {', '.join(words)}" if words else "nothing is due"


# --- pg_cron ---------------------------------------------------------------------------------


def schedule(
    app_id: AppId = None,
    name: PolicyName = None,
    cron: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="CRON", help="When, as pg_cron reads it: '0 3 * * *'.", show_default=False
        ),
    ] = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Hand a policy to pg_cron; replaces the schedule that it had."""
    if all_apps and cron is None:
        app_id, name, cron = None, app_id, name
    if cron is None:
        raise typer.BadParameter("it is missing", param_hint="CRON")
    app_id, policy_name = with_name(app_id, name, all_apps)
    expression = cron
    _cron(lambda dba, app: dba.schedule(app, policy_name, expression), app_id, dsn, as_json)


def unschedule(
    app_id: AppId = None,
    name: PolicyName = None,
    *,
    all_apps: AllApps = False,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Take a policy from pg_cron."""
    app_id, policy_name = with_name(app_id, name, all_apps)
    _cron(lambda dba, app: dba.unschedule(app, policy_name), app_id, dsn, as_json)


_JOB = ("job", "done", "statement")


def _cron(
    change: Callable[[DBA, str], Scheduled], app_id: str | None, dsn: str, as_json: bool
) -> None:
    def work(dba: DBA, app: str) -> Outcome:
        done = change(dba, app)
        if not as_json:
            records = [{"job": done.job_name, "done": done.done, "statement": done.statement}]
            # On a terminal the statement stands by itself, to be copied.
            show_table(records, _JOB[:2] if to_person() else _JOB)
        if not done.done:
            note("pg_cron is in another database: run this there", style="yellow")
        if to_person() and not as_json:
            print(printable(done.statement))
        return asdict(done), DONE

    each(lambda: DBA(dsn), app_id, as_json, work)
