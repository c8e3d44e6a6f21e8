"""An installation by the plain script, for servers where no file can be copied."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.support.installation import CHECKOUT
from tests.support.server import Connection


def _build() -> ModuleType:
    """sql/build.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("sql_build", Path(CHECKOUT, "sql", "build.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def plain_script() -> str:
    """The plain script as `make dist` writes it."""
    build = _build()
    return str(build.plain_script(build.Source(CHECKOUT)))


def install_plain(conn: Connection) -> None:
    """Run the plain script, as the role of `conn`."""
    conn.execute(plain_script().encode())
