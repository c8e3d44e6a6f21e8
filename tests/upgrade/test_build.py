"""sql/build.py: what is committed is what sql/ gives, and what was released stays as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT

from .made_up import CHANGES, NEW, OLD, build_releases, copy_source, load_build, replace

pytestmark = pytest.mark.once

ROUTINE = "SELECT rtrim("


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    return copy_source(tmp_path / "made_up", OLD)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "sql" / "build.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_committed_scripts_are_those_of_the_source() -> None:
    finished = run(CHECKOUT, "--check")
    assert (finished.returncode, finished.stderr) == (0, "")
    build = load_build()
    assert build.scripts(build.Source(CHECKOUT)).keys() <= {
        path.name for path in (CHECKOUT / "extension").iterdir()
    }


def test_a_stale_script_fails_the_check(made_up: Path) -> None:
    assert run(made_up).returncode == 0
    assert run(made_up, "--check").returncode == 0
    replace(made_up / "sql" / "app.sql", ROUTINE, "SELECT upper(")
    finished = run(made_up, "--check")
    assert finished.returncode != 0
    assert f"extension/hotmesh_dba--{OLD}.sql is stale" in finished.stderr


def test_a_file_that_order_forgets_fails_the_check(made_up: Path) -> None:
    run(made_up)
    (made_up / "sql" / "forgotten.sql").write_text("SELECT 1;\n")
    finished = run(made_up, "--check")
    assert finished.returncode != 0
    assert "sql/forgotten.sql" in finished.stderr


def test_a_released_script_cannot_change(made_up: Path) -> None:
    assert run(made_up, "--release").returncode == 0
    script = made_up / "extension" / f"hotmesh_dba--{OLD}.sql"
    released = script.read_text()

    replace(script, ROUTINE, "SELECT upper(")
    assert "was released and must not change" in run(made_up, "--check").stderr

    script.write_text(released)
    assert run(made_up, "--check").returncode == 0
    replace(made_up / "sql" / "app.sql", ROUTINE, "SELECT upper(")
    for arguments in ((), ("--check",), ("--release",)):
        finished = run(made_up, *arguments)
        assert finished.returncode != 0
        assert "a new version" in finished.stderr
    assert script.read_text() == released


def test_routines_stand_in_both_scripts_and_tables_in_one(tmp_path: Path) -> None:
    names = [path.name for path in build_releases(tmp_path / "made_up")]
    assert names == [
        f"hotmesh_dba--{NEW}.sql",
        f"hotmesh_dba--{OLD}--{NEW}.sql",
        f"hotmesh_dba--{OLD}.sql",
    ]
    extension = tmp_path / "made_up" / "extension"
    install = (extension / f"hotmesh_dba--{NEW}.sql").read_text()
    update = (extension / f"hotmesh_dba--{OLD}--{NEW}.sql").read_text()
    assert "CREATE FUNCTION hotmesh_dba.prune(" in install
    assert not [line for line in install.splitlines() if line.startswith("CREATE OR REPLACE")]
    assert "CREATE OR REPLACE FUNCTION hotmesh_dba.prune(" in update
    assert "CREATE TYPE" in install
    assert "CREATE TYPE" not in update
    assert CHANGES in update
    assert f"SELECT '{NEW}'::text" in update


def test_the_control_file_fixes_schema_and_trust() -> None:
    control = (CHECKOUT / "hotmesh_dba.control").read_text()
    settings = dict(re.findall(r"^(\w+) *= *'?([^'\n]*)'?$", control, re.MULTILINE))
    assert settings["schema"] == "pg_catalog"
    assert settings["relocatable"] == "false"
    assert settings["superuser"] == "true"
    assert settings["trusted"] == "true"
