"""Data to stdout; errors, warnings and advice to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotmesh_dba import ConnectionFailed, HotMeshDBAError, Locked
from hotmesh_dba.cli.flags import in_options
from hotmesh_dba.connecting import logger

FAILED, USAGE, LOCKED, UNREACHABLE = 1, 2, 4, 6

Record = dict[str, Any]


def show_json(data: object) -> None:
    """Write data for programs."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


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
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and sys.stdout.isatty():
        return f"{value:,}"
    return str(value)


def note(message: str, style: str = "") -> None:
    """Say something to the person at the terminal."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text(message, style=style))


@contextmanager
def reporting() -> Iterator[None]:
    """Show the server's warnings, and an error as readable lines with its own exit code."""
    handler = _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    except HotMeshDBAError as error:
        _show_error(error)
        raise typer.Exit(_code(error)) from None
    finally:
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
