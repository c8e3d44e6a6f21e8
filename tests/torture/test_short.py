"""A round of every fault, and bugs that the ledger must find; `make torture` is the long form."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.installation import CHECKOUT

from .bugs import BUGS
from .faults import KINDS

pytestmark = pytest.mark.once


def torture(*arguments: str) -> tuple[int, str]:
    """How it ended, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--seed", "5", "--short", *arguments],
        cwd=CHECKOUT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def count(printed: str, what: str) -> int:
    """A number of the last table."""
    (found,) = re.findall(rf"^{what} +([\d,]+)", printed, re.MULTILINE)
    return int(found.replace(",", ""))


def test_no_violation() -> None:
    code, printed = torture()
    found = re.findall("^VIOLATION .*", printed, re.MULTILINE)
    assert found == []
    assert (code, count(printed, "violations")) == (0, 0), printed
    for name in KINDS:
        if f"{name:<10}    not  done" not in printed:
            assert re.search(rf"^{name} +[\d,]+ +[1-9]", printed, re.MULTILINE), printed
    assert count(printed, "transactions written") > 100


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str) -> None:
    code, printed = torture("--bug", bug, "--faults", "cancel")
    assert code == 1, printed
    assert count(printed, "violations") > 0
