"""The commands about policies, and those that look after apps for years."""

from __future__ import annotations

import json
import re

import pytest

from hotmesh_dba import DBA
from hotmesh_dba.cli.flags import flag
from hotmesh_dba.options import POLICY_OPTIONS
from tests.conftest import Connect, NewApp, NewRole
from tests.support.server import Connection

from .command import Command, Done, Terminal, plain
from .running import held, states
from .test_batched import backlog
from .test_client import count
from .test_json import SHAPES, check

pytestmark = pytest.mark.once

ALL = ["--jobs", "--streams", "--signals", "--expire", "7 days", "--max-percent", "100"]


def cells(done: Done) -> list[dict[str, str]]:
    """The rows of what was written into a pipe."""
    header, *rows = done.stdout.splitlines()
    return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]


def test_a_life(command: Command, conn: Connection, filled: str) -> None:
    assert command("policy", "list").stderr == "no policies\n"
    done = command("policy", "set", filled, "nightly", *ALL, "--every", "1 day", "--note", "n")
    [row] = cells(done)
    assert (row["app"], row["policy"], row["every"], row["limits"], row["note"]) == (
        *(filled, "nightly", "1 day", "100 %"),
        "n",
    )
    assert row["steps"].startswith("jobs after 7 days; engine messages after 7 days; ")
    assert command("policy", "list").stdout == done.stdout
    dry = command("policy", "run", filled, "nightly", "--dry-run")
    assert "jobs\t2\n" in dry.stdout
    assert count(conn, "jobs") == 5
    ran = command("run-due")
    [row] = cells(ran)
    assert (row["run"], row["policy"], row["rows"], row["state"]) == (
        *("1", "nightly", "5"),
        "completed",
    )
    none = command("run-due")
    assert (none.returncode, none.stdout, none.stderr) == (0, "nothing is due\n", "")
    assert "jobs\t0\n" in command("policy", "run", filled, "nightly").stdout
    assert [row["policy"] for row in cells(command("runs"))] == ["nightly", "nightly"]
    dropped = command("policy", "drop", filled, "nightly")
    assert (dropped.returncode, dropped.stderr) == (0, 'dropped policy "nightly" of app "myapp"\n')


def test_every_option_is_an_option(command: Command) -> None:
    text = " ".join(command("policy", "set", "--help").stdout.split())
    for name, option in POLICY_OPTIONS.items():
        assert option.help in text
        assert flag(name) in text
    assert "--disabled" in text
    assert "--no-jobs" not in text, "it is off unless named"


def test_disabled(command: Command, filled: str) -> None:
    policy = command.json("policy", "set", filled, "p", *ALL, "--every", "1 day", "--disabled")
    assert policy["enabled"] is False
    assert command("run-due").stdout == "nothing is due\n"
    done = command("policy", "run", filled, "p")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is disabled (55000)" in done.stderr
    assert "jobs\t2\n" in command("policy", "run", filled, "p", "--force").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "myapp", "p"], "hint: "),
        (["set", "myapp", "p", "--jobs"], "hint: "),
        (["set", "myapp", "p", "--signals", "--max-percent", "0"], "max_percent"),
        (["set", "myapp", "it's", "--signals"], "hint: "),
        (["run", "myapp", 'a "b"'], "unknown policy: 'a \"b\"'"),
        (["drop", "myapp", "none"], "known"),
        (["run", "elsewhere", "p"], "unknown app"),
        (["schedule", "myapp", "known", "0 3 * * *"], "run_due"),
    ],
    ids=str,
)
def test_refused(command: Command, filled: str, arguments: list[str], words: str) -> None:
    command("policy", "set", filled, "known", "--signals")
    done = command("policy", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["policy", "set"],
        ["policy", "set", "myapp"],
        ["policy", "set", "--all-apps"],
        ["policy", "run", "myapp", "p", "--all-apps"],
        ["policy", "schedule", "myapp", "p"],
        ["policy", "schedule", "myapp", "p", "0 3 * * *", "--all-apps"],
        ["grant", "myapp"],
        ["prune", "myapp", "--all-apps"],
        ["status", "myapp", "--all-apps"],
        ["doctor", "--fail-on", "anything"],
    ],
    ids=" ".join,
)
def test_usage(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: hotmesh-dba" in done.stderr


TENTH = ["--jobs", "--expire", "7 days", "--max-percent", "1"]


def test_the_fuse(command: Command, conn: Connection, filled: str) -> None:
    backlog(conn, 100)
    conn.execute("ANALYZE")
    command("policy", "set", filled, "p", *TENTH)
    done = command("policy", "run", filled, "p")
    assert done.returncode == 1
    [hint] = re.findall(r"^hint: (.*)$", done.stderr, re.MULTILINE)
    look, force = re.findall(r"hotmesh-dba (policy run [^;]*)", hint)
    assert (look, force) == ("policy run myapp p --dry-run", "policy run myapp p --force")
    assert "jobs\t102\n" in command(*look.split()).stdout
    assert count(conn, "jobs") == 105
    conn.execute("UPDATE hotmesh_dba.run SET started_at = started_at - interval '2 days'")
    command("policy", "set", filled, "p", *TENTH, "--every", "1 day")
    assert f"\n{hint[:22]}" in command("run-due").stderr, "the warning of a round says so too"
    done = command(*force.split(), "-j", "2")
    assert (done.returncode, "jobs\t102\n" in done.stdout) == (0, True)


def test_strict(command: Command, filled: str) -> None:
    command("policy", "set", filled, "p", *ALL, "--max-rows", "1")
    assert command("policy", "run", filled, "p").returncode == 0
    assert command("policy", "run", filled, "p", "--strict").returncode == 3
    assert command("prune", filled, "--max-rows", "1", "--strict").returncode == 3
    assert command("prune", filled, "--strict").returncode == 0


def test_a_policy_asks_too(command: Command, conn: Connection, filled: str) -> None:
    command("policy", "set", filled, "p", *ALL, "--every", "1 day")
    for arguments, question in (
        (["policy", "run", filled, "p"], "Delete it? [y/N] "),
        (["run-due"], "Run those of them whose time has come? [y/N] "),
    ):
        with Terminal(command, *arguments) as terminal:
            terminal.until(question)
            terminal.type(b"n\r")
            assert terminal.end() == 1
    assert states(conn) == []


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("off", "is disabled", "hotmesh-dba policy run myapp off --force"),
        ("none", "unknown policy: 'none'", "'off'"),
    ],
)
def test_nothing_is_asked_about_what_is_refused(
    command: Command, conn: Connection, filled: str, name: str, error: str, hint: str
) -> None:
    command("policy", "set", filled, "off", *ALL, "--disabled")
    for arguments in ([filled, name], [name, "--all-apps"]):
        with Terminal(command, "policy", "run", *arguments) as terminal:
            assert terminal.end() == 1, terminal.shown
        shown = " ".join(plain(terminal.shown).split())
        assert error in shown
        assert hint in shown
        assert "[y/N]" not in shown
    assert states(conn) == []
    with Terminal(command, "policy", "run", filled, "off", "--force") as terminal:
        terminal.until("Delete it? [y/N] ")
        terminal.type(b"y\r")
        assert terminal.end() == 0, terminal.shown
    assert count(conn, "jobs") == 3


def test_an_app_that_is_renamed(command: Command, conn: Connection, filled: str) -> None:
    """Its policies have its new name, before anything has written to them."""
    command("policy", "set", filled, "p", *ALL, "--every", "1 day")
    conn.execute("ALTER SCHEMA myapp RENAME TO renamed")
    assert [row["app"] for row in cells(command("policy", "list"))] == ["renamed"]
    assert [policy["app"] for policy in command.json("policy", "list", "renamed")] == ["renamed"]
    assert "jobs\t2\n" in command("policy", "run", "renamed", "p", "--dry-run").stdout
    gone = command("policy", "run", filled, "p")
    assert (gone.returncode, "unknown app" in gone.stderr) == (1, True)
    with Terminal(command, "policy", "run", "renamed", "p") as terminal:
        terminal.until("due in renamed:")
        terminal.until("Delete it? [y/N] ")
        terminal.type(b"y\r")
        assert terminal.end() == 0, terminal.shown
    [run] = command.json("runs", "renamed")
    assert (run["app"], run["policy"], run["deleted_jobs"]) == ("renamed", "p", 2)
    conn.execute("ALTER SCHEMA renamed RENAME TO again")
    conn.execute("SET session_replication_role = replica")  # HotMesh's trigger knows the old name
    conn.execute(
        "INSERT INTO again.jobs (key, status, expired_at)"
        " SELECT 'k' || n, 0, now() - interval '10 days' FROM generate_series(1, 9) n"
    )
    done = command("policy", "run", "p", "--all-apps", "-j", "2")
    assert (done.returncode, "again\tjobs\t9\n" in done.stdout) == (0, True), done.stderr
    assert command.json("policy", "drop", "again", "p") == {"app": "again", "policy": "p"}
    assert command.json("policy", "list") == []


def test_run_due_where_one_fails(command: Command, conn: Connection, filled: str) -> None:
    command("policy", "set", filled, "a", "--jobs", "--expire", "1 day", "--every", "1 day")
    command("policy", "set", filled, "b", "--signals", "--every", "1 day", "--max-percent", "100")
    conn.execute("ALTER TABLE hotmesh_dba.policy DISABLE ROW LEVEL SECURITY")
    conn.execute("UPDATE hotmesh_dba.policy SET max_percent = 0.001 WHERE name = 'a'")
    backlog(conn, 10)
    conn.execute("ANALYZE")
    done = command("run-due", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert {(run["policy"], run["state"]) for run in result["runs"]} == {
        ("a", "failed"),
        ("b", "completed"),
    }
    assert '"level": "error"' in done.stderr


def test_run_due_where_time_is_over(command: Command, conn: Connection, filled: str) -> None:
    """It is no success, and nothing is due says something else."""
    command("policy", "set", filled, "p", *ALL, "--every", "1 day")
    done = command("run-due", "--max-runtime", "0")
    assert (done.returncode, done.stdout) == (3, "nothing was run: 1 postponed\n")
    assert "warning: 1 policies are left for the next call: max_runtime" in done.stderr
    assert states(conn) == []
    done = command("run-due", "--max-runtime", "0", "--json")
    assert done.returncode == 3
    result = json.loads(done.stdout)
    check(result, SHAPES["run-due"])
    assert (result["busy"], result["postponed"], result["runs"]) == (0, 1, [])
    assert command("run-due").returncode == 0


def test_run_due_where_another_run_holds_the_app(
    command: Command, dba: DBA, conn: Connection, app: NewApp, filled: str
) -> None:
    command("policy", "set", filled, "p", *ALL, "--every", "1 day")
    backlog(conn)
    with held(dba, conn, filled):
        done = command("run-due")
        assert (done.returncode, done.stdout) == (4, "nothing was run: 1 busy\n")
        assert 'policy "p" of app "myapp" is left for the next call: another run' in done.stderr
        command("policy", "set", app("zebra"), "p", *ALL, "--every", "1 day")
        done = command("run-due")
        assert done.returncode == 4
        assert [(row["app"], row["state"]) for row in cells(done)] == [("zebra", "completed")]
        done = command("run-due", "--max-runtime", "0")
        assert done.returncode == 3, "none was tried"


def test_run_due_that_leaves_policies_to_their_owners(
    command: Command, app: NewApp, role: NewRole
) -> None:
    owner = role("owner")
    app("theirs", owner=owner)
    dsn = command.env["HOTMESH_DBA_DSN"].replace("user=postgres", f"user={owner}")
    command("policy", "set", "theirs", "p", *ALL, "--every", "1 day", HOTMESH_DBA_DSN=dsn)
    done = command("run-due")
    assert (done.returncode, done.stdout) == (
        3,
        "nothing was run: 1 left to their owners (see --trust-owners)\n",
    )
    assert command("run-due", HOTMESH_DBA_DSN=dsn).returncode == 0
    assert command("run-due").stdout == "nothing is due\n"


POLICY = ["policy", "set", "p", "--signals", "--max-percent", "100"]


def test_all_apps(command: Command, conn: Connection, app: NewApp, filled: str) -> None:
    app("zebra")
    for arguments in (["deploy"], ["prune", "--no-signals"], POLICY):
        assert command(*arguments, "--all-apps").returncode == 0
    assert [row["app"] for row in cells(command("policy", "list"))] == [filled, "zebra"]
    rows = cells(command("prune", "--all-apps", "--dry-run"))
    assert {(row["app"], row["rows"]) for row in rows if row["kind"] == "signals"} == {
        (filled, "1"),
        ("zebra", "0"),
    }
    conn.execute("SELECT hotmesh_dba.drop_policy('zebra', 'p')")
    done = command("policy", "run", "p", "--all-apps")
    assert done.returncode == 1, "zebra has none"
    assert "unknown policy: 'p'" in done.stderr
    assert ("myapp\tsignals\t1\n" in done.stdout) is True
    assert command("policy", "drop", "p", "--all-apps").returncode == 1
    assert command("policy", "list").stderr == "no policies\n"


def test_the_worst_of_all_apps(
    command: Command, connect: Connect, app: NewApp, filled: str
) -> None:
    assert filled < app("zebra")
    command("deploy", filled)
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM myapp.jobs WHERE key = 'expired-book' FOR UPDATE")
    assert command("prune", "--all-apps").returncode == 3, "rows of one are locked"
    app("zulu")
    holder.execute("LOCK TABLE zulu.jobs IN ACCESS EXCLUSIVE MODE")
    done = command("deploy", "--all-apps")
    assert (done.returncode, done.stdout) == (4, ""), "two are in place, one is locked"
    assert "(55P03)" in done.stderr


def test_rights(command: Command, filled: str, role: NewRole) -> None:
    pruner = role("pruner")
    command("deploy", filled)
    done = command("grant", filled, pruner)
    assert done.returncode == 0
    assert all(line.startswith("GRANT ") for line in done.stdout.splitlines())
    revoked = command("revoke", pruner, "--all-apps")
    assert all("REVOKE " in line for line in revoked.stdout.splitlines())
    none = command("grant", filled, "nobody_there")
    assert (none.returncode, "unknown role" in none.stderr) == (1, True)


def test_status(command: Command, app: NewApp, filled: str) -> None:
    app("zebra")
    command("policy", "set", filled, "p", *ALL)
    apps, tables = command("status").stdout.split("\n\n")
    assert [line.split("\t")[0] for line in apps.splitlines()] == ["schema", filled, "zebra"]
    header, *rows = (line.split("\t") for line in tables.splitlines())
    found = [dict(zip(header, row, strict=True)) for row in rows]
    [jobs] = [row for row in found if (row["app"], row["table"]) == (filled, "jobs")]
    assert (jobs["policy"], jobs["due"]) == ("p", "2")
    one = command.json("status", "zebra")
    assert {row["app"] for row in one["backlog"]} == {"zebra"}
    assert [found["schema"] for found in one["apps"]] == ["zebra"]


def test_status_of_other_owners_apps(command: Command, app: NewApp, role: NewRole) -> None:
    """A superuser is told why he does not see what is due, and how he would."""
    app("theirs", owner=role("theirs"))
    command("policy", "set", "theirs", "p", "--signals")
    done = command("status")
    assert "unless one is named: hotmesh-dba status APP" in done.stderr
    named = command("status", "theirs")
    assert named.stderr == ""
    [row] = [line.split("\t") for line in named.stdout.splitlines() if "\tp\t" in line]
    assert row[:4] == ["theirs", "signal_registry", "p", "0"]


def test_doctor(command: Command, conn: Connection, filled: str) -> None:
    command("deploy", filled)
    conn.execute("CREATE FUNCTION myapp.prune(text) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    done = command("doctor")
    assert done.returncode == 5
    bad = [row for row in cells(done) if row["status"] == "problem"]
    assert bad
    assert {row["app"] for row in bad} == {filled}
    assert all(row["hint"] for row in bad)
    with Terminal(command, "doctor", COLUMNS="80") as terminal:
        assert terminal.end() == 5
    shown = plain(terminal.shown)
    assert "problem myapp: wrapper" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_doctor_fails_on_warnings_where_told(
    command: Command, conn: Connection, filled: str
) -> None:
    command("deploy", filled)
    conn.execute("DROP INDEX myapp.idx_jobs_pruned_at")
    statuses = {check["status"] for check in command.json("doctor", filled)}
    assert "warning" in statuses
    assert "problem" not in statuses
    assert command("doctor", filled).returncode == 0
    assert command("doctor", filled, "--fail-on", "warning").returncode == 5
