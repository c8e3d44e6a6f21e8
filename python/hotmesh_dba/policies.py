"""Policies: keeping them, following them, and handing them to pg_cron."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from hotmesh_dba.batched import Batched, Report, RunsOfOne, Share
from hotmesh_dba.installed import require_version
from hotmesh_dba.models import DueResult, Policy, Run, RunResult, Schedule, Scheduled
from hotmesh_dba.options import (
    POLICY_OPTIONS,
    PolicyOptions,
    Window,
    arguments,
    flag,
    spelled_out,
    text,
    window,
)
from hotmesh_dba.records import of_app, of_round
from hotmesh_dba.steps import Query, Row, Steps

if TYPE_CHECKING:
    from typing_extensions import Unpack

SINCE = (1, 2)
"""The hotmesh_dba that first had policies."""


def _column(name: str) -> str:
    if name == "app":  # a renamed one's have its old name until something writes to them
        return f"coalesce({_APP}, p.app)"
    sql = POLICY_OPTIONS.get(name)
    if sql is None:
        return f"p.{name}"
    kind = {"interval": "::pg_catalog.text", "numeric": "::pg_catalog.float8"}
    return f"p.{sql.name}{kind.get(sql.type, '')}"


_APP = "hotmesh_dba._policy_app(p)"
_COLUMNS = ", ".join(_column(field.name) for field in fields(Policy))


@spelled_out(POLICY_OPTIONS)
def set_policy(app_id: str, name: str, **options: Unpack[PolicyOptions]) -> Steps[Policy]:
    """Say what is to go from an app; replaces the whole policy of that name.

    Every step is off unless it is named, and there is no window unless you give one. The options
    are those of `prune_batched`, and:

    :param app_id: HotMesh's appId, or the name of its schema.
    :param name: up to 63 letters, digits, ``_``, ``.``, ``-``.
    :param max_percent: a run that would delete more than this share of a table's live rows is
        refused before its first row; 100 never refuses.
    :param every: how often `run_due` runs it; None: never.
    :param enabled: whether it runs and `backlog` counts for it; else it runs by force alone.
    :param note: a word to those who come after.
    :return: the policy as it stands now, with what follows from other options filled in.
    :raises InvalidOption: options that contradict each other, or no step at all.
    :raises PermissionDenied: you are no member of the role that owns the app.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, ReadOnly: as their
        names say.
    """
    named, values = arguments(options, POLICY_OPTIONS)
    values = [app_id, text("name", name), *values]
    yield from require_version("set_policy", SINCE)
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM hotmesh_dba.set_policy("
        f"app_id => %s::pg_catalog.text, name => %s::pg_catalog.text{named}) p",
        values,
    )
    return Policy(*rows[0])


def drop_policy(app_id: str, name: str) -> Steps[None]:
    """Forget a policy; its runs' records stay.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param name: the policy's name.
    :raises UnknownPolicy: there is none of that name; the hint lists the known ones.
    :raises PermissionDenied: you are no member of the role that owns the app.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, ReadOnly: as their
        names say.
    """
    values: list[object] = [app_id, text("name", name)]
    yield from require_version("drop_policy", SINCE)
    yield Query("SELECT hotmesh_dba.drop_policy(%s::pg_catalog.text, %s::pg_catalog.text)", values)


def policies(app_id: str | None = None) -> Steps[list[Policy]]:
    """List the policies, by app and name.

    :param app_id: only this app's; None means every app's that belongs to a role of yours.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    yield from require_version("policies", SINCE)
    condition, values = of_app(_APP, app_id)
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM hotmesh_dba.policy p {condition} ORDER BY 1, 2", values
    )
    return [Policy(*row) for row in rows]


# --- following them --------------------------------------------------------------------------


def check_policy(app_id: str, name: str, *, force: bool = False) -> Steps[None]:
    """Refuse what `run_policy` refuses before it looks at the rows, as it does; change nothing."""
    yield from require_version("run_policy", SINCE)
    enabled = "NULL" if force else "hotmesh_dba._check_enabled(p)"
    yield Query(
        f"SELECT hotmesh_dba._check_policy(p), {enabled} FROM hotmesh_dba._find_policy("
        "%s::pg_catalog.text, %s::pg_catalog.text, 'run a policy of') p",
        [app_id, name],
    )


class _RunPolicy(RunsOfOne):
    what = "run_policy"
    version = SINCE


class _RunDue(Batched[DueResult]):
    what = "run_due"
    version = SINCE

    def __init__(
        self, max_runtime: Window | None, trust_owners: bool, report: Report | None
    ) -> None:
        super().__init__(None, "", [], 1, report)
        self._max_runtime = None if max_runtime is None else window("max_runtime", max_runtime)
        self._trust_owners = flag("trust_owners", trust_owners)
        self._left: tuple[int, int, int] | None = None

    def call(self, worker: int) -> Query:  # noqa: ARG002 - there is one
        return Query(
            "CALL hotmesh_dba.run_due(max_runtime => %s::pg_catalog.interval,"
            " trust_owners => %s::pg_catalog.bool)",
            [self._max_runtime, self._trust_owners],
        )

    def returned(self, share: Share, row: Row) -> None:  # noqa: ARG002 - there is one
        _runs, _failed, *left = row
        self._left = tuple(left)

    def total(self, runs: list[Run]) -> DueResult | None:
        over = self._left is not None  # then no runs are an answer too
        return of_round(runs, self._left or (None, None, None)) if runs or over else None


def run_policy(
    app_id: str,
    name: str,
    *,
    force: bool = False,
    workers: int = 1,
    progress: Report | None = None,
) -> Batched[RunResult]:
    """Run `prune_batched` with the options of a policy.

    It needs a connection without an open transaction, and is stopped, reported on and recorded as
    `prune_batched` is; the record says which policy it followed.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param name: the policy's name.
    :param force: run it also where it is disabled, and whatever share of a table goes; else its
        ``max_percent`` is the limit.
    :param workers: how many connections share the work. A conninfo or a pool is needed for more
        than one. The first error stops all of them.
    :param progress: called with a `Progress` every half second and at the end, as `prune_batched`
        calls it.
    :return: the sums and the record of each worker.
    :raises UnknownPolicy: there is none of that name; the hint lists the known ones.
    :raises PolicyDisabled: it is, and ``force`` was not given.
    :raises TooMuch: more than ``max_percent`` of a table would go; nothing was deleted.
    :raises OpenTransaction, VersionMismatch, Locked, TriggersNeeded, Cancelled, NotInstalled,
        NotDeployed, UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied, ReadOnly: as for
        `prune_batched`.
    """
    named = ", name => %s::pg_catalog.text, force => %s::pg_catalog.bool"
    values: list[object] = [text("name", name), flag("force", force)]
    return _RunPolicy(app_id, named, values, workers, progress)


def run_due(
    max_runtime: Window | None = None,
    *,
    trust_owners: bool = False,
    progress: Report | None = None,
) -> Batched[DueResult]:
    """Run every enabled policy of every app of yours whose ``every`` has passed, one by one.

    One that fails does not keep the others from running. It needs a connection without an open
    transaction, as `prune_batched` does.

    :param max_runtime: for all of them together: each gets its fair share. None: no limit.
    :param trust_owners: whether a superuser prunes other owners' apps too. Else they are left
        alone, with a warning: what they have put on their tables is executed by whoever prunes.
    :param progress: called with a `Progress` of all runs so far, as `prune_batched` calls it.
    :return: the sums and the records of all runs, and how many policies were left for the next
        call, ``busy`` and ``postponed``, or to ``others``. Nothing was due where there are no
        records and all three are 0.
    :raises HotMeshDBAError: after all have run, the first error of those that failed, as the class
        that its cause has; ``result`` holds the records of all.
    :raises OpenTransaction, VersionMismatch, Cancelled, NotInstalled, InvalidOption, ReadOnly: as
        for `prune_batched`.
    """
    return _RunDue(max_runtime, trust_owners, progress)


# --- pg_cron ---------------------------------------------------------------------------------


def schedule(app_id: str, name: str, cron_expression: str) -> Steps[Scheduled]:
    """Hand a policy to pg_cron; replaces the schedule that it had.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param name: the policy's name.
    :param cron_expression: when, as pg_cron reads it: ``0 3 * * *``, or from pg_cron 1.5 on
        ``30 seconds``.
    :return: the job, and whether it was made. It was not where pg_cron lives in another database
        of the cluster: ``statement`` is what to run there.
    :raises CronMissing: the server has no pg_cron.
    :raises PolicyDisabled: it is, and would not run.
    :raises UnknownPolicy: there is none of that name; the hint lists the known ones.
    :raises PermissionDenied: no USAGE on schema cron, or you are no member of the app's owner.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, ReadOnly: as their
        names say.
    """
    values: list[object] = [app_id, text("name", name), text("cron_expression", cron_expression)]
    yield from require_version("schedule", SINCE)
    rows = yield Query(
        "SELECT s.job_name, s.scheduled, s.statement FROM hotmesh_dba.schedule("
        "%s::pg_catalog.text, %s::pg_catalog.text, %s::pg_catalog.text) s",
        values,
    )
    return Scheduled(*rows[0])


def unschedule(app_id: str, name: str) -> Steps[Scheduled]:
    """Take a policy from pg_cron.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param name: the policy's name; it may be dropped already, and so may the app.
    :return: the job, and whether it was dropped, as `schedule` says it.
    :raises HotMeshDBAError: with SQLSTATE 42704: you have no such job.
    :raises CronMissing, PermissionDenied, NotInstalled, VersionMismatch, InvalidAppId, ReadOnly: as
        for `schedule`.
    """
    values: list[object] = [app_id, text("name", name)]
    yield from require_version("unschedule", SINCE)
    rows = yield Query(
        "SELECT s.job_name, EXISTS (SELECT FROM pg_catalog.pg_extension e"
        " WHERE e.extname = 'pg_cron'), s.statement FROM hotmesh_dba.unschedule("
        "%s::pg_catalog.text, %s::pg_catalog.text) s",
        values,
    )
    return Scheduled(*rows[0])


def schedules(app_id: str | None = None) -> Steps[list[Schedule]]:
    """List the jobs of pg_cron that call hotmesh_dba, with their last outcome.

    :param app_id: only this app's; None means all.
    :return: none also where pg_cron is not in this database, or may not be read.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    yield from require_version("schedules", SINCE)
    condition, values = of_app("s.app", app_id)
    names = ", ".join(f"s.{field.name}" for field in fields(Schedule))
    rows = yield Query(
        f"SELECT {names} FROM hotmesh_dba.schedules s {condition} ORDER BY s.job_id", values
    )
    return [Schedule(*row) for row in rows]
