"""The private server keeps to itself; the layouts behave as the releases they stand for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Database, NewApp, NewRole
from tests.support.installation import CHECKOUT
from tests.support.layout import LAYOUTS, sdk_replace
from tests.support.memory import ENOUGH, memory_dir
from tests.support.sample import load_sample
from tests.support.server import Connection, PrivateServer

# The documented calls, by position; {} is the app's schema.
DOCUMENTED = [
    "SELECT * FROM {}.prune('0 seconds', false, false, true)",
    "SELECT * FROM {}.prune('30 days', true, false, false, ARRAY['book'])",
    "SELECT * FROM {}.prune('7 days', true, true, true)",
    "SELECT * FROM {}.prune('7 days', true, false, false, NULL, false, false, true, true,"
    " INTERVAL '24 hours', INTERVAL '90 days')",
]

COLUMNS_OF_PRUNE = {
    4: "deleted_jobs deleted_streams stripped_attributes",
    7: "deleted_jobs deleted_streams stripped_attributes deleted_transient marked_pruned",
    11: "deleted_jobs deleted_streams stripped_attributes deleted_transient marked_pruned"
    " deleted_engine_streams deleted_worker_streams",
    12: "deleted_jobs deleted_streams deleted_engine_streams deleted_worker_streams"
    " stripped_attributes deleted_transient marked_pruned deleted_signals",
}
# How many arguments each documented call gives.
GIVEN = [4, 5, 4, 11]

with_prune = pytest.mark.parametrize(
    "layout", [name for name, layout in LAYOUTS.items() if len(layout.prunes) == 1]
)


def test_installs_nothing_into_the_original_installation(server: PrivateServer) -> None:
    original = subprocess.run(
        [server.installation.pg_config, "--sharedir"], text=True, capture_output=True, check=True
    ).stdout.strip()
    ours = "hotmesh_dba*"
    assert list(server.share_extension_dir.glob(ours))
    assert not list(Path(original, "extension").glob(ours))
    assert not server.share_extension_dir.is_relative_to(Path(original))


def test_keeps_stock_settings(conn: Connection) -> None:
    names = ("max_locks_per_transaction", "max_connections", "max_prepared_transactions")
    values = [conn.execute(f"SHOW {name}".encode()).fetchone() for name in names]
    assert values == [("64",), ("100",), ("0",)]
    changed = conn.execute("SELECT name FROM pg_settings WHERE setting <> boot_val").fetchall()
    assert not {name for (name,) in changed} & {"max_worker_processes", "deadlock_timeout"}


def test_listens_on_the_local_host_only(conn: Connection) -> None:
    assert conn.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    assert conn.execute("SHOW unix_socket_directories").fetchone() == ("",)


def test_is_not_run_by_root(server: PrivateServer) -> None:
    assert Path("/proc", str(server.pid)).stat().st_uid != 0


@pytest.mark.parametrize("ending", ["pass", "raise KeyboardInterrupt", "sys.exit(1)"])
def test_leaves_no_server_and_no_directory(ending: str, server: PrivateServer) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.support.server import PrivateServer, run_dir\n"
        f"server = PrivateServer({str(server.installation.pg_config)!r},"
        " extension=False, in_memory=True)\n"
        "server.start()\n"
        "print(server.port, run_dir(), Path(server.node.base_dir).parent, flush=True)\n"
        f"{ending}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, text=True, capture_output=True, check=False
    )
    port, *directories = done.stdout.split()
    assert len(directories) == 2
    assert not [directory for directory in directories if Path(directory).exists()]
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres")


def test_data_lies_in_memory_where_there_is_enough(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:  {ENOUGH >> 10} kB\n")
    room = shutil.disk_usage(tmp_path).free >= ENOUGH
    assert memory_dir(tmp_path, meminfo) == (tmp_path if room else None)
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:  {(ENOUGH >> 10) - 1} kB\n")
    assert memory_dir(tmp_path, meminfo) is None
    assert memory_dir(tmp_path / "none", meminfo) is None
    assert memory_dir(tmp_path, tmp_path / "none") is None


def test_restart_keeps_the_data(server: PrivateServer) -> None:
    with PrivateServer(server.installation.pg_config, extension=False) as own:
        with own.connect() as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        own.restart()
        with own.connect() as conn:
            assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_standby_is_read_only(server: PrivateServer) -> None:
    with server.standby() as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
        assert conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE refused ()")


def test_each_test_has_a_database_of_its_own_with_the_extension(db: Database) -> None:
    with db.connect() as conn:
        found = conn.execute(
            "SELECT count(*) FROM pg_extension WHERE extname = 'hotmesh_dba'"
        ).fetchone()
    assert found == (1,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_what_it_says(layout: str, app: NewApp, conn: Connection) -> None:
    app("an app", layout)
    facts = LAYOUTS[layout]
    tables = {
        row[0]
        for row in conn.execute(
            "SELECT c.relname FROM pg_class AS c"
            " WHERE c.relnamespace = '\"an app\"'::regnamespace AND c.relkind = 'p'"
        )
    }
    columns = {
        (row[0], row[1])
        for row in conn.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'an app'"
        )
    }
    functions = [
        row[0]
        for row in conn.execute(
            "SELECT pronargs FROM pg_proc WHERE proname = 'prune'"
            " AND pronamespace = '\"an app\"'::regnamespace ORDER BY pronargs"
        )
    ]
    assert ("streams" in tables) == facts.one_streams
    assert ("engine_streams" in tables) == ("worker_streams" in tables) == facts.two_streams
    assert (("jobs_attributes", "field") in columns) == facts.by_field
    assert (("jobs", "pruned_at") in columns) == facts.pruned_at
    assert functions == list(facts.prunes)


@with_prune
def test_old_prune_has_the_names_and_columns_of_its_release(
    layout: str, app: NewApp, conn: Connection
) -> None:
    app("old", layout)
    (given,) = LAYOUTS[layout].prunes
    result = conn.execute("SELECT * FROM old.prune()")
    assert result.description is not None
    assert [column.name for column in result.description] == COLUMNS_OF_PRUNE[given].split()


@with_prune
def test_old_prune_takes_the_documented_calls_as_far_as_its_arguments_go(
    layout: str, app: NewApp, conn: Connection
) -> None:
    app("old", layout)
    load_sample(conn, "old", jobs=60, attributes=10)
    (accepted,) = LAYOUTS[layout].prunes
    for call, given in zip(DOCUMENTED, GIVEN, strict=True):
        if given <= accepted:
            assert len(conn.execute(_in(call, "old")).fetchall()) == 1
        else:
            with pytest.raises(psycopg.errors.UndefinedFunction):
                conn.execute(_in(call, "old"))
    gone = conn.execute(
        "SELECT count(*) FROM old.jobs WHERE expired_at < now() - interval '7 days'"
    ).fetchone()
    assert gone == (0,)


@pytest.mark.parametrize("layout", ["current", "pre-0.10"])
def test_without_a_prune_of_its_own_the_documented_calls_fail(
    layout: str, app: NewApp, conn: Connection
) -> None:
    app("old", layout)
    for call in DOCUMENTED:
        with pytest.raises(psycopg.errors.UndefinedFunction):
            conn.execute(_in(call, "old"))


def test_in_the_mixture_documented_calls_are_ambiguous(app: NewApp, conn: Connection) -> None:
    app("mixed", "mixture")
    for call, given in zip(DOCUMENTED, GIVEN, strict=True):
        if given == 11:
            assert len(conn.execute(_in(call, "mixed")).fetchall()) == 1
        else:
            with pytest.raises(psycopg.errors.AmbiguousFunction) as caught:
                conn.execute(_in(call, "mixed"))
            assert caught.value.sqlstate == "42725"
            assert "is not unique" in str(caught.value)


def test_the_sdk_replaces_its_own_function(app: NewApp, conn: Connection) -> None:
    app("own", "0.14.5")
    sdk_replace(conn, "own")
    assert conn.execute(
        "SELECT count(*) FROM pg_proc WHERE proname = 'prune'"
        " AND pronamespace = 'own'::regnamespace"
    ).fetchone() == (1,)


def test_a_second_live_job_of_a_key_is_refused(app: NewApp, conn: Connection) -> None:
    app("own")
    add = "INSERT INTO own.jobs (key, status) VALUES ('one', 1)"
    conn.execute(add)
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(add)
    with conn.transaction():
        conn.execute("UPDATE own.jobs SET status = 0")
        locks = conn.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        ).fetchone()
        assert locks == (1,)
    conn.execute("UPDATE own.jobs SET expired_at = now() - interval '1 second'")
    assert conn.execute("SELECT is_live FROM own.jobs").fetchone() == (False,)


def test_new_messages_notify(app: NewApp, conn: Connection) -> None:
    app("own")
    conn.execute("SELECT set_config('search_path', 'own', false)")
    channel = conn.execute("SELECT 'eng_' || md5('s')").fetchone()
    assert channel is not None
    conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel[0])))
    conn.execute("INSERT INTO own.engine_streams (stream_name, message) VALUES ('s', '{}')")
    (note,) = conn.notifies(timeout=10, stop_after=1)
    assert note.payload == "s"


def test_sample_data_has_the_real_shape(app: NewApp, conn: Connection, role: NewRole) -> None:
    owner = role("owner")
    app("own", owner=owner)
    sample = load_sample(conn, "own", jobs=300)
    assert (sample.jobs, sample.engine_messages, sample.worker_messages) == (300, 2400, 390)
    assert sample.attributes == pytest.approx(300 * 82, rel=0.01)
    kinds = conn.execute(
        "SELECT count(DISTINCT sign(status)), count(DISTINCT coalesce(entity, '')),"
        "       bool_or(expired_at IS NULL), bool_or(is_live IS NULL),"
        "       bool_or(is_live AND expired_at < now()), bool_or(expired_at > now())"
        "  FROM own.jobs"
    ).fetchone()
    assert kinds == (3, 3, True, True, True, True)
    lengths = conn.execute("SELECT min(length(value)), max(length(value)) FROM own.jobs_attributes")
    assert lengths.fetchone() == (11, 50)


def _in(call: str, schema: str) -> bytes:
    return call.replace("{}", schema).encode()


def test_the_demo_ignores_the_callers_variables(server: PrivateServer) -> None:
    """As the tests do: what names somebody's own server is not for the demo's."""
    script = (
        "import sys\n"
        "from tests import demo\n"
        f"server = demo.PrivateServer({str(server.installation.pg_config)!r}, extension=False)\n"
        "demo.PrivateServer = lambda: server\n"
        "demo.run = lambda server, console: print(\n"
        "    *server.connect().execute('SHOW statement_timeout').fetchone())\n"
        "sys.exit(demo.main())\n"
    )
    theirs = {
        "PGSERVICE": "nowhere",
        "PGOPTIONS": "-c statement_timeout=7000",
        "PGHOSTADDR": "192.0.2.1",
        "PGDATA": "/nowhere",
        "PGSSLMODE": "require",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=os.environ | theirs,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "0"
