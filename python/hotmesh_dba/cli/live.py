"""How far a run is, on one line of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Display

from hotmesh_dba import Progress
from hotmesh_dba.cli.output import duration


@contextmanager
def live(app_id: str) -> Iterator[Callable[[Progress], None] | None]:
    """Yield a callback that shows progress on stderr; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # a name may look like Rich markup
        BarColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    console = Console(stderr=True)
    with Display(*columns, console=console, transient=True, redirect_stdout=False) as display:
        task = display.add_task(app_id, total=None, pace="begins")

        def show(progress: Progress) -> None:
            total = max(progress.rows_expected, progress.rows_done) or None
            display.update(task, total=total, completed=progress.rows_done, pace=pace(progress))

        yield show


def pace(progress: Progress) -> str:
    """Return rows, rate and time left in words."""
    words = [f"{progress.rows_done:,} of {progress.rows_expected:,} rows"]
    if progress.rows_per_second is not None:
        words.append(f"{progress.rows_per_second:,.0f}/s")
    if progress.time_left is not None:
        words.append(f"{duration(progress.time_left)} left")
    return ", ".join(words)
