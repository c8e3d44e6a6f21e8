"""What it was measured on: the machine and the versions, without any name."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version

from tests.support.server import PrivateServer

from .stage import SETTINGS


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores, memory, kernel, how busy it was; PostgreSQL, extension, driver."""

    cores: int
    memory_gb: float
    kernel: str
    load: float
    postgres: str
    extension: str
    driver: str

    def sentence(self) -> str:
        """All of it, to be read."""
        settings = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
        return (
            f"{self.cores} cores, {self.memory_gb:.0f} GB of memory, {self.kernel}, "
            f"load average {self.load:.1f} when it began; "
            f"PostgreSQL {self.postgres} with fsync on and stock settings but {settings}; "
            f"hotmesh_dba {self.extension}; psycopg {self.driver}, Python "
            f"{platform.python_version()}"
        )


def look(server: PrivateServer) -> Machine:
    """This machine and this server."""
    with server.connect() as conn:
        row = conn.execute(
            "SELECT current_setting('server_version'),"
            "       (SELECT default_version FROM pg_available_extensions"
            "         WHERE name = 'hotmesh_dba')"
        ).fetchone()
    assert row is not None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return Machine(
        cores=os.cpu_count() or 0,
        memory_gb=memory,
        kernel=f"{platform.system()} {platform.release()}",
        load=os.getloadavg()[0],
        postgres=str(row[0]),
        extension=str(row[1]),
        driver=version("psycopg"),
    )
