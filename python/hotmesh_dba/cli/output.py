"""Data to stdout; errors, warnings and advice to stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotmesh_dba import ConnectionFailed, HotMeshDBAError, Locked
from hotmesh_dba.cli.flags import in_options
from hotmesh_dba.connecting import logger

FAILED, USAGE, LEFT, LOCKED, UNREACHABLE = 1, 2, 3, 4, 6

Record = dict[str, Any]


def show_json(data: object) -> None:
    """Write data for programs."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")


def show_table(records: Sequence[Record], columns: Sequence[str]) -> None:
    """Write rows: a table on a terminal; a header and tab-separated lines into a pipe."""
    if not records:
        return
    rows = [[_cell(record[column]) for column in columns] for record in records]
    if not sys.stdout.isatty():
        for row in [list(columns), *rows]:
            print("\t".join(row))
        return
    table = Table(header_style="bold")
    for column in columns:
        number = all(type(record[column]) is int for record in records)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name may look like Rich markup
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, int) and sys.stdout.isatty():
        return f"{value:,}"
    return str(value)


def duration(value: timedelta) -> str:
    """Return a duration in whole seconds, or in tenths where it is short."""
    seconds = value.total_seconds()
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def note(message: str, style: str = "") -> None:
    """Say something to the person at the terminal."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text(message, style=style))


class _Terminated(KeyboardInterrupt):
    """SIGTERM: it stops what runs on the server just like Ctrl-C."""


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's names
    raise _Terminated


@contextmanager
def reporting() -> Iterator[None]:
    """Show the server's warnings, and an error or a signal with its own exit code."""
    handler = _Notes(logging.WARNING)
    logger.addHandler(handler)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except HotMeshDBAError as error:
        _show_error(error)
        raise typer.Exit(_code(error)) from None
    except KeyboardInterrupt as interrupt:
        note("interrupted: what was committed stays", style="red")
        number = signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT
        raise typer.Exit(128 + number) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        logger.removeHandler(handler)


def _code(error: HotMeshDBAError) -> int:
    if isinstance(error, ConnectionFailed):
        return UNREACHABLE
    return LOCKED if isinstance(error, Locked) else FAILED


def _show_error(error: HotMeshDBAError) -> None:
    state = f" ({error.sqlstate})" if error.sqlstate else ""
    note(f"error: {error.message}{state}", style="red")
    if error.detail:
        note(f"detail: {error.detail}")
    if error.hint:
        note(f"hint: {in_options(error.hint)}")


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"warning: {record.getMessage()}", style="yellow")
