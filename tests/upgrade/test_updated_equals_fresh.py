"""An updated database has just what a fresh one has, and the comparison sees a difference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.support.server import PrivateServer

from .catalogue import Catalogue, catalogue, differences
from .made_up import CHANGES, NEW, OLD, build_releases, replace


class Releases:
    """Puts made-up scripts where the server looks for them, and takes them away again."""

    def __init__(self, server: PrivateServer, root: Path, new_database: NewDatabase) -> None:
        self.directory = server.share_extension_dir
        self.root = root
        self.new_database = new_database
        self.placed: list[Path] = []

    def install(self, changes: str) -> None:
        for script in build_releases(self.root, changes):
            target = self.directory / script.name
            shutil.copy(script, target)
            self.placed.append(target)

    def updated_and_fresh(self) -> tuple[Catalogue, Catalogue]:
        with self.new_database().connect() as conn:
            conn.execute(f"CREATE EXTENSION hotmesh_dba VERSION '{OLD}'".encode())
            conn.execute(f"ALTER EXTENSION hotmesh_dba UPDATE TO '{NEW}'".encode())
            updated = catalogue(conn)
        with self.new_database().connect() as conn:
            conn.execute(f"CREATE EXTENSION hotmesh_dba VERSION '{NEW}'".encode())
            return updated, catalogue(conn)


@pytest.fixture
def releases(
    server: PrivateServer, tmp_path: Path, new_database: NewDatabase
) -> Iterator[Releases]:
    made = Releases(server, tmp_path / "made_up", new_database)
    yield made
    for path in made.placed:
        path.unlink()


def test_an_updated_database_equals_a_fresh_one(releases: Releases) -> None:
    releases.install(CHANGES)
    updated, fresh = releases.updated_and_fresh()
    assert differences(updated, fresh) == []
    routine = fresh["member pg_proc function hotmesh_dba._normalised(text)"]
    assert "rtrim" in routine["definition"]
    assert fresh["table hotmesh_dba.shelf r"]["dump_condition"] == "WHERE id > 0"


def test_the_comparison_covers_every_object_of_the_schema(releases: Releases) -> None:
    releases.install(CHANGES)
    with releases.new_database().connect() as conn:
        conn.execute(f"CREATE EXTENSION hotmesh_dba VERSION '{NEW}'".encode())
        found = catalogue(conn)
        row = conn.execute(
            "SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid"
            "   AND relkind IN ('r', 'v', 'S'))"
            " FROM pg_namespace n WHERE nspname = 'hotmesh_dba'"
        ).fetchone()
    assert row is not None
    functions = [key for key in found if key.startswith("member pg_proc function")]
    tables = [key for key in found if key.startswith("table ")]
    assert (len(functions), len(tables)) == row
    assert len(functions) > 40


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        pytest.param(
            "COMMENT ON TABLE hotmesh_dba.shelf IS 'Where things stand.';\n",
            "",
            ["member pg_class table hotmesh_dba.shelf"],
            id="comment",
        ),
        pytest.param(
            "COMMENT ON COLUMN hotmesh_dba.shelf.place IS 'Which of them.';\n",
            "",
            ["column hotmesh_dba.shelf place"],
            id="column-comment",
        ),
        pytest.param(
            "GRANT SELECT ON hotmesh_dba.shelf TO PUBLIC;\n",
            "",
            ["member pg_class table hotmesh_dba.shelf"],
            id="grant",
        ),
        pytest.param(
            "ALTER TABLE hotmesh_dba.shelf ADD COLUMN place text DEFAULT 'top';\n"
            "ALTER TABLE hotmesh_dba.shelf ADD COLUMN width int;\n",
            "ALTER TABLE hotmesh_dba.shelf ADD COLUMN width int;\n"
            "ALTER TABLE hotmesh_dba.shelf ADD COLUMN place text DEFAULT 'top';\n",
            ["column hotmesh_dba.shelf place", "column hotmesh_dba.shelf width"],
            id="column-order",
        ),
        pytest.param(
            "SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.shelf', 'WHERE id > 0');\n",
            "",
            ["table hotmesh_dba.shelf r"],
            id="dump-condition",
        ),
    ],
)
def test_a_forgotten_change_is_found(
    releases: Releases, old: str, new: str, differs: list[str]
) -> None:
    assert old in CHANGES
    releases.install(CHANGES.replace(old, new))
    assert differences(*releases.updated_and_fresh()) == differs


def test_a_forgotten_routine_is_found(releases: Releases) -> None:
    releases.install(CHANGES)
    step = releases.directory / f"hotmesh_dba--{OLD}--{NEW}.sql"
    replace(step, "SELECT rtrim(", "SELECT upper(")
    updated, fresh = releases.updated_and_fresh()
    assert differences(updated, fresh) == ["member pg_proc function hotmesh_dba._normalised(text)"]
