"""Every method of the clients, written once and without a connection.

A call is a generator: it yields a `Query`, receives the rows, and returns the result. The sync
and the async client differ only in how they drive it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotmesh_dba.installed import deploy_absent, deploy_app, install, require
from hotmesh_dba.models import COUNT_COLUMNS, Action, App, Preview, PruneResult
from hotmesh_dba.options import PruneOptions, arguments, spelled_out
from hotmesh_dba.steps import Query, Steps

if TYPE_CHECKING:
    from typing_extensions import Unpack


def deploy(app_id: str, *, trust_installer: bool = False) -> Steps[list[Action]]:
    """Put ``prune`` into an app's schema and migrate its tables; say what was done.

    Creates the extension where the database has none, and updates it where it is older than this
    package. Idempotent, safe while HotMesh runs, and safe to run twice at once.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param trust_installer: on a plain install (without CREATE EXTENSION) let an app depend on
        routines that belong to another role than the app's owner.
    :return: an `Action` for each thing done or ``pending``; none where all was in place.
    :raises ExtensionFilesMissing: the server has no files of hotmesh_dba.
    :raises VersionMismatch: a plain install is older than this package, or a major version differs.
    :raises UnknownApp, NotHotMesh, InvalidAppId: there is no such app.
    :raises PermissionDenied: a right is missing; the hint is the GRANT to type.
    :raises DependentObjects, AmbiguousOverload, Locked, ReadOnly: as their names say.
    """
    done = yield from install(update=True, trusted=trust_installer)
    return done + (yield from deploy_app(app_id, trust_installer))


def undeploy(app_id: str) -> Steps[list[Action]]:
    """Drop the ``prune`` that `deploy` made in the app's schema; column and index stay.

    :param app_id: HotMesh's appId, or the name of its schema.
    :return: an `Action` for each thing dropped; none where there was nothing of ours.
    :raises NotInstalled, UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied, Locked, ReadOnly:
        as their names say.
    """
    yield from require()
    rows = yield Query(
        "SELECT action, object, statements FROM hotmesh_dba.undeploy(%s::pg_catalog.text)", [app_id]
    )
    return [Action(*row) for row in rows]


@spelled_out()
def prune(
    app_id: str, *, auto_deploy: bool = True, **options: Unpack[PruneOptions]
) -> Steps[PruneResult]:
    """Remove what HotMesh has finished with, in one transaction.

    A window is a `datetime.timedelta` or text that PostgreSQL reads as an interval, such as
    ``"7 days"``. An option that is not given has the server's default, shown in the signature.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param expire: the window: what expired longer ago is deleted.
    :param jobs: delete expired jobs.
    :param streams: delete processed messages, of both kinds.
    :param attributes: strip the execution artifacts of completed live jobs, whatever the window.
    :param entities: only jobs of these entities; None means all.
    :param prune_transient: delete expired jobs without an entity, whatever ``entities`` says.
    :param keep_hmark: keep ``hmark`` attributes when stripping.
    :param engine_streams: delete engine messages; None means as ``streams`` says.
    :param worker_streams: delete worker messages; None means as ``streams`` says.
    :param engine_streams_expire: a window for engine messages; None means ``expire``.
    :param worker_streams_expire: a window for worker messages; None means ``expire``.
    :param signals: delete consumed and stale signals.
    :param auto_deploy: first deploy what is absent (the extension, the app's ``prune``, the column
        ``pruned_at``). It never upgrades anything, and runs no DDL where all is in place.
    :return: the rows removed. The server's warning about a bounded strip goes to the logger
        ``hotmesh_dba``; ``remaining`` holds the number.
    :raises InvalidOption: a window that is None, negative or unreadable.
    :raises NotInstalled: with ``auto_deploy=False``, where the database has no hotmesh_dba.
    :raises NotDeployed: with ``auto_deploy=False``, where ``attributes`` needs a deploy first.
    :raises WrongIsolation: stripping in REPEATABLE READ or SERIALIZABLE.
    :raises UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied, ReadOnly, Locked,
        VersionMismatch: as their names say.
    """
    named, values = arguments(options)
    if auto_deploy:
        yield from install(update=False)
        yield from deploy_absent(app_id)
    else:
        yield from require()
    rows = yield Query(
        f"SELECT {COUNT_COLUMNS}, remaining"
        f" FROM hotmesh_dba.prune(app_id => %s::pg_catalog.text{named})",
        [app_id, *values],
    )
    return PruneResult(*rows[0])


@spelled_out()
def preview(
    app_id: str, *, max_rows: int | None = None, **options: Unpack[PruneOptions]
) -> Steps[Preview]:
    """Count what `prune` with the same options would remove now; change nothing.

    Works in a read-only transaction and on a standby. The options are those of `prune`.

    :param app_id: HotMesh's appId, or the name of its schema.
    :param max_rows: stop counting there, for a quick answer; None counts everything.
    :return: the counts, and whether they are exact.
    :raises NotInstalled: the database has no hotmesh_dba.
    :raises InvalidOption, UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied, VersionMismatch:
        as for `prune`.
    """
    named, values = arguments(options)
    yield from require()
    rows = yield Query(
        f"SELECT {COUNT_COLUMNS}, exact FROM hotmesh_dba.preview("
        f"app_id => %s::pg_catalog.text, max_rows => %s::pg_catalog.int8{named})",
        [app_id, max_rows, *values],
    )
    return Preview(*rows[0])


def apps() -> Steps[list[App]]:
    """List the HotMesh applications of this database, by schema name.

    :raises NotInstalled: the database has no hotmesh_dba.
    :raises VersionMismatch: its major version is not this package's.
    """
    yield from require()
    rows = yield Query(
        "SELECT schema::pg_catalog.text, owner::pg_catalog.text, wrapper, migrated, indexed"
        " FROM hotmesh_dba.app ORDER BY 1"
    )
    return [App(*row) for row in rows]
