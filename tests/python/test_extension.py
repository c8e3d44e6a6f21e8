"""Where the files are, and how they get to a server."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import hotmesh_dba as h
from hotmesh_dba import extension

pytestmark = pytest.mark.once


def fake_pg_config(directory: Path, sharedir: Path) -> str:
    """A pg_config that names a share directory of ours."""
    program = directory / "pg_config"
    program.write_text(f'#!/bin/sh\n[ "$1" = --sharedir ] && echo "{sharedir}"\n')
    program.chmod(0o755)
    return str(program)


def test_the_version_is_the_control_files() -> None:
    assert f"default_version = '{h.__version__}'" in extension.control_file().read_text()
    names = [path.name for path in extension.scripts()]
    assert f"hotmesh_dba--{h.__version__}.sql" in names
    assert not [name for name in names if "plain" in name or "pgtle" in name]


def test_install_copies_everything_readable(tmp_path: Path) -> None:
    target = tmp_path / "share" / "extension"
    target.mkdir(parents=True)
    (target / extension.CONTROL).write_text("old")
    written = extension.install(fake_pg_config(tmp_path, tmp_path / "share"))
    assert sorted(written) == sorted(target.iterdir()), "nothing but these, no half-written file"
    for path in written:
        source = [*extension.scripts(), extension.control_file()]
        assert path.read_bytes() in [s.read_bytes() for s in source if s.name == path.name]
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_install_without_pg_config(tmp_path: Path) -> None:
    with pytest.raises(h.InstallFailed) as caught:
        extension.install(str(tmp_path / "pg_config"))
    assert "--pg-config" in (caught.value.hint or "")


def test_install_beside_no_server(tmp_path: Path) -> None:
    with pytest.raises(h.InstallFailed, match="no directory") as caught:
        extension.install(fake_pg_config(tmp_path, tmp_path / "share"))
    assert caught.value.hint


def test_install_where_nothing_can_be_written(tmp_path: Path) -> None:
    # /proc takes no files, from root neither.
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "extension").symlink_to("/proc")
    program = fake_pg_config(tmp_path, tmp_path / "share")
    with pytest.raises(h.InstallFailed, match="cannot write") as caught:
        extension.install(program)
    assert "sudo " in (caught.value.hint or "")
    assert program in (caught.value.hint or "")
    assert isinstance(caught.value.__cause__, OSError)


def test_the_scripts_for_servers_without_files() -> None:
    plain, pgtle = extension.sql("plain"), extension.sql("pgtle")
    assert "hotmesh_dba.prune" in plain
    assert "pgtle.install_extension" not in plain
    assert "pgtle.install_extension" in pgtle
    with pytest.raises(ValueError, match="plain"):
        extension.sql("tar")  # type: ignore[arg-type]


def test_the_hint_is_a_command_that_a_shell_takes(tmp_path: Path) -> None:
    odd = tmp_path / "a dir; with 'quotes'"
    (odd / "share").mkdir(parents=True)
    (odd / "share" / "extension").symlink_to("/proc")
    with pytest.raises(h.InstallFailed) as caught:
        extension.install(fake_pg_config(odd, odd / "share"))
    command = (caught.value.hint or "").partition("sudo ")[2]
    split = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {command}"], text=True, capture_output=True, check=True
    ).stdout.splitlines()
    assert split[-1] == os.fspath(odd / "pg_config")
