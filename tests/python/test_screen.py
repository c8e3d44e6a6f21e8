"""What a person sees: the bars move, every number is the record's, and 80 columns suffice."""

from __future__ import annotations

import json
import re
import signal

import pytest

from hotmesh_dba import DBA, Run
from tests.support.server import Connection

from .command import Command, Terminal, plain
from .running import at_rest, begun, states
from .test_batched import backlog

pytestmark = pytest.mark.once

KINDS = {
    "jobs": "deleted_jobs",
    "engine_streams": "deleted_engine_streams",
    "worker_streams": "deleted_worker_streams",
    "signals": "deleted_signals",
    "marked": "marked_pruned",
    "attributes": "stripped_attributes",
    "cascaded": "cascaded_attributes",
}
SLOWLY = ["--batch-size", "1", "--batch-pause", "40 ms"]


def number(text: str) -> int:
    """Read a number as people write it."""
    return int(text.replace(",", ""))


def table(shown: str) -> dict[str, int]:
    """The kinds and rows of the table that was shown."""
    return {k: number(n) for k, n in re.findall(r"│ (\w+) +│ +([\d,]+) │", plain(shown))}


def recorded(runs: list[Run]) -> dict[str, int]:
    """The same by the records; what is 0 is not shown."""
    sums = {kind: sum(getattr(run, c) for run in runs) for kind, c in KINDS.items()}
    return {kind: rows for kind, rows in sums.items() if rows}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_number_is_the_record_s(
    command: Command, dba: DBA, conn: Connection, filled: str, workers: str
) -> None:
    backlog(conn, 1500)
    arguments = ["prune", filled, "--yes", "--attributes", "-j", workers]
    with Terminal(command, *arguments, COLUMNS="80") as terminal:
        assert terminal.end() == 0, terminal.shown
    runs = dba.runs(filled)
    assert len(runs) == int(workers)
    assert table(terminal.shown) == recorded(runs)
    line = re.search(
        r"runs? ([\d, ]+): completed, ([\d,]+) rows in .*, ([\d,]+) batches",
        (plain(terminal.shown)),
    )
    assert line is not None, terminal.shown
    ids = sorted(number(part) for part in line[1].split(", "))
    assert ids == sorted(run.id for run in runs)
    assert number(line[2]) == sum(run.rows_done for run in runs)
    assert number(line[3]) == sum(run.batches for run in runs)


def test_a_pipe_says_the_same(command: Command, dba: DBA, filled: str) -> None:
    done = command("prune", filled, "--attributes")
    shown = {k: int(n) for k, n in (line.split("\t") for line in done.stdout.splitlines()[1:])}
    [run] = dba.runs(filled)
    assert {kind: shown[kind] for kind in KINDS} == {k: getattr(run, c) for k, c in KINDS.items()}
    assert (shown["remaining"], shown["skipped"]) == (run.remaining, run.skipped)


@pytest.mark.parametrize("arguments", [["runs"], ["status"], ["doctor"], ["policy", "list"]])
def test_no_control_characters_in_a_pipe(
    command: Command, filled: str, arguments: list[str]
) -> None:
    command("policy", "set", filled, "p", "--signals", "--max-percent", "100")
    done = command("policy", "run", filled, "p", "--vacuum")
    done.stdout += command(*arguments, FORCE_COLOR="").stdout
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr)


def test_the_bars_move(command: Command, dba: DBA, conn: Connection, filled: str) -> None:
    backlog(conn, 40)
    with Terminal(command, "prune", filled, "--yes", *SLOWLY, COLUMNS="80") as terminal:
        terminal.until("of 42")
        assert terminal.end() == 0, terminal.shown
    [run] = dba.runs(filled)
    shown = plain(terminal.shown)
    assert run.expected_by_step == {
        **{"jobs": 42, "engine_streams": 1, "worker_streams": 1},
        "signals": 1,
    }
    moved = {number(n) for n in re.findall(r"jobs +[━╸╺ ]+([\d,]+) of 42", shown)}
    assert len(moved) > 2, shown
    assert max(moved) <= 42
    assert re.search(r"jobs +[━╸╺ ]+\d+ of 42, \d+/s, \S+( s)? left", shown), "rate and time left"
    assert re.search(rf"myapp +[━╸╺ ]+\d+ of {run.expected} rows, \d+/s, \S+( s)? left", shown)
    assert "signals" in shown
    assert max(map(len, re.split(r"[\r\n]+", shown))) <= 80


def test_ctrl_c_within_a_second(command: Command, dba: DBA, conn: Connection, filled: str) -> None:
    backlog(conn)
    with Terminal(command, "prune", filled, "--yes", *SLOWLY, COLUMNS="80") as terminal:
        begun(conn)
        terminal.until("of 405 rows")
        terminal.type(b"\x03")
        assert terminal.end() == 130, terminal.shown
    [run] = dba.runs(filled)
    assert (run.state, run.stop_reason) == ("failed", "cancelled")
    assert table(terminal.shown) == {**recorded([run]), "remaining": run.rows_left}
    at_rest(conn)


def test_the_record_after_a_signal_under_all_apps(
    command: Command, dba: DBA, conn: Connection, filled: str
) -> None:
    backlog(conn)
    with command.start("prune", "--all-apps", "--json", *SLOWLY) as process:
        begun(conn)
        process.send_signal(signal.SIGTERM)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    [document] = json.loads(shown)
    [run] = dba.runs(filled)
    assert (document["app"], document["exit_code"]) == (filled, 143)
    assert document["error"]["error"] == "Interrupted"
    assert document["result"]["jobs"] == run.deleted_jobs
    assert states(conn) == [("failed", "cancelled")]


def test_lines_where_there_is_no_terminal(command: Command, conn: Connection, filled: str) -> None:
    backlog(conn, 40)
    done = command("prune", filled, *SLOWLY, "--progress-every", "0.1")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"myapp: \d+ of 45 rows", line) for line in lines)
    assert command("prune", filled, "--progress-every", "0").stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["status"], ["policy", "list"], ["apps"], ["extension", "status"]],
    ids=" ".join,
)
def test_tables_fit_into_80_columns(command: Command, filled: str, arguments: list[str]) -> None:
    note = "what this is for, at some length, so that it does not fit on the line"
    options = ["--jobs", "--streams", "--signals", "--attributes", "--expire", "30 days"]
    set_policy = ["policy", "set", filled, "a-policy-of-a-long-name", *options]
    command(*set_policy, "--max-percent", "100", "--note", note)
    command("policy", "run", filled, "a-policy-of-a-long-name")
    with Terminal(command, *arguments, COLUMNS="80") as terminal:
        assert terminal.end() == 0, terminal.shown
    lines = plain(terminal.shown).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80, terminal.shown
    assert "…" not in terminal.shown


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["status"], ["policy", "list"], ["apps"], ["extension", "status"], ["doctor"]],
    ids=" ".join,
)
def test_on_40_columns_no_word_is_cut(
    command: Command, dba: DBA, filled: str, arguments: list[str]
) -> None:
    """Where no table fits, rows stand as lines, and then nothing is left out."""
    note = "what this is for, at some length"
    dba.set_policy(filled, "nightly-strip", signals=True, max_percent=100, note=note)
    dba.run_policy(filled, "nightly-strip")
    with Terminal(command, *arguments, COLUMNS="40") as terminal:
        terminal.end()
    shown = plain(terminal.shown).replace("\r", "")
    words = {
        "runs": ["nightly-strip", "completed", "batches", "role", "postgres"],
        "status": ["signal_registry", "jobs_attributes", "nightly-strip"],
        "policy": ["nightly-strip", "signals", "enabled", "100 %", "length"],
        "apps": ["myapp", "postgres", "migrated"],
        "extension": ["the server's", "version", "(extension)"],
        "doctor": [" ok"],
    }[arguments[0]]
    assert [word for word in words if word not in shown] == [], shown
    assert max(map(len, shown.splitlines())) <= 40, shown


def test_a_hint_of_doctor_can_be_copied(command: Command, conn: Connection, filled: str) -> None:
    """Lines are ended between words alone, however narrow it is."""
    command("deploy", filled)
    conn.execute("CREATE FUNCTION myapp.prune(text) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    hints = [check["hint"] for check in json.loads(command("doctor", "--json").stdout)]
    with Terminal(command, "doctor", COLUMNS="40") as terminal:
        assert terminal.end() == 5
    shown = " ".join(plain(terminal.shown).split())
    wanted = [" ".join(hint.split()) for hint in hints if hint]
    assert wanted
    assert [hint for hint in wanted if hint not in shown] == []
    assert not re.search(r" \r?\n", plain(terminal.shown)), "no line is filled up"


def test_a_dry_run_of_nothing(command: Command, filled: str) -> None:
    nothing = ["prune", filled, "--dry-run", "--expire", "99 days", "--no-signals"]
    with Terminal(command, *nothing) as terminal:
        assert terminal.end() == 0
    assert "nothing is due" in terminal.shown
    assert "signals\t0\n" in command(*nothing).stdout


def test_a_warning_stands_above_the_bars(command: Command, conn: Connection, filled: str) -> None:
    """On lines of its own, of which the bars erase nothing."""
    backlog(conn, 10)
    with Terminal(command, "prune", filled, "--yes", *SLOWLY, "--max-rows", "9") as terminal:
        assert terminal.end() == 0, terminal.shown
    warning = 'warning: run 1 of app "myapp" stopped: max_rows'
    assert re.search(rf"(?:\n|\r|\x1b\[2K){re.escape(warning)} *\r?\n", terminal.shown)
    [_, after] = terminal.shown.split(warning)
    assert "Call it again to go on." in after.split("\x1b[1A")[0], "before anything is erased"
