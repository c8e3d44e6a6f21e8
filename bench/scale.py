"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of rows, and of repeats: `repeats` where a copy is quick, `few` where it is not.

    Attributes:
        jobs: expired jobs to delete, of 80 attributes.
        strip: live jobs to strip, of 80 attributes.
        strip_many: live jobs to strip where one transaction cannot.
        others: failed and running jobs beside them.
        messages: messages to delete.
        idle: rows in each table where nothing is due.
        failed: failed jobs that are kept.
        sparse: messages of which few are due.
        doubled: jobs before the first doubling.
        heavy: jobs of 800 attributes.
        busy_jobs, busy_messages: what is pruned beside the application.
        million: jobs of two attributes, pruned while the server's memory is watched.
    """

    name: str
    repeats: int
    few: int
    jobs: int
    strip: int
    strip_many: int
    others: int
    messages: int
    idle: int
    failed: int
    sparse: int
    doubled: int
    heavy: int
    busy_jobs: int
    busy_messages: int
    million: int


FULL = Scale(
    name="full",
    repeats=5,
    few=3,
    jobs=20_000,
    strip=10_000,
    strip_many=100_000,
    others=1_000_000,
    messages=800_000,
    idle=1_000_000,
    failed=300_000,
    sparse=1_000_000,
    doubled=2_500,
    heavy=2_000,
    busy_jobs=40_000,
    busy_messages=400_000,
    million=1_000_000,
)

QUICK = Scale(
    name="quick",
    repeats=3,
    few=2,
    jobs=20_000,
    strip=10_000,
    strip_many=20_000,
    others=100_000,
    messages=800_000,
    idle=200_000,
    failed=60_000,
    sparse=400_000,
    doubled=1_000,
    heavy=1_000,
    busy_jobs=20_000,
    busy_messages=200_000,
    million=100_000,
)
