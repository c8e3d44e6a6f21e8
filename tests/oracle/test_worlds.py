"""The apps of the paths are what they are said to be, and the model can count days."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.oracle.conftest import NewSubject
from tests.oracle.paths import PATHS
from tests.oracle.session import rolled_back
from tests.support.model import Window
from tests.support.random_app import Case, JobSpec

UNCASCADED = ("replica", "cascade switched off on one leaf")
# Enough that every partition has one.
JOBS = (JobSpec("book", 0, None, True, None, ("adata",), shares_key=False),) * 64


@pytest.mark.parametrize("name", UNCASCADED)
def test_a_plain_delete_of_jobs_leaves_orphans(name: str, new_subject: NewSubject) -> None:
    subject = new_subject(PATHS[name])
    with subject.filled(Case(jobs=JOBS)), subject.acting():
        subject.session.execute('DELETE FROM "My App".jobs')
        left = subject.tables.read(subject.session)
    assert not left.jobs
    assert left.attributes


def test_a_plain_delete_of_jobs_takes_attributes_along(new_subject: NewSubject) -> None:
    subject = new_subject(PATHS["function"])
    with subject.filled(Case(jobs=JOBS)), subject.acting():
        subject.session.execute('DELETE FROM "My App".jobs')
        left = subject.tables.read(subject.session)
    assert not left.attributes


def test_rows_are_read_as_they_were_inserted(new_subject: NewSubject) -> None:
    subject = new_subject(PATHS["streams left over"])
    with subject.filled(Case(jobs=JOBS)) as (inserted, _):
        assert len(inserted.jobs) == len(inserted.attributes) == len(JOBS)
        assert subject.tables.read(subject.session) == inserted


@pytest.mark.parametrize(
    ("window", "cutoff"),
    [
        (Window(), "2024-03-31 12:00:00"),
        (Window(months=1), "2024-02-29 12:00:00"),
        (Window(months=1, days=30), "2024-01-30 12:00:00"),
        (Window(months=13), "2023-02-28 12:00:00"),
        (Window(days=1, microseconds=43_200_000_001), "2024-03-29 23:59:59.999999"),
    ],
)
def test_a_window_is_subtracted_as_postgres_does(
    window: Window, cutoff: str, new_subject: NewSubject
) -> None:
    now = datetime(2024, 3, 31, 12, tzinfo=timezone.utc)
    expected = datetime.fromisoformat(cutoff).replace(tzinfo=timezone.utc)
    assert window.before(now) == expected
    session = new_subject(PATHS["function"]).session
    with rolled_back(session):
        session.execute("SET LOCAL TIME ZONE 'UTC'")
        [(by_postgres,)] = session.execute("SELECT %s - %s::interval", [now, str(window)])
    assert by_postgres == expected
