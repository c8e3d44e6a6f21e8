"""pg_dump and restore bring everything back: wrapper, column, index, grants, and prune works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Connect, Database, NewApp, NewDatabase, NewRole
from tests.deploy.observe import catalogue, contents, deploy, run, state
from tests.deploy.plain import install_plain
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import HOST, Connection

CALL = "SELECT * FROM \"My App\".prune('7 days', true, true, true)"


def program(database: Database, name: str, *arguments: str) -> None:
    """Run one of the server's own programs on a database."""
    where = ["-h", HOST, "-p", str(database.server.port), "-U", "postgres", "-d", database.name]
    done = subprocess.run(
        [str(database.server.bin_dir / name), *where, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def copy_of(source: Database, target: Database, archive: Path, form: str) -> None:
    """Dump one database and restore it into another."""
    program(source, "pg_dump", f"--format={form}", f"--file={archive}")
    if form == "plain":
        program(target, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(archive))
    else:
        program(target, "pg_restore", "--exit-on-error", str(archive))


def data_of(conn: Connection, schema: str) -> dict[str, list[str]]:
    """Every row, without the transaction that wrote it."""
    return {
        table: sorted(row.split(" ", 1)[1] for row in rows)
        for table, rows in contents(conn, schema).items()
    }


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_everything_comes_back(
    db: Database,
    conn: Connection,
    connect: Connect,
    app: NewApp,
    role: NewRole,
    new_database: NewDatabase,
    tmp_path: Path,
    form: str,
) -> None:
    owner, cron = role("owner"), role("cron")
    app("My App", "mixture", owner)
    app("untouched", "0.11", owner)
    deploy(connect(owner), "My App")
    load_sample(conn, "My App", jobs=60, attributes=5)
    run(
        conn,
        'REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA "My App" FROM PUBLIC;'
        f'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA "My App" TO {cron};'
        f'GRANT USAGE ON SCHEMA "My App" TO {cron};'
        f'GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA "My App" TO {cron}',
    )
    objects = catalogue(conn, "My App", transactions=False)
    rows = data_of(conn, "My App")

    restored = new_database()
    copy_of(db, restored, tmp_path / "dump", form)

    with restored.connect() as copy:
        assert catalogue(copy, "My App", transactions=False) == objects
        assert data_of(copy, "My App") == rows
        assert state(copy, "My App") == ("ours", True, True)
        assert state(copy, "untouched") == ("foreign", False, False)
        assert deploy(copy, "My App") == []
        with copy.transaction(force_rollback=True):
            expected = run(copy, CALL)
        with copy.transaction(force_rollback=True):
            run(copy, f"SET LOCAL ROLE {owner}")
            assert run(copy, CALL) == expected != [(0,) * 8]
    with restored.connect(cron) as copy:
        deleted = run(copy, "SELECT deleted_jobs FROM \"My App\".prune('7 days')")
        assert deleted == [(expected[0][0],)]


def test_a_plain_install_comes_back(
    new_database: NewDatabase, role: NewRole, tmp_path: Path
) -> None:
    source, target, owner = new_database(), new_database(), role("owner")
    with source.connect() as admin:
        run(admin, f"GRANT CREATE ON DATABASE {source.name} TO {owner}")
    with source.connect(owner) as conn:
        install_plain(conn)
        create_app(conn, "myapp", "mixture")
        deploy(conn, "myapp")
        load_sample(conn, "myapp", jobs=60, attributes=5)
        surface = catalogue(conn, "hotmesh_dba", transactions=False)
        objects = catalogue(conn, "myapp", transactions=False)
    copy_of(source, target, tmp_path / "dump", "custom")
    with target.connect(owner) as conn:
        assert catalogue(conn, "hotmesh_dba", transactions=False) == surface
        assert catalogue(conn, "myapp", transactions=False) == objects
        assert state(conn, "myapp") == ("ours", True, True)
        assert deploy(conn, "myapp") == []
        assert run(conn, "SELECT deleted_jobs > 0 FROM myapp.prune('7 days')") == [(True,)]
