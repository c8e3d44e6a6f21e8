"""The matrix leaves no version out, hides no skip, and tests what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.deploy.observe import one
from tests.matrix.__main__ import environment
from tests.matrix.cells import TELLING, Cell, chosen, full, short
from tests.matrix.results import Result, read, table
from tests.matrix.servers import MAJORS, NEWEST, RELEASES, Release, fetched, pg_config
from tests.support.installation import CHECKOUT, InstallationError
from tests.support.templates import install_statements
from tests.upgrade.test_released import CURRENT, RELEASED

REPORT = """\
<testsuites><testsuite tests="5">
  <testcase name="a"/>
  <testcase name="b"><skipped message="there is no pg_cron">here</skipped></testcase>
  <testcase name="c"><failure message="no">there</failure></testcase>
  <testcase name="d"><error message="no">there</error></testcase>
  <testcase name="e"/>
</testsuite></testsuites>
"""


@pytest.mark.once
def test_every_version_and_every_release_is_in_it() -> None:
    assert MAJORS == (14, 15, 16, 17, 18)
    cells = {(cell.major, cell.release) for cell in full()}
    assert cells == {(major, release) for major in MAJORS for release in (None, *RELEASED)}
    assert [str(cell) for cell in full() if cell.is_first] == ["PostgreSQL 18, installed"]
    whole = [cell for cell in full() if not cell.tests]
    assert [cell.major for cell in whole if not cell.release] == sorted(MAJORS, reverse=True)
    assert sorted(cell.release for cell in whole if cell.release) == RELEASED
    # CI runs 15 and 18 in full besides.
    assert {cell.major for cell in short()} | {15, 18} == set(MAJORS)
    assert {cell.release for cell in short()} == {None, *RELEASED}
    assert not [test for test in TELLING if not Path(CHECKOUT, test).exists()]
    assert {cell.major for cell in chosen("full", [14, 16])} == {14, 16}
    assert {cell.release for cell in chosen("full", how=["installed", "1.0.0"])} == {None, "1.0.0"}


@pytest.mark.once
def test_a_cell_tells_the_suite_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HOTMESH_DBA_PG_CONFIG", "HOTMESH_DBA_INSTALL_FROM", "HOTMESH_DBA_EXAMPLES")
    for name in names:
        monkeypatch.setenv(name, "the caller's")
    assert not set(names) & environment(Cell(NEWEST)).keys()
    told = environment(Cell(NEWEST, "1.0.0", TELLING, examples=7))
    assert [told.get(name) for name in names] == [None, "1.0.0", "7"]
    assert environment(Cell(17))["LD_LIBRARY_PATH"] == str(pg_config(17).parents[1] / "lib")


@pytest.mark.once
def test_the_table_tells_passed_from_skipped(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    cell = Cell(14, "1.0.0")
    result = read(cell, report, 1, 90.0)
    assert result == Result(cell, 2, 2, Counter({"there is no pg_cron": 1}), 90.0, 1)
    assert not result.is_good
    assert table([result]).splitlines()[2:] == [
        "14          from 1.0.0  2       2       1        1.5  FAILED",
        "skipped, PostgreSQL 14, updated from 1.0.0: 1 x there is no pg_cron",
    ]


@pytest.mark.once
def test_a_cell_without_a_test_is_not_good(tmp_path: Path) -> None:
    cell = Cell(14)
    assert not read(cell, tmp_path / "none.xml", 0, 1.0).is_good
    assert not Result(cell).is_good
    assert not Result(cell, passed=3, returned=1).is_good
    assert Result(cell, passed=3).is_good
    assert Result(cell, passed=3, reasons=Counter({"there is no pg_cron": 1})).is_good
    assert not Result(cell, passed=3, reasons=Counter({"unconditional skip": 1})).is_good


@pytest.mark.once
def test_a_wheel_that_is_another_is_refused(tmp_path: Path) -> None:
    other = Release(RELEASES[14].version, "0" * 64)
    with pytest.raises(InstallationError, match="cannot fetch PostgreSQL 14"):
        fetched(other, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("release", RELEASED)
def test_a_template_is_updated(new_database: NewDatabase, release: str) -> None:
    create, update = install_statements(release)
    with new_database().connect() as conn:
        conn.execute(create)
        assert one(conn, "SELECT hotmesh_dba.version()") == release
        conn.execute(update)
        assert one(conn, "SELECT hotmesh_dba.version()") == CURRENT
    assert len(install_statements(None)) == 1
