"""Every way to prune agrees with the model: the counts, and every row that stays."""

from __future__ import annotations

import pytest

from tests.oracle.conftest import NewSubject
from tests.oracle.explore import explore
from tests.oracle.paths import PATHS
from tests.support.random_app import cases


@pytest.mark.parametrize("name", PATHS)
def test_agrees_with_the_model(name: str, new_subject: NewSubject) -> None:
    path = PATHS[name]
    subject = new_subject(path)
    random_cases = cases(path.places, strip=path.strip, signals=path.signals)
    explore(name, random_cases, subject.check)
