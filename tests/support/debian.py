"""Debian's PostgreSQL 15, for what no wheel has, whichever server the tests are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .installation import offers

PG_CONFIG = Path("/usr/lib/postgresql/15/bin/pg_config")


def pg_config_with(extension: str, package: str) -> Path:
    """Its pg_config; where the extension is not there the test is skipped, with the reason."""
    if not (PG_CONFIG.exists() and offers(PG_CONFIG, extension)):
        packages = f"postgresql-15 postgresql-15-{package}"
        pytest.skip(f"there is no {extension} (Debian: apt-get install {packages})")
    return PG_CONFIG
