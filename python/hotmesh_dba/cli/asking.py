"""Asking before anything is deleted, where there is somebody to ask."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from hotmesh_dba import HotMeshDBAError, NotDeployed, NotInstalled, Preview
from hotmesh_dba.cli.output import note
from hotmesh_dba.cli.printable import printable

BOUND = 10_000
"""How many rows of a kind are counted before it asks."""

_KINDS = {
    "jobs": "expired jobs, with their attributes",
    "transient": "expired jobs without an entity",
    "engine_streams": "engine messages",
    "worker_streams": "worker messages",
    "marked": "completed jobs to strip",
    "signals": "signals",
}


class Declined(HotMeshDBAError):  # noqa: N818 - as in errors.py
    """Somebody was asked, and said no."""


def somebody_there() -> bool:
    """Return whether a person can answer, whatever stdout and stderr lead to."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(app_id: str, preview: Callable[[], Preview]) -> None:
    """Show what is due, as far as it is quickly counted, and ask; raise `Declined` on a no.

    Nothing is asked where nothing is due.
    """
    try:
        lines = _due(preview())
    except (NotInstalled, NotDeployed):
        shown = f"{app_id} is not deployed yet; it will be, and then what is due is deleted."
    else:
        if not lines:
            note(f"nothing is due in {app_id}")
            return
        shown = "\n".join([f"due in {app_id}:", *lines])
    confirm("Delete it?", lambda console: console.print(Text(printable(shown))))


def confirm(question: str, show: Callable[[Console], None]) -> None:
    """Show something to the person at the terminal and ask; raise `Declined` on a no."""
    with _terminal() as terminal:
        show(Console(file=terminal, soft_wrap=True, highlight=False))
        print(f"{question} [y/N] ", end="", file=terminal, flush=True)
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):  # the end of the input is a no
            print(file=terminal)
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined("nothing was deleted", hint="--yes deletes without asking.")


@contextmanager
def _terminal() -> Iterator[TextIO]:
    """Yield the terminal that stdin is: stdout and stderr may be files, or pipes."""
    opened = _opened()
    if opened is not None:
        with opened:
            yield opened
        return
    for stream in (sys.stderr, sys.stdout):
        if stream is not None and stream.isatty():
            yield stream
            return
    raise Declined("there is nobody to ask", hint="--yes deletes without asking.")


def _opened() -> TextIO | None:
    try:
        path = Path(os.ttyname(sys.stdin.fileno()))
        return path.open("w", errors="backslashreplace")
    except (OSError, AttributeError):  # it has no name here, or terminals never have
        return None


def _due(due: Preview) -> list[str]:
    counts = {words: getattr(due, kind) for kind, words in _KINDS.items()}
    return [
        f"  {'≥ ' if count >= BOUND and not due.exact else ''}{count:,} {words}"
        for words, count in counts.items()
        if count
    ]
