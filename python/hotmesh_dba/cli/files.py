"""The commands about the extension's own files."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated

import typer

from hotmesh_dba import DBA, extension
from hotmesh_dba.cli.arguments import Dsn, Json
from hotmesh_dba.cli.ending import reporting
from hotmesh_dba.cli.output import note, show_json, show_table


class Format(str, Enum):
    """The kinds of script."""

    plain = "plain"
    pgtle = "pgtle"


def install(
    pg_config: Annotated[
        str, typer.Option(help="pg_config of the server.", metavar="PATH")
    ] = "pg_config",
    as_json: Json = False,
) -> None:
    """Copy the extension's files to where a server on this machine looks for them."""
    with reporting(as_json):
        written = [str(path) for path in extension.install(pg_config)]
    if as_json:
        show_json(written)
    else:
        print("\n".join(written))
    note("next: hotmesh-dba deploy APP")


def print_sql(
    kind: Annotated[
        Format,
        typer.Option("--format", help="plain: for psql; pgtle: a registration with pg_tle."),
    ],
    as_json: Json = False,
) -> None:
    """Print the extension as one script, for servers where no file can be copied."""
    script = extension.sql(kind.value)
    if as_json:
        show_json({"format": kind.value, "version": extension.version(), "sql": script})
    else:
        print(script, end="")


def status(dsn: Dsn = "", as_json: Json = False) -> None:
    """Show which version a database has, which its server offers, and which this package is."""
    with reporting(as_json):
        found = DBA(dsn).installation()
    record = asdict(found)
    record["files"] = [str(path) for path in [extension.control_file(), *extension.scripts()]]
    if as_json:
        show_json(record)
        return
    kind = "plain install" if found.plain else "extension"
    rows = [
        ("in the database", f"{found.installed} ({kind})" if found.installed else "not installed"),
        ("the server's files", found.available or "none"),
        ("this package", found.package),
        ("its files", str(extension.control_file().parent)),
    ]
    show_table([{"where": where, "version": version} for where, version in rows], _COLUMNS)
    advice = _advice(found.installed, found.plain, found.available)
    if advice:
        note(f"next: {advice}")


_COLUMNS = ("where", "version")


def _advice(installed: str | None, plain: bool, available: str | None) -> str | None:
    """Return what to type next, where the database has another version than this package."""
    if installed == extension.version():
        return None
    if plain or (installed is None and available is None):
        return "hotmesh-dba extension install, or extension sql --format plain | psql"
    if available != extension.version():
        return "hotmesh-dba extension install, then hotmesh-dba deploy APP"
    return "hotmesh-dba deploy APP"
