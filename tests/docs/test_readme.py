"""What README and sql/examples/ tell people to type is typed here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from hotmesh_dba import DBA
from tests.conftest import Connect, Database, NewApp, NewRole
from tests.docs.documents import blocks
from tests.support.installation import CHECKOUT
from tests.support.sample import load_sample
from tests.support.server import Connection

README = CHECKOUT / "README.md"
EXAMPLES = CHECKOUT / "sql" / "examples"


def mapped() -> Iterator[str]:
    """The SQL and the Python of the table that maps the SDK's calls."""
    for line in README.read_text().splitlines():
        if line.startswith("| `DBA."):
            _, _, python, sql, _ = re.split(r"(?<!\\)\|", line)
            yield python.strip(" `")
            yield sql.strip(" `")


def test_the_grants_suffice_and_are_those_of_the_example(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    load_sample(conn, app(), jobs=200)
    conn.execute("SELECT hotmesh_dba.deploy('myapp')")
    [block] = [text for text in blocks(README, "sql") if "grant_prune" in text]
    assert (EXAMPLES / "grants.sql").read_text().endswith(block)
    pruner = role("pruner")
    as_pruner = connect(pruner)
    call = "SELECT * FROM myapp.prune('1 day', true, true, true, prune_transient => true)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_pruner.execute(call)
    run = [text for (text,) in conn.execute(block.replace("'pruner'", f"'{pruner}'").encode())]
    shown = re.findall(r"^-- (GRANT .*?;)", block, re.MULTILINE)
    for statement, line in zip(run, shown, strict=True):
        whole = re.escape(line.replace("TO pruner", f"TO {pruner}")).replace("…", ".+")
        assert re.fullmatch(whole, statement), statement
    assert works_in_leaves(as_pruner)
    row = as_pruner.execute(call).fetchone()
    assert row is not None
    assert all(count > 0 for count in row[:5])
    conn.execute("UPDATE myapp.jobs SET expired_at = now() - interval '9 days' WHERE status = 0")
    as_pruner.execute("CALL hotmesh_dba.prune_batched('myapp', '1 day', strip_attributes => true)")
    done = as_pruner.execute("SELECT state, deleted_jobs > 0 FROM hotmesh_dba.run").fetchall()
    assert done == [("completed", True)]
    conn.execute(f"REVOKE DELETE ON myapp.jobs_part_3 FROM {pruner}".encode())
    assert not works_in_leaves(as_pruner), "each of them is needed"


def works_in_leaves(conn: Connection) -> bool:
    """Whether every step would be done partition by partition, passing over what is locked."""
    row = conn.execute(
        "SELECT bool_and(hotmesh_dba._works_in_leaves(s) AND (s.name NOT IN ('jobs', 'strip')"
        " OR hotmesh_dba._may_lock(s.relation))) FROM hotmesh_dba._steps(hotmesh_dba._resolve("
        "'myapp', '7 days', true, true, true, NULL, true, false, NULL, NULL, NULL, NULL, true)) s"
    ).fetchone()
    assert row is not None
    return bool(row[0])


def test_the_python_block_runs(
    db: Database, conn: Connection, app: NewApp, capsys: pytest.CaptureFixture[str]
) -> None:
    load_sample(conn, app(), jobs=200)
    [block] = blocks(README, "python")
    assert "postgresql://localhost/mydb" in block
    source = block.replace("postgresql://localhost/mydb", db.conninfo())
    exec(compile(source, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(
        r"^completed: [1-9]\d* jobs deleted, [1-9]\d* stripped$", printed, re.MULTILINE
    )


def test_the_sdk_calls_map_to_python_and_sql(db: Database, conn: Connection, app: NewApp) -> None:
    load_sample(conn, app(), jobs=200)
    calls = list(mapped())
    assert len(calls) == 6
    for call in calls[-2:] + calls[:-2]:
        if call.startswith("dba."):
            assert eval(call, {"dba": DBA(db.conninfo())}) is not None
        else:
            conn.execute(call.encode())
    row = conn.execute("SELECT wrapper FROM hotmesh_dba.app WHERE schema = 'myapp'").fetchone()
    assert row == ("ours",)
