"""plpgsql_check is asked where the server under test has it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.installation import embedded_pg_config, offers

collect_ignore: list[str] = []
if not offers(
    Path(os.environ.get("HOTMESH_DBA_PG_CONFIG") or embedded_pg_config()), "plpgsql_check"
):
    collect_ignore.append("test_plpgsql_check.py")
