"""set_policy and drop_policy: what a policy may say, and what it says then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.deploy.observe import one, refused, run
from tests.policies.calls import DEFAULTS, names, policies, set_policy, setting
from tests.support.server import Connection

STEPS = (
    "prune_jobs",
    "prune_transient",
    "prune_engine_streams",
    "prune_worker_streams",
    "strip_attributes",
    "prune_signals",
)


@pytest.fixture(autouse=True)
def session(conn: Connection, deployed: str) -> None:  # noqa: ARG001 -- each sets its policies
    run(conn, "SET IntervalStyle = postgres")


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_off_unless_it_is_named(conn: Connection, step: str) -> None:
    window = "" if step in ("strip_attributes", "prune_signals") else "retention => '30 days', "
    found = set_policy(conn, f"{window}{step} => true")
    assert {name for name in STEPS if found[name]} == {step}
    assert found["prune_streams"] is False
    assert found == policies(conn)[0]


def test_what_is_not_said_is_the_default(conn: Connection) -> None:
    found = set_policy(conn, "prune_signals => true")
    for name, value in DEFAULTS.items():
        if value and isinstance(value, str):
            value = timedelta(seconds=float(value.rpartition(":")[2]))
        assert found[name] == (True if name == "prune_signals" else value), name
    assert (found["app"], found["name"], found["role"]) == ("myapp", "nightly", "postgres")


def test_it_is_returned_resolved(conn: Connection) -> None:
    found = set_policy(
        conn,
        "retention => '7 days', prune_streams => true, worker_streams_retention => '90 days'",
    )
    assert found["prune_engine_streams"] is found["prune_worker_streams"] is True
    assert found["engine_streams_retention"] == timedelta(days=7)
    assert found["worker_streams_retention"] == timedelta(days=90)
    found = set_policy(
        conn, "retention => '7 days', prune_streams => true, prune_worker_streams => false"
    )
    assert (found["prune_engine_streams"], found["prune_worker_streams"]) == (True, False)
    assert found["worker_streams_retention"] is None


def test_a_replacement_is_whole(conn: Connection) -> None:
    first = set_policy(
        conn,
        "retention => '9 days', prune_jobs => true, prune_streams => true,"
        " strip_attributes => true, entity_list => ARRAY['book'], prune_transient => true,"
        " keep_hmark => true, engine_streams_retention => '2 days',"
        " worker_streams_retention => '3 days', prune_signals => true, batch_size => 7,"
        " batch_time => '1 s', batch_pause => '2 s', max_runtime => '3 s', max_rows => 8,"
        " disable_triggers => true, max_wal_rate => 9, max_replica_lag => '4 s',"
        " max_percent => 12.5, every => '1 day', enabled => false, note => 'first'",
    )
    for name, value in DEFAULTS.items():
        assert first[name] != value, name
    second = set_policy(conn, "prune_signals => true")
    fresh = set_policy(conn, "prune_signals => true", name="other")
    times = {"created_at", "updated_at", "name"}
    assert {k: v for k, v in second.items() if k not in times} == {
        k: v for k, v in fresh.items() if k not in times
    }
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]
    assert names(conn) == [("myapp", "nightly"), ("myapp", "other")]


REFUSED = {
    "no step": ("22023", "retention => '7 days'", "prune_jobs"),
    "every step off": ("22023", "'7 days', prune_streams => true, prune_engine_streams => false,"
                       " prune_worker_streams => false", "prune_signals"),
    "jobs without a window": ("22023", "prune_jobs => true", "retention => "),
    "transient without a window": ("22023", "prune_transient => true", "retention => "),
    "streams without a window": ("22023", "prune_streams => true", "engine_streams_retention => "),
    "worker streams without a window": (
        "22023",
        "prune_worker_streams => true",
        "worker_streams_retention => ",
    ),
    "a window of jobs is none of theirs": (
        "22023",
        "prune_streams => true, engine_streams_retention => '1 day'",
        "worker_streams_retention => ",
    ),
    "a window of what is off": (
        "22023",
        "prune_signals => true, engine_streams_retention => '1 day'",
        "prune_engine_streams => true",
    ),
    "entities of nothing": (
        "22023",
        "prune_signals => true, entity_list => ARRAY['book']",
        "leave out entity_list",
    ),
    "entities of transient": (
        "22023",
        "'1 day', prune_transient => true, entity_list => ARRAY['book']",
        "leave out entity_list",
    ),
    "no entity": ("22023", "strip_attributes => true, entity_list => '{}'", "ARRAY['book']"),
    "entity NULL": ("22023", "strip_attributes => true, entity_list => '{a,NULL}'", "ARRAY"),
    "hmark without a strip": ("22023", "prune_signals => true, keep_hmark => true", "keep_hmark"),
    "negative window": ("22023", "'-1 day', prune_jobs => true", "retention => "),
    "mixed window": ("22023", "'1 month -30 days', prune_jobs => true", "retention => "),
    "negative window of its own": (
        "22023",
        "prune_engine_streams => true, engine_streams_retention => '-1 s'",
        "engine_streams_retention => ",
    ),
    "an unused window that is wrong": ("22023", "'-1 day', prune_signals => true", "retention => "),
    "flag NULL": ("22004", "prune_signals => true, prune_jobs => NULL", "prune_jobs => false"),
    "enabled NULL": ("22004", "prune_signals => true, enabled => NULL", "enabled => false"),
    "batch_size": ("22023", "prune_signals => true, batch_size => 0", "batch_size => 1000"),
    "batch_time": ("22023", "prune_signals => true, batch_time => '0'", "batch_time => "),
    "batch_pause": ("22023", "prune_signals => true, batch_pause => '-1 s'", "batch_pause => "),
    "max_runtime": ("22023", "prune_signals => true, max_runtime => '-1 s'", "max_runtime => "),
    "max_rows": ("22023", "prune_signals => true, max_rows => 0", "max_rows => "),
    "max_wal_rate": ("22023", "prune_signals => true, max_wal_rate => 0", "max_wal_rate => "),
    "max_replica_lag": ("22023", "prune_signals => true, max_replica_lag => '-1 s'", "max_replica"),
    "every 0": ("22023", "prune_signals => true, every => '0'", "every => '1 day'"),
    "every negative": ("22023", "prune_signals => true, every => '-1 day'", "every => '1 day'"),
    "every for ever": ("22023", "prune_signals => true, every => '99 years'", "every => '1 day'"),
    "max_percent 0": ("22023", "prune_signals => true, max_percent => 0", "max_percent => 50"),
    "max_percent 101": ("22023", "prune_signals => true, max_percent => 101", "max_percent => 50"),
    "max_percent NaN": ("22023", "prune_signals => true, max_percent => 'NaN'", "max_percent => 5"),
    "max_percent NULL": ("22023", "prune_signals => true, max_percent => NULL", "max_percent => 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(conn: Connection, case: tuple[str, str, str]) -> None:
    state, options, hint = case
    set_policy(conn, "strip_attributes => true")
    before = policies(conn)
    assert hint in refused(conn, state, setting(options)).hint
    assert policies(conn) == before


@pytest.mark.parametrize("name", ["", " ", "it's", 'a"b', "a b", "x" * 64, "é", "a\nb", "a/b"])
def test_a_name_is_plain(conn: Connection, name: str) -> None:
    statement = "SELECT hotmesh_dba.set_policy('myapp', %s, prune_signals => true)"
    refused(conn, "22023", statement, name)
    refused(conn, "42704", "SELECT hotmesh_dba.drop_policy('myapp', %s)", name)
    assert policies(conn) == []


def test_names_at_their_limits(conn: Connection) -> None:
    refused(conn, "22023", "SELECT hotmesh_dba.set_policy('myapp', NULL, prune_signals => true)")
    for name in ("x", "X" * 63, "A.b-c_9"):
        assert set_policy(conn, "prune_signals => true", name)["name"] == name


def test_an_app_is_found_as_everywhere(conn: Connection) -> None:
    assert set_policy(conn, "prune_signals => true", app="MyApp")["app"] == "myapp"
    refused(conn, "3F000", setting("prune_signals => true", app="nobody"))
    refused(conn, "42602", setting("prune_signals => true", app="my;app"))
    run(conn, "SELECT hotmesh_dba.drop_policy('MyApp', 'nightly')")
    assert policies(conn) == []


def test_an_unknown_policy_cannot_be_dropped(conn: Connection) -> None:
    drop = "SELECT hotmesh_dba.drop_policy('myapp', 'other')"
    assert "set_policy('myapp'" in refused(conn, "42704", drop).hint
    set_policy(conn)
    assert refused(conn, "42704", drop).hint == "Its policies: 'nightly'."
    run(conn, "SELECT hotmesh_dba.drop_policy('myapp', 'nightly')")
    assert one(conn, "SELECT count(*) FROM hotmesh_dba.policy") == 0


def test_the_table_itself_refuses_nonsense(conn: Connection) -> None:
    set_policy(conn)
    for change in ("name = 'a b'", "prune_jobs = NULL", "app_oid = NULL"):
        with pytest.raises(Exception, match="violates"):
            run(conn, f"UPDATE hotmesh_dba.policy SET {change}")


READ_ONLY = (
    "SELECT hotmesh_dba.set_policy('myapp', 'nightly', prune_signals => true)",
    "SELECT hotmesh_dba.drop_policy('myapp', 'nightly')",
    "SELECT hotmesh_dba.schedule('myapp', 'nightly', '@daily')",
)


@pytest.mark.parametrize("call", READ_ONLY)
def test_in_a_read_only_transaction(conn: Connection, call: str) -> None:
    set_policy(conn, "prune_signals => true")
    run(conn, "SET default_transaction_read_only = on")
    assert "read-only" in refused(conn, "25006", call).message
    run(conn, "SET default_transaction_read_only = off")
    assert names(conn) == [("myapp", "nightly")]
