"""Joins sql/ into the scripts that PostgreSQL loads. Standard library only.

    python3 sql/build.py               write extension/hotmesh_dba--*.sql
    python3 sql/build.py --check       fail where one is stale, or a released one has changed
    python3 sql/build.py --dist DIR    write the plain and pg_tle scripts into DIR
    python3 sql/build.py --release     freeze the current version's scripts in extension/SHA256SUMS

The version stands in hotmesh_dba.control, the order of the files in sql/order.txt. Routines are
written once, CREATE OR REPLACE, and go whole into the install script (without OR REPLACE: there
is nothing to replace, and nothing of somebody else's may be) and into every upgrade script. What
a database keeps is made by the [tables] files and changed by sql/upgrade/<from>--<to>.sql alone.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

NAME = "hotmesh_dba"
GUARD = '\\echo Use "{statement}" to load this file. \\quit\n'


class Source:
    """The checkout's sql/ and control file; a test points it at a made-up one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sql = root / "sql"
        self.extension = root / "extension"
        self.control = (root / f"{NAME}.control").read_text()

    @property
    def version(self) -> str:
        return self.setting("default_version")

    def setting(self, name: str) -> str:
        match = re.search(rf"^{name}\s*=\s*'(.*)'", self.control, re.MULTILINE)
        if match is None:
            raise SystemExit(f"{NAME}.control: no {name}")
        return match[1]

    def section(self, name: str) -> str:
        """The files of one section of order.txt, joined, each under its name."""
        lines = (self.sql / "order.txt").read_text().splitlines()
        start = lines.index(f"[{name}]") + 1
        files = []
        for line in lines[start:]:
            if line.startswith("["):
                break
            if line and not line.startswith("#"):
                files.append(line)
        return "\n".join(self.file(path) for path in files)

    def file(self, path: str) -> str:
        text = (self.sql / path).read_text().replace("@version@", self.version)
        return f"-- sql/{path}\n\n{text}"

    def unlisted(self) -> list[str]:
        """SQL files that order.txt forgets."""
        listed = (self.sql / "order.txt").read_text().splitlines()
        found = [path.relative_to(self.sql).as_posix() for path in self.sql.rglob("*.sql")]
        return sorted(
            path
            for path in found
            if path not in listed and not path.startswith(("upgrade/", "examples/"))
        )

    def upgrades(self) -> list[Path]:
        """Table changes that lead, step by step, to the current version, oldest first."""
        return sorted((self.sql / "upgrade").glob("*--*.sql"), key=lambda path: order(path.stem))


def order(step: str) -> list[int]:
    """Sorts '1.9.0--1.10.0' by number."""
    return [int(number) for number in re.findall(r"\d+", step)]


# What an update finds keeps the rights that were granted and revoked; rights.sql opens the rest.
KEEP_RIGHTS = """\
-- The routines that are there keep the rights that were granted and revoked on them.
DO $keep$
BEGIN
    PERFORM pg_catalog.set_config('hotmesh_dba.routines_before',
                                  pg_catalog.string_agg(p.oid::pg_catalog.text, ','), true)
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = pg_catalog.to_regnamespace('hotmesh_dba');
END
$keep$;
"""


def install_script(source: Source) -> str:
    routines = re.sub(
        r"^CREATE OR REPLACE ", "CREATE ", source.section("routines"), flags=re.MULTILINE
    )
    guard = GUARD.format(statement=f"CREATE EXTENSION {NAME}")
    return f"{guard}\n{source.section('tables')}\n{routines}"


def upgrade_script(source: Source, step: Path) -> str:
    version = step.stem.split("--")[1]
    statement = f"ALTER EXTENSION {NAME} UPDATE TO '{version}'"
    changes = f"-- sql/upgrade/{step.name}\n\n{step.read_text()}"
    guard = GUARD.format(statement=statement)
    return f"{guard}\n{KEEP_RIGHTS}\n{changes}\n{source.section('routines')}"


def scripts(source: Source) -> dict[str, str]:
    """What stands in extension/ for the current version: its install script and the steps to it."""
    result = {f"{NAME}--{source.version}.sql": install_script(source)}
    for step in source.upgrades():
        if step.stem.endswith(f"--{source.version}"):
            result[f"{NAME}--{step.name}"] = upgrade_script(source, step)
    return result


def plain_script(source: Source) -> str:
    """The same schema and routines without CREATE EXTENSION; running it again changes nothing,
    running a newer one upgrades. One transaction, plain SQL: any client can send it."""
    steps = [
        f"    IF v_installed = '{step.stem.split('--')[0]}' THEN\n"
        f"{without_extension(step.read_text())}"
        f"        v_installed := '{step.stem.split('--')[1]}';\n    END IF;\n"
        for step in source.upgrades()
    ]
    return PLAIN.format(
        name=NAME,
        version=source.version,
        keep_rights=KEEP_RIGHTS,
        tables=without_extension(source.section("tables")),
        steps="".join(steps),
        routines=source.section("routines"),
    )


def without_extension(text: str) -> str:
    """Without the calls that only an extension's script may make."""
    return re.sub(
        r"^SELECT pg_catalog\.pg_extension_config_dump\(.*\n", "", text, flags=re.MULTILINE
    )


PLAIN = """\
-- {name} {version} for servers where no file can be copied: run it with any client, as one role.
-- It may be run again, also over an older version. Remove it with: DROP SCHEMA {name} CASCADE;
-- The role that runs it owns the routines, and is trusted by everyone who prunes (SECURITY.md).

BEGIN;
SET LOCAL client_min_messages = warning;
-- As CREATE EXTENSION sets it: no operator of anybody else's is taken for the catalogue's.
SET LOCAL search_path = pg_catalog, pg_temp;

{keep_rights}
DO $plain$
DECLARE
    v_installed text;
    v_exists    boolean;
    v_object    text;
    v_owner     name;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = '{name}') THEN
        RAISE EXCEPTION 'extension {name} is installed in this database'
            USING ERRCODE = 'duplicate_object',
                  DETAIL = 'Its routines belong to the extension.',
                  HINT = 'ALTER EXTENSION {name} UPDATE;';
    END IF;
    -- Whoever owns a part of what stands there could have changed it, and version() is called
    -- below with our rights: a superuser takes only what belongs to superusers. Looked up before,
    -- in this order, so that nothing made meanwhile is called either.
    v_exists := EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = '{name}');
    SELECT pg_catalog.pg_describe_object(o.class, o.oid, 0), r.rolname INTO v_object, v_owner
    FROM (SELECT n.tableoid AS class, n.oid, n.nspowner AS owner, n.oid AS schema, 1 AS position
          FROM pg_catalog.pg_namespace n
          UNION ALL
          SELECT p.tableoid, p.oid, p.proowner, p.pronamespace, 2 FROM pg_catalog.pg_proc p
          UNION ALL
          SELECT c.tableoid, c.oid, c.relowner, c.relnamespace, 3 FROM pg_catalog.pg_class c
          UNION ALL
          SELECT t.tableoid, t.oid, t.typowner, t.typnamespace, 4 FROM pg_catalog.pg_type t) o
    JOIN pg_catalog.pg_namespace n ON n.oid = o.schema AND n.nspname = '{name}'
    JOIN pg_catalog.pg_roles r ON r.oid = o.owner
    JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    WHERE NOT CASE WHEN me.rolsuper THEN r.rolsuper
                   ELSE pg_catalog.pg_has_role(r.oid, 'USAGE') END
    ORDER BY o.position
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% belongs to somebody else', v_object
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = pg_catalog.format(
                      'Role "%s" owns it, and could change what "%s" would run.',
                      v_owner, current_user),
                  HINT = 'Run this script as the role that installed {name}, or first: '
                         'DROP SCHEMA {name} CASCADE;';
    END IF;
    IF v_exists AND pg_catalog.to_regprocedure('{name}.version()') IS NOT NULL THEN
        SELECT {name}.version() INTO v_installed;
    ELSE
{tables}
        v_installed := '{version}';
    END IF;
{steps}    IF v_installed <> '{version}' THEN
        RAISE EXCEPTION '{name} % cannot be brought to {version} by this script', v_installed
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It knows the way from released, older versions only.',
                  HINT = 'Take the script of the newest release.';
    END IF;
END
$plain$;

{routines}
COMMIT;
"""


def pgtle_script(source: Source) -> str:
    """The extension handed to pg_tle, with every update path that is committed."""
    version = source.version
    current = source.extension / f"{NAME}--{version}.sql"
    calls = [
        f"SELECT pgtle.install_extension(\n  '{NAME}', '{version}',\n"
        f"  {quoted(source.setting('comment'))},\n{body(current)},\n"
        "  schema => 'pg_catalog');"
    ]
    for path in update_paths(source):
        old, new = path.stem.removeprefix(f"{NAME}--").split("--")
        calls.append(
            f"SELECT pgtle.install_update_path('{NAME}', '{old}', '{new}',\n{body(path)});"
        )
    calls.append(f"SELECT pgtle.set_default_version('{NAME}', '{version}');")
    return (
        f"-- {NAME} {version} for pg_tle: run it as a member of pgtle_admin,"
        f" then CREATE EXTENSION {NAME}.\n\nBEGIN;\n\n" + "\n\n".join(calls) + "\n\nCOMMIT;\n"
    )


def update_paths(source: Source) -> list[Path]:
    found = source.extension.glob(f"{NAME}--*--*.sql")
    return sorted(found, key=lambda path: order(path.stem))


def body(path: Path) -> str:
    """A script as a literal, without its \\echo guard: pg_tle runs no psql command."""
    text = re.sub(r"^\\echo.*$", "", path.read_text(), flags=re.MULTILINE)
    return f"$_pgtle_${text}$_pgtle_$"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def released(source: Source) -> dict[str, str]:
    """File name to checksum of every script that has been released, as sha256sum writes them."""
    path = source.extension / "SHA256SUMS"
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: checksum for checksum, name in (line.split("  ") for line in lines)}


def problems(source: Source) -> Iterator[str]:
    """What --check finds: each line names a file and what to do."""
    for name in source.unlisted():
        yield f"sql/{name} is in no section of sql/order.txt"
    frozen = released(source)
    for name, checksum in frozen.items():
        path = source.extension / name
        if not path.exists() or sha256(path.read_text()) != checksum:
            yield f"extension/{name} was released and must not change"
    for name, text in scripts(source).items():
        path = source.extension / name
        if path.exists() and path.read_text() == text:
            continue
        if name in frozen:
            yield (
                f"sql/ differs from the released extension/{name}:"
                f" give {NAME}.control a new version, with sql/upgrade/<old>--<new>.sql"
            )
        else:
            yield f"extension/{name} is stale: run python3 sql/build.py"


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def build(source: Source) -> None:
    """Writes the current version's scripts; a released one only if it stays as it is."""
    frozen = released(source)
    files = scripts(source)
    for name, text in files.items():
        if name in frozen and sha256(text) != frozen[name]:
            raise SystemExit("\n".join(problems(source)))
    write(source.extension, files)


def release(source: Source) -> None:
    build(source)
    sums = released(source) | {name: sha256(text) for name, text in scripts(source).items()}
    lines = [f"{checksum}  {name}\n" for name, checksum in sorted(sums.items())]
    (source.extension / "SHA256SUMS").write_text("".join(lines))


def dist_scripts(source: Source) -> dict[str, str]:
    makers: dict[str, Callable[[Source], str]] = {"plain": plain_script, "pgtle": pgtle_script}
    return {f"{NAME}--{source.version}.{form}.sql": make(source) for form, make in makers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="fail where a script is stale")
    group.add_argument("--dist", type=Path, metavar="DIR", help="write plain and pg_tle scripts")
    group.add_argument("--release", action="store_true", help="freeze the current scripts")
    arguments = parser.parse_args()
    source = Source(Path(__file__).resolve().parent.parent)
    if arguments.check:
        if found := list(problems(source)):
            sys.exit("\n".join(found))
    elif arguments.dist:
        write(arguments.dist, dist_scripts(source))
    elif arguments.release:
        release(source)
    else:
        build(source)


if __name__ == "__main__":
    main()
