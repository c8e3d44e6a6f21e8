"""The application next door: 150 transactions a second of enqueue, dequeue and ack.

A process of its own: `python -m bench.foreground CONNINFO STREAM…`, a thread and a connection for
each stream. Transactions start by the clock, whether the one before is done or not; a transaction
that has to wait for it is late, and its latency counts from when it should have started. It says
`ready`, works until its standard input is closed, and prints one line for each transaction.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from .stage import APP

RATE = 150

_TABLE = sql.Identifier(APP, "engine_streams")
_ENQUEUE = sql.SQL(
    "INSERT INTO {} (stream_name, message) VALUES (%(stream)s, %(message)s) RETURNING id"
).format(_TABLE)
_DEQUEUE = sql.SQL(
    "UPDATE {0} SET reserved_at = now(), reserved_by = 'foreground'"
    " WHERE stream_name = %(stream)s AND id ="
    "       (SELECT id FROM {0} WHERE stream_name = %(stream)s AND reserved_at IS NULL"
    "           AND expired_at IS NULL AND visible_at <= now()"
    "         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"
).format(_TABLE)
_ACK = sql.SQL(
    "UPDATE {} SET expired_at = now() WHERE stream_name = %(stream)s AND id = %(id)s"
).format(_TABLE)


@dataclass(slots=True)
class Latencies:
    """When each transaction should have started (time.monotonic()), and its seconds from then."""

    started: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def between(self, start: float, end: float) -> list[float]:
        """The latencies of the transactions that were due to start within the window."""
        pairs = zip(self.started, self.seconds, strict=True)
        return [seconds for started, seconds in pairs if start <= started <= end]


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[98] * 1000


@contextmanager
def foreground(conninfo: str, streams: Sequence[str]) -> Iterator[Latencies]:
    """The process, working while the block runs; its latencies are there when it has ended."""
    latencies = Latencies()
    command = [sys.executable, "-m", "bench.foreground", conninfo, *streams]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the foreground did not start")
        try:
            yield latencies
        finally:
            output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the foreground failed: {process.returncode}")
    for line in output.splitlines():
        started, seconds = line.split()
        latencies.started.append(float(started))
        latencies.seconds.append(float(seconds))


# --- the process -----------------------------------------------------------------------------


def _work(
    conninfo: str, stream: str, start: float, period: float, over: threading.Event
) -> Latencies:
    """Enqueue, dequeue, ack, one transaction each, one every `period` seconds."""
    out = Latencies()
    values: dict[str, object] = {"stream": stream, "message": "x" * 245}
    with psycopg.connect(conninfo, autocommit=True) as conn:
        turn = 0
        while not over.is_set():
            at = start + turn * period
            wait = at - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            statement = (_ENQUEUE, _DEQUEUE, _ACK)[turn % 3]
            cursor = conn.execute(statement, values)
            if cursor.description is not None:
                row = cursor.fetchone()
                assert row is not None, "nothing to dequeue"
                values["id"] = row[0]
            out.started.append(at)
            out.seconds.append(time.monotonic() - at)
            turn += 1
    return out


def main(conninfo: str, streams: Sequence[str]) -> None:
    """Work until standard input ends, then print what it took."""
    over = threading.Event()
    start = time.monotonic() + 0.3
    with ThreadPoolExecutor(len(streams)) as pool:
        work = [
            pool.submit(_work, conninfo, stream, start + n / RATE, len(streams) / RATE, over)
            for n, stream in enumerate(streams)
        ]
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        for latencies in [each.result() for each in work]:
            for started, seconds in zip(latencies.started, latencies.seconds, strict=True):
                print(started, seconds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
