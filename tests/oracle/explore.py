"""Runs a property over random cases, the same ones for the same seed.

With CI=true the seed of a property is fixed by its name, and there are more cases; otherwise it is
random. Either way a failure prints it, and HOTMESH_DBA_SEED=<it> makes the same run again.
HOTMESH_DBA_EXAMPLES is the number of cases, where it is set.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.random_app import Case

IN_CI = os.environ.get("CI") == "true"
EXAMPLES = int(os.environ.get("HOTMESH_DBA_EXAMPLES") or (120 if IN_CI else 60))

SETTINGS = settings(
    deadline=None,  # the server's time is not what is tested
    database=None,  # nothing is left in the checkout
    print_blob=False,  # the seed says it all
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def seed_of(name: str) -> int:
    """The seed of the property `name` in this run."""
    if given_seed := os.environ.get("HOTMESH_DBA_SEED"):
        return int(given_seed)
    if IN_CI:
        return zlib.crc32(name.encode())
    return random.randrange(2**32)


def explore(
    name: str,
    cases: st.SearchStrategy[Case],
    check: Callable[[Case], None],
    *,
    examples: int = EXAMPLES,
    shrink: bool = True,
) -> None:
    """Check random cases; the error of a failure shows the smallest case found.

    Args:
        name: of the property, for its seed.
        cases: where the cases come from.
        check: raises where a case does not hold.
        examples: how many of them.
        shrink: whether to look for a smaller failing case once there is one.

    Raises:
        AssertionError: whatever `check` raised for the smallest failing case.
    """
    number = seed_of(name)

    @seed(number)
    @settings(
        SETTINGS,
        max_examples=examples,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
    )
    @given(case=cases)
    def run(case: Case) -> None:
        check(case)

    try:
        run()
    except BaseException:
        print(f"\nto see this again: HOTMESH_DBA_SEED={number} (property {name!r})")
        raise
