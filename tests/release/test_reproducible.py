"""`make dist`, here and elsewhere, now and later: the same bytes."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from tests.release.conftest import dist, git
from tests.test_build_house import VERSION

pytestmark = pytest.mark.once

# Another time than the commit's, for every file of the second build.
LONG_AGO = 1_000_000_000


def sums(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }


def test_two_builds_are_the_same(repository: Path, published: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another place" / "of the same"
    git("clone", "--quiet", str(repository), str(elsewhere), cwd=tmp_path)
    for path in elsewhere.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    # What is not committed is not published.
    (elsewhere / "stray.sql").write_text("SELECT 1;\n")
    (elsewhere / "README.md").write_text("changed\n")
    second = dist(elsewhere, 0o077, TZ="Pacific/Chatham", LC_ALL="C.UTF-8", PYTHONHASHSEED="7")
    assert sums(second) == sums(published)


def test_it_is_all_that_is_published(published: Path) -> None:
    assert sorted(path.name for path in published.iterdir()) == sorted(
        [
            "SHA256SUMS",
            f"hotmesh_dba-{VERSION}-py3-none-any.whl",
            f"hotmesh_dba-{VERSION}.tar.gz",
            f"hotmesh_dba-{VERSION}.zip",
            f"hotmesh_dba--{VERSION}.plain.sql",
            f"hotmesh_dba--{VERSION}.pgtle.sql",
        ]
    )
    lines = (published / "SHA256SUMS").read_text().splitlines()
    listed = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    found = sums(published)
    del found["SHA256SUMS"]
    assert listed == found


def test_the_zip_is_the_commit(repository: Path, published: Path) -> None:
    (path,) = published.glob("*.zip")
    committed = git("ls-files", cwd=repository).splitlines()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(
            f"{path.stem}/{name}" for name in committed
        )
        modes = {entry.filename: oct(entry.external_attr >> 16) for entry in entries}
        readme = archive.read(f"{path.stem}/README.md")
    assert {name for name, mode in modes.items() if mode == "0o100755"} == {f"{path.stem}/.ci/run"}
    assert set(modes.values()) == {"0o100644", "0o100755"}
    assert readme == (repository / "README.md").read_bytes()


def test_a_stale_script_is_not_published(repository: Path, tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    git("clone", "--quiet", str(repository), str(stale), cwd=tmp_path)
    with (stale / "sql" / "version.sql").open("a") as source:
        source.write("-- changed\n")
    git("commit", "--quiet", "--all", "--message=stale", cwd=stale)
    with pytest.raises(AssertionError, match=r"is stale|differs from the released"):
        dist(stale, 0o022)
    assert not (stale / "dist").exists()
