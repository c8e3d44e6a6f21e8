"""Schedules through the client and the command, on the real pg_cron."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import hotmesh_dba as h
from hotmesh_dba import DBA, AsyncDBA
from tests.policies.cron import server_with_cron
from tests.support.layout import create_app
from tests.support.server import PrivateServer

from .command import Command, Terminal, plain
from .test_json import SHAPES, check

pytestmark = pytest.mark.once

JOB = "hotmesh_dba myapp nightly"


@pytest.fixture(scope="module")
def cron() -> Iterator[PrivateServer]:
    """A server with pg_cron in its database postgres, and the app myapp there and in `away`."""
    with server_with_cron() as server:
        server.create_database("away")
        with server.connect("away") as conn:
            conn.execute("CREATE EXTENSION hotmesh_dba")
        for name in ("postgres", "away"):
            with server.connect(name) as conn:
                create_app(conn, "myapp")
            DBA(server.conninfo(name)).set_policy("myapp", "nightly", signals=True)
        yield server


def test_here(cron: PrivateServer) -> None:
    dba = DBA(cron.conninfo("postgres"))
    with pytest.raises(h.InvalidOption) as caught:
        dba.schedule("myapp", "nightly", "whenever")
    assert "0 2 * * *" in (caught.value.hint or "")
    with pytest.raises(h.UnknownPolicy):
        dba.schedule("myapp", "none", "0 3 * * *")
    made = dba.schedule("myapp", "nightly", "0 3 * * *")
    assert (made.job_name, made.done) == (JOB, True)
    [job] = dba.schedules("myapp")
    assert (job.app, job.policy, job.cron_expression) == ("myapp", "nightly", "0 3 * * *")
    assert (job.active, job.last_started, job.database) == (True, None, "postgres")
    gone = dba.unschedule("myapp", "nightly")
    assert (gone.job_name, gone.done) == (JOB, True)
    assert dba.schedules() == []
    with pytest.raises(h.HotMeshDBAError) as again:
        dba.unschedule("myapp", "nightly")
    assert again.value.sqlstate == "42704"


async def _there(dsn: str) -> tuple[h.Scheduled, h.Scheduled, list[h.Schedule]]:
    dba = AsyncDBA(dsn)
    made = await dba.schedule("myapp", "nightly", "0 3 * * *")
    return made, await dba.unschedule("myapp", "nightly"), await dba.schedules()


def test_from_another_database(cron: PrivateServer) -> None:
    """Nothing is done, and what is returned does it where pg_cron lives."""
    import asyncio

    made, gone, jobs = asyncio.run(_there(cron.conninfo("away")))
    assert (made.done, gone.done, jobs) == (False, False, [])
    with cron.connect() as conn:
        conn.execute(made.statement.encode())
        found = conn.execute("SELECT jobname, database FROM cron.job").fetchall()
        assert found == [(JOB, "away")]
        conn.execute(gone.statement.encode())
        assert conn.execute("SELECT count(*) FROM cron.job").fetchone() == (0,)


def test_the_command(cron: PrivateServer, tmp_path: Path) -> None:
    command = Command(tmp_path, cron.conninfo("postgres"))
    check(
        command.json("policy", "schedule", "myapp", "nightly", "0 3 * * *"),
        SHAPES["policy schedule"],
    )
    wrong = command("policy", "schedule", "myapp", "nightly", "* *")
    assert (wrong.returncode, "hint: " in wrong.stderr) == (1, True)
    done = command("policy", "schedule", "nightly", "0 4 * * *", "--all-apps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"app\tjob\tdone\tstatement\nmyapp\t{JOB}\tyes\tSELECT cron.")
    assert command("policy", "unschedule", "myapp", "nightly").returncode == 0
    again = command("policy", "unschedule", "myapp", "nightly")
    assert (again.returncode, "no such schedule" in again.stderr) == (1, True)


def test_the_command_from_another_database(cron: PrivateServer, tmp_path: Path) -> None:
    command = Command(tmp_path, cron.conninfo("away"))
    arguments = ["policy", "schedule", "myapp", "nightly", "0 3 * * *"]
    with Terminal(command, *arguments, COLUMNS="80") as terminal:
        assert terminal.end() == 0
    shown = plain(terminal.shown)
    assert "pg_cron is in another database: run this there" in shown
    assert "SELECT cron.schedule_in_database(" in shown
    assert "│ SELECT" not in shown, "it can be copied whole"
