"""How far a run is: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Display

from hotmesh_dba import Progress, StepPace
from hotmesh_dba.cli.output import above, duration, for_programs, note
from hotmesh_dba.cli.printable import printable

Callback = Callable[[Progress], None]


@contextmanager
def live(title: str, every: float) -> Iterator[Callback | None]:
    """Yield a callback that shows progress on stderr.

    :param title: what runs.
    :param every: seconds between two lines where stderr is no terminal; 0 for none. For programs
        there is neither a bar nor a line.
    """
    if for_programs():
        yield None
    elif sys.stderr.isatty():
        with _Bars.shown(title) as bars:
            yield bars.show
    else:
        yield _lines(title, every) if every > 0 else None


def _lines(title: str, every: float) -> Callback:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            note(f"{title}: {pace(progress)}")

    return show


def pace(progress: Progress) -> str:
    """Return rows, rate and time left in words."""
    words = [f"{progress.rows_done:,} of {progress.rows_expected:,} rows"]
    if progress.rows_per_second is not None:
        words.append(f"{progress.rows_per_second:,.0f}/s")
    if progress.time_left is not None:
        words.append(f"{duration(progress.time_left)} left")
    return ", ".join(words)


@dataclass(slots=True)
class _Step:
    """The bar of a step, and how fast it has been since it began."""

    bar: TaskID
    since: float
    before: int
    """Rows that were done when it was first seen."""

    def pace(self, step: StepPace) -> str:
        """Return rows, and while it goes on the rate and the time left."""
        if step.rows_expected is None:
            return f"{step.rows_done:,}"
        words = [f"{step.rows_done:,} of {step.rows_expected:,}"]
        left = step.rows_expected - step.rows_done
        rate = (step.rows_done - self.before) / max(time.monotonic() - self.since, 0.001)
        if left > 0 and rate > 0:
            words += [f"{rate:,.0f}/s", f"{duration(timedelta(seconds=left / rate))} left"]
        return ", ".join(words)


@dataclass(slots=True)
class _Bars:
    """A bar for the whole, and one for each step where there are several."""

    display: Display
    whole: TaskID
    steps: dict[str, _Step] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def shown(cls, title: str) -> Iterator[_Bars]:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),  # a name may look like Rich markup
            BarColumn(bar_width=14),
            TextColumn("{task.fields[pace]}", markup=False),
        )
        console = Console(stderr=True)
        bars = Display(*columns, console=console, transient=True, redirect_stdout=False)
        with bars as display, above(console):
            yield cls(display, display.add_task(printable(title), total=None, pace="begins"))

    def show(self, progress: Progress) -> None:
        total = max(progress.rows_expected, progress.rows_done) or None
        self.display.update(
            self.whole, total=total, completed=progress.rows_done, pace=pace(progress)
        )
        if len(progress.steps) > 1 or self.steps:
            for step in progress.steps:
                self._show_step(step)

    def _show_step(self, step: StepPace) -> None:
        known = self.steps.get(step.step)
        if known is None:
            bar = self.display.add_task(f"  {step.step}", total=None, pace="")
            known = self.steps[step.step] = _Step(bar, time.monotonic(), step.rows_done)
        elif step.rows_done == known.before:  # it has not begun
            known.since = time.monotonic()
        total = step.rows_expected
        if total is not None:
            total = max(total, step.rows_done)
        self.display.update(known.bar, total=total, completed=step.rows_done, pace=known.pace(step))
