"""An exception class per cause, and the one place where database errors become them."""

# ruff: noqa: N818 - the names say the cause; that they are errors, the base class says

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from hotmesh_dba.models import RunResult


class HotMeshDBAError(Exception):
    """Base of every error this package raises; also the class of errors that have no own one.

    ``str()`` of it holds message, detail and hint, each on its own line. Where the database
    raised it, ``__cause__`` is the `psycopg.Error`.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """One line that says what is wrong."""
        self.sqlstate = sqlstate
        """The five-character SQLSTATE, or None where the error is not the server's."""
        self.detail = detail
        """More about it, or None."""
        self.hint = hint
        """What to do about it, or None."""
        self.result: RunResult | None = None
        """What `prune_batched` had removed by then, and its records, where there are any."""

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"DETAIL: {self.detail}"] if self.detail else []
        lines += [f"HINT: {self.hint}"] if self.hint else []
        return "\n".join(lines)


class ConnectionFailed(HotMeshDBAError):
    """The server cannot be reached, refused the login, or went away."""


class NotInstalled(HotMeshDBAError):
    """The database has no hotmesh_dba, neither as an extension nor as a plain install."""


class ExtensionFilesMissing(HotMeshDBAError):
    """CREATE EXTENSION found no files of hotmesh_dba on the server."""


class InstallFailed(HotMeshDBAError):
    """The extension's files could not be copied to where PostgreSQL looks for them."""


class VersionMismatch(HotMeshDBAError):
    """The database's hotmesh_dba and this package do not work together."""


class UntrustedInstaller(HotMeshDBAError):
    """A plain install that belongs to a role which this one has no reason to trust."""


class InvalidAppId(HotMeshDBAError):
    """The app id is empty or has characters that no app id has (42602)."""


class UnknownApp(HotMeshDBAError):
    """There is no such app; the hint names the known ones (3F000)."""


class NotHotMesh(HotMeshDBAError):
    """The schema exists, but it is not HotMesh's (42809)."""


class InvalidOption(HotMeshDBAError):
    """A window, flag or limit without sense (22003, 22004, 22007, 22008, 22015, 22023, 22P02)."""


class PermissionDenied(HotMeshDBAError):
    """A privilege is missing; the hint is the GRANT to type (42501)."""


class ReadOnly(HotMeshDBAError):
    """The transaction is read-only, or the server is a standby (25006)."""


class WrongIsolation(HotMeshDBAError):
    """Stripping needs READ COMMITTED, and the transaction is stricter (25001)."""


class OpenTransaction(HotMeshDBAError):
    """`prune_batched` commits by itself, and the connection is in the midst of a transaction."""


class Locked(HotMeshDBAError):
    """Somebody else holds a lock that was not given up in time; the detail says who (55P03)."""


class DependentObjects(HotMeshDBAError):
    """Something depends on an old ``prune`` that had to be dropped (2BP01)."""


class AmbiguousOverload(HotMeshDBAError):
    """A ``prune`` of unknown origin would make calls ambiguous (42725)."""


class NotDeployed(HotMeshDBAError):
    """Stripping was asked for, but the app has no column ``pruned_at`` yet (55000)."""


class TriggersNeeded(HotMeshDBAError):
    """``disable_triggers`` was asked for, and something needs the triggers (55000)."""


class RunEnded(HotMeshDBAError):
    """Somebody took the run for dead and closed its record, so it gave up (55000)."""


class UnknownPolicy(HotMeshDBAError):
    """There is no policy of that name; the hint names the known ones (42704)."""


class TooMuch(HotMeshDBAError):
    """A policy would delete more than its ``max_percent`` of a table; nothing was (55000)."""


class PolicyDisabled(HotMeshDBAError):
    """The policy is disabled, so only ``force`` runs it, and nothing schedules it (55000)."""


class CronMissing(HotMeshDBAError):
    """The server has no pg_cron, or none that this database can reach (0A000, 55000)."""


class Cancelled(HotMeshDBAError):
    """The call was cancelled by a user or by statement_timeout (57014)."""


# What these say is true whoever raised them.
_ANYWHERE: dict[str, type[HotMeshDBAError]] = {
    "25006": ReadOnly,
    "42501": PermissionDenied,
    "55P03": Locked,
    "57014": Cancelled,
    "3D000": ConnectionFailed,
    "53300": ConnectionFailed,
    "57P01": ConnectionFailed,
    "57P02": ConnectionFailed,
    "57P03": ConnectionFailed,
}

# These have the meaning named here only where hotmesh_dba raised them: a trigger of the user's may
# raise 22023 or 55000 for reasons of its own.
_OURS: dict[str, type[HotMeshDBAError]] = {
    "22003": InvalidOption,
    "22004": InvalidOption,
    "22007": InvalidOption,
    "22008": InvalidOption,
    "22015": InvalidOption,
    "22P02": InvalidOption,
    "22023": InvalidOption,
    "25001": WrongIsolation,
    "2BP01": DependentObjects,
    "3F000": UnknownApp,
    "42602": InvalidAppId,
    "42725": AmbiguousOverload,
    "42809": NotHotMesh,
}

# What 55000 means, by the routine that raised it.
_NOT_READY: dict[str, type[HotMeshDBAError]] = {
    "_resolve": NotDeployed,
    "_raise_no_fast_path": TriggersNeeded,
    "_take_run_locks": RunEnded,  # of 1.1
    "_raise_unrecorded": RunEnded,
    "_check_cron": CronMissing,
    "_check_enabled": PolicyDisabled,
}

# What has a class of its own only where one routine raised it.
_BY_ROUTINE: dict[tuple[str, str | None], type[HotMeshDBAError]] = {
    ("42704", "_raise_no_policy"): UnknownPolicy,
    ("0A000", "_check_cron"): CronMissing,
}


# PostgreSQL gives no hint where it cannot read a window.
_HINTS = dict.fromkeys(
    ("22007", "22008", "22015"), "A window is a timedelta or an interval such as '7 days'."
)


def translate(error: psycopg.Error | UnicodeEncodeError) -> HotMeshDBAError:
    """Return the error of ours for one of psycopg, which becomes its ``__cause__``."""
    if isinstance(error, UnicodeEncodeError):
        return _inexpressible(error)
    diag = error.diag
    first, _, rest = str(error).strip().partition("\n")
    translated = _class_of(error)(
        diag.message_primary or first or type(error).__name__,
        sqlstate=error.sqlstate,
        detail=diag.message_detail if diag.message_primary else rest.strip() or None,
        hint=diag.message_hint or _HINTS.get(error.sqlstate or ""),
    )
    translated.__cause__ = error
    return translated


def _inexpressible(error: UnicodeEncodeError) -> HotMeshDBAError:
    """Return the error for a text that never left: a lone surrogate, or no letter of LATIN1."""
    refused = InvalidOption(
        f"{error.object[error.start : error.end]!a} cannot be sent to the server",
        detail=f"The encoding {error.encoding} has no such character: {error.reason}.",
        hint="Give text in the encoding of the terminal, or set client_encoding to UTF8.",
    )
    refused.__cause__ = error
    return refused


def _class_of(error: psycopg.Error) -> type[HotMeshDBAError]:
    state = error.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError)
        return ConnectionFailed if lost else HotMeshDBAError
    if state[:2] in ("08", "28"):
        return ConnectionFailed
    routine = _routine(error)
    if (state, routine) in _BY_ROUTINE:
        return _BY_ROUTINE[state, routine]
    if state == "55000":
        # The fuse comes by way of the run's report, as what any batch met does.
        blown = routine is None and "force => true" in (error.diag.message_hint or "")
        return TooMuch if blown else _NOT_READY.get(routine or "", HotMeshDBAError)
    if routine is not None and state in _OURS:
        return _OURS[state]
    return _ANYWHERE.get(state, HotMeshDBAError)


def _routine(error: psycopg.Error) -> str | None:
    """Return which of our routines raised it; empty for the call itself (a cast), else None."""
    context = error.diag.context or ""
    innermost, nested, _ = context.partition("\n")
    if "PL/" not in innermost:  # a name, the same in every language of the messages
        return None if nested else ""
    found = re.search(r" hotmesh_dba\.(\w+)\(", innermost)
    # A run's report passes on what some batch met.
    return None if found is None or found[1] == "_report" else found[1]


@contextmanager
def translating() -> Iterator[None]:
    """Turn every psycopg error that leaves the block into one of ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
