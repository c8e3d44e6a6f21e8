"""A pgbouncer in transaction mode, with one server connection for all that come."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.deploy.observe import wait_until
from tests.support.server import HOST, Connection, PrivateServer, run_dir

CONFIG = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 1
logfile = {directory}/log
"""


@contextmanager
def pgbouncer(server: PrivateServer) -> Iterator[int]:
    """Run one in front of a server; yields its port. It refuses to be root, so it is not."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    directory = Path(tempfile.mkdtemp(prefix="pooler-", dir=run_dir()))
    port = _free_port()
    (directory / "users").write_text('"postgres" ""\n')
    (directory / "ini").write_text(
        CONFIG.format(host=HOST, port=port, server_port=server.port, directory=directory)
    )
    command = [program, "-q", str(directory / "ini")]
    user = server.installation.user
    if user is not None:
        for path in (directory, *directory.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        command = [*become, "--", *command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until("pgbouncer", lambda: process.poll() is None and _answers(port))
            yield port
        finally:
            process.terminate()
    shutil.rmtree(directory)


def connect_through(port: int, dbname: str) -> Connection:
    """A client's connection. In this mode a prepared statement may meet another server session."""
    conninfo = make_conninfo(host=HOST, port=port, dbname=dbname, user="postgres")
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
