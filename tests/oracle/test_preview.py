"""A preview with max_rows stops counting there, and says so exactly when it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass
from datetime import datetime

import pytest

from hotmesh_dba import DBA
from tests.oracle.conftest import NewSubject
from tests.oracle.explore import explore
from tests.oracle.paths import PATHS, SCHEMA, as_counts, keywords
from tests.oracle.property import Subject
from tests.oracle.session import SyncSession
from tests.support import model
from tests.support.model import Counts, Rows
from tests.support.random_app import Case, cases


@dataclass(frozen=True, slots=True)
class CappedPreview:
    """Previews a case with each bound that can make a difference."""

    subject: Subject

    def check(self, case: Case) -> None:
        with self.subject.filled(case) as (before, now):
            whole = model.preview(before, case.options, now)
            for max_rows in (1, 2, max(*astuple(whole), 1)):
                self._check_bound(case, before, now, max_rows)

    def _check_bound(self, case: Case, before: Rows, now: datetime, max_rows: int) -> None:
        whole = model.preview(before, case.options, now)
        assert isinstance(self.subject.session, SyncSession)
        dba = DBA(self.subject.session.conn)
        shown = dba.preview(SCHEMA, max_rows=max_rows, **keywords(case.options))
        counts = as_counts(shown)

        assert shown.exact == (counts == whole)
        for part, all_of_it in zip(_each(counts), _each(whole), strict=True):
            assert part <= all_of_it
        for name in ("deleted_jobs", "deleted_transient", "marked_pruned", "deleted_signals"):
            assert getattr(counts, name) == min(getattr(whole, name), max_rows)
        assert counts.stripped_attributes <= max_rows
        messages = _deleted_messages(before, case, now)
        assert counts.deleted_streams == sum(min(n, max_rows) for n in messages.values())
        if whole.marked_pruned <= max_rows:
            assert counts.stripped_attributes == min(whole.stripped_attributes, max_rows)


def _each(counts: Counts) -> tuple[int, ...]:
    values: tuple[int, ...] = astuple(counts)
    return values


def _deleted_messages(before: Rows, case: Case, now: datetime) -> Counter[tuple[str, str | None]]:
    """By step and table: that is what max_rows bounds."""
    after = model.prune(before, case.options, now).rows
    return Counter((message.table, message.kind) for message in before.messages - after.messages)


@pytest.mark.parametrize("name", ["DBA", "streams left over"])
def test_max_rows_bounds_the_counts(name: str, new_subject: NewSubject) -> None:
    path = PATHS[name]
    subject = new_subject(path)
    explore(f"max_rows, {name}", cases(path.places), CappedPreview(subject).check)
