"""One cluster's way from PostgreSQL 15 to 18: a cluster as people have it, and pg_upgrade."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.observe import deploy, run
from tests.matrix.servers import NEWEST, RELEASES, fetched, pg_config
from tests.policies.calls import running, set_policy
from tests.runs.work import add_work
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

from .test_released import CREATE, CURRENT

# Debian's may be of a later minor release than the newest 18 that wheels have: what 15.20 writes
# (the column option pg_attver) an 18 of before that day refuses, whatever is in the database.
OLD, NEW = RELEASES[15], NEWEST
OWNER = "owner"
# 18's default, which both sides must share.
CHECKSUMS = ["--data-checksums"]


@contextmanager
def old_server() -> Iterator[PrivateServer]:
    """PostgreSQL 15, and the role that has an app in each of its databases."""
    with PrivateServer(fetched(OLD), in_memory=True, initdb=CHECKSUMS) as server:
        with server.connect() as conn:
            run(conn, f"CREATE ROLE {OWNER} LOGIN")
        yield server


@contextmanager
def new_server() -> Iterator[PrivateServer]:
    """PostgreSQL 18, with nothing in it."""
    with PrivateServer(pg_config(NEW), in_memory=True, initdb=CHECKSUMS) as server:
        yield server


def add_database(server: PrivateServer, name: str, version: str = CURRENT) -> None:
    """A database with the extension in this version, and an app with work to do."""
    server.create_database(name)
    with server.connect(name) as conn:
        run(conn, CREATE.format(version))
        create_app(conn, "myapp", owner=OWNER)
        deploy(conn, "myapp")
        add_work(conn)


def add_policy_and_run(conn: Connection, owner: Connection) -> None:
    """The owner's policy, a run of it, and new work."""
    set_policy(owner)
    run(owner, running())
    add_work(conn)


def pg_upgrade(old: PrivateServer, new: PrivateServer) -> None:
    """Stop both, move everything from the old one to the new one, and start that."""
    for server in (old, new):
        server.node.stop(["-m", "fast"])
    # A directory of its own, of a short name: pg_upgrade puts its sockets there.
    with tempfile.TemporaryDirectory(prefix="up-") as directory:
        if new.installation.user is not None:
            os.chown(directory, new.installation.user.pw_uid, new.installation.user.pw_gid)
        command = [
            str(new.installation.programs / "pg_upgrade"),
            *("--old-bindir", str(old.bin_dir), "--new-bindir", str(new.bin_dir)),
            *("--old-datadir", str(old.node.data_dir), "--new-datadir", str(new.node.data_dir)),
            *("--username", "postgres", "--no-sync"),
        ]
        done = subprocess.run(command, cwd=directory, text=True, capture_output=True, check=False)
        logs = [path.read_text() for path in Path(new.node.data_dir).rglob("*.log")]
        assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    new.node.start()


def restore_roles(old: PrivateServer, new: PrivateServer) -> None:
    """What no dump of a database has."""
    roles = _run(new, "pg_dumpall", old, "postgres", "--roles-only", "--no-role-passwords")
    run_script(new, "postgres", roles.replace("CREATE ROLE postgres;", ""))


def dump_and_restore(old: PrivateServer, new: PrivateServer, name: str, archive: Path) -> None:
    """One database, by the newer server's programs, as PostgreSQL advises."""
    _run(new, "pg_dump", old, name, "--format=custom", f"--file={archive}")
    new.create_database(name)
    _run(new, "pg_restore", new, name, "--exit-on-error", str(archive))


def run_script(server: PrivateServer, dbname: str, script: str) -> None:
    """Run what pg_dumpall wrote."""
    command = [*server.psql_command(dbname), "--quiet", "--set=ON_ERROR_STOP=1"]
    done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def _run(
    by: PrivateServer, program: str, server: PrivateServer, dbname: str, *arguments: str
) -> str:
    """Run `by`'s program on a database of `server`; returns what it printed."""
    where = f"--dbname={server.conninfo(dbname)}"
    done = subprocess.run(
        [str(by.bin_dir / program), where, *arguments], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
