"""The command, run as a program: what it prints, where, and how it exits."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import hotmesh_dba as h
from hotmesh_dba import extension
from hotmesh_dba.cli.flags import in_options
from hotmesh_dba.options import OPTIONS
from tests.conftest import Connect, Database
from tests.support.server import Connection

from .command import Command
from .test_client import count


def test_a_session(command: Command, conn: Connection, filled: str) -> None:
    assert command("apps").stdout == (
        "schema\towner\twrapper\tmigrated\tindexed\nmyapp\tpostgres\tnone\tyes\tyes\n"
    )
    deployed = command("deploy", filled)
    assert deployed.returncode == 0
    assert deployed.stdout.splitlines()[0] == "action\tobject"
    again = command("deploy", filled)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "nothing to do\n")

    dry = command("prune", filled, "--attributes", "--dry-run")
    counts = "\njobs\t2\nstreams\t2\nengine_streams\t1\nworker_streams\t1\nattributes\t6\n"
    assert (dry.returncode, counts in dry.stdout) == (0, True)
    assert "nothing was changed" in dry.stderr
    assert conn.execute("SELECT count(*) FROM myapp.jobs").fetchone() == (5,)

    pruned = command("prune", filled, "--attributes")
    assert (pruned.returncode, counts in pruned.stdout, pruned.stderr) == (0, True, "")
    assert conn.execute("SELECT count(*) FROM myapp.jobs").fetchone() == (3,)
    assert command("undeploy", filled).stdout.startswith("action\tobject\ndropped\t")


def test_json(command: Command, filled: str) -> None:
    assert command.json("apps") == [
        {
            "schema": "myapp",
            "owner": "postgres",
            "wrapper": "none",
            "migrated": True,
            "indexed": True,
        }
    ]
    assert set(command.json("deploy", filled)[0]) == {"action", "object", "statements"}
    assert command.json("deploy", filled) == []
    assert command.json("prune", filled, "--dry-run")["exact"] is True
    pruned = command.json("prune", filled)
    assert (pruned["jobs"], pruned["signals"], pruned["remaining"]) == (2, 1, 0)
    assert [action["action"] for action in command.json("undeploy", filled)] == ["dropped"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--expire", "11 days"], {"jobs": 0, "streams": 0}),
        (["--no-jobs"], {"jobs": 0, "streams": 2}),
        (["--no-streams"], {"streams": 0}),
        (["--no-streams", "--engine-streams"], {"engine_streams": 1, "worker_streams": 0}),
        (["--no-worker-streams"], {"engine_streams": 1, "worker_streams": 0}),
        (["--engine-streams-expire", "11 days"], {"engine_streams": 0, "worker_streams": 1}),
        (["--worker-streams-expire", "11 days"], {"engine_streams": 1, "worker_streams": 0}),
        (["--attributes"], {"attributes": 6, "marked": 3}),
        (["--attributes", "--keep-hmark"], {"attributes": 3}),
        (["--entity", "book"], {"jobs": 1}),
        (["--entity", "author", "--entity", "book"], {"jobs": 1}),
        (["--entity", "book", "--transient"], {"jobs": 1, "transient": 1}),
        (["--no-signals"], {"signals": 0}),
    ],
    ids=" ".join,
)
def test_every_option(
    command: Command, filled: str, arguments: list[str], expected: dict[str, int]
) -> None:
    counts = command.json("prune", filled, "--dry-run", *arguments)
    assert {name: counts[name] for name in expected} == expected


def test_help_names_every_option(command: Command) -> None:
    text = " ".join(command("prune", "--help").stdout.split())
    for option in OPTIONS.values():
        assert option.help in text
    for flag in ("--entity", "--transient", "--no-engine-streams", "--worker-streams-expire"):
        assert flag in text


def test_a_table_on_a_terminal(command: Command, filled: str) -> None:
    mine, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "hotmesh_dba", "apps"]
    subprocess.run(arguments, stdout=theirs, env=command.env, cwd=command.directory, check=True)
    os.close(theirs)
    shown = os.read(mine, 65536).decode()
    os.close(mine)
    assert filled in shown
    assert "─" in shown
    assert "\t" not in shown


def test_the_version(command: Command) -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"hotmesh-dba {h.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune"],
        ["prune", "myapp", "--expires", "1 day"],
        ["nothing"],
        ["extension", "sql", "--format", "tar"],
    ],
    ids=" ".join,
)
def test_wrong_usage(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage" in done.stderr


def test_an_error_is_readable(command: Command, filled: str) -> None:
    done = command("prune", "elsewhere")
    assert (done.returncode, done.stdout) == (1, "")
    error, detail, hint = done.stderr.splitlines()
    assert error == "error: unknown app: 'elsewhere' (3F000)"
    assert detail.startswith("detail: ")
    assert hint.startswith("hint: ")
    assert filled in hint


@pytest.mark.parametrize("subcommand", ["prune", "deploy", "undeploy", "apps"])
def test_no_server(command: Command, subcommand: str) -> None:
    dsn = "postgresql://somebody:hush@127.0.0.1:1/x"
    done = command(*([subcommand] if subcommand == "apps" else [subcommand, "x"]), "--dsn", dsn)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_the_usual_variables(command: Command, db: Database, filled: str) -> None:
    words = psycopg.conninfo.conninfo_to_dict(db.conninfo())
    done = command(
        "apps",
        HOTMESH_DBA_DSN="",
        PGHOST=str(words["host"]),
        PGPORT=str(words["port"]),
        PGUSER="postgres",
        PGDATABASE=db.name,
    )
    assert (done.returncode, filled in done.stdout) == (0, True), done.stderr


def test_locked(command: Command, connect: Connect, filled: str) -> None:
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE myapp.jobs IN ACCESS EXCLUSIVE MODE")
    done = command("deploy", filled)
    assert (done.returncode, done.stdout) == (4, "")
    assert "(55P03)" in done.stderr


def test_warnings_of_the_server(command: Command, conn: Connection, filled: str) -> None:
    conn.execute(
        """
        CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE WARNING 'bounded [red]'; RETURN NULL; END $$;
        CREATE TRIGGER warn AFTER DELETE ON myapp.signal_registry EXECUTE FUNCTION public.warn()
        """
    )
    done = command("prune", filled)
    assert (done.returncode, done.stderr) == (0, "warning: bounded [red]\n")


@pytest.mark.parametrize("kind", ["plain", "pgtle"])
def test_extension_sql(command: Command, kind: extension.Format) -> None:
    done = command("extension", "sql", "--format", kind)
    assert (done.returncode, done.stdout) == (0, extension.sql(kind))


def test_extension_install(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "share" / "extension"
    target.mkdir(parents=True)
    program = tmp_path / "pg_config"
    program.write_text(f'#!/bin/sh\necho "{tmp_path / "share"}"\n')
    program.chmod(0o755)
    done = command("extension", "install", "--pg-config", str(program))
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == sorted(map(str, target.iterdir()))
    assert target / extension.CONTROL in target.iterdir()

    done = command("extension", "install", "--pg-config", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--expire", "-1 day"], "--expire '30 days'."),
        (["--engine-streams-expire", "-1 day"], "--engine-streams-expire '30 days'."),
        (["--worker-streams-expire", "9000000 years"], "--worker-streams-expire '10 years'."),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_a_hint_names_the_option_of_the_command(
    command: Command, filled: str, arguments: list[str], advice: str, dry: bool
) -> None:
    done = command("prune", filled, *arguments, *(["--dry-run"] if dry else []))
    assert (done.returncode, done.stdout) == (1, "")
    hint = done.stderr.splitlines()[-1]
    assert hint.startswith("hint: ")
    assert hint.endswith(advice)
    assert "=>" not in done.stderr
    # What it says can be typed.
    typed = shlex.split(advice.removesuffix("."))
    assert command("prune", filled, *typed).returncode == 0


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("Give it a value: prune_jobs => false.", "Give it a value: --no-jobs."),
        ("Give it a value: prune_signals => true.", "Give it a value: --signals."),
        ("Leave it out: keep_hmark => false.", "Leave it out: keep_hmark => false."),
        ("entity_list => ARRAY['a']", "entity_list => ARRAY['a']"),
        (
            "SELECT * FROM hotmesh_dba.deploy('a', trust_installer => true);",
            "SELECT * FROM hotmesh_dba.deploy('a', trust_installer => true);",
        ),
        ("SELECT hotmesh_dba.prune('a', retention => '1 day');",) * 2,
    ],
)
def test_a_hint_stays_as_it_is_where_the_command_has_no_such_option(hint: str, shown: str) -> None:
    assert in_options(hint) == shown


@pytest.mark.parametrize("words", [["prune", "myapp"], ["runs"], ["apps", "--json"]], ids=str)
def test_a_full_disk_under_stdout(command: Command, filled: str, words: list[str]) -> None:
    command("deploy", filled)
    command("prune", filled, "--no-jobs")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hotmesh_dba", *words],
            env=command.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "cannot write: No space left on device" in line


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(command: Command, conn: Connection, filled: str, closed: str) -> None:
    program = shlex.join([sys.executable, "-m", "hotmesh_dba", "prune", filled])
    done = subprocess.run(
        ["sh", "-c", f"exec {program} {closed}"], env=command.env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert count(conn, "jobs") == 3
