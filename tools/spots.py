"""Runs pgspot over every script that makes or updates an installation.

    python tools/spots.py

What it finds fails, unless spots.txt has it with a reason; so does a line there that nothing needs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pglast
from pgspot import visitors
from pgspot.codes import codes
from pgspot.state import Counter, State

CHECKOUT = Path(__file__).resolve().parents[1]
ALLOWED = Path(__file__).with_suffix(".txt")

# CREATE and ALTER EXTENSION run a script with this: `schema` of the control file, and pg_temp last.
EXTENSION_PATH = "SET search_path = pg_catalog, pg_temp;\n"

Finding = tuple[str, str]


class Findings(Counter):  # type: ignore[misc]
    """Collects what pgspot would print."""

    def __init__(self) -> None:
        options = argparse.Namespace(
            plpgsql=True, ignore=[], ignore_lang=[], sql_fn=[], proc_without_search_path=[]
        )
        super().__init__(options)
        self.found: list[Finding] = []

    def print_issue(self, code: str, context: str) -> None:
        """Take one finding."""
        self.found.append((code, context))

    def unknown(self, message: str) -> None:
        """Take what pgspot cannot judge."""
        self.found.append(("unknown", message))


def main() -> int:
    """Print what is found and not allowed, and what is allowed and not found."""
    allowed = set(read_allowed())
    needed: set[Finding] = set()
    wrong: list[str] = []
    for name, script in installations():
        for finding in spots(script):
            code, context = finding
            key = (code, context.partition("(")[0])
            if key in allowed:
                needed.add(key)
            else:
                title = codes.get(code, {}).get("title", "")
                wrong.append(f"{name}: {code} {title}: {context}")
    wrong += [f"{ALLOWED.name}: nothing needs {code} | {what}" for code, what in allowed - needed]
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


def read_allowed() -> Iterator[Finding]:
    """The pairs of spots.txt; each has a reason."""
    for line in ALLOWED.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            code, what, reason = (cell.strip() for cell in line.split("|"))
            if not reason:
                raise SystemExit(f"{ALLOWED.name}: no reason: {line}")
            yield code, what


def installations() -> Iterator[tuple[str, str]]:
    """What a database runs: a fresh extension, each way to it by updates, the plain script."""
    extension = CHECKOUT / "extension"
    for script in sorted(extension.glob("*.sql"), key=lambda path: path.name):
        # An update meets the schema that the install made, which is nobody else's.
        made = "" if script.stem.count("--") == 1 else "CREATE SCHEMA hotmesh_dba;\n"
        yield script.name, EXTENSION_PATH + made + script.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        build = [sys.executable, str(CHECKOUT / "sql" / "build.py"), "--dist", directory]
        subprocess.run(build, check=True)
        (plain,) = Path(directory).glob("*.plain.sql")
        # It asks by itself whose the schema is, before it creates anything.
        yield plain.name, "CREATE SCHEMA hotmesh_dba;\n" + plain.read_text(encoding="utf-8")


def spots(script: str) -> Iterator[Finding]:
    """What pgspot says of a script, statement by statement."""
    findings = Findings()
    state = State(findings)
    for statement in pglast.split(re.sub(r"^\\.*$", "", script, flags=re.MULTILINE)):
        visitors.visit_sql(state, statement)
    yield from findings.found


# --- what pgspot stumbles over --------------------------------------------------------------

_parse_plpgsql, _visit_sql = visitors.parse_plpgsql, visitors.visit_sql
COMPOSITE = r"hotmesh_dba\.\w+"


def parse_plpgsql(text: str) -> Any:
    """Parse a routine whose composite variables are records.

    The parser knows no catalogue: it takes a type of ours for a scalar, which has no fields.
    """
    head, quote, body = re.split(r"(\$\w*\$)", text, maxsplit=1)
    parameter = rf"(?:INOUT |OUT )?(\w+) {COMPOSITE}(?=[,)])"
    variables = re.findall(parameter, head)
    if variables:
        head = re.sub(rf"{parameter}(?:, )?", "", head).replace(", )", ")")
        declared = " ".join(f"{name} record;" for name in variables)
        body = f"DECLARE {declared} " + re.sub(r"^\s*DECLARE\b", "", body)
    body = re.sub(rf"^(\s+\w+\s+){COMPOSITE}(?=\s*(?:;|:=))", r"\1record", body, flags=re.MULTILINE)
    return _parse_plpgsql(head + quote + body)


def visit_sql(state: State, text: str, toplevel: bool = False) -> None:
    """Visit a query, or an expression that stands where pgspot looks for a query."""
    try:
        pglast.parse_sql(text)
    except pglast.parser.ParseError:
        text = f"SELECT {text}"
    _visit_sql(state, text, toplevel)


visitors.parse_plpgsql, visitors.visit_sql = parse_plpgsql, visit_sql


if __name__ == "__main__":
    sys.exit(main())
