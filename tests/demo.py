"""`make demo`: a private server, an app with 5,000 jobs, and what the documented calls do to it.

KEEP=1 leaves the server running and says how to reach and how to stop it.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from types import FrameType

from psycopg import sql
from psycopg.errors import Diagnostic
from psycopg.rows import dict_row
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .support.installation import InstallationError
from .support.layout import create_app
from .support.sample import load_sample
from .support.server import Connection, PrivateServer, forget_callers_variables

APP = "myapp"
JOBS = 5000

# Counts on a line.
PER_LINE = 2

PREVIEW = f"SELECT * FROM hotmesh_dba.preview('{APP}', '7 days', true, true, true)"

# The documented calls, each with what it is for.
CALLS = [
    ("strip only", "SELECT * FROM myapp.prune('0 seconds', false, false, true)"),
    (
        "old jobs of one entity",
        "SELECT * FROM myapp.prune('30 days', true, false, false, ARRAY['book'])",
    ),
    ("everything", "SELECT * FROM myapp.prune('7 days', true, true, true)"),
    (
        "a window for each stream table",
        "SELECT * FROM myapp.prune('7 days', true, false, false, NULL, false, false,\n"
        "                          true, true, INTERVAL '24 hours', INTERVAL '90 days')",
    ),
]

# For each table: the counts that speak of it, and the word for them.
TABLES = {
    "jobs": {
        "deleted_jobs": "deleted",
        "deleted_transient": "transient deleted",
        "marked_pruned": "marked",
    },
    "jobs_attributes": {"stripped_attributes": "stripped"},
    "engine_streams": {"deleted_engine_streams": "deleted"},
    "worker_streams": {"deleted_worker_streams": "deleted"},
    "signal_registry": {"deleted_signals": "deleted"},
}


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and bytes (with indexes and partitions) of a table."""

    rows: int
    size: int


def main() -> int:
    """Run the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    forget_callers_variables()
    # Piped output gets a fixed width, so that nothing is broken or cut.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    started = time.monotonic()
    try:
        with PrivateServer() as server:
            run(server, console)
            console.print(f"\nDone in {time.monotonic() - started:.1f} s.", style="green")
            if os.environ.get("KEEP", "") not in ("", "0"):
                _keep(server, console)
    except InstallationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the server is stopped and removed", file=sys.stderr)
        return 130
    return 0


def run(server: PrivateServer, console: Console) -> None:
    """Everything that the demo shows, on a server that was just started."""
    with server.connect() as conn:
        conn.add_notice_handler(lambda notice: _show_notice(console, notice))
        conn.execute("CREATE EXTENSION hotmesh_dba")
        create_app(conn, APP)
        sample = load_sample(conn, APP, jobs=JOBS)
        conn.execute("VACUUM ANALYZE")
        version = conn.info.parameter_status("server_version")
        console.print(
            f"PostgreSQL {version} on 127.0.0.1:{server.port}, a server of its own", style="bold"
        )
        console.print(
            f"App {APP}: {sample.jobs:,} jobs, {sample.attributes:,} attributes, "
            f"{sample.engine_messages + sample.worker_messages:,} messages, "
            f"{sample.signals:,} signals"
        )
        before = _sizes(conn)
        _deploy(conn, console)
        _call(conn, console, "preview", PREVIEW)
        total: Counter[str] = Counter()
        for title, call in CALLS:
            total.update(_call(conn, console, title, call))
        conn.execute("VACUUM FULL")
        console.print()
        console.print(_result(console, before, _sizes(conn), total))


def _deploy(conn: Connection, console: Console) -> None:
    call = f"SELECT action, object FROM hotmesh_dba.deploy('{APP}')"
    _title(console, "deploy", call)
    for action, thing in conn.execute(call.encode()):
        console.print(Text(f"  {action}  {thing}"), soft_wrap=True)


def _call(conn: Connection, console: Console, title: str, call: str) -> dict[str, int]:
    """Run a call, and print it with what it returned: a name and a value in each cell."""
    _title(console, title, call)
    with conn.cursor(row_factory=dict_row) as cursor:
        counts = cursor.execute(call.encode()).fetchone()
    assert counts is not None, call
    grid = Table.grid(padding=(0, 3, 0, 0))
    for column in range(2 * PER_LINE):
        grid.add_column(justify="right" if column % 2 else "left", min_width=22 - 15 * (column % 2))
    cells = [cell for name, value in counts.items() for cell in _cells(name, value)]
    for at in range(0, len(cells), 2 * PER_LINE):
        grid.add_row(*cells[at : at + 2 * PER_LINE])
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))
    return counts


def _show_notice(console: Console, notice: Diagnostic) -> None:
    lines = [f"{notice.severity}:  {notice.message_primary}"]
    lines += [f"DETAIL:  {notice.message_detail}"] if notice.message_detail else []
    lines += [f"HINT:  {notice.message_hint}"] if notice.message_hint else []
    text = Text("\n".join(f"  {line}" for line in lines), "yellow")
    console.print(text, soft_wrap=True)


def _title(console: Console, title: str, call: str) -> None:
    console.print(f"\n-- {title}", style="dim")
    console.print(Text(f"{call};", "cyan"), soft_wrap=True)


def _cells(name: str, value: int | bool) -> tuple[Text, Text]:
    plain = str(value).lower() if isinstance(value, bool) else f"{value:,}"
    return Text(name, "" if value else "dim"), Text(plain, "bold" if value else "dim")


def _sizes(conn: Connection) -> dict[str, Size]:
    return {table: _size(conn, table) for table in TABLES}


def _size(conn: Connection, table: str) -> Size:
    """A partitioned table has no bytes itself, so its partitions are added up."""
    query = sql.SQL(
        "SELECT (SELECT count(*) FROM {0}), sum(pg_total_relation_size(rel.oid))"
        "  FROM pg_class AS rel LEFT JOIN pg_inherits AS leaf ON leaf.inhrelid = rel.oid"
        " WHERE {1} IN (rel.oid, leaf.inhparent)"
    ).format(sql.Identifier(APP, table), sql.SQL("{}::regclass").format(f"{APP}.{table}"))
    row = conn.execute(query).fetchone()
    assert row is not None, table
    return Size(int(row[0]), int(row[1]))


def _result(
    console: Console, before: dict[str, Size], after: dict[str, Size], total: Counter[str]
) -> Table:
    """One table: rows and bytes before and after, and what the four calls returned."""
    table = Table(
        title=f"{APP} before and after the four calls",
        title_justify="left",
        box=box.ROUNDED if console.is_terminal else box.ASCII2,
        caption="Bytes after: once VACUUM FULL has rewritten the tables. Autovacuum alone makes\n"
        "the space free for new rows, but does not give it back to the disk.",
        caption_justify="left",
        show_footer=True,
    )
    sums = [_sum(before), _sum(after)]
    table.add_column("table", footer="all")
    for heading, footer in (
        ("rows", f"{sums[0].rows:,}"),
        ("after", f"{sums[1].rows:,}"),
        ("bytes", _bytes(sums[0].size)),
        ("after", _bytes(sums[1].size)),
    ):
        table.add_column(heading, footer=footer, justify="right")
    table.add_column("counts returned")
    for name, words in TABLES.items():
        gone = before[name].rows - after[name].rows
        told = [f"{total[count]:,} {word}" for count, word in words.items() if total[count]]
        if name == "jobs_attributes":
            told.append(f"{gone - total['stripped_attributes']:,} cascaded")
        table.add_row(
            name,
            f"{before[name].rows:,}",
            f"{after[name].rows:,}",
            _bytes(before[name].size),
            _bytes(after[name].size),
            "\n".join(told),
        )
    return table


def _sum(sizes: dict[str, Size]) -> Size:
    return Size(sum(s.rows for s in sizes.values()), sum(s.size for s in sizes.values()))


def _bytes(number: int) -> str:
    return (
        f"{number / 1024 / 1024:,.1f} MB" if number >= 1024 * 1024 else f"{number / 1024:,.0f} kB"
    )


def _keep(server: PrivateServer, console: Console) -> None:
    psql = shlex.join(server.psql_command())
    stop = server.keep()
    console.print("\nThe server is still running. Open it with", style="bold")
    console.print(f"  {psql}", soft_wrap=True)
    console.print("and stop it, and remove all of it, with", style="bold")
    console.print(f"  {stop}", soft_wrap=True)


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- signal's names
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
