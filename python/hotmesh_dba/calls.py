"""Every method of the clients, written once and without a connection.

A call is a generator: it yields a `Query`, receives the rows, and returns the result. The sync
and the async client differ only in how they drive it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hotmesh_dba import extension
from hotmesh_dba.errors import (
    ExtensionFilesMissing,
    HotMeshDBAError,
    InvalidOption,
    NotInstalled,
    UntrustedInstaller,
    VersionMismatch,
)
from hotmesh_dba.models import COUNT_COLUMNS, Action, App, Preview, PruneResult
from hotmesh_dba.options import PruneOptions, arguments, spelled_out

if TYPE_CHECKING:
    from typing_extensions import Unpack

R = TypeVar("R")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its parameters."""

    sql: str
    params: list[object] | None = None


Steps = Generator[Query, list[Row], R]


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
    done = yield from _install(update=True, trusted=trust_installer)
    return done + (yield from _deploy(app_id, trust_installer))


def undeploy(app_id: str) -> Steps[list[Action]]:
    """Drop the ``prune`` that `deploy` made in the app's schema; column and index stay.

    :param app_id: HotMesh's appId, or the name of its schema.
    :return: an `Action` for each thing dropped; none where there was nothing of ours.
    :raises NotInstalled, UnknownApp, NotHotMesh, InvalidAppId, PermissionDenied, Locked, ReadOnly:
        as their names say.
    """
    yield from _require()
    rows = yield Query(
        "SELECT action, object, statements FROM hotmesh_dba.undeploy(%s::pg_catalog.text)", [app_id]
    )
    return [Action(*row) for row in rows]


@spelled_out
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
        yield from _install(update=False)
        yield from _deploy_absent(app_id)
    else:
        yield from _require()
    rows = yield Query(
        f"SELECT {COUNT_COLUMNS}, remaining"
        f" FROM hotmesh_dba.prune(app_id => %s::pg_catalog.text{named})",
        [app_id, *values],
    )
    return PruneResult(*rows[0])


@spelled_out
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
    yield from _require()
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
    yield from _require()
    rows = yield Query(
        "SELECT schema::pg_catalog.text, owner::pg_catalog.text, wrapper, migrated, indexed"
        " FROM hotmesh_dba.app ORDER BY 1"
    )
    return [App(*row) for row in rows]


# --- what stands in the database -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Installed:
    version: str
    plain: bool


# Catalogues only: a superuser runs nothing of a plain install that belongs to no superuser.
# Everybody else runs its version() at once, with their own rights: the role that installed it is
# trusted by all who prune (SECURITY.md), and whether the app's owner trusts it, deploy asks in SQL.
_FIND = Query(
    """
    SELECT (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'hotmesh_dba'),
           p.oid IS NOT NULL,
           o.rolname::pg_catalog.text,
           o.rolsuper OR o.rolname = current_user OR NOT me.rolsuper
      FROM pg_catalog.pg_roles me
      LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'hotmesh_dba'
      LEFT JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
      LEFT JOIN pg_catalog.pg_proc p
        ON p.pronamespace = n.oid AND p.proname = 'version' AND p.pronargs = 0
     WHERE me.rolname = current_user
    """
)

_CREATE = "CREATE EXTENSION IF NOT EXISTS hotmesh_dba"
_UPDATE = "ALTER EXTENSION hotmesh_dba UPDATE"

# What the server's own files would bring.
_OFFERED = Query(
    "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'hotmesh_dba'"
)

# Two creators at once would end in a unique violation of the catalogue for one of them.
_ONE_CREATOR = Query("SELECT pg_catalog.pg_advisory_xact_lock(1752000612, 1)")


def _find(trusted: bool = False) -> Steps[_Installed | None]:
    """Return what is installed, without judging its version."""
    [(version, has_routines, owner, safe)] = yield _FIND
    if version is not None:
        return _Installed(version, plain=False)
    if not has_routines:
        return None
    if not (safe or trusted):
        raise UntrustedInstaller(
            f'the plain install of hotmesh_dba belongs to role "{owner}"',
            sqlstate="42501",
            detail="Its routines would run with the rights of a superuser.",
            hint="Connect as the app's owner, or have a superuser install the extension.",
        )
    [(version,)] = yield Query("SELECT hotmesh_dba.version()")
    return _Installed(version, plain=True)


def _require() -> Steps[_Installed]:
    """Return what is installed; refuse where there is nothing, or another major version."""
    found = yield from _find()
    if found is None:
        raise NotInstalled(
            "hotmesh_dba is not installed in this database",
            hint="Run deploy(app_id) (in a shell: hotmesh-dba deploy APP), or CREATE EXTENSION"
            " hotmesh_dba.",
        )
    _check_major(found)
    return found


def _check_major(found: _Installed) -> None:
    if _number(found.version)[0] == _number(extension.version())[0]:
        return
    raise VersionMismatch(
        f"this database has hotmesh_dba {found.version}, and this package is {extension.version()}",
        detail="They work together where the first number is the same.",
        hint=_how_to_upgrade(found)
        if _older(found)
        else f"Install a package of that version: pip install 'hotmesh-dba~={found.version}'.",
    )


def _how_to_upgrade(found: _Installed) -> str:
    if found.plain:
        return "Run the new plain script: hotmesh-dba extension sql --format plain | psql."
    return (
        "Install the new files on the server (make install, or hotmesh-dba extension install),"
        " then run deploy again."
    )


def _older(found: _Installed) -> bool:
    return _number(found.version) < _number(extension.version())


def _number(version: str) -> tuple[int, ...]:
    """Return ``(1, 2, 0)`` for ``1.2.0``; what is no number counts as 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


# --- putting it there ------------------------------------------------------------------------


def _install(*, update: bool, trusted: bool = False) -> Steps[list[Action]]:
    """Create the extension where it is absent; update it only where that is asked for."""
    done: list[Action] = []
    found = yield from _find(trusted)
    if found is None:
        yield _ONE_CREATOR
        yield from _run(_CREATE)
        found = yield from _find(trusted)
        assert found is not None
        done.append(Action("created", f"extension hotmesh_dba {found.version}", _CREATE))
    if update and _older(found):
        found = yield from _update(found, done)
    _check_major(found)
    return done


def _update(found: _Installed, done: list[Action]) -> Steps[_Installed]:
    """Bring an older install to this package's version, as far as the server's files go."""
    if found.plain:
        raise VersionMismatch(
            f"this database has a plain install of hotmesh_dba {found.version}, older than this"
            f" package ({extension.version()})",
            detail="A plain install cannot be updated by ALTER EXTENSION.",
            hint=_how_to_upgrade(found),
        )
    [offered] = [row[0] for row in (yield _OFFERED)] or [None]  # pg_tle's are not listed there
    if offered is not None and _number(offered) <= _number(found.version):
        return found
    try:
        yield from _run(_UPDATE)
    except InvalidOption as error:
        raise VersionMismatch(
            error.message,
            sqlstate=error.sqlstate,
            detail="The server lacks the script for that update.",
            hint=_how_to_upgrade(found),
        ) from error.__cause__
    updated = yield from _find()
    assert updated is not None
    if updated != found:
        done.append(Action("updated", f"extension hotmesh_dba {updated.version}", _UPDATE))
    return updated


def _run(statement: str) -> Steps[None]:
    """Run CREATE or ALTER EXTENSION; explain it where the server lacks the files."""
    try:
        yield Query(statement)
    except HotMeshDBAError as error:
        if error.sqlstate not in ("0A000", "58P01"):
            raise
        raise ExtensionFilesMissing(
            "the server has no files of the extension hotmesh_dba",
            sqlstate=error.sqlstate,
            detail=error.detail or error.message,
            hint="On the server run make install or hotmesh-dba extension install; where no file"
            " can be copied, run the output of hotmesh-dba extension sql --format plain (or pgtle,"
            " with pg_tle) in this database.",
        ) from error.__cause__


def _deploy(app_id: str, trust_installer: bool = False) -> Steps[list[Action]]:
    rows = yield Query(
        "SELECT action, object, statements"
        " FROM hotmesh_dba.deploy(%s::pg_catalog.text, %s::pg_catalog.bool)",
        [app_id, trust_installer],
    )
    return [Action(*row) for row in rows]


def _deploy_absent(app_id: str) -> Steps[None]:
    """Deploy where the app has no ``prune`` or no ``pruned_at``; touch nothing that is there."""
    rows = yield Query(
        "SELECT a.wrapper <> 'none' AND a.migrated FROM hotmesh_dba.app a"
        " WHERE a.schema = hotmesh_dba.app_schema(%s::pg_catalog.text)",
        [app_id],
    )
    if rows != [(True,)]:
        yield from _deploy(app_id)
