"""Data to stdout; errors, warnings and advice to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hotmesh_dba.cli.printable import printable, printable_json

Record = dict[str, Any]


@dataclass(slots=True)
class _Mode:
    """How this call of the command speaks."""

    as_json: bool = False
    app: str | None = None
    """With --all-apps the one whose turn it is."""
    columns: tuple[str, ...] | None = None
    """The header that the pipe has seen last."""
    bars: Console | None = None
    """What is said while bars stand on the terminal goes above them, by their console."""


_mode = _Mode()


def speak_json(as_json: bool) -> None:
    """Say whether stderr is for programs too: a JSON object a line."""
    _mode.as_json = as_json


def for_programs() -> bool:
    """Return whether stderr is for programs too."""
    return _mode.as_json


@contextmanager
def about(app: str) -> Iterator[None]:
    """Name the app in all that is shown meanwhile."""
    _mode.app = app
    if not _mode.as_json and sys.stdout.isatty():
        Console().print(Text(f"\n{printable(app)}", style="bold"))
    try:
        yield
    finally:
        _mode.app = None


def to_person() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def show_json(data: object) -> None:
    """Write data for programs."""
    print(printable_json(data, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")


def show_table(
    records: Sequence[Record], columns: Sequence[str], spare: Sequence[str] = ()
) -> None:
    """Write rows: a table on a terminal; a header and tab-separated lines into a pipe.

    :param spare: the columns that a narrow terminal does without, the first to go first.
    """
    if not records:
        return
    if to_person():
        draw_table(Console(), records, columns, spare)
    else:
        _show_lines(records, tuple(columns))


def draw_table(
    console: Console, records: Sequence[Record], columns: Sequence[str], spare: Sequence[str] = ()
) -> None:
    """Draw rows as `show_table` does on a terminal; where no table fits, one below the other."""
    every = [column for column in columns if any(_words(r[column]) for r in records)]
    kept = list(every)
    for column in (None, *(c for c in spare if c in every)):
        if column is not None:
            kept.remove(column)
        if _room(console, _table(records, kept, _CAP)).maximum <= console.width:
            console.print(_table(records, kept))
            return
    if _room(console, _table(records, kept, _CAP)).minimum <= console.width:  # no word is cut
        console.print(_table(records, kept))
        return
    for place, record in enumerate(records):
        if place:
            console.print()
        console.print(_block(record, every))


_CAP = 24
"""What is longer may as well be folded."""


def _room(console: Console, table: Table) -> Measurement:
    return console.measure(table, options=console.options.update(width=9999))


def _block(record: Record, columns: Sequence[str]) -> Table:
    """Return a row as lines of its own, a column a line; nothing is left out but what is empty."""
    block = Table.grid(padding=(0, 2))
    block.add_column(style="bold", no_wrap=True)
    block.add_column(overflow="fold")
    for column in columns:
        words = printable(_words(record[column]))
        if words:
            block.add_row(column, Text(words))
    return block


def _show_lines(records: Sequence[Record], columns: tuple[str, ...]) -> None:
    first = () if _mode.app is None else ("app",)
    own = tuple(c for c in columns if c not in first)
    if _mode.app is None or _mode.columns != columns:
        print("\t".join((*first, *own)))
    _mode.columns = columns
    for record in records:
        cells = [_mode.app] if _mode.app else []
        cells += [_plain_words(record[column]) for column in own]
        print("\t".join(map(_one_line, cells)))


def _one_line(text: str) -> str:
    return printable(text.translate({ord("\n"): " ", ord("\t"): " "}))


def _table(records: Sequence[Record], columns: Sequence[str], cap: int | None = None) -> Table:
    table = Table(header_style="bold")
    for column in columns:
        values = [record[column] for record in records if record[column] is not None]
        number = all(type(value) in (int, float) for value in values) and values
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for record in records:  # Text: a name may look like Rich markup
        table.add_row(*(Text(printable(_words(record[column]))[:cap]) for column in columns))
    return table


def _words(value: object) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _plain_words(value)


def _plain_words(value: object) -> str:
    """Return a value as a pipe has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, timedelta):
        return duration(value)
    return str(value)


def duration(value: timedelta) -> str:
    """Return a duration in whole seconds, or in tenths where it is short."""
    seconds = value.total_seconds()
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def size(value: int) -> str:
    """Return a number of bytes as people say it."""
    number = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def say(message: str, style: str = "") -> None:
    """Say something to the person at the terminal, on stderr."""
    console = _mode.bars or Console(stderr=True)
    console.print(Text(printable(message), style=style), soft_wrap=True, highlight=False)


@contextmanager
def above(bars: Console) -> Iterator[None]:
    """Say everything above the bars of a console meanwhile."""
    _mode.bars = bars
    try:
        yield
    finally:
        _mode.bars = None


def note(message: str, style: str = "") -> None:
    """Give advice; programs want none."""
    if not _mode.as_json:
        say(message, style)


def report(level: str, message: str, **more: object) -> None:
    """Report a warning or an error: a JSON object on a line of its own, or words."""
    if _mode.as_json:
        app = {"app": _mode.app} if _mode.app else {}
        line = {"level": level, **app, "message": message, **more}
        print(printable_json(line), file=sys.stderr, flush=True)
        return
    say(f"{level}: {message}", style="red" if level == "error" else "yellow")
