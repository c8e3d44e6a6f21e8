"""Builds what is published from the commit HEAD: the same bytes wherever and whenever it is run.

    python tools/dist.py DIR

DIR gets the sdist, the wheel, the zip for PGXN, the plain and the pg_tle script, and SHA256SUMS.
Every date in them is the commit's; modes are 644 or 755; names are sorted. What is not committed
stays out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

NAME = "hotmesh_dba"
CHECKOUT = Path(__file__).resolve().parents[1]


def main(target: Path) -> None:
    """Empty `target` and build into it."""
    with tempfile.TemporaryDirectory() as scratch:
        source = export(Path(scratch))
        epoch = commit_time()
        built = Path(scratch) / "built"
        run(sys.executable, "sql/build.py", "--check", cwd=source)
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), "."]
        run(*build, cwd=source, SOURCE_DATE_EPOCH=str(epoch))
        run(sys.executable, "sql/build.py", "--dist", str(built), cwd=source)
        write_zip(source, built / f"{NAME}-{version(built)}.zip", epoch)
        write_sums(built)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(built, target)


def run(*command: str, cwd: Path, **env: str) -> str:
    """Run a program; what it prints is shown only where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def export(scratch: Path) -> Path:
    """The files of the commit, in a directory of their own."""
    archive = scratch / "head.tar"
    run("git", "archive", "--format=tar", f"--output={archive}", "HEAD", cwd=CHECKOUT)
    source = scratch / "source"
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    return source


def commit_time() -> int:
    """When HEAD was committed, in seconds; SOURCE_DATE_EPOCH may say otherwise."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    return int(said or run("git", "log", "-1", "--format=%ct", cwd=CHECKOUT))


def version(built: Path) -> str:
    """The control file's, as sql/build.py has put it into its scripts' names."""
    (plain,) = built.glob(f"{NAME}--*.plain.sql")
    return plain.name.removeprefix(f"{NAME}--").removesuffix(".plain.sql")


def write_zip(source: Path, target: Path, epoch: int) -> None:
    """All files of the commit below one directory, as PGXN wants them."""
    # A zip knows no time before 1980, and no time zone.
    date = max(time.gmtime(epoch)[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = f"{target.stem}/{path.relative_to(source).as_posix()}"
            entry = zipfile.ZipInfo(name, date)
            entry.create_system = 3  # Unix: the upper half is a file's mode
            entry.external_attr = (0o100755 if path.stat().st_mode & 0o100 else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def write_sums(directory: Path) -> None:
    """SHA256SUMS, as sha256sum --check reads it."""
    files = sorted(directory.iterdir())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (directory / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
