"""A place in memory for data that nobody needs later.

Creating a database and an app makes some 500 files, and dropping them removes as many: on a disk
that is a quarter of the time a test takes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # a directory in memory, not a temporary file's name

# A few servers side by side, each with its write-ahead log, and what else the machine does.
ENOUGH = 6 << 30


def memory_dir(place: Path = SHARED_MEMORY, meminfo: Path = Path("/proc/meminfo")) -> Path | None:
    """`place`, where it lies in memory and there is enough of that; else None."""
    if not (os.access(place, os.W_OK | os.X_OK) and meminfo.exists()):
        return None
    room = min(shutil.disk_usage(place).free, _available(meminfo))
    return place if room >= ENOUGH else None


def _available(meminfo: Path) -> int:
    """Bytes that can still be had without swapping."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
