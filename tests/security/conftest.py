"""plpgsql_check is asked where the server under test has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.installation import embedded_pg_config

collect_ignore: list[str] = []


def has_plpgsql_check() -> bool:
    """Whether CREATE EXTENSION plpgsql_check would find it."""
    program = os.environ.get("HOTMESH_DBA_PG_CONFIG") or str(embedded_pg_config())
    done = subprocess.run([program, "--sharedir"], text=True, capture_output=True, check=True)
    return Path(done.stdout.strip(), "extension", "plpgsql_check.control").exists()


if not has_plpgsql_check():
    collect_ignore.append("test_plpgsql_check.py")
