"""Arguments by type: what a caller would write, and what nobody should."""

from __future__ import annotations

from hypothesis import strategies as st

Value = object

# 63 bytes is a name's whole length; one more is cut, or refused.
_LONG = ["a" * 63, "a" * 64, "ä" * 31 + "a", "ä" * 32, "x" * 100_000]
_QUOTES = ["'", "''", '"', '""', "\\", "\\'", "$$", "$x$", "$1", "%", "%s", "%I %L", "{}", "{0}"]
_INJECTIONS = [
    "myapp'; DROP SCHEMA myapp CASCADE; --",
    'myapp"; DROP SCHEMA myapp CASCADE; --',
    "myapp.jobs",
    "myapp/*",
    "nightly'); SELECT pg_sleep(9); --",
]
_KEYWORDS = ["😀", "select", "NULL", "null", "current_user", "public", "pg_catalog", "hotmesh_dba"]
_ODD = [
    "",
    " ",
    "\t",
    "\n",
    "myapp\n",
    " myapp ",
    "\x1b[31m",
    "\x7f",
    "\u202e",
    "\ufeff",
    "İ",
    "😀",
]
_TEXT = st.one_of(
    st.sampled_from([*_LONG, *_QUOTES, *_INJECTIONS, *_KEYWORDS, *_ODD]),
    # No server takes NUL in a text; no encoder a lone surrogate.
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=80),
)
_INTERVALS = [
    *("infinity", "-infinity", "178000000 years", "-178000000 years", "2147483647 months"),
    *("1 microsecond", "-1 microsecond", "1 month -30 days", "-1 month 30 days", "1 day -24:00"),
    *("106751991 days 04:00:54.775807", "9223372036854775807 us", "-2147483648 days", "P1Y2M"),
    *("6000 years", "1 year", "0", "", "yesterday", "1e400 days", "2147483648 months", "7 dyas"),
]
_INTEGERS = [0, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 65, 10**30]
_NUMBERS = ["NaN", "Infinity", "-1", "0", "100.0001", "1e-30", "1e1000", "50.5", "fifty", ""]

# Five fields, and yet no time; a time, and yet not five fields.
_CRON = [
    *("99 99 99 99 99", "$ $ $ $ $", "- - - - -", "a b c d e", "0\n2\t* * *", "0 2 * * * *", "@"),
    *("@never", "@reboot", "0 seconds", "99999999999999999999 seconds", "1,2,,3 * * * *"),
    *("*/0 * * * *", "1-0 * * * *"),
    *("0 2 * * '", "0 2 * * *'); SELECT 1; --", "0 2 * * " + "1," * 50_000 + "1"),
]

# Made once: drawn, it would take longer than the call. Ten times as many take seconds, too long to
# be drawn often.
_MANY = ["book"] * 9_999 + [None]

HOSTILE: dict[str, st.SearchStrategy[Value]] = {
    "text": _TEXT,
    "name": _TEXT,
    "interval": st.one_of(
        st.sampled_from(_INTERVALS),
        st.builds(
            "{} {}".format,
            st.integers(-(2**40), 2**40),
            st.sampled_from(["years", "months", "days", "hours", "seconds", "us", "centuries"]),
        ),
    ),
    "boolean": st.none(),
    "integer": st.sampled_from(_INTEGERS),
    "bigint": st.sampled_from(_INTEGERS),
    "numeric": st.sampled_from(_NUMBERS),
    "text[]": st.one_of(
        st.sampled_from([[], [None], ["book", None], _MANY, [["book"], ["author"]], [""]]),
        st.lists(st.one_of(st.none(), _TEXT), max_size=5),
    ),
}

USUAL: dict[str, list[Value]] = {
    "text": ["myapp"],
    "name": ["pruner"],
    "interval": ["7 days", "0", "1 hour", "40 days"],
    "boolean": [True, False],
    "integer": [1, 2, 100],
    "bigint": [1, 5, 1_000_000],
    "numeric": ["100"],
    "text[]": [["book"], ["book", "author"]],
}
# Where the type alone does not say it. What would merely make the call wait is left out.
USUAL_BY_NAME: dict[str, list[Value]] = {
    "name": ["nightly", "another"],
    "policy_name": ["nightly"],
    "cron_expression": ["0 2 * * *"],
    "role": ["pruner"],
    "batch_pause": ["0", "1 ms"],
    "batch_time": ["200 ms"],
    "max_runtime": ["1 s", "0"],
    "max_wal_rate": [50_000_000],
    "worker": [1],
    "workers": [1, 2],
    "max_percent": [100],
    "every": ["1 day"],
}
# What each parameter of the type is given in every run, be it ever so short.
ALWAYS: dict[str, list[Value]] = {
    "interval": ["infinity", "178000000 years"],
    "text[]": [["book", None], ["book"] * 100_000],
}
# Of these an odd value may be an order to wait. (So may max_replica_lag; but here is no replica.)
WAITS = ("batch_pause", "max_wal_rate")
# An hour is a pause that may be asked for; a test has no such time.
PATIENT = {"batch_pause": ["-1 us", "infinity", "2 hours", "178000000 years", "", None]}


def usual(name: str, type_: str) -> st.SearchStrategy[Value]:
    """What somebody would write for that parameter."""
    return st.sampled_from(USUAL_BY_NAME.get(name) or USUAL[type_])


def hostile(name: str, type_: str) -> st.SearchStrategy[Value]:
    """What nobody should, and NULL."""
    if name in PATIENT:
        return st.sampled_from(PATIENT[name])
    if name == "cron_expression":
        return st.one_of(st.sampled_from(_CRON), HOSTILE[type_], st.none())
    return st.one_of(HOSTILE[type_], st.none())
