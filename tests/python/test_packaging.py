"""Wheel, sdist and editable install each carry the extension; the core needs psycopg alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import hotmesh_dba as h
from hotmesh_dba import extension
from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.once

SCRIPT = f"hotmesh_dba--{h.__version__}"
CARRIED = {extension.CONTROL, f"{SCRIPT}.sql", f"{SCRIPT}.plain.sql", f"{SCRIPT}.pgtle.sql"}

# Says what an installation found of its files, and where its package lies.
ASK = """
import hotmesh_dba
from hotmesh_dba import extension
print(hotmesh_dba.__file__)
print(hotmesh_dba.__version__)
print(sorted(path.name for path in [extension.control_file(), *extension.scripts()]))
print(len(extension.sql("plain")), len(extension.sql("pgtle")))
"""


def run(*command: str | Path, **env: str) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **env},
        cwd="/",
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from the sdist."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory]
    run(*map(str, build), CHECKOUT)
    return directory


@pytest.fixture
def only_psycopg(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH with psycopg, what it needs, and nothing else."""
    directory = tmp_path / "only"
    directory.mkdir()
    for name in ("psycopg", "psycopg_binary", "typing_extensions"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        found = Path(spec.origin)
        found = found.parent if found.name == "__init__.py" else found
        (directory / found.name).symlink_to(found)
        libraries = found.with_name(f"{name}.libs")
        if libraries.exists():
            (directory / libraries.name).symlink_to(libraries)
    return directory


def test_the_wheel_carries_the_files(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"hotmesh_dba/files/{name}" for name in CARRIED} <= names
    assert "hotmesh_dba/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "sql/"))]


def test_the_sdist_carries_the_sources(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {extension.CONTROL, f"extension/{SCRIPT}.sql", "sql/build.py", "sql/order.txt"} <= names


def test_the_wheel_works_with_psycopg_alone(dist: Path, only_psycopg: Path, tmp_path: Path) -> None:
    [wheel] = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(only_psycopg)
    # -S: no site-packages, so nothing but that directory.
    shown = run(sys.executable, "-S", "-c", ASK, PYTHONPATH=str(only_psycopg)).splitlines()
    assert shown[0].startswith(str(only_psycopg))
    assert shown[1] == h.__version__
    assert shown[2] == str(sorted([extension.CONTROL, *(p.name for p in extension.scripts())]))
    assert shown[3] == f"{len(extension.sql('plain'))} {len(extension.sql('pgtle'))}"

    done = subprocess.run(
        [sys.executable, "-S", "-m", "hotmesh_dba", "apps"],
        env={**os.environ, "PYTHONPATH": str(only_psycopg)},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hotmesh-dba: the command needs typer and rich: pip install 'hotmesh_dba[cli]'\n"
    )


def test_an_editable_install_reads_the_checkout(only_psycopg: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*install, "--ignore-installed", "--prefix", tmp_path, "--editable", CHECKOUT)
    site = sysconfig.get_path("purelib", vars={"base": str(tmp_path), "platbase": str(tmp_path)})
    ask = f"import site; site.addsitedir({site!r})\n{ASK}"
    shown = run(sys.executable, "-S", "-c", ask, PYTHONPATH=str(only_psycopg)).splitlines()
    assert shown[0].startswith(str(CHECKOUT))
    assert shown[1] == h.__version__
    assert f"{SCRIPT}.sql" in shown[2]
    assert shown[3] == f"{len(extension.sql('plain'))} {len(extension.sql('pgtle'))}"
