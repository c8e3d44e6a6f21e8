"""What README and sql/examples/ tell people to type is typed here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from hotmesh_dba import DBA
from tests.conftest import Connect, Database, NewApp, NewRole
from tests.support.installation import CHECKOUT
from tests.support.sample import load_sample
from tests.support.server import Connection

README = (CHECKOUT / "README.md").read_text()
EXAMPLES = CHECKOUT / "sql" / "examples"


def blocks(language: str) -> list[str]:
    """The fenced blocks of README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def scheduled(text: str) -> list[str]:
    """The commands that a text hands to cron.schedule."""
    return [
        match.strip()
        for match in re.findall(r"cron\.schedule\(.*?\$\$(.*?)\$\$\)", text, re.DOTALL)
    ]


def mapped() -> Iterator[str]:
    """The SQL and the Python of the table that maps the SDK's calls."""
    for line in README.splitlines():
        if line.startswith("| `DBA."):
            _, _, python, sql, _ = re.split(r"(?<!\\)\|", line)
            yield python.strip(" `")
            yield sql.strip(" `")


def test_the_schedules_run_and_are_those_of_the_examples(conn: Connection, app: NewApp) -> None:
    load_sample(conn, app(), jobs=200)
    conn.execute("SELECT hotmesh_dba.deploy('myapp')")
    commands = scheduled(README)
    assert len(commands) == 4
    assert scheduled((EXAMPLES / "cron.sql").read_text()) == commands
    for command in commands:
        assert command.startswith("CALL ")
        conn.execute(command.encode())
    runs = conn.execute(
        "SELECT state, deleted_jobs + deleted_transient + deleted_engine_streams"
        " + deleted_worker_streams + marked_pruned FROM hotmesh_dba.run"
    ).fetchall()
    assert [state for state, _ in runs] == ["completed"] * 4
    assert sum(rows for _, rows in runs) > 0


def test_the_sql_block_runs(conn: Connection, app: NewApp) -> None:
    load_sample(conn, app(), jobs=200)
    [block] = [text for text in blocks("sql") if "hotmesh_dba.undeploy" in text]
    statements = [line.split("--")[0] for line in block.splitlines()]
    for statement in statements:
        assert conn.execute(statement.encode()).fetchall()


def test_the_calls_of_runs_run(conn: Connection, app: NewApp) -> None:
    load_sample(conn, app(), jobs=200)
    conn.execute("SELECT hotmesh_dba.deploy('myapp')")
    [block] = [text for text in blocks("sql") if "hotmesh_dba.progress" in text]
    statements = [line.split("--")[0] for line in block.splitlines()]
    assert len(statements) == 4
    rows = [conn.execute(statement.encode()).fetchall() for statement in statements]
    assert rows[2] == []
    assert [row[2] for row in rows[3]] == ["completed", "completed"]


def test_the_grants_suffice_and_are_those_of_the_example(
    conn: Connection, connect: Connect, app: NewApp, role: NewRole
) -> None:
    load_sample(conn, app(), jobs=200)
    conn.execute("SELECT hotmesh_dba.deploy('myapp')")
    [block] = [text for text in blocks("sql") if text.startswith("GRANT")]
    assert (EXAMPLES / "grants.sql").read_text().endswith(block)
    pruner = role("pruner")
    as_pruner = connect(pruner)
    call = "SELECT * FROM myapp.prune('1 day', true, true, true, prune_transient => true)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_pruner.execute(call)
    conn.execute(block.replace("TO pruner", f"TO {pruner}").encode())
    row = as_pruner.execute(call).fetchone()
    assert row is not None
    assert all(count > 0 for count in row[:5])


def test_the_python_block_runs(
    db: Database, conn: Connection, app: NewApp, capsys: pytest.CaptureFixture[str]
) -> None:
    load_sample(conn, app(), jobs=200)
    [block] = blocks("python")
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


def test_every_file_that_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) >= 4
    assert [link for link in links if not (CHECKOUT / link).exists()] == []
