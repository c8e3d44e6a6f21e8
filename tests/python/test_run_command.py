"""The command's prune is batched: what it shows, how it is stopped, and how it exits."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA
from hotmesh_dba.cli.flags import flag
from hotmesh_dba.options import BATCH_OPTIONS
from tests.conftest import Connect
from tests.support.installation import CHECKOUT
from tests.support.server import Connection

from .command import Command, Terminal
from .running import HELD, at_rest, backends, begun, states, until
from .test_batched import backlog, refuse_deletes
from .test_client import count

DRY = "a dry run: nothing was changed\n"
HOLD = ["--batch-size", "1", "--batch-pause", "1 hour"]


def test_every_option_of_batches(command: Command, filled: str) -> None:
    pruned = command.json(
        *("prune", filled, "-j", "2", "--batch-size", "7", "--batch-time", "150 ms"),
        *("--batch-pause", "1 ms", "--max-runtime", "1 hour", "--max-rows", "9", "--attributes"),
        *("--disable-triggers", "--max-wal-rate", "5000000", "--max-replica-lag", "1 min"),
    )
    assert (pruned["jobs"], pruned["marked"], pruned["state"]) == (2, 3, "completed")
    assert [run["worker"] for run in pruned["runs"]] == [1, 2]
    options = pruned["runs"][0]["options"]
    expected = {
        "workers": 2,
        "batch_size": 7,
        "batch_time": "00:00:00.15",
        "batch_pause": "00:00:00.001",
        "max_runtime": "01:00:00",
        "max_rows": 9,
        "disable_triggers": True,
        "max_wal_rate": 5_000_000,
        "max_replica_lag": "00:01:00",
        "strip_attributes": True,
    }
    assert {name: options[name] for name in expected} == expected


def test_help_names_every_option(command: Command) -> None:
    text = " ".join(command("prune", "--help").stdout.split())
    for name, option in BATCH_OPTIONS.items():
        assert option.help in text
        assert flag(name) in text
    assert "--workers" in text


def test_json_has_the_run(command: Command, dba: DBA, filled: str) -> None:
    pruned = command.json("prune", filled)
    [run] = dba.runs()
    assert (pruned["state"], pruned["stop_reason"], pruned["cascaded"]) == ("completed", None, 6)
    [shown] = pruned["runs"]
    assert (shown["id"], shown["deleted_jobs"], shown["batches"]) == (run.id, 2, run.batches)
    assert shown["started_at"] == run.started_at.isoformat()
    assert shown["longest_batch"] == run.longest_batch.total_seconds()


def test_nothing_of_progress_in_a_pipe(command: Command, filled: str) -> None:
    done = command("prune", filled)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jobs\t2\n" in done.stdout


def test_a_single_transaction(command: Command, conn: Connection, filled: str) -> None:
    pruned = command.json("prune", filled, "--single-transaction", "--attributes")
    assert (pruned["jobs"], pruned["marked"]) == (2, 3)
    assert "runs" not in pruned
    assert states(conn) == []


@pytest.mark.parametrize(
    "option",
    [
        ["--workers", "1"],
        ["-j", "2"],
        *([flag(n), *([] if o.type == "bool" else ["1"])] for n, o in BATCH_OPTIONS.items()),
    ],
    ids=" ".join,
)
def test_a_single_transaction_has_no_batches(
    command: Command, conn: Connection, filled: str, option: list[str]
) -> None:
    done = command("prune", filled, "--single-transaction", *option)
    assert (done.returncode, done.stdout) == (2, "")
    assert option[0].replace("-j", "--workers") in done.stderr
    assert count(conn, "jobs") == 5


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_wrong_workers(command: Command, workers: str) -> None:
    assert command("prune", "x", "--workers", workers).returncode == 2


def test_a_budget_reached_is_success(command: Command, conn: Connection, filled: str) -> None:
    done = command("prune", filled, "--max-rows", "1", "--json")
    assert done.returncode == 0
    pruned = json.loads(done.stdout)
    assert (pruned["state"], pruned["stop_reason"]) == ("stopped", "max_rows")
    assert pruned["remaining"] >= 4, "an estimate"
    [warning] = [json.loads(line) for line in done.stderr.splitlines()]
    assert warning["level"] == "warning"
    assert warning["message"].startswith('run 1 of app "myapp" stopped: max_rows\n')
    assert states(conn) == [("stopped", "max_rows")]


def test_locked_rows(command: Command, connect: Connect, filled: str) -> None:
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM myapp.jobs WHERE key = 'expired-book' FOR UPDATE")
    done = command("prune", filled)
    assert (done.returncode, "jobs\t1\n" in done.stdout) == (3, True)
    assert "remaining\t1\n" in done.stdout


def test_another_run(command: Command, dba: DBA, conn: Connection, filled: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(dba.prune_batched, filled, **HELD)
        begun(conn)
        [pid] = backends(conn)
        done = command("prune", filled)
        assert (done.returncode, done.stdout) == (4, "")
        assert str(pid) in done.stderr

        header, row = command("runs", "--active").stdout.splitlines()
        shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
        assert (shown["run"], shown["app"], shown["worker"]) == ("1", filled, "1/1")
        assert (shown["pid"], shown["state"], shown["rows"]) == (str(pid), "running", "1")
        [active] = command.json("runs", filled, "--active")
        assert (active["pid"], active["rows_done"]) == (pid, 1)
        conn.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(h.Cancelled):
            call.result(30)


def test_a_failed_run_shows_what_it_had_done(
    command: Command, conn: Connection, filled: str
) -> None:
    refuse_deletes(conn)
    done = command("prune", filled)
    assert done.returncode == 1
    assert "engine_streams\t1\n" in done.stdout
    assert done.stderr.startswith("error: not this one (55000)\ndetail: d ")
    done = command("prune", filled, "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "failed")


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("--batch-pause", "-1 s", "--batch-pause '50 ms'."),
        ("--batch-size", "0", "--batch-size 1000."),
        ("--workers", "99", "--workers 2."),
    ],
)
def test_an_error_before_it_begins(
    command: Command, conn: Connection, filled: str, option: str, value: str, advice: str
) -> None:
    done = command("prune", filled, option, value)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {option[2:].replace('-', '_')} must be ")
    assert done.stderr.endswith(f"hint: Write for example {advice}\n")
    assert states(conn) == []


def test_runs(command: Command, filled: str) -> None:
    none = command("runs")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no runs\n")
    none = command("runs", "--active")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no active runs\n")
    command("prune", filled, "--max-rows", "1")
    command("prune", filled)
    header, *rows = command("runs", filled).stdout.splitlines()
    shown = [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert [(row["run"], row["rows"], row["state"], row["reason"]) for row in shown] == [
        ("2", "4", "completed", ""),
        ("1", "1", "stopped", "max_rows"),
    ]
    assert [run["id"] for run in command.json("runs", "--limit", "1")] == [2]
    assert command("runs", "elsewhere").returncode == 1


def test_what_readme_types(command: Command, conn: Connection, filled: str) -> None:
    text = (CHECKOUT / "README.md").read_text()
    typable = r"^(hotmesh-dba (?:deploy|prune|runs|policy|run-due) [^#\n]*)"
    lines = re.findall(typable, text, re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        typed = shlex.split(line)[1:]
        assert filled in typed or typed[0] == "run-due"
        if "--dsn" in typed:  # the environment says it
            typed = typed[: typed.index("--dsn")]
        done = command(*typed)
        assert (done.returncode, done.stderr) in ((0, ""), (0, DRY)), line
    assert count(conn, "jobs") == 3


# --- stopped ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_on_a_terminal(
    command: Command, conn: Connection, filled: str, workers: str
) -> None:
    backlog(conn)
    with Terminal(command, "prune", filled, "--yes", "-j", workers, *HOLD) as terminal:
        begun(conn, int(workers))
        terminal.until(f"{workers} of 405 rows")
        terminal.type(b"\x03")
        assert terminal.end() == 130, terminal.shown
    assert "interrupted: what was committed stays" in terminal.shown
    assert "│ jobs" in terminal.shown, "a table of what was done"
    assert "Traceback" not in terminal.shown
    assert states(conn) == [("failed", "cancelled")] * int(workers)
    at_rest(conn)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal(
    command: Command, conn: Connection, filled: str, number: signal.Signals, code: int
) -> None:
    with command.start("prune", filled, "--json", *HOLD) as process:
        begun(conn)
        process.send_signal(number)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    result: dict[str, Any] = json.loads(shown)
    assert (result["state"], result["stop_reason"]) == ("failed", "cancelled")
    [error] = [json.loads(line) for line in said.splitlines()]
    assert error == {
        "level": "error",
        "message": "interrupted: what was committed stays",
        "error": "Interrupted",
        "exit_code": code,
    }
    assert states(conn) == [("failed", "cancelled")]
    at_rest(conn)


def test_ctrl_c_again_where_the_server_does_not_answer(
    command: Command, conn: Connection, filled: str
) -> None:
    """Who presses it again does not want to wait; the server was told, and ends it when it can."""
    with Terminal(command, "prune", filled, "--yes", *HOLD) as terminal:
        begun(conn)
        [pid] = backends(conn)
        os.kill(pid, signal.SIGSTOP)
        try:
            terminal.press_until_it_ends(b"\x03")
            assert terminal.end() == 130, terminal.shown
        finally:
            os.kill(pid, signal.SIGCONT)
    assert "Traceback" not in terminal.shown
    until("the server to end it", lambda: states(conn) == [("failed", "cancelled")])


def test_sigterm_ends_a_single_transaction_too(
    command: Command, connect: Connect, conn: Connection, filled: str
) -> None:
    """It waits for a lock for longer than anybody would."""
    command("deploy", filled)
    conn.execute(
        """
        CREATE FUNCTION public.doze() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_lock(7); RETURN NULL; END $$;
        CREATE TRIGGER doze BEFORE DELETE ON myapp.signal_registry EXECUTE FUNCTION public.doze()
        """
    )
    connect().execute("SELECT pg_advisory_lock(7)")
    with command.start("prune", filled, "--single-transaction") as process:
        waiting(conn)
        process.send_signal(signal.SIGTERM)
        shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown) == (143, ""), said
    assert count(conn, "jobs") == 5


def test_progress_on_a_terminal(command: Command, conn: Connection, filled: str) -> None:
    """It goes when the run is over, and the table stays."""
    backlog(conn, 30)
    pause = ["--batch-size", "1", "--batch-pause", "40 ms"]
    with Terminal(command, "prune", filled, "--yes", *pause) as terminal:
        terminal.until("of 35 rows")
        assert terminal.end() == 0, terminal.shown
    assert "/s, " in terminal.shown
    assert re.search(r"│ jobs\s+│\s+32 │", terminal.shown)


def waiting(conn: Connection) -> None:
    """Wait until somebody waits for the advisory lock 7."""
    query = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND objid = 7"
    until("somebody to wait", lambda: bool(conn.execute(query.encode()).fetchall()))
