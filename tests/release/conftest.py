"""What `make dist` gives, twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT

AUTHOR = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", *AUTHOR, *arguments], cwd=cwd, check=True, text=True, capture_output=True
    ).stdout


def committed(target: Path) -> Path:
    """A repository whose only commit is the checkout as it is now, what is not committed too."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT)
    for name in filter(None, listed.split("\0")):
        source, copy = CHECKOUT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            copy.chmod(source.stat().st_mode)
    git("init", "--quiet", cwd=target)
    git("add", "--all", cwd=target)
    git("commit", "--quiet", "--message=all", cwd=target)
    return target


def dist(repository: Path, umask: int, **env: str) -> Path:
    """What `make dist` does there."""
    target = repository / "dist"
    done = subprocess.run(
        [sys.executable, "tools/dist.py", str(target)],
        cwd=repository,
        env={**os.environ, **env},
        umask=umask,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return committed(tmp_path_factory.mktemp("first") / "repository")


@pytest.fixture(scope="session")
def published(repository: Path) -> Path:
    """The directory of what is published."""
    return dist(repository, 0o022, TZ="UTC", LC_ALL="C")
