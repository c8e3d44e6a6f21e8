"""Sessions that prune, over and over, each time with other options; and what they may take."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.deploy.observe import one, run
from tests.runs.work import locks, settings
from tests.support.model import Options, Window
from tests.support.server import Connection

from .ledger import APP, Permit
from .writers import is_lost, said

DAY = 24 * 3600 * 1_000_000
WINDOWS = {
    str(window): window
    for window in (Window(), Window(days=7), Window(days=30), Window(microseconds=DAY), Window(1))
}


OWNER = "torture_owner"  # of the app
PRUNER = "torture_pruner"  # rights on the leaves as well
BY_KEY = "torture_by_key"  # rights on the tables alone


@dataclass(frozen=True, slots=True)
class Habit:
    """How a session of pruners is to be: its role, its settings, and what all its calls have.

    Attributes:
        role: who prunes.
        settings: what the session sets before its first call.
        knobs: knobs of prune_batched that are the same in every call.
        always: arguments of prune that are the same in every call.
        batched: whether it calls prune_batched alone, never the function or a policy.
        worker, workers: its share of a run.
    """

    role: str = "postgres"
    settings: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    always: dict[str, object] = field(default_factory=dict)
    batched: bool = False
    worker: int = 1
    workers: int = 1


def random_options(dice: random.Random) -> Options:
    """Any of them, most steps on."""
    windows = list(WINDOWS.values())

    def mostly() -> bool:
        return dice.random() < 0.8

    return Options(
        retention=dice.choice(windows),
        prune_jobs=mostly(),
        prune_streams=mostly(),
        strip_attributes=mostly(),
        entity_list=dice.choice((None, None, ("book",), ("book", "author"))),
        prune_transient=mostly(),
        keep_hmark=dice.random() < 0.5,
        engine_streams_retention=dice.choice((None, *windows)),
        worker_streams_retention=dice.choice((None, *windows)),
        prune_signals=mostly(),
    )


def random_knobs(dice: random.Random, *, superuser: bool) -> list[str]:
    """Mostly small batches, so that a run is long enough to be hit."""
    size = dice.choice(("1", "3", "10", "40", "NULL"))
    knobs = [f"batch_size => {size}"]
    if dice.random() < 0.4:
        knobs.append(f"batch_pause => '{dice.choice((1, 5, 20))} ms'")
    if superuser and dice.random() < 0.4:
        knobs.append("disable_triggers => true")
    if dice.random() < 0.1:
        knobs.append(f"max_rows => {dice.randint(1, 200)}")
    return knobs


class Pruner(threading.Thread):
    """One session; prunes until it is told to stop, and connects again where it is ended."""

    def __init__(
        self,
        name: str,
        connect: Callable[[str], Connection],
        watch: Callable[[], Connection],
        dice: random.Random,
        habit: Habit,
        stop: threading.Event,
    ):
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._watch = watch
        self._dice = dice
        self._habit = habit
        self._stopping = stop
        self.pid: int | None = None
        self.ends: Counter[str] = Counter()
        self.said: list[str] = []
        self.left_behind: list[str] = []
        self.broken: BaseException | None = None

    def run(self) -> None:
        """Prune; what an error says is kept."""
        try:
            while not self._stopping.is_set():
                try:
                    with self._connect(self._habit.role) as conn, self._known(conn):
                        self._prune_on(conn)
                except psycopg.Error as error:
                    self._note(error)
                    self._stopping.wait(0.02)
        except BaseException as error:
            self.broken = error

    @contextmanager
    def _known(self, conn: Connection) -> Iterator[None]:
        self.pid = conn.info.backend_pid
        try:
            yield
        finally:
            self.pid = None

    def _prune_on(self, conn: Connection) -> None:
        for setting in self._habit.settings:
            run(conn, f"SET {setting}")
        way = self._dice.choice(("", "", "blocks", "index", "keys"))
        run(conn, f"SET hotmesh_dba.way = '{way}'")
        run(conn, f"SET timezone = '{self._dice.choice(ZONES)}'")
        before = settings(conn)
        while not self._stopping.is_set():
            try:
                self._call(conn)
                self.ends["ok"] += 1
            except psycopg.Error as error:
                self._note(error)
                if conn.closed:
                    return
                if not conn.autocommit or conn.info.transaction_status:
                    run(conn, "ROLLBACK")
                if error.sqlstate == "55P03":
                    self._stopping.wait(0.02)
            self._look_behind(conn, before)

    def _look_behind(self, conn: Connection, before: dict[str, str | None]) -> None:
        """No lock and no changed setting may be left in the session."""
        try:
            after = settings(conn)
            if after != before:
                changed = {
                    key: (before[key], after[key]) for key in after if after[key] != before[key]
                }
                self.left_behind.append(f"settings of {self.name}: {changed}")
            with self._watch() as watcher:
                held = locks(watcher, conn.info.backend_pid)
            if held:
                self.left_behind.append(f"locks of {self.name}: {held}")
        except psycopg.Error as error:
            self._note(error)

    def _call(self, conn: Connection) -> None:
        options = random_options(self._dice)
        arguments = {**options.arguments(), **self._habit.always}
        knobs = random_knobs(self._dice, superuser=self._habit.role == "postgres")
        by_name = {knob.split(" ")[0]: knob for knob in (*knobs, *self._habit.knobs)}
        die = 1.0 if self._habit.batched else self._dice.random()
        if die < 0.15:
            self._call_prune(conn, arguments)
        elif die < 0.3 and self._habit.role in ("postgres", OWNER):
            self._call_policy(conn, arguments, list(by_name.values()))
        else:
            share = [f"worker => {self._habit.worker}", f"workers => {self._habit.workers}"]
            self._call_batched(conn, arguments, [*by_name.values(), *share])

    def _call_batched(
        self, conn: Connection, arguments: dict[str, object], knobs: list[str]
    ) -> None:
        statement = sql.SQL("CALL hotmesh_dba.prune_batched({app}, {arguments}, {knobs})").format(
            app=APP, arguments=_named(arguments), knobs=sql.SQL(", ".join(knobs))
        )
        conn.execute(statement)

    def _call_policy(
        self, conn: Connection, arguments: dict[str, object], knobs: list[str]
    ) -> None:
        """The fuse aside, for a backlog is most of what there is; and by a policy's rules."""
        spares = arguments["keep_hmark"] and arguments["strip_attributes"]
        steps = {"prune_jobs": True, "prune_streams": True, "keep_hmark": spares}
        arguments = {**arguments, **steps}
        knobs = [*knobs, "max_percent => 100"]
        setting = sql.SQL("SELECT FROM hotmesh_dba.set_policy({app}, {name}, {arguments}, {knobs})")
        conn.execute(
            setting.format(
                app=APP,
                name=self.name,
                arguments=_named(arguments),
                knobs=sql.SQL(", ".join(knobs)),
            )
        )
        conn.execute(
            sql.SQL("CALL hotmesh_dba.run_policy({app}, {name})").format(app=APP, name=self.name)
        )

    def _call_prune(self, conn: Connection, arguments: dict[str, object]) -> None:
        """In one transaction with a record of it."""
        statement = sql.SQL(
            "INSERT INTO torture.call (arguments, counts)"
            " SELECT {given}, to_jsonb(p) FROM hotmesh_dba.prune({app}, {arguments}) p"
        ).format(given=Jsonb(arguments), app=APP, arguments=_named(arguments))
        conn.execute(statement)

    def _note(self, error: psycopg.Error) -> None:
        state = "lost" if is_lost(error) else error.sqlstate or type(error).__name__
        self.ends[state] += 1
        if state != "lost":
            self.said.append(said(error))


ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati")


def _named(arguments: dict[str, object]) -> sql.Composed:
    """Arguments by name, the lists as text[]."""
    casts = {"entity_list": "::text[]"}
    parts = [
        sql.SQL("{} => {}" + casts.get(name, "")).format(sql.Identifier(name), sql.Literal(value))
        for name, value in arguments.items()
    ]
    return sql.SQL(", ").join(parts)


# --- what they were allowed ------------------------------------------------------------------


def last_ids(conn: Connection) -> tuple[int, int]:
    """The newest run and the newest call."""
    runs = one(conn, "SELECT coalesce(max(id), 0) FROM hotmesh_dba.run")
    return runs, one(conn, "SELECT coalesce(max(id), 0) FROM torture.call")


def permits(conn: Connection, after: tuple[int, int]) -> tuple[list[Permit], list[str]]:
    """What the runs and calls since may have taken; and cutoffs that are not the promised ones."""
    found: list[Permit] = []
    wrong: list[str] = []
    with conn.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(
            f"SELECT * FROM hotmesh_dba.run WHERE app = '{APP}' AND id > %s ORDER BY id".encode(),
            (after[0],),
        ).fetchall():
            found.append(_of_run(row))
            wrong += _wrong_cutoffs(row)
        for row in cursor.execute(
            "SELECT * FROM torture.call WHERE id > %s ORDER BY id", (after[1],)
        ).fetchall():
            found.append(_of_call(row))
    return found, wrong


def _windows(given: dict[str, Any]) -> tuple[Window, Window, Window]:
    def window(name: str) -> Window:
        text = given[name] if given[name] is not None else given["retention"]
        return _BY_ANY_STYLE[text]

    return (
        window("retention"),
        window("engine_streams_retention"),
        window("worker_streams_retention"),
    )


# As the model writes it, and as PostgreSQL does in the run's options.
_BY_ANY_STYLE = {
    **WINDOWS,
    "00:00:00": Window(),
    "7 days": Window(days=7),
    "30 days": Window(days=30),
    "24:00:00": Window(microseconds=DAY),
    "1 mon": Window(1),
}


CUTOFFS = ("jobs_before", "engine_before", "worker_before")


def _wrong_cutoffs(row: dict[str, Any]) -> list[str]:
    """Each is its window before the moment the run began, by the calendar of UTC; no later."""
    began = row["started_at"].astimezone(timezone.utc)
    wrong = []
    windows = _windows(row["options"])
    for name, window in zip(
        ("jobs_before", "engine_before", "worker_before"), windows, strict=True
    ):
        latest = window.before(began)
        lead = (latest - row[name].astimezone(timezone.utc)).total_seconds()
        # A worker shares the cutoffs of the one that began first.
        if lead < 0 or lead > 30:
            wrong.append(f"run {row['id']}: {name} is {row[name]}, and may be {latest} at most")
    if row["signals_until"] > row["started_at"]:
        wrong.append(f"run {row['id']}: signals_until is after its beginning")
    return wrong


def _took(counts: dict[str, Any]) -> Counter[str]:
    """What a run's record and a call's answer both count."""
    return Counter(
        jobs=counts["deleted_jobs"] + counts["deleted_transient"],
        engine_streams=counts["deleted_engine_streams"],
        worker_streams=counts["deleted_worker_streams"],
        signals=counts["deleted_signals"],
        marked=counts["marked_pruned"],
        stripped=counts["stripped_attributes"],
    )


def _of_run(row: dict[str, Any]) -> Permit:
    given = row["options"]
    took = _took(row)
    took["cascaded"] = row["cascaded_attributes"]
    cutoffs = [row[name] for name in CUTOFFS]
    # It marks with the time at which its batch began, which is after its own beginning.
    return _permit(
        f"run {row['id']}",
        given,
        cutoffs,
        row["signals_until"],
        row["started_at"],
        row["finished_at"],
        took,
        counts_cascade=True,
    )


def _of_call(row: dict[str, Any]) -> Permit:
    given, counts = row["arguments"], row["counts"]
    began: datetime = row["at"].astimezone(timezone.utc)
    cutoffs = [window.before(began) for window in _windows(given)]
    took = _took(counts)
    return _permit(
        f"call {row['id']}",
        given,
        cutoffs,
        began,
        began,
        None,
        took,
        counts_cascade=took["jobs"] == 0,
    )


def _permit(
    who: str,
    given: dict[str, Any],
    cutoffs: list[datetime],
    signals_until: datetime,
    started_at: datetime,
    ended_at: datetime | None,
    took: Counter[str],
    *,
    counts_cascade: bool,
) -> Permit:
    def either(name: str) -> bool:
        return bool(given["prune_streams"] if given[name] is None else given[name])

    entities = given["entity_list"]
    return Permit(
        who=who,
        started_at=started_at,
        ended_at=ended_at,
        jobs=given["prune_jobs"],
        transient=given["prune_transient"],
        engine=either("prune_engine_streams"),
        worker=either("prune_worker_streams"),
        strip=given["strip_attributes"],
        signals=given["prune_signals"],
        keep_hmark=given["keep_hmark"],
        entities=None if entities is None else tuple(entities),
        jobs_before=cutoffs[0],
        engine_before=cutoffs[1],
        worker_before=cutoffs[2],
        signals_until=signals_until,
        took=took,
        counts_cascade=counts_cascade,
    )
