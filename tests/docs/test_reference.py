"""The generated pages are current, and nothing public is missing in them."""

from __future__ import annotations

import re

import pytest

import hotmesh_dba
from tests.docs.reference import DOCS, client, command, pages, stale
from tests.support.installation import CHECKOUT
from tests.support.layout import create_app
from tests.support.server import Connection

pytestmark = pytest.mark.once


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", (DOCS / page).read_text(), re.MULTILINE)


def test_the_pages_are_current(conn: Connection) -> None:
    made = pages(conn)
    assert len(made) == 3
    assert [path.name for path in stale(made)] == [], "run `make docs`"


def test_every_public_routine_and_relation_is_documented(conn: Connection) -> None:
    rows = conn.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'hotmesh_dba'::regnamespace"
        " UNION SELECT relname FROM pg_class WHERE relnamespace = 'hotmesh_dba'::regnamespace"
        " AND relkind IN ('r', 'v')"
    ).fetchall()
    public = {name for (name,) in rows if not name.startswith("_")}
    assert len(public) > 10
    assert public - set(headings("sql.md")) == set()


def test_every_argument_of_a_routine_is_explained(conn: Connection) -> None:
    rows = conn.execute(
        "SELECT proname, unnest(proargnames[1 : pronargs]) FROM pg_proc"
        " WHERE pronamespace = 'hotmesh_dba'::regnamespace AND left(proname, 1) <> '_'"
    ).fetchall()
    sections = dict(
        re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", sql_page(), re.MULTILINE | re.DOTALL)
    )
    # preview refers to prune, and app_schema has nothing else to explain.
    missing = [
        (name, argument)
        for name, argument in rows
        if f"`{argument}`" not in sections[name] and name not in ("preview", "app_schema")
    ]
    assert missing == []


def sql_page() -> str:
    return (DOCS / "sql.md").read_text()


def test_every_setting_is_documented() -> None:
    sources = "".join(path.read_text() for path in (CHECKOUT / "sql").rglob("*.sql"))
    settings = set(re.findall(r"(?:current_setting|_is_set)\('hotmesh_dba\.(\w+)'", sources))
    settings -= {"way", "routines_before"}  # the tests' own, and an update's
    assert len(settings) == 3
    assert [name for name in settings if f"`hotmesh_dba.{name}`" not in sql_page()] == []


def test_every_check_of_doctor_is_explained(conn: Connection) -> None:
    create_app(conn, "myapp")
    checks = {name for (name,) in conn.execute("SELECT check_name FROM hotmesh_dba.doctor()")}
    assert len(checks) > 15
    section = (DOCS / "operations.md").read_text().split("\n## Watching\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == checks


def test_everything_that_the_package_exports_is_documented() -> None:
    page = (DOCS / "python.md").read_text()
    assert [name for name in hotmesh_dba.__all__ if not re.search(rf"\b{name}\b", page)] == []
    assert set(client.methods()) - set(headings("python.md")) == set()


def test_every_method_and_parameter_is_explained() -> None:
    of_prune = set(re.findall(r":param (\w+):", hotmesh_dba.DBA.prune.__doc__ or ""))
    for name in client.methods():
        documentation = getattr(hotmesh_dba.DBA, name).__doc__
        assert documentation, name
        given = client.parameters(getattr(hotmesh_dba.DBA, name))
        own = [p.name for p in given if not client.is_option(p.name)]
        explained = set(re.findall(r":param (\w+):", documentation))
        if "those of `prune`" in documentation:
            explained |= of_prune
        assert set(own) - explained == set(), name


def test_every_command_and_option_is_documented() -> None:
    page = (DOCS / "command.md").read_text()
    found = headings("command.md")
    for path, options in command.options():
        title = " ".join((command.NAME, *path))
        assert title in found
        section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
        assert [option for option in options if option not in section] == [], title


def test_the_helps_fit_their_width_and_have_no_control_characters() -> None:
    page = (DOCS / "command.md").read_text()
    helps = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert helps
    lines = [line for text in helps for line in text.splitlines()]
    assert max(map(len, lines)) <= command.WIDTH
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)
