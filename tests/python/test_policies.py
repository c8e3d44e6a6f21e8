"""Policies through the clients: one method a routine, and what each refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA, Policy, Progress
from hotmesh_dba.options import POLICY_OPTIONS
from tests.conftest import Connect, Database, NewApp, NewRole
from tests.support.server import Connection

from .running import held, states
from .test_batched import backlog, refuse_deletes
from .test_client import count

EVERYTHING: dict[str, Any] = {
    "expire": timedelta(days=7),
    "jobs": True,
    "streams": True,
    "attributes": True,
    "entities": ["book"],
    "prune_transient": True,
    "keep_hmark": True,
    "engine_streams": True,
    "worker_streams": True,
    "engine_streams_expire": "24 hours",
    "worker_streams_expire": "90 days",
    "signals": True,
    "batch_size": 500,
    "batch_time": "100 ms",
    "batch_pause": timedelta(milliseconds=10),
    "max_runtime": "1 hour",
    "max_rows": 1_000_000,
    "disable_triggers": False,
    "max_wal_rate": 5_000_000,
    "max_replica_lag": "1 min",
    "max_percent": 12.5,
    "every": "1 day",
    "enabled": False,
    "note": "it's [ours]",
}
SAID = {
    **EVERYTHING,
    "expire": "7 days",
    "engine_streams_expire": "24:00:00",
    "batch_time": "00:00:00.1",
    "batch_pause": "00:00:00.01",
    "max_runtime": "01:00:00",
    "max_replica_lag": "00:01:00",
}


def test_the_fields_are_the_options() -> None:
    names = [field.name for field in fields(Policy)]
    assert names == ["app", "name", *POLICY_OPTIONS, "role", "created_at", "updated_at"]
    assert set(EVERYTHING) == set(POLICY_OPTIONS)


def test_every_option(face: Any, filled: str) -> None:
    policy = face.set_policy(filled, "all", **EVERYTHING)
    assert {name: getattr(policy, name) for name in SAID} == SAID
    assert (policy.app, policy.name, policy.role) == (filled, "all", "postgres")
    assert face.policies() == face.policies(filled) == [policy]
    face.drop_policy(filled, "all")
    assert face.policies() == []


def test_every_step_is_off_unless_named(dba: DBA, conn: Connection, filled: str) -> None:
    policy = dba.set_policy(filled, "p", signals=True, max_percent=100)
    off = {n: getattr(policy, n) for n, o in POLICY_OPTIONS.items() if o.type == "bool"}
    assert {name for name, on in off.items() if on} == {"signals", "enabled"}
    assert (policy.expire, policy.every, policy.max_percent) == (None, None, 100.0)
    result = dba.run_policy(filled, "p")
    assert (result.signals, result.jobs, result.streams, result.marked) == (1, 0, 0, 0)
    assert count(conn, "jobs") == 5


def test_set_replaces_the_whole(dba: DBA, filled: str) -> None:
    dba.set_policy(filled, "p", jobs=True, expire="1 day", note="first")
    dba.set_policy(filled, "p", signals=True)
    [policy] = dba.policies()
    assert (policy.jobs, policy.signals, policy.note) == (False, True, None)


def test_windows_stay_what_they_were(face: Any, filled: str) -> None:
    policy = face.set_policy(filled, "p", jobs=True, expire="1 mon 2 days")
    assert policy.expire == "1 mon 2 days"


def test_a_run(face: Any, filled: str) -> None:
    face.set_policy(
        filled, "p", jobs=True, signals=True, streams=True, expire="7 days", max_percent=100
    )
    told: list[Progress] = []
    result = face.run_policy(filled, "p", progress=told.append)
    assert (result.jobs, result.streams, result.signals) == (2, 2, 1)
    assert [run.policy for run in result.runs] == ["p"]
    assert told[-1].result == result
    assert sum(step.rows_done for step in told[-1].steps) == told[-1].rows_done == 5
    assert sum(step.rows_expected or 0 for step in told[-1].steps) == told[-1].rows_expected


def test_a_run_of_several_workers(dba: DBA, filled: str) -> None:
    dba.set_policy(filled, "p", jobs=True, signals=True, expire="7 days", max_percent=100)
    result = dba.run_policy(filled, "p", workers=2)
    assert [(run.policy, run.worker) for run in result.runs] == [("p", 1), ("p", 2)]
    assert (result.jobs, result.signals) == (2, 1)


def test_run_due(face: Any, conn: Connection, filled: str) -> None:
    nothing = face.run_due()
    assert (nothing.state, nothing.runs, nothing.jobs, nothing.remaining) == ("completed", (), 0, 0)
    assert (nothing.busy, nothing.postponed) == (0, 0)
    face.set_policy(filled, "jobs", jobs=True, expire="7 days", max_percent=100, every="1 day")
    face.set_policy(filled, "signals", signals=True, max_percent=100, every=timedelta(hours=1))
    face.set_policy(filled, "never", streams=True, expire="7 days", max_percent=100)
    late = face.run_due("0")
    assert (late.runs, late.busy, late.postponed) == ((), 0, 2)
    assert (late.state, late.stop_reason) == ("stopped", "max_runtime")
    result = face.run_due("1 hour")
    assert {run.policy for run in result.runs} == {"jobs", "signals"}
    assert (result.jobs, result.signals, result.streams, result.state) == (2, 1, 0, "completed")
    assert face.run_due().runs == ()
    assert count(conn, "engine_streams") == 1


def test_one_whose_app_is_held(
    face: Any,
    dba: DBA,
    conn: Connection,
    caplog: pytest.LogCaptureFixture,
    filled: str,
    app: NewApp,
) -> None:
    every: dict[str, Any] = {"signals": True, "max_percent": 100, "every": "1 day"}
    for name in (filled, app("zebra")):
        dba.set_policy(name, "p", **every)
    backlog(conn)
    with held(dba, conn, filled):
        result = face.run_due()
    assert [run.app for run in result.runs] == ["zebra"]
    assert (result.busy, result.postponed) == (1, 0)
    assert (result.state, result.stop_reason) == ("stopped", "locked")
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert 'policy "p" of app "myapp" is left for the next call: another run prunes' in warning


def test_one_that_fails_does_not_stop_the_rest(dba: DBA, conn: Connection, filled: str) -> None:
    refuse_deletes(conn)
    dba.set_policy(filled, "a", jobs=True, expire="7 days", max_percent=100, every="1 day")
    dba.set_policy(filled, "b", signals=True, max_percent=100, every="1 day")
    with pytest.raises(h.HotMeshDBAError) as caught:
        dba.run_due()
    result = caught.value.result
    assert result is not None
    assert {(run.policy, run.state) for run in result.runs} == {("a", "failed"), ("b", "completed")}
    assert (result.state, result.signals) == ("failed", 1)
    assert isinstance(result, h.DueResult)
    assert (result.busy, result.postponed) == (None, None), "an error tells no numbers"


def test_the_fuse(face: Any, conn: Connection, filled: str) -> None:
    face.set_policy(filled, "p", jobs=True, expire="7 days", max_percent=1)
    backlog(conn, 100)
    conn.execute("ANALYZE")
    with pytest.raises(h.TooMuch) as caught:
        face.run_policy(filled, "p")
    assert "force => true" in (caught.value.hint or "")
    assert caught.value.result is not None
    [run] = caught.value.result.runs
    assert (run.state, run.stop_reason, run.rows_done) == ("failed", "max_percent", 0)
    assert face.run_policy(filled, "p", force=True).jobs == 102


def test_disabled(face: Any, filled: str) -> None:
    face.set_policy(filled, "p", signals=True, max_percent=100, enabled=False, every="1 day")
    assert face.run_due().runs == ()
    with pytest.raises(h.PolicyDisabled):
        face.run_policy(filled, "p")
    assert face.run_policy(filled, "p", force=True).signals == 1


def test_unknown_policies(face: Any, filled: str) -> None:
    face.set_policy(filled, "known", signals=True)
    calls: list[Callable[[], object]] = [
        lambda: face.drop_policy(filled, "none"),
        lambda: face.run_policy(filled, 'it\'s "none"'),
    ]
    for call in calls:
        with pytest.raises(h.UnknownPolicy) as caught:
            call()
        assert "known" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jobs": True},
        {"signals": True, "entities": ["book"]},
        {"signals": True, "keep_hmark": True},
        {"signals": True, "engine_streams_expire": "1 day"},
        {"signals": True, "every": "0"},
        {"signals": True, "max_percent": 0},
        {"signals": True, "max_percent": 101},
        {"jobs": True, "expire": "-1 day"},
        {"jobs": True, "expire": "garbage"},
        {"signals": True, "batch_size": 0},
    ],
    ids=str,
)
def test_contradictions(dba: DBA, filled: str, options: dict[str, Any]) -> None:
    with pytest.raises(h.InvalidOption) as caught:
        dba.set_policy(filled, "p", **options)
    assert caught.value.hint
    assert dba.policies() == []


@pytest.mark.parametrize(
    "options",
    [{"signals": 1}, {"max_percent": "50"}, {"max_percent": True}, {"note": 7}, {"jbos": True}],
    ids=str,
)
def test_wrong_types(dba: DBA, filled: str, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        dba.set_policy(filled, "p", **options)
    with pytest.raises(TypeError):
        dba.set_policy(filled, 7, signals=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        dba.run_policy(filled, "p", force="yes")  # type: ignore[arg-type]


def test_a_policy_is_its_owners(db: Database, app: NewApp, role: NewRole) -> None:
    a, b = role("a"), role("b")
    mine, theirs = app("mine", owner=a), app("theirs", owner=b)
    dba = DBA(db.conninfo(a))
    dba.set_policy(mine, "p", signals=True)
    assert [policy.role for policy in dba.policies()] == [a]
    assert DBA(db.conninfo(b)).policies() == []
    calls: list[Callable[[], object]] = [
        lambda: dba.set_policy(theirs, "p", signals=True),
        lambda: DBA(db.conninfo(b)).drop_policy(mine, "p"),
        lambda: DBA(db.conninfo(b)).run_policy(mine, "p"),
    ]
    for call in calls:
        with pytest.raises(h.PermissionDenied):
            call()


def test_not_in_a_transaction(connect: Connect, filled: str) -> None:
    conn = connect(autocommit=False)
    dba = DBA(conn)
    dba.set_policy(filled, "p", signals=True, max_percent=100)  # is part of it
    calls: list[Callable[[], object]] = [lambda: dba.run_policy(filled, "p"), dba.run_due]
    for call in calls:
        conn.execute("SELECT 1")
        with pytest.raises(h.OpenTransaction):
            call()
    conn.commit()
    assert dba.run_policy(filled, "p").signals == 1
    assert states(conn) == [("completed", None)]


def test_no_pg_cron(face: Any, filled: str) -> None:
    face.set_policy(filled, "p", signals=True)
    assert face.schedules() == face.schedules(filled) == []
    with pytest.raises(h.CronMissing) as caught:
        face.schedule(filled, "p", "0 3 * * *")
    assert "run_due" in (caught.value.hint or "")
    with pytest.raises(h.CronMissing):
        face.unschedule(filled, "p")


def test_rights(face: Any, db: Database, filled: str, role: NewRole) -> None:
    pruner = role("pruner")
    face.deploy(filled)
    granted = face.grant_prune(filled, pruner)
    assert len(granted) > 3
    assert all(statement.startswith("GRANT ") for statement in granted)
    assert DBA(db.conninfo(pruner)).prune_batched(filled, attributes=True).marked == 3
    assert all(s.startswith("REVOKE ") for s in face.revoke_prune(filled, pruner))
    with pytest.raises(h.PermissionDenied):
        DBA(db.conninfo(pruner)).prune(filled)
    with pytest.raises(h.HotMeshDBAError) as caught:
        face.grant_prune(filled, 'no "such" role')
    assert caught.value.sqlstate == "42704"


def test_backlog_and_doctor(face: Any, filled: str) -> None:
    rows = {row.table_name: row for row in face.backlog()}
    assert set(rows) == {
        *("jobs", "jobs_attributes", "engine_streams", "worker_streams", "signal_registry")
    }
    assert {(row.policy, row.due) for row in rows.values()} == {(None, None)}
    face.set_policy(filled, "p", jobs=True, attributes=True, expire="7 days")
    rows = {row.table_name: row for row in face.backlog(filled)}
    assert (rows["jobs"].due, rows["jobs"].exact, rows["jobs"].policy) == (2, True, "p")
    assert rows["jobs_attributes"].due == 3
    assert rows["jobs"].oldest_due is not None
    checks = face.doctor()
    assert {check.status for check in checks} <= {"ok", "warning", "problem", "unknown"}
    assert {check.app for check in checks} == {None, filled}
    with pytest.raises(h.UnknownApp):
        face.doctor("elsewhere")
    with pytest.raises(h.UnknownApp):
        face.backlog("elsewhere")
