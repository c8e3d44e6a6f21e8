"""A made-up release 0.9.9 and its successor 0.9.10, built by sql/build.py from changed sources.

0.9.9 is the checkout with a table `shelf` and another text in one routine; 0.9.10 adds a column,
a comment and a grant to the table and has the routine as the checkout has it.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

from tests.support.installation import CHECKOUT

OLD, NEW = "0.9.9", "0.9.10"

OLD_TABLE = """\
CREATE TABLE hotmesh_dba.shelf (id int PRIMARY KEY, note text);
"""

NEW_TABLE = """\
CREATE TABLE hotmesh_dba.shelf (id int PRIMARY KEY, note text, place text DEFAULT 'top', width int);
COMMENT ON TABLE hotmesh_dba.shelf IS 'Where things stand.';
COMMENT ON COLUMN hotmesh_dba.shelf.place IS 'Which of them.';
GRANT SELECT ON hotmesh_dba.shelf TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.shelf', 'WHERE id > 0');
"""

CHANGES = """\
ALTER TABLE hotmesh_dba.shelf ADD COLUMN place text DEFAULT 'top';
ALTER TABLE hotmesh_dba.shelf ADD COLUMN width int;
COMMENT ON TABLE hotmesh_dba.shelf IS 'Where things stand.';
COMMENT ON COLUMN hotmesh_dba.shelf.place IS 'Which of them.';
GRANT SELECT ON hotmesh_dba.shelf TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.shelf', 'WHERE id > 0');
"""

OLD_ROUTINE = "SELECT rtrim("
CHANGED_ROUTINE = "SELECT upper("


def load_build(root: Path = CHECKOUT) -> ModuleType:
    """sql/build.py as a module; it is a script beside the source, in no package."""
    spec = importlib.util.spec_from_file_location("build", root / "sql" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_source(root: Path, version: str) -> Path:
    """A checkout's sql/ and control file in `root`, as version `version` and with nothing built."""
    shutil.copytree(CHECKOUT / "sql", root / "sql", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(root / "sql" / "upgrade")
    (root / "sql" / "upgrade").mkdir()
    (root / "extension").mkdir()
    set_version(root, version)
    return root


def set_version(root: Path, version: str) -> None:
    """Gives the copy's control file another version."""
    text = (CHECKOUT / "hotmesh_dba.control").read_text()
    lines = [
        f"default_version = '{version}'" if line.startswith("default_version") else line
        for line in text.splitlines()
    ]
    (root / "hotmesh_dba.control").write_text("\n".join(lines) + "\n")


def replace(path: Path, old: str, new: str) -> None:
    """Replaces text that must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new))


def build_releases(root: Path, changes: str = CHANGES) -> list[Path]:
    """Builds both releases and the step between them, with `changes` as its table changes."""
    copy_source(root, OLD)
    build = load_build()
    replace(root / "sql" / "order.txt", "schema.sql\n", "schema.sql\nshelf.sql\n")
    (root / "sql" / "shelf.sql").write_text(OLD_TABLE)
    replace(root / "sql" / "app.sql", OLD_ROUTINE, CHANGED_ROUTINE)
    build.build(build.Source(root))

    set_version(root, NEW)
    (root / "sql" / "shelf.sql").write_text(NEW_TABLE)
    replace(root / "sql" / "app.sql", CHANGED_ROUTINE, OLD_ROUTINE)
    (root / "sql" / "upgrade" / f"{OLD}--{NEW}.sql").write_text(changes)
    build.build(build.Source(root))
    return sorted((root / "extension").glob("*.sql"))
