"""The memory of a backend while it works: its own, without the shared buffers it has touched."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .contenders import Place

_EVERY_SECONDS = 0.02
_NEAR = 0.05


@dataclass(slots=True)
class Watched:
    """Samples of (rows done, megabytes)."""

    samples: list[tuple[int, float]] = field(default_factory=list)

    def around(self, share: float) -> float:
        """The most megabytes while about that share of all rows was done.

        Within a batch it rises and falls, so a single sample says little.
        """
        rows = max(done for done, _ in self.samples)
        near = [size for done, size in self.samples if abs(done / rows - share) <= _NEAR]
        return max(near)


@contextmanager
def watch(place: Place) -> Iterator[Watched]:
    """Sample the memory of the place's connection, and how far its run is, while the block runs."""
    watched = Watched()
    over = threading.Event()
    pid = place.conn.info.backend_pid

    def sample() -> None:
        with place.server.connect(place.dbname) as conn:
            while not over.wait(_EVERY_SECONDS):
                row = conn.execute("SELECT rows_done FROM hotmesh_dba.progress").fetchone()
                if row is not None:
                    watched.samples.append((int(row[0]), private_megabytes(pid)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()


def private_megabytes(pid: int) -> float:
    """The anonymous memory of a process: RssAnon, which leaves out what is shared."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, status
    return int(found.group(1)) / 1024
