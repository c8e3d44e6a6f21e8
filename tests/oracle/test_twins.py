"""Jobs that cannot be marked (two live ones of a key) stay as they are, and keep nobody else."""

from __future__ import annotations

import pytest

from tests.oracle.conftest import NewSubject
from tests.oracle.explore import explore
from tests.oracle.paths import BY_EXPIRY, Path
from tests.support.random_app import twin_cases


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("twins", Path(preview=None)),
        ("twins before 0.10", Path(preview=None, layout="pre-0.10", triggers=BY_EXPIRY)),
    ],
)
def test_twins_are_left_and_counted(name: str, path: Path, new_subject: NewSubject) -> None:
    explore(name, twin_cases(), new_subject(path).check)
