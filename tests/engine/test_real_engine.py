"""HotMesh itself writes, this extension prunes, and HotMesh reads what is left.

Node fetches the engine, the newest that npm serves, into .venv/engine; it is run and never kept.
Its layout is the oldest that deploy takes over: attributes by `field`, one table `streams`.
Where there is no Node, there is no engine to test with; in CI that fails the run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.deploy.observe import one, wait_until
from tests.support.installation import CHECKOUT
from tests.support.server import Connection

ENGINE = "@hotmeshio/hotmesh@0.3.32"
SCRIPT = Path(__file__).parent / "workflows.js"
MISSING = [name for name in ("node", "npm") if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"the engine needs Node.js: no {' and no '.join(MISSING)} on the path",
)


@pytest.fixture(scope="module")
def engine() -> Path:
    """A directory with the engine in its node_modules."""
    directory = CHECKOUT / ".venv" / "engine"
    if not (directory / "node_modules" / ".package-lock.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        options = ["--no-save", "--no-audit", "--no-fund", "--prefix", "."]
        command = ["npm", "install", *options, ENGINE, "pg"]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory


def workflows(engine: Path, db: Database, mode: str, count: int, expire: int) -> list[Any]:
    """Starts `count` workflows and waits for their results, or reads the results again."""
    script = shutil.copy(SCRIPT, engine)
    address = ["127.0.0.1", str(db.server.port), db.name]
    command = ["node", script, mode, *address, str(count), str(expire)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    results = json.loads(finished.stdout.splitlines()[-1])
    assert isinstance(results, list)
    return results


def attributes(conn: Connection, condition: str) -> int:
    """How many attributes there are for which a condition holds."""
    found = one(conn, f"SELECT count(*) FROM meshflow.jobs_attributes a WHERE {condition}")
    assert isinstance(found, int)
    return found


def test_stripped_workflows_still_give_their_results(
    engine: Path, db: Database, conn: Connection
) -> None:
    ran = workflows(engine, db, "run", count=5, expire=3600)
    assert ran == [{"lent": f"title {i}"} for i in range(5)]
    results = attributes(conn, "type = 'jdata'")
    assert attributes(conn, "type NOT IN ('jdata', 'udata', 'jmark')") > 5 * 50

    actions = conn.execute("SELECT action FROM hotmesh_dba.deploy('meshflow')").fetchall()
    assert actions == [("added",), ("created",), ("created",), ("created",)]
    conn.execute("SELECT * FROM meshflow.prune('0 seconds', false, false, true)")

    assert attributes(conn, "true") == attributes(conn, "type = 'jdata'") == results
    marked = "SELECT bool_and(pruned_at IS NOT NULL) FROM meshflow.jobs WHERE status = 0"
    assert one(conn, marked) is True
    assert workflows(engine, db, "read", count=5, expire=3600) == ran


def test_expired_workflows_go_and_the_engine_goes_on(
    engine: Path, db: Database, conn: Connection
) -> None:
    workflows(engine, db, "run", count=3, expire=1)
    conn.execute("SELECT * FROM hotmesh_dba.deploy('meshflow')")
    live = "SELECT EXISTS (SELECT FROM meshflow.jobs WHERE status = 0 AND expired_at >= now())"
    wait_until("all jobs expired", lambda: not one(conn, live))
    messages: dict[str, int] = dict(
        conn.execute(
            "SELECT group_name, count(*) FROM meshflow.streams WHERE expired_at < now() GROUP BY 1"
        ).fetchall()
    )
    assert messages.keys() == {"ENGINE", "WORKER"}

    row = conn.execute(
        "SELECT deleted_jobs, deleted_engine_streams, deleted_worker_streams"
        " FROM meshflow.prune('0 seconds')"
    ).fetchone()
    assert row == (3, messages["ENGINE"], messages["WORKER"])
    assert one(conn, "SELECT count(*) FROM meshflow.jobs WHERE status = 0") == 0
    assert attributes(conn, "NOT EXISTS (SELECT FROM meshflow.jobs j WHERE j.id = a.job_id)") == 0

    again = workflows(engine, db, "run", count=2, expire=3600)
    assert again == [{"lent": "title 0"}, {"lent": "title 1"}]
