"""A pruner stopped in the middle of a batch, by proof and not by luck.

Its process is stopped (SIGSTOP) at a random moment; only then is it looked at. Where it holds a
lock on the app's tables, it is inside a batch, and whatever is done to it now is done inside a
batch. Elsewhere it goes on, and is stopped again.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg

from tests.deploy.observe import one
from tests.support.server import Connection

from .ledger import APP
from .pruners import Pruner

T = TypeVar("T")

# The locks of a statement that writes, or that has taken rows to be written.
IN_BATCH = (
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE l.pid = %s AND l.granted AND n.nspname = '{APP}' AND c.relkind IN ('r', 'p')"
    " AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))"
)

# How long somebody may wait for a process that is stopped, in seconds: it may have been stopped
# with a latch of the server's in its hand, for which everybody waits.
GRACE = 0.3

# Who has stopped a process lets it go before another stops one.
_ALONE = threading.Lock()


class Watcher:
    """A connection whose questions are asked on another thread, so that they can be given up."""

    def __init__(self, connect: Callable[[], Connection]):
        self.conn = connect()
        self._pool = ThreadPoolExecutor(1)

    def submit(self, ask: Callable[[Connection], T]) -> Future[T]:
        return self._pool.submit(ask, self.conn)

    def close(self) -> None:
        self._pool.shutdown()
        self.conn.close()


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _await_stop(pid: int) -> bool:
    """A signal takes a moment; where there is no /proc, that moment is taken for granted."""
    path = Path("/proc", str(pid), "stat")
    end = time.monotonic() + GRACE
    while Path("/proc/self/stat").exists() and time.monotonic() < end:
        try:
            state = path.read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state in "Tt":
            return True
    return not Path("/proc/self/stat").exists()


@contextmanager
def frozen(
    watcher: Watcher,
    pruners: Sequence[Pruner],
    dice: random.Random,
    patience: float,
    moment: str,
) -> Iterator[Pruner | None]:
    """A pruner that stands still inside a batch; None where none could be caught in time.

    It goes on when the block ends, if it can. `moment` asks of a process whether it is there.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        time.sleep(dice.uniform(0, 0.02))  # the moment is to be a random one
        pruner = dice.choice(pruners)
        _ALONE.acquire()
        pid = pruner.pid
        if pid is None or not _send(pid, signal.SIGSTOP):
            _ALONE.release()
            continue
        try:
            if _await_stop(pid) and _is_there(watcher, pid, moment):
                yield pruner
                return
        finally:
            _send(pid, signal.SIGCONT)
            _ALONE.release()
    yield None


def _is_there(watcher: Watcher, pid: int, moment: str) -> bool:
    asked = watcher.submit(lambda conn: bool(one(conn, moment, pid)))
    done, _ = wait([asked], GRACE)
    if not done:
        _send(pid, signal.SIGCONT)
        asked.exception()
        return False
    try:
        return asked.result()
    except psycopg.Error:
        return False


def do_meanwhile(watcher: Watcher, act: Callable[[Connection], T]) -> Future[T]:
    """Begin something while a pruner is frozen: it is done, or it waits for that one."""
    begun = watcher.submit(act)
    wait([begun], GRACE)
    return begun
