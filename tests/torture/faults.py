"""The faults: each is done while a pruner stands inside a batch, and says how often that was so."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import psycopg

from tests.deploy.observe import Row, one, run, wait_until
from tests.runs.work import Work
from tests.support.server import Connection
from tests.upgrade.test_released import RELEASED, UPDATE

from .frozen import IN_BATCH, Watcher, do_meanwhile, frozen
from .ledger import APP, STREAMS
from .pruners import BY_KEY, OWNER, PRUNER, ZONES, Habit, Pruner
from .world import World, filled
from .writers import Writer


@dataclass(slots=True)
class Scene:
    """What a fault is done to."""

    world: World
    watcher: Watcher
    pruners: Sequence[Pruner]
    writers: Sequence[Writer]
    dice: random.Random
    patience: float = 4.0
    victim: int = 0  # the process that is frozen

    def look_again(self) -> None:
        """A watcher that a crash has not taken away."""
        self.watcher.close()
        self.watcher = Watcher(self.world.connect)

    def errors(self, state: str) -> int:
        """How often somebody has seen it."""
        return sum(pruner.ends[state] for pruner in self.pruners) + sum(
            writer.errors[state] for writer in self.writers
        )


class Fault:
    """A kind of fault.

    Attributes:
        name: on the command line and in the table.
        what: what is done, for the table.
        writers_see, pruners_see: SQLSTATEs that it explains ("lost": the connection).
        fresh: whether the app must be made anew behind it.
        strikes: how often it is tried in a round.
        joins, is_joined: whether it may go on beside another, and another beside it.
        moment: asks of a pruner's process whether it is where the fault is to meet it.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    writers_see: ClassVar[frozenset[str]] = frozenset()
    pruners_see: ClassVar[frozenset[str]] = frozenset()
    fresh: ClassVar[bool] = False
    strikes: int = 3
    joins: ClassVar[bool] = False
    is_joined: ClassVar[bool] = True
    moment: ClassVar[str] = IN_BATCH

    def __init__(self, world: World, dice: random.Random):
        self.world = world
        self.dice = dice
        self.decreed: set[str] = set()
        self.failed: list[str] = []

    @classmethod
    def impossible(cls, world: World) -> str | None:  # noqa: ARG003 -- for those that need it
        """Why it cannot be done here; None where it can."""
        return None

    def prepare(self) -> None:
        """Before the round."""

    def habits(self) -> list[Habit]:
        """The pruners of the round."""
        return random_team(self.dice)

    def strike(self, scene: Scene) -> int:
        """Do it, a few times; how often it was inside a batch."""
        return sum(self._strike_once(scene) for _ in range(self.strikes))

    def _frozen(self, scene: Scene) -> AbstractContextManager[Pruner | None]:
        """A pruner that stands still at this fault's moment."""
        return frozen(scene.watcher, scene.pruners, scene.dice, scene.patience, self.moment)

    def _strike_once(self, scene: Scene) -> bool:
        with self._frozen(scene) as pruner:
            if pruner is None or pruner.pid is None:
                return False
            scene.victim = pruner.pid
            done = self.hit(scene)
        self.after(scene, done)
        return True

    def hit(self, scene: Scene) -> Future[Any] | None:
        """Do it to a pruner that is frozen."""
        raise NotImplementedError

    def after(self, scene: Scene, done: Future[Any] | None) -> None:  # noqa: ARG002
        """When that one goes on: what was begun must come to its end."""
        error = done.exception() if done is not None else None
        if error is not None:
            self.failed.append(f"{self.name} itself failed: {error}")

    def mend(self) -> None:
        """Behind the round, before the ledger is compared."""


def random_team(dice: random.Random) -> list[Habit]:
    """One session alone, a few that do not know of each other, or a few that share the work."""
    role = dice.choice(("postgres", "postgres", OWNER, PRUNER, BY_KEY))
    team = dice.choice(("alone", "alone", "rivals", "workers"))
    size = dice.choice((2, 2, 3))
    if team == "workers":
        always: dict[str, object] = {"retention": "7 days", "entity_list": None}
        always |= dict.fromkeys(("prune_jobs", "prune_streams", "strip_attributes"), True)
        always |= dict.fromkeys(("prune_transient", "prune_signals", "keep_hmark"), True)
        always |= dict.fromkeys(("engine_streams_retention", "worker_streams_retention"))
        knobs = (
            "batch_size => 7",
            "batch_pause => '0'",
            "max_rows => 1000000",
            "disable_triggers => false",
        )
        return [Habit(role, (), knobs, always, True, worker, size) for worker in range(1, size + 1)]
    return [Habit(role)] * (size if team == "rivals" else 1)


# --- the end of a process ----------------------------------------------------------------------


class Kill(Fault):
    name = "kill"
    what = "SIGKILL of a pruner (the server restarts all sessions)"
    is_joined = False
    writers_see = pruners_see = frozenset({"lost"})
    strikes = 2

    def hit(self, scene: Scene) -> None:
        os.kill(scene.victim, signal.SIGKILL)

    def after(self, scene: Scene, done: Future[Any] | None) -> None:
        super().after(scene, done)

        def lost() -> bool:
            try:
                scene.watcher.conn.execute("SELECT 1")
            except psycopg.OperationalError:
                return True
            return False

        wait_until("the sessions ended", lost)
        self.world.await_server()
        scene.look_again()


class Crash(Fault):
    name = "immediate"
    what = "-m immediate of the server, and its start"
    is_joined = False
    writers_see = pruners_see = frozenset({"lost"})
    strikes = 2

    def hit(self, scene: Scene) -> Future[Any]:
        crashing = ThreadPoolExecutor(1).submit(scene.world.crash)
        # The pruner goes on when its own SIGQUIT is waiting for it.
        wait([crashing], 0.05)
        return crashing

    def after(self, scene: Scene, done: Future[Any] | None) -> None:
        super().after(scene, done)
        self.world.start()
        self.world.await_server()
        scene.look_again()


class Terminate(Fault):
    name = "terminate"
    what = "pg_terminate_backend of a pruner"
    joins = True
    pruners_see = frozenset({"lost"})

    def hit(self, scene: Scene) -> Future[Any]:
        return do_meanwhile(scene.watcher, lambda conn: one(conn, TERMINATE, scene.victim))


class Cancel(Fault):
    name = "cancel"
    what = "pg_cancel_backend of a pruner"
    joins = True
    pruners_see = frozenset({"57014"})

    def hit(self, scene: Scene) -> Future[Any]:
        return do_meanwhile(scene.watcher, lambda conn: one(conn, CANCEL, scene.victim))


TERMINATE = "SELECT pg_terminate_backend(%s)"
CANCEL = "SELECT pg_cancel_backend(%s)"


class StatementTimeout(Fault):
    name = "timeout"
    what = "statement_timeout of a pruner"
    pruners_see = frozenset({"57014"})

    def habits(self) -> list[Habit]:
        return [
            Habit(role, ("statement_timeout = '300ms'",), ("max_runtime => '1 hour'",))
            for role in {habit.role for habit in random_team(self.dice)}
        ]

    def hit(self, scene: Scene) -> Future[Any]:
        overdue = (
            "SELECT clock_timestamp() > query_start + interval '310 ms'"
            " FROM pg_stat_activity WHERE pid = %s"
        )
        return do_meanwhile(
            scene.watcher,
            lambda conn: wait_until("the timeout", lambda: bool(one(conn, overdue, scene.victim))),
        )


# --- locks and snapshots -----------------------------------------------------------------------


class Storm(Fault):
    name = "locks"
    what = "a storm of row, table and key locks"
    joins = True
    strikes = 10

    def strike(self, scene: Scene) -> int:
        calm = threading.Event()
        sessions = [self.world.connect() for _ in range(4)]
        pids = {conn.info.backend_pid for conn in sessions}
        seeds = [scene.dice.random() for _ in sessions]
        with ThreadPoolExecutor(len(sessions)) as pool:
            storms = [
                pool.submit(_storm, conn, random.Random(seed), calm, at == 0)
                for at, (conn, seed) in enumerate(zip(sessions, seeds, strict=True))
            ]
            hits = self._count_waits(scene, pids)
            calm.set()
        for storm in storms:
            self.after(scene, storm)
        for conn in sessions:
            conn.close()
        return hits

    def _count_waits(self, scene: Scene, pids: set[int]) -> int:
        """Each transaction of the storm that a batch was seen to wait for."""
        waits: set[tuple[int, int, object]] = set()
        end = time.monotonic() + scene.patience
        while len(waits) < self.strikes and time.monotonic() < end:
            for pid in [pruner.pid for pruner in scene.pruners]:
                if pid is not None and one(scene.watcher.conn, IN_BATCH, pid):
                    waits.update(
                        (pid, *found)
                        for found in run(scene.watcher.conn, BLOCKERS, pid, list(pids))
                    )
        return len(waits)


BLOCKERS = (
    "SELECT a.pid, a.xact_start FROM unnest(pg_blocking_pids(%s)) b (pid)"
    " JOIN pg_stat_activity a USING (pid) WHERE a.pid = ANY (%s)"
)
ROW_LOCKS = (
    f"SELECT FROM {APP}.jobs_attributes WHERE job_id = (SELECT id FROM {APP}.jobs"
    " WHERE key LIKE %s ORDER BY random() LIMIT 1) LIMIT 1 FOR UPDATE",
    f"SELECT FROM {APP}.jobs WHERE key LIKE %s ORDER BY random() LIMIT 3 FOR SHARE",
    f"SELECT FROM {APP}.jobs WHERE key LIKE %s ORDER BY random() LIMIT 1 FOR UPDATE",
    "SELECT pg_advisory_xact_lock(hashtextextended((SELECT key FROM"
    f" {APP}.jobs WHERE key LIKE %s ORDER BY random() LIMIT 1), 0))",
)


def _storm(conn: Connection, dice: random.Random, calm: threading.Event, on_tables: bool) -> None:
    """One lock a transaction, so that a storm is in no deadlock of its own making."""
    while not calm.is_set():
        run(conn, "BEGIN")
        if on_tables and dice.random() < 0.3:
            table = dice.choice(("jobs", "jobs_attributes", *STREAMS))
            mode = dice.choice(("SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"))
            run(conn, f"LOCK TABLE {APP}.{table}_part_{dice.randrange(8)} IN {mode} MODE")
        elif on_tables:
            table = dice.choice(STREAMS)
            run(
                conn,
                f"SELECT FROM {APP}.{table} WHERE message = 'm' AND expired_at < now()"
                " ORDER BY random() LIMIT 3 FOR UPDATE",
            )
        else:
            run(conn, dice.choice(ROW_LOCKS), dice.choice(("old-%", "brief-%", "live-%")))
        calm.wait(dice.uniform(0.01, 0.15))
        run(conn, "COMMIT")


class Snapshot(Fault):
    name = "snapshot"
    what = "a snapshot held through the runs, which must see what it saw"
    joins = True

    def strike(self, scene: Scene) -> int:
        with self.world.connect() as holder:
            # Times are compared as text: the server's time zone may be changed meanwhile.
            run(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL timezone = 'UTC'")
            before = run(holder, SEEN)
            hits = super().strike(scene)
            if run(holder, SEEN) != before:
                self.failed.append("a held snapshot saw other rows than before")
            run(holder, "COMMIT")
        return hits

    def hit(self, scene: Scene) -> None:
        """To stand still inside a batch while the snapshot is held is all there is to it."""


SEEN = (
    f"SELECT (SELECT md5(string_agg(j::text, '' ORDER BY id)) FROM {APP}.jobs j),"
    f" (SELECT md5(string_agg(a::text, '' ORDER BY a)) FROM {APP}.jobs_attributes a),"
    f" (SELECT md5(string_agg(e::text, '' ORDER BY id)) FROM {APP}.engine_streams e)"
)


TINY = {"max_locks_per_transaction": 12, "max_connections": 40}
# A strip takes no more than a quarter of the lock table; a few less where others have locks.
QUARTER = TINY["max_locks_per_transaction"] * TINY["max_connections"] // 4
TO_STRIP = Work(jobs=0, transient=0, live=2000, engine=0, worker=0, signals=0)
# Nothing else bounds a batch of that size. Those that it is marking still count as unmarked.
ROOM_IS_TAKEN = (
    "SELECT (SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory')"
    f" >= {QUARTER - 10} AND (SELECT count(*) FROM {APP}.jobs"
    f" WHERE status = 0 AND is_live AND pruned_at IS NULL) >= {QUARTER * 2}"
)


class TinyLockTable(Fault):
    name = "locktable"
    what = "a tiny lock table under strips that take all the room in it"
    moment = ROOM_IS_TAKEN

    def prepare(self) -> None:
        self._restart(*(f"SET {name} = {value}" for name, value in TINY.items()))
        self.world.add_backlog(TO_STRIP)

    def habits(self) -> list[Habit]:
        always: dict[str, object] = {"strip_attributes": True, "entity_list": None}
        knobs = ("batch_size => 100000", "batch_pause => '0'", "disable_triggers => false")
        role = self.dice.choice(("postgres", OWNER, PRUNER))
        return [Habit(role, (), knobs, always)]

    def hit(self, scene: Scene) -> None:
        """The lock table is tiny all the time."""

    def mend(self) -> None:
        self._restart(*(f"RESET {name}" for name in TINY))

    def _restart(self, *changes: str) -> None:
        with self.world.connect() as conn:
            for change in changes:
                run(conn, f"ALTER SYSTEM {change}")
        self.world.server.restart()


class FullDisk(Fault):
    name = "disk"
    what = "the database's disk full for a while"
    writers_see = pruners_see = frozenset({"53100"})
    strikes = 3

    @classmethod
    def impossible(cls, world: World) -> str | None:
        return None if world.disk is not None else "no tmpfs can be mounted here"

    def _strike_once(self, scene: Scene) -> bool:
        assert self.world.disk is not None
        with self._frozen(scene) as pruner:
            if pruner is None:
                return False
            seen = scene.errors("53100")
            full = filled(self.world.disk)
            full.__enter__()
        end = time.monotonic() + 0.5
        while scene.errors("53100") < seen + 3 and time.monotonic() < end:
            time.sleep(0.005)
        full.__exit__(None, None, None)
        return True


# --- the app and the extension change ----------------------------------------------------------


class Detach(Fault):
    name = "detach"
    what = "DETACH of a leaf of messages (its rows must stay as they are)"
    is_joined = False
    writers_see = frozenset({"23514"})
    strikes = 3

    def __init__(self, world: World, dice: random.Random):
        super().__init__(world, dice)
        self._leaves = [(table, leaf) for table in STREAMS for leaf in range(8)]
        dice.shuffle(self._leaves)
        self._detached: dict[tuple[str, int], list[Row]] = {}

    def hit(self, scene: Scene) -> Future[Any]:
        table, leaf = self._leaves.pop()

        def detach(conn: Connection) -> None:
            # In one transaction: until its end nobody else can change what was read.
            with conn.transaction():
                run(conn, f"ALTER TABLE {APP}.{table} DETACH PARTITION {APP}.{table}_part_{leaf}")
                rows = _rows_of(conn, table, leaf)
            self._detached[table, leaf] = rows

        return do_meanwhile(scene.watcher, detach)

    def mend(self) -> None:
        with self.world.connect() as conn:
            for (table, leaf), rows in self._detached.items():
                self._look(f"{table}_part_{leaf}", rows, _rows_of(conn, table, leaf))
                run(
                    conn,
                    f"ALTER TABLE {APP}.{table} ATTACH PARTITION {APP}.{table}_part_{leaf}"
                    f" FOR VALUES WITH (MODULUS 8, REMAINDER {leaf})",
                )

    def _look(self, leaf: str, before: list[Row], now: list[Row]) -> None:
        """Not even what a run may take: a leaf that is detached is no part of the app."""
        if before != now:
            lost = [row for row in before if row not in now]
            new = [row for row in now if row not in before]
            self.failed.append(f"{leaf} was detached, and changed: {lost} gone, {new} new")


def _rows_of(conn: Connection, table: str, leaf: int) -> list[Row]:
    return run(conn, f"SELECT * FROM {APP}.{table}_part_{leaf} ORDER BY stream_name, id")


class Drop(Fault):
    name = "drop"
    what = "DROP of a table of messages or signals"
    is_joined = False
    writers_see = frozenset({"42P01"})
    fresh = True
    strikes = 3

    def __init__(self, world: World, dice: random.Random):
        super().__init__(world, dice)
        self._tables = [*STREAMS, "signal_registry"]
        dice.shuffle(self._tables)

    def hit(self, scene: Scene) -> Future[Any]:
        table = self._tables.pop()
        self.decreed.add(table)
        return do_meanwhile(scene.watcher, lambda conn: run(conn, f"DROP TABLE {APP}.{table}"))


class Update(Fault):
    name = "update"
    what = f"ALTER EXTENSION UPDATE, from {RELEASED[-1]}, under its runs"
    fresh = True
    strikes = 1

    def prepare(self) -> None:
        self.world.renew(version=RELEASED[-1])

    def habits(self) -> list[Habit]:
        """Without policies, which the older release may not have."""
        return [replace(habit, batched=True) for habit in super().habits()]

    def hit(self, scene: Scene) -> Future[Any]:
        return do_meanwhile(scene.watcher, lambda conn: run(conn, UPDATE))

    def mend(self) -> None:
        with self.world.connect() as conn:
            run(conn, UPDATE)


class Deploy(Fault):
    name = "deploy"
    what = "undeploy and deploy, over an older HotMesh's functions too"
    is_joined = False
    fresh = True
    strikes = 3

    def prepare(self) -> None:
        layout = self.dice.choice(("current", "0.13", "0.14.5", "mixture"))
        self.world.renew(layout=layout, deploy=False)

    def hit(self, scene: Scene) -> Future[Any]:
        def redeploy(conn: Connection) -> None:
            run(conn, f"SELECT FROM hotmesh_dba.undeploy('{APP}')")
            until_free(conn, f"SELECT FROM hotmesh_dba.deploy('{APP}')")

        return do_meanwhile(scene.watcher, redeploy)


def until_free(conn: Connection, statement: str) -> None:
    """What gives way to a lock is tried again."""

    def done() -> bool:
        try:
            run(conn, statement)
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    wait_until(statement, done)


class Revoke(Fault):
    name = "revoke"
    what = "the pruner's rights revoked, and granted again"
    pruners_see = frozenset({"42501"})
    strikes = 4

    def habits(self) -> list[Habit]:
        return [Habit(PRUNER)] * self.dice.choice((1, 2))

    def hit(self, scene: Scene) -> Future[Any]:
        table = scene.dice.choice(("jobs", "jobs_attributes", *STREAMS, "signal_registry"))
        leaf = scene.dice.randrange(8)
        which = scene.dice.choice(
            (
                f"DELETE ON {APP}.{table}",
                f"DELETE ON {APP}.jobs_part_{leaf}",
                f"ALL ON {APP}.jobs_attributes_part_{leaf}",
                f"SELECT, DELETE ON {APP}.engine_streams_part_{leaf}",
                f"UPDATE (pruned_at) ON {APP}.jobs",
                f"ALL ON ALL TABLES IN SCHEMA {APP}",
                f"USAGE ON SCHEMA {APP}",
            )
        )
        return do_meanwhile(scene.watcher, lambda conn: run(conn, f"REVOKE {which} FROM {PRUNER}"))

    def after(self, scene: Scene, done: Future[Any] | None) -> None:
        super().after(scene, done)
        time.sleep(scene.dice.uniform(0, 0.2))  # it is without them for a random while
        self.world.grant()


class TimeZones(Fault):
    name = "timezone"
    what = "the server's time zone changed"
    joins = True

    def hit(self, scene: Scene) -> Future[Any]:
        zone = scene.dice.choice(ZONES)

        def change(conn: Connection) -> None:
            run(conn, f"ALTER SYSTEM SET timezone = '{zone}'")
            run(conn, f"ALTER DATABASE {conn.info.dbname} SET timezone = '{zone}'")
            run(conn, "SELECT pg_reload_conf()")

        return do_meanwhile(scene.watcher, change)

    def mend(self) -> None:
        with self.world.connect() as conn:
            run(conn, "ALTER SYSTEM RESET timezone")
            run(conn, f"ALTER DATABASE {conn.info.dbname} RESET timezone")
            run(conn, "SELECT pg_reload_conf()")


KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        Kill,
        Terminate,
        Cancel,
        Crash,
        Storm,
        Snapshot,
        TinyLockTable,
        FullDisk,
        StatementTimeout,
        Detach,
        Drop,
        Update,
        Deploy,
        Revoke,
        TimeZones,
    )
}
