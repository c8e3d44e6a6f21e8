"""The oracle finds what it is there to find: each seeded fault of the SQL is caught."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.oracle.conftest import NewSubject
from tests.oracle.explore import explore
from tests.oracle.paths import Path
from tests.oracle.property import Disagreement
from tests.support.random_app import cases

pytestmark = pytest.mark.once


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: what is found in the script (a regular expression), and what takes its place."""

    found: str
    replacement: str


UTC_CUTOFF = r"\(now\(\) AT TIME ZONE 'UTC' - retention\) AT TIME ZONE 'UTC'"
OF_ENTITY = re.escape("' AND t.entity = ANY ($2)'")
ENGINE = r"(options\.engine_streams, app\.engine, +'stream_name, id', +'t\.expired_at < \$1)'"

MUTANTS = {
    "a window a second shorter": Mutant(UTC_CUTOFF, r"(\g<0> + interval '1 second')"),
    "a window a second longer": Mutant(UTC_CUTOFF, r"(\g<0> - interval '1 second')"),
    "a window in the session's zone": Mutant(UTC_CUTOFF, "now() - retention"),
    "no entity is in every list": Mutant(
        OF_ENTITY, "' AND (t.entity = ANY ($2) OR t.entity IS NULL)'"
    ),
    "dead letters are spared": Mutant(ENGINE, r"\1 AND t.dead_lettered_at IS NULL'"),
    "dead letters alone go": Mutant(ENGINE, r"\1 AND t.dead_lettered_at IS NOT NULL'"),
    "keep_hmark does nothing": Mutant(r"OR keep_hmark AND e\.enumlabel = 'hmark'", ""),
    "hmark is always kept": Mutant(r"OR keep_hmark AND e\.enumlabel = 'hmark'", "OR true"),
    "transient before jobs": Mutant(
        r"\(1, 'jobs',(.*)\(2, 'transient',", r"(2, 'jobs',\1(1, 'transient',"
    ),
    "strip before jobs": Mutant(r"\(7, 'strip',", "(0, 'strip',"),
    "an expired job is deleted on the cutoff": Mutant(
        r"(app\.jobs, +'id', +'t\.expired_at <)( \$1' \|\|)", r"\1=\2"
    ),
    "a signal lives on its expiry": Mutant(r"'t\.expiry <= \$1'", "'t.expiry < $1'"),
    "a stale mark is stripped again": Mutant(r" AND t\.pruned_at IS NULL'", "'"),
    "the engine's window for workers": Mutant(
        r"options\.worker_before, 'expired_at'\)", "options.engine_before, 'expired_at')"
    ),
    "failed jobs are stripped": Mutant(r"'t\.status = 0 AND", "'t.status <= 0 AND"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str, new_subject: NewSubject, plain_script: str) -> None:
    mutant = MUTANTS[name]
    script, changes = re.subn(mutant.found, mutant.replacement, plain_script, flags=re.DOTALL)
    assert changes, "the mutant must differ from the script"
    subject = new_subject(Path(preview=None, plain=True), script)

    with pytest.raises(Disagreement):
        explore(name, cases(), subject.check, examples=2000, shrink=False)
