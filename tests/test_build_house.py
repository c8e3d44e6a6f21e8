"""The house: make, the packages and what stands in one place only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT
from tests.support.server import PrivateServer

pytestmark = pytest.mark.once

VERSION = re.findall(
    r"^default_version\s*=\s*'(.*)'", (CHECKOUT / "hotmesh_dba.control").read_text(), re.MULTILINE
)[0]
SCRIPT = f"hotmesh_dba--{VERSION}.sql"
FILES = {"hotmesh_dba.control", SCRIPT} | {
    f"hotmesh_dba--{VERSION}.{form}.sql" for form in ("plain", "pgtle")
}


def _make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout, free of what an outer make hands down."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PG_"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env=env | {"PATH": path or env["PATH"]},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def path_without_pg_config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which there is make and what a recipe needs, and no pg_config."""
    directory = tmp_path_factory.mktemp("programs")
    for program in ("make", "sh", "sed", "find", "python3", "true"):
        found = shutil.which(program)
        assert found is not None, program
        (directory / program).symlink_to(found)
    return str(directory)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that is built from that sdist."""
    target = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(CHECKOUT)],
        check=True,
        capture_output=True,
    )
    return target


def test_the_version_of_pgxn_is_that_of_the_control_file() -> None:
    meta = json.loads((CHECKOUT / "META.json").read_text())
    provided = meta["provides"]["hotmesh_dba"]
    assert (meta["version"], provided["version"]) == (VERSION, VERSION)
    assert provided["file"] == f"extension/{SCRIPT}"
    assert (CHECKOUT / provided["file"]).is_file()
    assert (CHECKOUT / provided["docfile"]).is_file()


def test_the_committed_script_is_the_built_one() -> None:
    done = _make("check-built", f"PYTHON3={sys.executable}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_install_without_pg_config_says_what_to_do(path_without_pg_config: str) -> None:
    done = _make("install", path=path_without_pg_config)
    assert done.returncode != 0
    assert "PG_CONFIG=" in done.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_other_targets_need_no_pg_config(target: str, path_without_pg_config: str) -> None:
    done = _make("--dry-run", target, path=path_without_pg_config)
    assert done.returncode == 0, done.stderr
    assert ".venv/bin/" in done.stdout


def test_install_copies_the_control_file_and_the_scripts(server: PrivateServer) -> None:
    installed = {path.name for path in server.share_extension_dir.glob("hotmesh_dba*")}
    committed = {path.name for path in (CHECKOUT / "extension").glob("*.sql")}
    assert SCRIPT in committed
    assert committed | {"hotmesh_dba.control"} <= installed


def test_make_redefines_nothing_of_pgxs() -> None:
    owned = "INSTALL INSTALL_DATA INSTALL_PROGRAM VERSION MAJORVERSION DOCS MODULES PYTHON TAR"
    text = (CHECKOUT / "Makefile").read_text()
    assigned = set(re.findall(r"^(\w+)\s*[:?+]?=", text, re.MULTILINE))
    targets = set(re.findall(r"^([\w-]+):(?!=)", text, re.MULTILINE))
    assert assigned >= {"EXTENSION", "DATA"}
    assert targets >= {"all", "install", "demo", "test", "lint", "dist", "build", "check-built"}
    assert not (assigned | targets) & set(owned.split())


def test_the_wheel_carries_the_extension(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    assert VERSION in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        control = archive.read("hotmesh_dba/files/hotmesh_dba.control")
    carried = {Path(name).name for name in names if name.startswith("hotmesh_dba/files/")}
    assert carried >= FILES
    assert control == (CHECKOUT / "hotmesh_dba.control").read_bytes()
    assert "hotmesh_dba/py.typed" in names


def test_the_wheel_needs_psycopg_alone(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    needed = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [line for line in needed if "extra ==" not in line] == ["psycopg>=3.1"]


def test_the_sdist_carries_the_sources_of_the_extension(packages: Path) -> None:
    (sdist,) = packages.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"hotmesh_dba.control", f"extension/{SCRIPT}", "sql/build.py", "sql/order.txt"}
    assert names >= needed | {"Makefile", "META.json", "LICENSE"}
    assert not {name for name in names if name.startswith((".venv", ".git/", "dist"))}


@pytest.mark.parametrize(("ci", "code"), [(None, 0), ("true", 1)])
def test_without_node_the_engine_is_skipped_but_not_in_ci(
    ci: str | None, code: int, path_without_pg_config: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    env |= {"PATH": path_without_pg_config} | ({"CI": ci} if ci else {})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/engine"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=env, text=True, capture_output=True, check=False
    )
    assert done.returncode == code, done.stdout
    assert re.search(r"\b2 skipped\b", done.stdout), done.stdout
    assert "Node.js" in done.stdout
