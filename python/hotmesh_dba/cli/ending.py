"""How the command ends: its exit codes, and what it says of errors and signals."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from hotmesh_dba import ConnectionFailed, HotMeshDBAError, Locked
from hotmesh_dba.cli.flags import in_options
from hotmesh_dba.cli.output import Record, for_programs, note, report, say, speak_json
from hotmesh_dba.connecting import logger

DONE, FAILED, USAGE, LEFT, LOCKED, ILL, UNREACHABLE = 0, 1, 2, 3, 4, 5, 6

# Of several apps the first of these that one of them came to.
_WORST_FIRST = (UNREACHABLE, FAILED, LOCKED, LEFT, ILL, DONE)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several apps: 6, then 1, 4, 3, 5, and 0."""
    return min(codes, key=_WORST_FIRST.index, default=DONE)


class Terminated(KeyboardInterrupt):
    """SIGTERM: it stops what runs on the server just like Ctrl-C."""


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's names
    raise Terminated


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Show the server's warnings, and an error or a signal with its own exit code."""
    speak_json(as_json)
    handler = _Notes(logging.WARNING)
    logger.addHandler(handler)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except HotMeshDBAError as error:
        show_error(error)
        raise typer.Exit(code_of(error)) from None
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more changes nothing, but the exit code
        show_interrupt(code_of_signal(interrupt))
        raise typer.Exit(code_of_signal(interrupt)) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        logger.removeHandler(handler)


def show_interrupt(code: int) -> None:
    """Say that it was interrupted."""
    message = "interrupted: what was committed stays"
    if for_programs():
        report("error", message, error="Interrupted", exit_code=code)
    else:
        say(message, style="red")


def code_of_signal(interrupt: KeyboardInterrupt) -> int:
    """Return 143 for SIGTERM, and 130 for SIGINT."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def code_of(error: HotMeshDBAError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, ConnectionFailed):
        return UNREACHABLE
    return LOCKED if isinstance(error, Locked) else FAILED


def described(error: HotMeshDBAError) -> Record:
    """Return what is known of an error, for programs."""
    return {
        "error": type(error).__name__,
        "sqlstate": error.sqlstate,
        "detail": error.detail,
        "hint": in_options(error.hint) if error.hint else None,
    }


def show_error(error: HotMeshDBAError) -> None:
    """Say what went wrong, and what to do about it."""
    record = described(error)
    state = f" ({error.sqlstate})" if error.sqlstate else ""
    report(
        "error",
        error.message + ("" if for_programs() else state),
        **record,
        exit_code=code_of(error),
    )
    if record["detail"]:
        note(f"detail: {record['detail']}")
    if record["hint"]:
        note(f"hint: {record['hint']}")


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report("warning", in_options(record.getMessage()))
