"""What is due, what is wrong, who may prune, and giving back the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from hotmesh_dba.installed import require, require_version
from hotmesh_dba.models import Backlog, Check, PruneResult, RunResult
from hotmesh_dba.options import names_list
from hotmesh_dba.policies import SINCE
from hotmesh_dba.steps import Query, Steps

TABLES = (
    "jobs",
    "jobs_attributes",
    "engine_streams",
    "worker_streams",
    "streams",
    "signal_registry",
)
"""The tables of an app that can shrink."""


def backlog(app_id: str | None = None) -> Steps[list[Backlog]]:
    """Say what is due now: a row for each app, table and enabled policy that takes rows of it.

    Cheap enough for every minute: it stops counting at a bound, and reads no big table whole.

    :param app_id: only this app's; None means every app's that you may read.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied:
        as their names say.
    """
    yield from require_version("backlog", SINCE)
    rows = yield Query(
        f"SELECT {_columns(Backlog)} FROM hotmesh_dba.backlog(%s::pg_catalog.text) b", [app_id]
    )
    return [Backlog(*row) for row in rows]


def doctor(app_id: str | None = None) -> Steps[list[Check]]:
    """Look for what is wrong or soon will be: a row a check.

    What the role may not look at is ``unknown``, and no error.

    :param app_id: only this app's; None means every app's, and the whole database's.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId: as their names say.
    """
    yield from require_version("doctor", SINCE)
    rows = yield Query(
        f"SELECT {_columns(Check)} FROM hotmesh_dba.doctor(%s::pg_catalog.text) b", [app_id]
    )
    return [Check(*row) for row in rows]


def _columns(row: type[Backlog] | type[Check]) -> str:
    kind = {"rows_per_second": "::pg_catalog.float8", "app": "::pg_catalog.text"}
    return ", ".join(f"b.{field.name}{kind.get(field.name, '')}" for field in fields(row))


# --- rights ----------------------------------------------------------------------------------


def grant_prune(app_id: str, role: str) -> Steps[list[str]]:
    """Let a role prune an app, and no more.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param role: the name of the role.
    :return: the statements that were run.
    :raises PermissionDenied: you do not own the app's tables.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, ReadOnly: as their
        names say; `HotMeshDBAError` with SQLSTATE 42704 where there is no such role.
    """
    return (yield from _statements("grant_prune", app_id, role))


def revoke_prune(app_id: str, role: str) -> Steps[list[str]]:
    """Take back what `grant_prune` gave.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param role: the name of the role.
    :return: the statements that were run.
    :raises PermissionDenied, NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId,
        ReadOnly: as for `grant_prune`.
    """
    return (yield from _statements("revoke_prune", app_id, role))


def _statements(what: str, app_id: str, role: str) -> Steps[list[str]]:
    yield from require_version(what, SINCE)
    rows = yield Query(
        f"SELECT s FROM hotmesh_dba.{what}(%s::pg_catalog.text, %s::pg_catalog.name) s",
        [app_id, role],
    )
    return [row[0] for row in rows]


# --- VACUUM ----------------------------------------------------------------------------------


def vacuum(
    app_id: str, *, only: PruneResult | RunResult | Sequence[str] | None = None
) -> Steps[list[str]]:
    """VACUUM (ANALYZE) the tables of an app, so that what was deleted makes room for new rows.

    It needs a connection without an open transaction. A table of another role's is passed over
    with a warning.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param only: the result of a prune: just the tables that it took rows from; or their names.
        None means every table that prune takes rows from.
    :return: the names of the tables.
    :raises OpenTransaction: the connection has an open transaction, or a pipeline.
    :raises NotInstalled, VersionMismatch, UnknownApp, NotHotMesh, InvalidAppId, Locked, ReadOnly:
        as their names say.
    """
    wanted = list(TABLES) if only is None else shrunk(only)
    yield from require()
    rows = yield Query(
        "SELECT c.relname::pg_catalog.text,"
        " pg_catalog.format('VACUUM (ANALYZE) %%I.%%I', n.nspname, c.relname)"
        " FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
        " WHERE n.nspname = hotmesh_dba.app_schema(%s::pg_catalog.text)"
        " AND c.relname = ANY (%s::pg_catalog.text[]) AND c.relkind IN ('r', 'p')"
        " ORDER BY pg_catalog.array_position(%s::pg_catalog.text[], c.relname::pg_catalog.text)",
        [app_id, wanted, wanted],
    )
    for _, statement in rows:
        yield Query(statement)
    return [name for name, _ in rows]


def shrunk(result: PruneResult | Sequence[str]) -> list[str]:
    """Return the tables that a prune left dead rows in."""
    if not isinstance(result, PruneResult):
        return names_list("only", result)
    cascaded = result.cascaded if isinstance(result, RunResult) else result.jobs + result.transient
    rows = {
        "jobs": result.jobs + result.transient + result.marked,
        "jobs_attributes": result.attributes + cascaded,
        "engine_streams": result.engine_streams,
        "worker_streams": result.worker_streams,
        "streams": result.streams,  # the one table of old, with both kinds
        "signal_registry": result.signals,
    }
    return [table for table, count in rows.items() if count]
