"""Rounds of faults. Each begins and ends with nobody at work, so every row can be accounted for."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.deploy.observe import one, run, wait_until
from tests.runs.work import call, due

from . import ledger, pruners, writers
from .faults import KINDS, Fault, Scene
from .frozen import Watcher
from .ledger import Rows
from .pruners import Pruner
from .world import World
from .writers import Writer

WRITERS = 6
# More than this is not kept from round to round: each look reads all of it.
MOST_ROWS = 15_000


@dataclass(slots=True)
class Score:
    """What a campaign did, and what it found."""

    rounds: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    writer_errors: Counter[str] = field(default_factory=Counter)
    transactions: int = 0
    unanswered: int = 0
    runs: int = 0
    violations: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


class Campaign:
    """Faults of some kinds, by a seed, until it is time."""

    def __init__(self, world: World, seed: int, kinds: Sequence[str], *, short: bool):
        self.world = world
        self.seed = seed
        self.score = Score()
        self._short = short
        self._number = 0
        self._stale = True
        for name in kinds:
            reason = KINDS[name].impossible(world)
            if reason is not None:
                self.score.left_out[name] = reason
        self.kinds = [name for name in kinds if name not in self.score.left_out]

    def fight(self, seconds: float, least: int) -> Score:
        """Rounds until the time is over and each kind has hit so often; then the last look."""
        end = time.monotonic() + seconds
        dice = random.Random(f"{self.seed} kinds")
        while True:
            wanting = [kind for kind in self.kinds if self.score.hits[kind] < least]
            if time.monotonic() >= end and not wanting:
                break
            if time.monotonic() >= end + 2 * seconds + 180:
                self._accuse("", f"not often enough inside a batch: {', '.join(wanting)}")
                break
            # Each kind once, in a random order, then again; in the end those that have too few.
            turn = wanting if time.monotonic() >= end else self.kinds
            for kind in dice.sample(turn, len(turn)):
                if time.monotonic() < end or self.score.hits[kind] < least:
                    self.fight_round(kind)
        self._keep_an_app(dice)
        self._finish()
        return self.score

    def _keep_an_app(self, dice: random.Random) -> None:
        """One more round where the last one's app is not kept: the last look is at a used one."""
        lasting = [kind for kind in self.kinds if not KINDS[kind].fresh]
        if self._stale and lasting:
            self.fight_round(dice.choice(lasting))

    def replay(self, number: int, kind: str) -> Score:
        """One round as it was under its number, on a fresh app."""
        self._number = number - 1
        self.fight_round(kind)
        self._finish()
        return self.score

    def fight_round(self, kind: str) -> None:
        """One round of one kind."""
        self._number += 1
        dice = random.Random(f"{self.seed} {self._number} {kind}")
        faults = self._choose(kind, dice)
        fault = faults[0]
        began = time.monotonic()
        if self._stale or self._count_rows() > MOST_ROWS:
            self.world.renew()
        self._stale = fault.fresh
        kept = self.world.settings()
        fault.prepare()
        self.world.add_backlog()
        hits = self._battle(faults, dice)
        for setting in kept ^ self.world.settings():
            self._accuse(_names(faults), f"a setting of the server was changed: {setting}")
        self.score.rounds[kind] += 1
        self.score.hits.update(hits)
        _say(
            f"round {self._number} {_names(faults)}: {hits.total()} hits,"
            f" {time.monotonic() - began:.1f} s, {len(self.score.violations)} violations"
        )

    def _choose(self, kind: str, dice: random.Random) -> list[Fault]:
        """The fault of a round, and often a second one that goes on beside it."""
        fault = KINDS[kind](self.world, dice)
        if self._short:
            fault.strikes = 1
            return [fault]
        others = [name for name in self.kinds if KINDS[name].joins and name != kind]
        if not fault.is_joined or not others or dice.random() < 0.5:
            return [fault]
        return [fault, KINDS[dice.choice(others)](self.world, dice)]

    # --- a round ---------------------------------------------------------------------------

    def _battle(self, faults: Sequence[Fault], dice: random.Random) -> Counter[str]:
        baseline, newest = self._begin()
        stop_pruners, stop_writers = threading.Event(), threading.Event()
        habits = faults[0].habits()
        team = [
            Pruner(
                f"{self._number}-p{at}",
                self.world.connect,
                self.world.connect,
                random.Random(f"{dice.random()}"),
                habit,
                stop_pruners,
            )
            for at, habit in enumerate(habits)
        ]
        app = [
            Writer(
                f"{self._number}-w{at}",
                self.world.connect,
                random.Random(f"{dice.random()}"),
                stop_writers,
            )
            for at in range(WRITERS)
        ]
        for thread in (*app, *team):
            thread.start()
        scenes = [
            Scene(self.world, Watcher(self.world.connect), team, app, random.Random(dice.random()))
            for _ in faults
        ]
        try:
            hits = _strike(faults, scenes)
        finally:
            asked_to_stop = self._stop(team, stop_pruners)
            stop_writers.set()
            for writer in app:
                writer.join()
            for scene in scenes:
                scene.watcher.close()
        for fault in faults:
            fault.mend()
        self._question(faults, team, app, asked_to_stop)
        self._compare(faults, baseline, newest, app)
        return hits

    def _begin(self) -> tuple[Rows, tuple[int, int]]:
        with self.world.connect() as conn:
            run(conn, "TRUNCATE torture.written")
            self.world.flush(conn)
            return ledger.read(conn), pruners.last_ids(conn)

    def _stop(self, team: Sequence[Pruner], stop: threading.Event) -> bool:
        """Runs may end by themselves for a while, then they are cancelled; whether any was."""
        stop.set()
        end = time.monotonic() + 0.5
        for pruner in team:
            pruner.join(max(0, end - time.monotonic()))
        alive = [pruner for pruner in team if pruner.is_alive()]
        if alive:
            with self.world.connect() as conn:
                for pruner in alive:

                    def ended(pruner: Pruner = pruner) -> bool:
                        if pruner.pid is not None:
                            run(conn, "SELECT pg_cancel_backend(%s)", pruner.pid)
                        pruner.join(0.02)
                        return not pruner.is_alive()

                    wait_until(f"the end of {pruner.name}", ended)
        return bool(alive)

    def _question(
        self,
        faults: Sequence[Fault],
        team: Sequence[Pruner],
        app: Sequence[Writer],
        cancelled: bool,
    ) -> None:
        """What the sessions saw, and whether the faults explain it."""
        kinds = _names(faults)
        ends = self.score.ends.setdefault(faults[0].name, Counter())
        of_pruners = {"ok", "55P03"}.union(*(fault.pruners_see for fault in faults))
        if cancelled:
            of_pruners.add("57014")
        of_writers = frozenset[str]().union(*(fault.writers_see for fault in faults))
        for pruner in team:
            ends.update(pruner.ends)
            self._hear(kinds, pruner, pruner.ends, of_pruners)
            for text in pruner.left_behind:
                self._accuse(kinds, f"left behind: {text}")
        for writer in app:
            self.score.writer_errors.update(writer.errors)
            self._hear(kinds, writer, writer.errors, of_writers)
        for fault in faults:
            for text in fault.failed:
                self._accuse(kinds, text)

    def _hear(
        self,
        kinds: str,
        session: Pruner | Writer,
        ends: Counter[str],
        explained: Container[str],
    ) -> None:
        """One session: whatever no fault of the round explains is a violation."""
        if session.broken is not None:
            raise session.broken
        for text in dict.fromkeys(session.said):
            if text.split(" ")[0] not in explained:
                self._accuse(kinds, f"{session.name} saw: {text}")
        if ends["lost"] and "lost" not in explained:
            self._accuse(kinds, f"{session.name} lost its connection")

    def _compare(
        self,
        faults: Sequence[Fault],
        baseline: Rows,
        newest: tuple[int, int],
        app: Sequence[Writer],
    ) -> None:
        """The ledger against the rows."""
        decreed = set[str]().union(*(fault.decreed for fault in faults))
        with self.world.connect() as conn:
            self.world.flush(conn)
            written, unanswered = writers.settle(conn, app)
            for text in writers.lost_writes(conn, app):
                self._accuse(_names(faults), text)
            baseline.write(written)
            allowed, wrong = pruners.permits(conn, newest)
            verdict = ledger.judge(baseline, ledger.read(conn), allowed, decreed)
            for text in (*verdict.violations, *wrong):
                self._accuse(_names(faults), text)
        for what in ("jobs", "attributes", "messages", "signals"):
            self.score.written[what] += len(getattr(written, what))
        self.score.gone.update(verdict.gone)
        self.score.transactions += sum(len(writer.journal) for writer in app)
        self.score.unanswered += unanswered
        self.score.runs += len(allowed)

    def _count_rows(self) -> int:
        with self.world.connect() as conn:
            return len(ledger.read(conn))

    def _accuse(self, kind: str, text: str) -> None:
        violation = f"round {self._number} {kind}: {text}"
        self.score.violations.append(violation)
        if len(self.score.violations) <= 20:
            _say(f"VIOLATION {violation}")

    # --- the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        """When all is quiet again the next run finds what is due, and nothing is left."""
        if self._stale:
            self.world.renew()
        self.world.add_backlog()
        with self.world.connect() as conn:
            baseline, newest = self._begin()
            run_id = one(conn, call())
            state = one(conn, f"SELECT state FROM hotmesh_dba.run WHERE id = {run_id}")
            if state != "completed" or due(conn) != 0:
                self._accuse("end", f"the last run is {state}, and {due(conn)} rows are due")
            running = one(conn, "SELECT count(*) FROM hotmesh_dba.run WHERE state = 'running'")
            if running:
                self._accuse("end", f"{running} runs say that they are running")
            allowed, wrong = pruners.permits(conn, newest)
            verdict = ledger.judge(baseline, ledger.read(conn), allowed, set())
            for text in (*verdict.violations, *wrong):
                self._accuse("end", text)
            self.score.gone.update(verdict.gone)


def _strike(faults: Sequence[Fault], scenes: Sequence[Scene]) -> Counter[str]:
    """All of them at the same time; the hits of each."""
    with ThreadPoolExecutor(len(faults)) as pool:
        strikes = [
            pool.submit(fault.strike, scene) for fault, scene in zip(faults, scenes, strict=True)
        ]
    return Counter({f.name: s.result() for f, s in zip(faults, strikes, strict=True)})


def _names(faults: Sequence[Fault]) -> str:
    return "+".join(fault.name for fault in faults)


def _say(text: str) -> None:
    print(text, flush=True)
