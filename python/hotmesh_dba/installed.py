"""What stands in the database, and putting there what is absent."""

from __future__ import annotations

from dataclasses import dataclass

from hotmesh_dba import extension
from hotmesh_dba.errors import (
    ExtensionFilesMissing,
    HotMeshDBAError,
    InvalidOption,
    NotInstalled,
    UntrustedInstaller,
    VersionMismatch,
)
from hotmesh_dba.models import Action, Installation
from hotmesh_dba.steps import Query, Steps


@dataclass(frozen=True, slots=True)
class Installed:
    """An install of the routines, by CREATE EXTENSION or by the plain script."""

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


def find(trusted: bool = False) -> Steps[Installed | None]:
    """Return what is installed, without judging its version."""
    [(version, has_routines, owner, safe)] = yield _FIND
    if version is not None:
        return Installed(version, plain=False)
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
    return Installed(version, plain=True)


def require() -> Steps[Installed]:
    """Return what is installed; refuse where there is nothing, or another major version."""
    found = yield from find()
    if found is None:
        raise NotInstalled(
            "hotmesh_dba is not installed in this database",
            hint="Run deploy(app_id) (in a shell: hotmesh-dba deploy APP), or CREATE EXTENSION"
            " hotmesh_dba.",
        )
    _check_major(found)
    return found


def require_version(what: str, version: tuple[int, int]) -> Steps[None]:
    """Refuse where the installed hotmesh_dba is older than what is asked of it."""
    found = yield from require()
    if _number(found.version) < version:
        first = ".".join(map(str, (*version, 0)))
        raise VersionMismatch(
            f"{what} needs hotmesh_dba {first}, and this database has {found.version}",
            detail="Nothing is upgraded without being asked for: other apps use it too.",
            hint=_how_to_upgrade(found)
            if found.plain
            else "Run deploy(app_id) (in a shell: hotmesh-dba deploy APP), or ALTER EXTENSION"
            " hotmesh_dba UPDATE, where the server has the new files.",
        )


def installation() -> Steps[Installation]:
    """Return the versions of hotmesh_dba: in the database, of the server's files, and here.

    :raises UntrustedInstaller: the database has a plain install of a role that yours has no reason
        to trust.
    """
    found = yield from find()
    offered = yield _OFFERED
    return Installation(
        installed=found.version if found else None,
        plain=found is not None and found.plain,
        available=offered[0][0] if offered else None,
        package=extension.version(),
    )


def _check_major(found: Installed) -> None:
    if _number(found.version)[0] == _number(extension.version())[0]:
        return
    raise VersionMismatch(
        f"this database has hotmesh_dba {found.version}, and this package is {extension.version()}",
        detail="They work together where the first number is the same.",
        hint=_how_to_upgrade(found)
        if _older(found)
        else f"Install a package of that version: pip install 'hotmesh-dba~={found.version}'.",
    )


def _how_to_upgrade(found: Installed) -> str:
    if found.plain:
        return "Run the new plain script: hotmesh-dba extension sql --format plain | psql."
    return (
        "Install the new files on the server (make install, or hotmesh-dba extension install),"
        " then run deploy again."
    )


def _older(found: Installed) -> bool:
    return _number(found.version) < _number(extension.version())


def _number(version: str) -> tuple[int, ...]:
    """Return ``(1, 2, 0)`` for ``1.2.0``; what is no number counts as 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


# --- putting it there ------------------------------------------------------------------------


def install(*, update: bool, trusted: bool = False) -> Steps[list[Action]]:
    """Create the extension where it is absent; update it only where that is asked for."""
    done: list[Action] = []
    found = yield from find(trusted)
    if found is None:
        yield _ONE_CREATOR
        yield from _run(_CREATE)
        found = yield from find(trusted)
        assert found is not None
        done.append(Action("created", f"extension hotmesh_dba {found.version}", _CREATE))
    if update and _older(found):
        found = yield from _update(found, done)
    _check_major(found)
    return done


def _update(found: Installed, done: list[Action]) -> Steps[Installed]:
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
    updated = yield from find()
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


def deploy_app(app_id: str, trust_installer: bool = False) -> Steps[list[Action]]:
    """Deploy, whatever is there."""
    rows = yield Query(
        "SELECT action, object, statements"
        " FROM hotmesh_dba.deploy(%s::pg_catalog.text, %s::pg_catalog.bool)",
        [app_id, trust_installer],
    )
    return [Action(*row) for row in rows]


def deploy_absent(app_id: str) -> Steps[None]:
    """Deploy where the app has no ``prune`` or no ``pruned_at``; touch nothing that is there."""
    rows = yield Query(
        "SELECT a.wrapper <> 'none' AND a.migrated FROM hotmesh_dba.app a"
        " WHERE a.schema = hotmesh_dba.app_schema(%s::pg_catalog.text)",
        [app_id],
    )
    if rows != [(True,)]:
        yield from deploy_app(app_id)
