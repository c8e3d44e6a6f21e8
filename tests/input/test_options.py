"""Windows and flags that could delete what has not expired, or nothing at all: refused."""

from __future__ import annotations

from itertools import product

import pytest

from tests.deploy.observe import deploy, one, run, sqlstate
from tests.input.refusing import nothing_changed, refuses
from tests.support.server import Connection, PrivateServer

FACES = {
    "prune": "SELECT * FROM hotmesh_dba.prune('myapp', {})",
    "wrapper": "SELECT * FROM myapp.prune({})",
    "preview": "SELECT * FROM hotmesh_dba.preview('myapp', {})",
}

# A NULL window per stream is the common one, so NULL is bad for `retention` alone.
WINDOWS = ("retention", "engine_streams_retention", "worker_streams_retention")
BAD_WINDOWS = [
    "-1 day",
    "-1 microsecond",
    "-1 month",
    "-1 year",
    "-1 day 2 hours",
    "1 month -30 days",
    "1 month -29 days",
    "1 day -25 hours",
    "1 year -366 days",
    "2 months -60 days",
    "14 months -425 days",
    "-1 year 365 days",
    "-1 month 30 days",
    "-2 months 61 days",
    "178000000 years",
    "178000000 years -1 day",
    "7000000 years",
    "2000000000 days",
    "-178000000 years",
]
GOOD_WINDOWS = [
    "0",
    "1 month -28 days",
    "1 month",
    "1 year 1 day",
    "1 year -360 days",
    "-1 month 31 days",
    "-1 year 366 days",
    "4000 years",
]
INFINITE = ["infinity", "-infinity"]

FLAGS = (
    "prune_jobs",
    "prune_streams",
    "strip_attributes",
    "prune_transient",
    "keep_hmark",
    "prune_signals",
)


def test_windows(conn: Connection, full: str, server: PrivateServer) -> None:
    bad = BAD_WINDOWS + (INFINITE if server.major >= 17 else [])
    with nothing_changed(conn, full):
        for face, window, value in product(FACES.values(), WINDOWS, bad):
            said = refuses(conn, "22023", face.format(f"{window} => '{value}'"))
            assert window in said, (face, window, value)
        for face in FACES.values():
            assert "retention => '7 days'" in refuses(
                conn, "22023", face.format("retention => NULL")
            )


@pytest.mark.usefixtures("full")
def test_the_window_that_is_wrong_is_the_one_that_is_named(conn: Connection) -> None:
    call = FACES["prune"].format("'7 days', worker_streams_retention => '-1 day'")
    assert "worker_streams_retention" in refuses(conn, "22023", call)


@pytest.mark.usefixtures("full")
def test_good_windows(conn: Connection) -> None:
    for window in GOOD_WINDOWS:
        options = ", ".join(f"{name} => '{window}'" for name in WINDOWS)
        for face in FACES.values():
            assert len(run(conn, face.format(options))) == 1


# For each number of months the fewest and the most days that they are, in eight years.
SPANS = """
SELECT m, min(d::date - (d - make_interval(months => m))::date),
       max((d + make_interval(months => m))::date - d::date)
FROM generate_series(1, 36) m, generate_series(timestamp '2021-01-01', '2028-12-31', '1 day') d
GROUP BY m ORDER BY m
"""


def test_no_window_is_refused_that_cannot_reach_into_the_future(conn: Connection) -> None:
    """Months less days, and days less months: to the day as far as calendars go."""
    call = "SELECT hotmesh_dba._cutoff('retention', '{} months {} days')"
    spans = run(conn, SPANS)
    assert spans[0][1:] == (28, 31)
    assert spans[11][1:] == (365, 366)
    for months, least, most in spans:
        for window in ((months, -least), (-months, most)):
            # Of leap days in several years it thinks the worst.
            slack = max(0, months // 12 - 1) if window[0] < 0 else 0
            good = window[0], window[1] + slack
            assert one(conn, call.format(*good) + " <= now()"), good
            bad = window[0], window[1] - 1
            assert sqlstate(conn, call.format(*bad)) == "22023", bad


def test_flags(conn: Connection, full: str) -> None:
    with nothing_changed(conn, full):
        for face, flag in product(FACES.values(), FLAGS):
            assert f"{flag} => " in refuses(conn, "22004", face.format(f"{flag} => NULL"))
        # Not even where each kind of messages has an answer of its own.
        for face, given in product(FACES.values(), ("engine", "worker")):
            half = f"prune_streams => NULL, prune_{given}_streams => true"
            refuses(conn, "22004", face.format(half))


def test_max_rows(conn: Connection, full: str) -> None:
    with nothing_changed(conn, full):
        for max_rows in (0, -1, -9223372036854775808):
            said = refuses(conn, "22023", FACES["preview"].format(f"max_rows => {max_rows}"))
            assert "max_rows => NULL" in said
        most = FACES["preview"].format("max_rows => 9223372036854775807")
        assert run(conn, most) == run(conn, FACES["preview"].format("max_rows => NULL"))


def test_strip_without_the_mark(conn: Connection, full: str) -> None:
    run(conn, "ALTER TABLE myapp.jobs DROP pruned_at")
    with nothing_changed(conn, full):
        for face in FACES.values():
            hint = refuses(conn, "55000", face.format("strip_attributes => true"))
            assert "hotmesh_dba.deploy('myapp')" in hint
    # The other steps need no mark; and the hint helps.
    assert one(conn, "SELECT deleted_jobs > 0 FROM myapp.prune('7 days')")
    assert deploy(conn, "myapp")
    assert one(
        conn, "SELECT marked_pruned > 0 FROM myapp.prune('7 days', strip_attributes => true)"
    )
