"""App schemas in every layout that HotMesh has had (contract of the tables, current and older).

The DDL in layouts/ is our own: it has HotMesh's tables, columns, keys, partitions, indexes and
triggers, and none of its text. A layout is a list of those files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from .server import Connection

DIRECTORY = Path(__file__).parent / "layouts"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which a HotMesh release leaves its schema.

    Attributes:
        what: which releases it belongs to, and how it differs.
        files: the templates it is made of, in order.
        prunes: the numbers of arguments of its own `prune` functions.
        by_field: whether attributes have the one column `field` for symbol and dimension.
        one_streams: whether the table `streams` is there.
        two_streams: whether engine_streams and worker_streams are there.
        pruned_at: whether jobs can be marked as stripped.
    """

    what: str
    files: tuple[str, ...]
    prunes: tuple[int, ...] = ()
    by_field: bool = False
    one_streams: bool = False
    two_streams: bool = False
    pruned_at: bool = False


_MARK = ("pruned_at", "pruned_at_index")
_FIELD = ("schema", "jobs_field", "streams_one", "signals")
_SPLIT = ("schema", "jobs_current", "streams_two", "signals")

LAYOUTS: dict[str, Layout] = {
    "current": Layout(
        "0.26.2: everything, and no prune function yet",
        (*_SPLIT, *_MARK, "signals_index"),
        two_streams=True,
        pruned_at=True,
    ),
    "pre-0.10": Layout(
        "before 0.10: attributes by field, one table streams, no prune function",
        _FIELD,
        by_field=True,
        one_streams=True,
    ),
    "0.10.0": Layout(
        "as before, with the four-argument prune",
        (*_FIELD, "prune_4"),
        prunes=(4,),
        by_field=True,
        one_streams=True,
    ),
    "0.10.2": Layout(
        "the seven-argument prune over one table streams; pruned_at without its index",
        (*_FIELD, "pruned_at", "prune_7_one"),
        prunes=(7,),
        by_field=True,
        one_streams=True,
        pruned_at=True,
    ),
    "0.11": Layout(
        "the seven-argument prune over two stream tables; pruned_at is missing",
        (*_SPLIT, "prune_7_two"),
        prunes=(7,),
        two_streams=True,
    ),
    "0.13": Layout(
        "the eleven-argument prune",
        (*_SPLIT, *_MARK, "prune_11"),
        prunes=(11,),
        two_streams=True,
        pruned_at=True,
    ),
    "0.14.5": Layout(
        "the twelve-argument prune with the eight columns, and the index on signals",
        (*_SPLIT, *_MARK, "signals_index", "prune_12"),
        prunes=(12,),
        two_streams=True,
        pruned_at=True,
    ),
    "mixture": Layout(
        "what 0.10.0 to 0.13 leave together: three overloads, streams beside the newer tables",
        (*_SPLIT, *_MARK, "streams_one", "prune_4", "prune_7_one", "prune_11"),
        prunes=(4, 7, 11),
        one_streams=True,
        two_streams=True,
        pruned_at=True,
    ),
}


def create_app(
    conn: Connection, schema: str, layout: str = "current", owner: str | None = None
) -> None:
    """Create an app schema; `owner` (the connected role by default) owns all that is in it.

    Raises:
        KeyError: where LAYOUTS has no such layout.
        psycopg.Error: where the schema exists already, or a right is missing.
    """
    files = LAYOUTS[layout].files
    name = sql.Identifier(schema)
    with conn.transaction():
        if owner is None:
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        else:
            role = sql.Identifier(owner)
            conn.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(name, role))
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
        for file in files:
            _run(conn, file, schema)
        if owner is not None:
            conn.execute("RESET ROLE")


def sdk_replace(conn: Connection, schema: str) -> None:
    """Do what HotMesh's own SDK does whenever it prunes: replace the twelve-argument function."""
    _run(conn, "prune_12", schema)


def _run(conn: Connection, file: str, schema: str) -> None:
    template = (DIRECTORY / f"{file}.sql").read_text()
    conn.execute(
        sql.SQL(template).format(schema=sql.Identifier(schema), schema_text=sql.Literal(schema))
    )
