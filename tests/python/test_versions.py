"""This package beside other versions of the extension, and beside plain installs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from psycopg import sql

import hotmesh_dba as h
from hotmesh_dba import DBA, AsyncDBA, extension
from tests.conftest import Database, NewApp, NewDatabase, NewRole
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer

from .conftest import ROWS

SET_VERSION = "UPDATE pg_catalog.pg_extension SET extversion = %s WHERE extname = 'hotmesh_dba'"


@pytest.mark.parametrize("version", ["1.2.0", "1.2.7", "1.3.0"])
def test_the_same_major_version_works(
    dba: DBA, conn: Connection, filled: str, version: str
) -> None:
    conn.execute(SET_VERSION, [version])
    assert dba.deploy(filled)
    assert dba.prune(filled).jobs == 2
    row = conn.execute("SELECT extversion FROM pg_extension WHERE extname = 'hotmesh_dba'")
    assert row.fetchone() == (version,), "a newer extension is left as it is"


@pytest.fixture
def released(older: Database) -> Database:
    """A database with an app `myapp`, and hotmesh_dba as 1.1.0 was."""
    with closing(older.connect()) as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba VERSION '1.1.0'")
        conn.execute(sql.SQL(ROWS).format(sql.Identifier("myapp")))
    return older


def test_a_database_one_minor_version_older_works(released: Database) -> None:
    dba = DBA(released.conninfo())
    pruned = dba.prune_batched("myapp")
    assert (pruned.jobs, pruned.state) == (2, "completed")
    [run] = dba.runs("myapp")
    assert (run.policy, run.expected_by_step, run.deleted_jobs) == (None, {}, 2)
    assert dba.vacuum("myapp", only=pruned) == [
        *("jobs", "jobs_attributes", "engine_streams", "worker_streams", "signal_registry")
    ]
    installation = dba.installation()
    assert (installation.installed, installation.plain) == ("1.1.0", False)
    assert (installation.available, installation.package) == (h.__version__, h.__version__)


NEW: dict[str, Callable[[DBA], object]] = {
    "set_policy": lambda dba: dba.set_policy("myapp", "p", jobs=True, expire="1 day"),
    "drop_policy": lambda dba: dba.drop_policy("myapp", "p"),
    "policies": lambda dba: dba.policies(),
    "run_policy": lambda dba: dba.run_policy("myapp", "p"),
    "run_due": lambda dba: dba.run_due("1 min"),
    "schedule": lambda dba: dba.schedule("myapp", "p", "* * * * *"),
    "unschedule": lambda dba: dba.unschedule("myapp", "p"),
    "schedules": lambda dba: dba.schedules("myapp"),
    "backlog": lambda dba: dba.backlog(),
    "doctor": lambda dba: dba.doctor(),
    "grant_prune": lambda dba: dba.grant_prune("myapp", "postgres"),
    "revoke_prune": lambda dba: dba.revoke_prune("myapp", "postgres"),
}


def test_what_it_has_not_yet_is_refused_by_name(released: Database) -> None:
    dba = DBA(released.conninfo())
    for name, call in NEW.items():
        with pytest.raises(h.VersionMismatch) as caught:
            call(dba)
        assert caught.value.message == (
            f"{name} needs hotmesh_dba 1.2.0, and this database has 1.1.0"
        )
        assert "deploy" in (caught.value.hint or "")
    dba.deploy("myapp")
    assert dba.installation().installed == h.__version__


@pytest.mark.parametrize("version", ["0.9.9", "2.0.0"])
@pytest.mark.parametrize("name", ["prune", "preview", "undeploy"])
def test_another_major_version_is_refused(
    dba: DBA, conn: Connection, filled: str, version: str, name: str
) -> None:
    conn.execute(SET_VERSION, [version])
    with pytest.raises(h.VersionMismatch) as caught:
        getattr(dba, name)(filled)
    assert version in caught.value.message
    assert h.__version__ in caught.value.message
    assert caught.value.hint


def test_deploy_refuses_a_newer_major_version(dba: DBA, conn: Connection, filled: str) -> None:
    conn.execute(SET_VERSION, ["2.0.0"])
    with pytest.raises(h.VersionMismatch, match=r"2\.0\.0"):
        dba.deploy(filled)


@contextmanager
def older_files(server: PrivateServer, *, path: bool) -> Iterator[None]:
    """A made-up 0.9.9 on the server, with the path from there to this version or without."""
    this = extension.version()
    [script] = [p for p in extension.scripts() if p.name == f"hotmesh_dba--{this}.sql"]
    text = script.read_text()
    old = server.share_extension_dir / "hotmesh_dba--0.9.9.sql"
    step = server.share_extension_dir / f"hotmesh_dba--0.9.9--{this}.sql"
    old.write_text(text.replace(f"'{this}'", "'0.9.9'"))
    old.chmod(0o644)
    if path:
        step.write_text(
            "CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text LANGUAGE sql IMMUTABLE"
            f" SET search_path = pg_catalog, pg_temp AS $$ SELECT '{this}'::text $$;\n"
        )
        step.chmod(0o644)
    try:
        yield
    finally:
        old.unlink()
        step.unlink(missing_ok=True)


@pytest.fixture
def older(new_database: NewDatabase) -> Database:
    """A database with an app, to be given an older extension."""
    database = new_database()
    with closing(database.connect()) as conn:
        create_app(conn, "myapp")
    return database


def test_deploy_updates_an_older_extension(server: PrivateServer, older: Database) -> None:
    with older_files(server, path=True), closing(older.connect()) as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba VERSION '0.9.9'")
        actions = DBA(older.conninfo()).deploy("myapp")
        assert (actions[0].action, actions[0].object) == (
            "updated",
            f"extension hotmesh_dba {h.__version__}",
        )
        assert conn.execute("SELECT hotmesh_dba.version()").fetchone() == (h.__version__,)
        assert DBA(older.conninfo()).deploy("myapp") == []


def test_an_update_without_a_path_says_so(server: PrivateServer, older: Database) -> None:
    with older_files(server, path=False), closing(older.connect()) as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba VERSION '0.9.9'")
        with pytest.raises(h.VersionMismatch) as caught:
            DBA(older.conninfo()).deploy("myapp")
        assert "extension install" in (caught.value.hint or "")


def test_an_update_that_the_server_has_no_files_for_is_not_tried(
    db: Database,
    conn: Connection,
    app: NewApp,
    role: NewRole,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = role("owner")
    conn.execute(f"GRANT CREATE ON DATABASE {db.name} TO {owner}")
    schema = app("theirs", owner=owner)
    monkeypatch.setattr(extension, "version", lambda: "1.9.0")
    # The owner of the app may not update the extension, and has no need to.
    actions = DBA(db.conninfo(owner)).deploy(schema)
    assert actions
    assert "updated" not in {action.action for action in actions}


def test_a_server_without_the_files(server: PrivateServer, older: Database) -> None:
    control = server.share_extension_dir / extension.CONTROL
    hidden = control.with_suffix(".hidden")
    control.rename(hidden)
    try:
        with pytest.raises(h.ExtensionFilesMissing) as caught:
            DBA(older.conninfo()).deploy("myapp")
    finally:
        hidden.rename(control)
    assert caught.value.sqlstate in ("0A000", "58P01")
    assert "hotmesh-dba extension sql --format plain" in (caught.value.hint or "")


def test_a_plain_install_is_used_as_it_is(older: Database) -> None:
    with closing(older.connect()) as conn:
        conn.execute(extension.sql("plain"))
        dba = DBA(older.conninfo())
        assert [a.object for a in dba.deploy("myapp") if "extension" in a.object] == []
        assert dba.prune("myapp").jobs == 0
        row = conn.execute("SELECT count(*) FROM pg_extension WHERE extname = 'hotmesh_dba'")
        assert row.fetchone() == (0,)


def test_an_older_plain_install_is_refused(older: Database) -> None:
    text = extension.sql("plain").replace(f"'{extension.version()}'", "'0.9.9'")
    with closing(older.connect()) as conn:
        conn.execute(text)
    with pytest.raises(h.VersionMismatch) as caught:
        DBA(older.conninfo()).deploy("myapp")
    assert "extension sql --format plain" in (caught.value.hint or "")


def test_a_superuser_runs_no_strangers_routines(older: Database, role: NewRole) -> None:
    stranger = role("stranger")
    with closing(older.connect()) as conn:
        conn.execute(
            f"""
            CREATE TABLE public.ran ();
            GRANT INSERT ON public.ran TO PUBLIC;
            CREATE SCHEMA hotmesh_dba AUTHORIZATION {stranger};
            GRANT USAGE ON SCHEMA hotmesh_dba TO PUBLIC;
            CREATE FUNCTION hotmesh_dba.version() RETURNS text LANGUAGE sql AS $$
                INSERT INTO public.ran DEFAULT VALUES; SELECT '1.0.0'; $$
            """
        )
        dba = DBA(older.conninfo())
        for call in (dba.apps, lambda: dba.prune("myapp"), lambda: dba.deploy("myapp")):
            with pytest.raises(h.UntrustedInstaller) as caught:
                call()
            assert stranger in caught.value.message
        assert conn.execute("SELECT count(*) FROM public.ran").fetchone() == (0,)


# --- 1.0.0, under this package ---------------------------------------------------------------


@pytest.fixture
def first(older: Database) -> Iterator[Connection]:
    """A database with an app and the extension 1.0.0."""
    with closing(older.connect()) as conn:
        conn.execute("CREATE EXTENSION hotmesh_dba VERSION '1.0.0'")
        conn.execute(
            "INSERT INTO myapp.jobs (key, status, expired_at)"
            " VALUES ('a', 0, now() - interval '9 days')"
        )
        yield conn


def installed(conn: Connection) -> str:
    """The version of the extension."""
    row = conn.execute("SELECT hotmesh_dba.version()").fetchone()
    assert row is not None
    return str(row[0])


def test_all_of_the_first_release_works(first: Connection, older: Database) -> None:
    dba = DBA(older.conninfo())
    assert dba.preview("myapp").jobs == 1
    assert dba.prune("myapp", attributes=True).jobs == 1
    assert [found.wrapper for found in dba.apps()] == ["ours"]
    assert [action.action for action in dba.undeploy("myapp")] == ["dropped"]
    assert installed(first) == "1.0.0", "nothing was upgraded"


def test_what_it_lacks_is_refused(first: Connection, older: Database) -> None:
    dba = DBA(older.conninfo())
    calls: list[tuple[str, Callable[[], object]]] = [
        ("prune_batched", lambda: dba.prune_batched("myapp")),
        ("prune_batched", lambda: dba.prune_batched("myapp", auto_deploy=False)),
        ("prune_batched", lambda: asyncio.run(AsyncDBA(older.conninfo()).prune_batched("myapp"))),
        ("runs", dba.runs),
        ("progress", dba.progress),
    ]
    for name, call in calls:
        with pytest.raises(h.VersionMismatch) as caught:
            call()
        assert caught.value.message.startswith(f"{name} needs hotmesh_dba 1.1.0")
        assert "1.0.0" in caught.value.message
        assert "ALTER EXTENSION hotmesh_dba UPDATE" in (caught.value.hint or "")
    assert [found.wrapper for found in dba.apps()] == ["none"], "refused before it deployed"
    assert first.execute("SELECT count(*) FROM myapp.jobs").fetchone() == (1,)


def test_after_deploy_it_works(first: Connection, older: Database) -> None:
    dba = DBA(older.conninfo())
    assert dba.deploy("myapp")[0].action == "updated"
    assert installed(first) == h.__version__
    assert dba.prune_batched("myapp").jobs == 1


def test_an_older_plain_install_lacks_runs(older: Database) -> None:
    with closing(older.connect()) as conn:
        conn.execute(extension.sql("plain"))
        conn.execute(
            "CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text LANGUAGE sql"
            " AS $$ SELECT '1.0.0' $$"
        )
    with pytest.raises(h.VersionMismatch) as caught:
        DBA(older.conninfo()).prune_batched("myapp")
    assert "extension sql --format plain" in (caught.value.hint or "")


def test_a_newer_minor_version_works(dba: DBA, conn: Connection, filled: str) -> None:
    conn.execute(SET_VERSION, ["1.9.0"])
    assert dba.prune_batched(filled).jobs == 2
    assert len(dba.runs()) == 1
    assert dba.progress() == []


def test_a_database_without_the_extension_gets_it(older: Database) -> None:
    dba = DBA(older.conninfo())
    with pytest.raises(h.NotInstalled):
        dba.prune_batched("myapp", auto_deploy=False)
    assert dba.prune_batched("myapp").state == "completed"
    assert [found.wrapper for found in dba.apps()] == ["ours"]
