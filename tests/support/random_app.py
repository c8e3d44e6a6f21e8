"""Random apps and random options for the oracle, as hypothesis strategies.

Time in a case is relative: a row lies a second, a microsecond or nothing at all beside a cutoff
of the case's own options. It becomes a date when the transaction's now() is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

from hypothesis import strategies as st

from .model import Attribute, Job, Message, MessageTable, Options, Rows, Signal, Window, lives

T = TypeVar("T")
Anchor = Literal["now", "jobs", "engine", "worker"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A time beside now or beside the cutoff of a window."""

    anchor: Anchor
    shift: timedelta

    def at(self, now: datetime, options: Options) -> datetime:
        windows = {
            "now": Window(),
            "jobs": options.retention,
            "engine": options.engine_streams_retention or options.retention,
            "worker": options.worker_streams_retention or options.retention,
        }
        return windows[self.anchor].before(now) + self.shift

    def __repr__(self) -> str:
        return f"{self.anchor}{self.shift.total_seconds():+}s"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job and the types of its attributes."""

    entity: str | None
    status: int
    expired: Moment | None
    is_live: bool | None
    pruned: Moment | None
    attributes: tuple[str, ...]
    shares_key: bool


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """A message, in one of the tables that the app has."""

    place: tuple[MessageTable, str | None]
    stream: str
    expired: Moment | None
    dead: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A random app and the options that it is pruned with."""

    options: Options = field(default_factory=Options)
    jobs: tuple[JobSpec, ...] = ()
    orphans: tuple[str, ...] = ()
    messages: tuple[MessageSpec, ...] = ()
    signals: tuple[Moment | None, ...] = ()
    twins: bool = False

    def rows(self, now: datetime) -> Rows:
        """The app's rows, as dates relative to `now`."""
        return Rows(
            jobs=frozenset(self._jobs(now)),
            attributes=frozenset(self._attributes()),
            messages=frozenset(
                Message(
                    table=spec.place[0],
                    stream=spec.stream,
                    id=number,
                    expired_at=self._at(spec.expired, now),
                    group=spec.place[1],
                    dead_lettered_at=self._at(spec.expired, now) if spec.dead else None,
                )
                for number, spec in enumerate(self.messages)
            ),
            signals=frozenset(
                Signal(f"signal-{number}", self._at(expiry, now))
                for number, expiry in enumerate(self.signals)
            ),
        )

    def _jobs(self, now: datetime) -> list[Job]:
        jobs: list[Job] = []
        for number, spec in enumerate(self.jobs):
            job = Job(
                id=_job_id(number),
                key="shared" if spec.shares_key else f"key-{number}",
                entity=spec.entity,
                status=spec.status,
                expired_at=self._at(spec.expired, now),
                is_live=spec.is_live,
                pruned_at=self._at(spec.pruned, now),
            )
            jobs.append(job if self.twins else _without_twin(job, jobs, now))
        return jobs

    def _attributes(self) -> list[Attribute]:
        of_jobs = [
            Attribute(_job_id(job), f"a{number:02}", kind)
            for job, spec in enumerate(self.jobs)
            for number, kind in enumerate(spec.attributes)
        ]
        orphans = [
            Attribute(_job_id(-1 - number), "a00", kind) for number, kind in enumerate(self.orphans)
        ]
        return of_jobs + orphans

    def _at(self, moment: Moment | None, now: datetime) -> datetime | None:
        return None if moment is None else moment.at(now, self.options)


def _job_id(number: int) -> UUID:
    """Scattered over the partitions, and the same in every run."""
    return uuid5(NAMESPACE_OID, str(number))


def _without_twin(job: Job, others: list[Job], now: datetime) -> Job:
    """A key of its own for a job that would be the second one alive, by whatever is asked."""

    def alive(row: Job) -> bool:
        return row.is_live is True or lives(row, now)

    taken = any(row.key == job.key and alive(row) for row in others)
    if not (taken and alive(job)):
        return job
    return replace(job, key=str(job.id))


# --- values ----------------------------------------------------------------------------------

ENTITIES = (None, None, "book", "book", "author", "Book", "")
ENTITY_LISTS = (
    *(None,) * 7,
    ("book",),
    ("book", "author"),
    (),
    ("book", "book"),
    ("author", None),
    (None,),
    ("", "no such entity"),
)
STATUSES = (*(0,) * 6, 1, -1, 2**31 - 1, -(2**31))
TYPES = ("adata", "jdata", "udata", "jmark", "hmark", "status", "other")
WINDOWS = (
    Window(days=7),
    Window(),
    Window(microseconds=1),
    Window(microseconds=1_000_000),
    Window(microseconds=3_600_000_000),
    Window(days=1),
    Window(days=30),
    # On every day of the year the clocks were changed within one of these.
    Window(days=183),
    Window(days=240),
    Window(months=1),
    Window(months=14, days=3, microseconds=14_706_000_007),
    Window(months=1200),
)
ANCHORS: tuple[Anchor, ...] = ("now", "jobs", "engine", "worker")
SHIFTS = tuple(
    timedelta(microseconds=shift) for shift in (0, -1, 1, -1_000_000, 1_000_000, -(10**13), 10**13)
)
MOMENTS: tuple[Moment | None, ...] = (
    None,
    *(Moment(anchor, shift) for anchor in ANCHORS for shift in SHIFTS),
)
JOB_MOMENTS: tuple[Moment | None, ...] = (
    None,
    *(Moment("jobs", shift) for shift in (*SHIFTS, *SHIFTS)),
    *(Moment("now", shift) for shift in SHIFTS),
)
NOW_MOMENTS: tuple[Moment | None, ...] = (None, *(Moment("now", shift) for shift in SHIFTS))

ENGINE_AND_WORKER: tuple[tuple[MessageTable, str | None], ...] = (
    ("engine_streams", None),
    ("worker_streams", None),
)
ONE_TABLE: tuple[tuple[MessageTable, str | None], ...] = (
    ("streams", "ENGINE"),
    ("streams", "WORKER"),
)

# --- strategies ------------------------------------------------------------------------------

_flags = st.booleans()
_mostly = st.sampled_from((True, True, True, True, False))
_windows = st.sampled_from(WINDOWS)
_flags_or_none = st.sampled_from((None, None, True, True, False))
_windows_or_none = st.sampled_from((None, None, None, *WINDOWS))


def options(*, strip: bool = True) -> st.SearchStrategy[Options]:
    """Any options; `strip=False` for those who may not strip."""
    return st.builds(
        Options,
        retention=_windows,
        prune_jobs=_mostly,
        prune_streams=_mostly,
        strip_attributes=_mostly if strip else st.just(False),
        entity_list=st.sampled_from(ENTITY_LISTS),
        prune_transient=_mostly,
        keep_hmark=_flags,
        prune_engine_streams=_flags_or_none,
        prune_worker_streams=_flags_or_none,
        engine_streams_retention=_windows_or_none,
        worker_streams_retention=_windows_or_none,
        prune_signals=_mostly,
    )


_jobs = st.builds(
    JobSpec,
    st.sampled_from(ENTITIES),
    st.sampled_from(STATUSES),
    st.sampled_from(JOB_MOMENTS),
    st.sampled_from((*(True,) * 6, False, None)),
    st.sampled_from((*(None,) * 6, *(Moment("now", shift) for shift in SHIFTS[:2]))),
    st.lists(st.sampled_from(TYPES), max_size=4).map(tuple),
    st.sampled_from((False, False, True)),
)


def _some(
    rows: st.SearchStrategy[T], least: int = 5, most: int = 12
) -> st.SearchStrategy[tuple[T, ...]]:
    """Mostly enough rows that something is due, sometimes none or one."""
    # Of equal branches one_of would keep but one, so these are different ones.
    many = (st.lists(rows, min_size=least, max_size=most + more) for more in range(4))
    few = st.lists(rows, max_size=1)
    return st.one_of(few, *many).map(tuple)


def cases(
    places: tuple[tuple[MessageTable, str | None], ...] = ENGINE_AND_WORKER,
    *,
    strip: bool = True,
    signals: bool = True,
) -> st.SearchStrategy[Case]:
    """Any app and options.

    Args:
        places: the tables (and groups) that messages stand in; none, where the app has no stream.
        strip: whether the options may ask for a strip.
        signals: whether the app has a table of signals.
    """
    messages = st.builds(
        MessageSpec,
        st.sampled_from(places or ENGINE_AND_WORKER),
        st.sampled_from(("s1", "s2", "s3")),
        st.sampled_from(MOMENTS),
        _flags,
    )
    return st.builds(
        Case,
        options(strip=strip),
        _some(_jobs),
        _some(st.sampled_from(TYPES), 1, 2),
        _some(messages) if places else st.just(()),
        _some(st.sampled_from(NOW_MOMENTS), 2, 5) if signals else st.just(()),
    )


def twin_cases() -> st.SearchStrategy[Case]:
    """Apps in which several jobs of one key may live; HotMesh's triggers refuse to mark those."""
    return st.builds(
        Case,
        st.builds(
            Options, strip_attributes=st.just(True), entity_list=st.sampled_from(ENTITY_LISTS)
        ),
        _some(st.one_of(_jobs, _jobs.map(_sharing)), 4, 8),
        twins=st.just(True),
    )


def _sharing(spec: JobSpec) -> JobSpec:
    return replace(spec, shares_key=True, status=0, is_live=True, pruned=None)
