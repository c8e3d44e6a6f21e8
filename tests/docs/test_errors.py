"""docs/errors.md has every error that can be met, and says the same as the sources."""

from __future__ import annotations

import re

import psycopg.errors
import pytest

from hotmesh_dba import HotMeshDBAError, errors
from tests.fuzz.permitted import permitted
from tests.support.installation import CHECKOUT
from tests.support.server import Connection

PAGE = (CHECKOUT / "docs" / "errors.md").read_text()
SOURCES = "\n".join(
    path.read_text() for path in [*(CHECKOUT / "sql").rglob("*.sql"), CHECKOUT / "sql" / "build.py"]
)


def rows() -> list[list[str]]:
    """The rows of the tables, as cells."""
    lines = re.findall(r"^\| (.*) \|$", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def conditions() -> dict[str, str]:
    """PL/pgSQL's name of each condition, and its SQLSTATE."""
    known = [(name, getattr(kind, "sqlstate", None)) for name, kind in vars(psycopg.errors).items()]
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): str(state) for name, state in known if state
    }


def raised() -> set[str]:
    """The SQLSTATEs that our sources raise."""
    known = conditions()
    by_name = re.findall(r"(?:ERRCODE = '|RAISE )([a-z]+_[a-z_]+)\b", SOURCES)
    assert by_name
    literal = re.findall(r"'([0-9][0-9A-Z]{4})'", SOURCES)
    return {known[name] for name in by_name} | set(literal)


def states(cell: str) -> set[str]:
    return set(re.findall(r"\b[0-9][0-9A-Z]{4}\b", cell))


def test_every_sqlstate_that_the_sources_raise_is_there() -> None:
    assert raised() - permitted() == set()


def test_every_message_that_the_sources_raise_is_there() -> None:
    messages = re.findall(r"RAISE EXCEPTION '((?:[^']|'')+)'", SOURCES)
    assert len(messages) > 20
    shown = [re.sub(r"%|\{\w+\}", "…", text.replace("{name}", "hotmesh_dba")) for text in messages]
    text = re.sub(r"\\(.)", r"\1", PAGE)
    assert [message for message in shown if message not in text] == []


def test_every_message_about_policies_is_there() -> None:
    calls = re.findall(r"PERFORM hotmesh_dba\._check_rule\((.*?)\);\n", SOURCES, re.DOTALL)
    assert len(calls) > 5
    for call in calls:
        literals = [text.replace("%s", "…") for text in re.findall(r"'((?:[^']|'')*)'", call)]
        assert any(text in PAGE for text in literals if len(text) > 8), call


def test_names_and_codes_belong_together() -> None:
    known = conditions()
    pairs = re.findall(r"^\| ([0-9][0-9A-Z]{4}) ([a-z_]+) \|", PAGE, re.MULTILINE)
    assert len(pairs) > 15
    wrong = [(state, name) for state, name in pairs if known.get(name) != state]
    assert wrong == []


def test_every_sqlstate_of_the_client_is_there_with_its_class() -> None:
    table = [(states(row[0]), row[-1]) for row in rows()]
    for state, kind in (errors._ANYWHERE | errors._OURS).items():
        classes = [python for codes, python in table if state in codes]
        assert any(kind.__name__ in python for python in classes), (state, kind)


def test_every_exception_is_there() -> None:
    kinds = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, HotMeshDBAError)
    ]
    assert len(kinds) > 20
    assert [name for name in kinds if f"`{name}`" not in PAGE] == []


def test_what_a_class_says_of_itself_is_there() -> None:
    table = [(states(row[0]), row[-1]) for row in rows()]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, HotMeshDBAError):
            for state in states(kind.__doc__ or ""):
                classes = [python for codes, python in table if state in codes]
                assert any(kind.__name__ in python for python in classes), (state, kind)


def test_what_the_comments_say_is_there(conn: Connection) -> None:
    comments = conn.execute(
        "SELECT obj_description(oid, 'pg_proc') FROM pg_proc"
        " WHERE pronamespace = 'hotmesh_dba'::regnamespace AND left(proname, 1) <> '_'"
    ).fetchall()
    said = {
        state
        for (comment,) in comments
        for line in (comment or "").splitlines()
        if "Errors: " in line
        for state in states(line.partition("Errors: ")[2])
    }
    assert len(said) > 10
    documented = {state for row in rows() for state in states(row[0])}
    assert said - documented == set()


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT * FROM hotmesh_dba.prune('nowhere')", "3F000"),
        ("SELECT * FROM hotmesh_dba.prune('no; app')", "42602"),
        ("SELECT * FROM hotmesh_dba.prune('pg_catalog')", "42809"),
    ],
)
def test_an_error_is_as_the_table_says(conn: Connection, statement: str, state: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(statement.encode())
    assert caught.value.sqlstate == state
    assert caught.value.diag.message_hint
    message = re.sub(r"'[^']*'|(?<=\").*?(?=\")", "…", caught.value.diag.message_primary or "")
    assert any(state in states(row[0]) and message in row[1] for row in rows())
