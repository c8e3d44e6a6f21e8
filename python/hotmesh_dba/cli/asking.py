"""Asking before anything is deleted, where there is somebody to ask."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hotmesh_dba import HotMeshDBAError, NotDeployed, NotInstalled, Preview
from hotmesh_dba.cli.output import note, say
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
    """Return whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(app_id: str, preview: Callable[[], Preview]) -> None:
    """Show what is due, as far as it is quickly counted, and ask; raise `Declined` on a no.

    Nothing is asked where nothing is due.
    """
    try:
        due = preview()
    except (NotInstalled, NotDeployed):
        say(f"{app_id} is not deployed yet; it will be, and then what is due is deleted.")
    else:
        lines = _due(due)
        if not lines:
            note(f"nothing is due in {app_id}")
            return
        say(f"due in {app_id}:")
        say("\n".join(lines))
    if not _yes("Delete it? [y/N] "):
        raise Declined("nothing was deleted", hint="--yes deletes without asking.")


def ask_plainly(question: str) -> None:
    """Ask; raise `Declined` on a no."""
    if not _yes(f"{question} [y/N] "):
        raise Declined("nothing was deleted", hint="--yes goes on without asking.")


def _due(due: Preview) -> list[str]:
    counts = {words: getattr(due, kind) for kind, words in _KINDS.items()}
    return [
        f"  {'≥ ' if count >= BOUND and not due.exact else ''}{count:,} {words}"
        for words, count in counts.items()
        if count
    ]


def _yes(question: str) -> bool:
    print(printable(question), end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the end of the input is a no
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")
