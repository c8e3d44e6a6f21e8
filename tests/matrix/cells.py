"""What the matrix consists of: a server's major version, and how the extension came into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from tests.matrix.servers import MAJORS, NEWEST
from tests.upgrade.test_released import RELEASED

# How the extension came into the database: at once, or updated from one of the releases.
INSTALLED = "installed"
HOW = (INSTALLED, *RELEASED)


@dataclass(frozen=True, slots=True)
class Cell:
    """A run of the suite.

    Attributes:
        major: of the server.
        release: what the extension is updated from; None where it is installed anew.
        tests: the files and directories that are run, all where there are none.
        examples: random cases a property of the oracle; None: as many as elsewhere.
    """

    major: int
    release: str | None = None
    tests: tuple[str, ...] = ()
    examples: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this one also runs what is the same on every server."""
        return (self.major, self.release, self.tests) == (NEWEST, None, ())

    def __str__(self) -> str:
        how = f"updated from {self.release}" if self.release else INSTALLED
        return f"PostgreSQL {self.major}, {how}"


# Every step on every layout against the model, what is in the catalogues, what a run records, and
# what is brought over from elsewhere.
TELLING = (
    "tests/oracle/test_paths.py",
    "tests/upgrade",
    "tests/deploy/test_dump_restore.py",
    "tests/deploy/test_wrapper.py",
    "tests/runs/test_record.py",
    "tests/runs/test_knobs.py",
    "tests/policies/test_run_policy.py",
    "tests/observe/test_doctor_app.py",
    "tests/security/test_definitions.py",
)
FEW = 10


def full() -> Iterator[Cell]:
    """Everything on every major version, and for each release on a database updated from it.

    All of the latter on one major version; on the others what would tell that it is not as a fresh
    one there, which is among the tests too.
    """
    newest_first = tuple(reversed(MAJORS))
    whole = set(zip(cycle(newest_first), RELEASED))
    for major in newest_first:
        yield Cell(major)
        for release in RELEASED:
            yield Cell(major, release, () if (major, release) in whole else TELLING)


def short() -> Iterator[Cell]:
    """What CI adds to 15 and 18 in full: the other versions, on which each release is updated.

    That an updated database is as a fresh one is among the tests, so one of the two is enough.
    """
    for major, release in zip(cycle((14, 16, 17)), (None, *RELEASED)):
        yield Cell(major, release, TELLING, examples=FEW)


def chosen(form: str, majors: Sequence[int] = (), how: Sequence[str] = ()) -> list[Cell]:
    """The cells of a form, of these major versions and of these HOW only, where any are named."""
    return [
        cell
        for cell in {"full": full, "short": short}[form]()
        if (not majors or cell.major in majors) and (not how or (cell.release or INSTALLED) in how)
    ]
