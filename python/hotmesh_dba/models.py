"""What the calls return: frozen values, one class for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Wrapper = Literal["none", "ours", "foreign", "ambiguous"]


@dataclass(frozen=True, slots=True)
class App:
    """A HotMesh application found in the database: a row of the view ``hotmesh_dba.app``."""

    schema: str
    """Name of the app's schema. It is a valid ``app_id`` as it stands."""
    owner: str
    """The role that owns the app's tables."""
    wrapper: Wrapper
    """The app's own ``prune``: ``none``, ``ours`` (made by `deploy`), ``foreign`` (made by
    HotMesh's SDK or by hand), or ``ambiguous`` (overloads that make calls fail)."""
    migrated: bool
    """Whether ``jobs`` has the column ``pruned_at``, without which nothing can be stripped."""
    indexed: bool
    """Whether the partial index on ``pruned_at`` is there and valid."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that `deploy` or `undeploy` did, or that is left for you to do."""

    action: str
    """``added``, ``created``, ``updated``, ``replaced``, ``dropped``, ``owned``, ``granted``, or
    ``pending``: not done, because it would block the application for long or needs a right."""
    object: str
    """What it was done to."""
    statements: str
    """The SQL that was run; for ``pending`` the SQL to type."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by kind, shared by `PruneResult` and `Preview`."""

    jobs: int
    """Expired jobs deleted. Their attributes go with them and are not counted."""
    streams: int
    """Stream messages deleted: engine and worker together."""
    engine_streams: int
    """Engine messages deleted."""
    worker_streams: int
    """Worker messages deleted."""
    attributes: int
    """Attributes stripped from completed live jobs."""
    transient: int
    """Expired jobs without an entity deleted by ``prune_transient``."""
    marked: int
    """Jobs marked as stripped."""
    signals: int
    """Consumed or stale signals deleted."""


@dataclass(frozen=True, slots=True)
class PruneResult(Counts):
    """What a `prune` removed."""

    remaining: int
    """Completed live jobs still due for stripping after the call, because one transaction can hold
    only so many locks: call again. Always 0 without ``attributes=True``."""


@dataclass(frozen=True, slots=True)
class Preview(Counts):
    """What a `prune` with the same options would remove now."""

    exact: bool
    """False where counting stopped at ``max_rows``: the true counts may be higher."""


COUNT_COLUMNS = (
    "deleted_jobs, deleted_streams, deleted_engine_streams, deleted_worker_streams, "
    "stripped_attributes, deleted_transient, marked_pruned, deleted_signals"
)
"""The columns of ``prune`` and ``preview`` in SQL, in the order of the fields of `Counts`."""
