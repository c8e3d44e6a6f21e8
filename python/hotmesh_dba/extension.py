"""The extension's own files: where they are, their version, and how they get to a server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from hotmesh_dba.errors import InstallFailed

NAME = "hotmesh_dba"
CONTROL = f"{NAME}.control"

_PACKAGED = Path(__file__).parent / "files"
_CHECKOUT = Path(__file__).resolve().parents[2]

Format = Literal["plain", "pgtle"]


def _in_checkout() -> bool:
    """Whether this package runs from a checkout (pip install -e), which carries no copies."""
    return not (_PACKAGED / CONTROL).is_file()


def control_file() -> Path:
    """Return the path of ``hotmesh_dba.control``."""
    return (_CHECKOUT if _in_checkout() else _PACKAGED) / CONTROL


def scripts() -> list[Path]:
    """Return the paths of the scripts that CREATE and ALTER EXTENSION load."""
    directory = _CHECKOUT / "extension" if _in_checkout() else _PACKAGED
    found = directory.glob(f"{NAME}--*.sql")
    return sorted(path for path in found if not path.stem.endswith((".plain", ".pgtle")))


@lru_cache(maxsize=1)
def version() -> str:
    """Return this package's version: ``default_version`` of the control file."""
    text = control_file().read_text(encoding="utf-8")
    match = re.search(r"^\s*default_version\s*=\s*'([^']+)'", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{CONTROL} has no default_version")
    return match[1]


def sql(format: Format) -> str:  # noqa: A002 - as the command's option is called
    """Return the whole of hotmesh_dba as one script, for servers where no file can be copied.

    :param format: ``plain`` for a script that psql runs, ``pgtle`` for pg_tle's registry.
    :raises ValueError: another format.
    """
    if format not in ("plain", "pgtle"):
        raise ValueError(f"format must be 'plain' or 'pgtle', not {format!r}")
    name = f"{NAME}--{version()}.{format}.sql"
    if not _in_checkout():
        return (_PACKAGED / name).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        build = [sys.executable, str(_CHECKOUT / "sql" / "build.py"), "--dist", directory]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        return (Path(directory) / name).read_text(encoding="utf-8")


def install(pg_config: str = "pg_config") -> list[Path]:
    """Copy the control file and scripts to where a server of this machine looks for extensions.

    :param pg_config: the server's ``pg_config``: a path, or a name to be found on PATH.
    :return: the paths written.
    :raises InstallFailed: there is no such program, no such directory, or no right to write; the
        hint says what to do.
    """
    directory = _extension_directory(pg_config)
    sources = [*scripts(), control_file()]  # the control file last: it announces the scripts
    try:
        return [_copy(source, directory / source.name) for source in sources]
    except OSError as error:
        again = [sys.executable, "-m", NAME, "extension", "install", "--pg-config"]
        raise InstallFailed(
            f"cannot write to {directory}",
            detail=f"{error.strerror}.",
            hint="Run as a user that may write there: sudo "
            + shlex.join([*again, shutil.which(pg_config) or pg_config]),
        ) from error


def _extension_directory(pg_config: str) -> Path:
    hint = "Give the server's own: --pg-config /usr/lib/postgresql/18/bin/pg_config, or the like."
    try:
        run = subprocess.run([pg_config, "--sharedir"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallFailed(f"cannot run {pg_config}", detail=f"{error}.", hint=hint) from error
    directory = Path(run.stdout.strip()) / "extension"
    if not directory.is_dir():
        raise InstallFailed(
            f"there is no directory {directory}",
            detail=f"{pg_config} belongs to a PostgreSQL without a server.",
            hint=hint,
        )
    return directory


def _copy(source: Path, target: Path) -> Path:
    """Copy so that a server sees the old file or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(source.read_bytes())
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
    return target
