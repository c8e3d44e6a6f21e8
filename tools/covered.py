"""What the suite does not execute, from the files of `make coverage`.

python -m tools.covered DIR             print it
python -m tools.covered DIR --write     put it into docs/reliability.md, section Coverage
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.installation import CHECKOUT
from tests.support.server import PrivateServer

PAGE = CHECKOUT / "docs" / "reliability.md"
HEADING = "## Coverage\n"

# Structure: the statements in it are counted by themselves.
BLOCKS = {"statement block"}


@dataclass(frozen=True, slots=True, order=True)
class Statement:
    """A statement of a routine in PL/pgSQL, or (number -1) the whole of one in SQL."""

    routine: str
    number: int
    text: str


def main() -> None:
    """Print the report, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    counts = executed(arguments.directory)
    if not any(counts.values()):
        sys.exit("nothing was counted: PG_CONFIG=... names a server that has plpgsql_check")
    text = report(counts, python(arguments.directory / "lines.json"))
    if arguments.write:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)


def report(counts: dict[Statement, int], modules: list[list[str]]) -> str:
    """The section, as Markdown."""
    routines = {statement for statement in counts if statement.number < 0}
    statements = set(counts) - routines
    missed = {statement for statement, count in counts.items() if not count}
    lines = [
        HEADING,
        f"Of {len(statements):,} statements in PL/pgSQL the suite executes"
        f" {len(statements - missed):,}, of {len(routines):,} routines in SQL"
        f" {len(routines - missed):,}. It is measured on a server that has plpgsql_check:\n",
        "```sh\nmake coverage PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config\n```\n",
        "What is left stands below. A standby counts for itself, which is not read; Citus is not"
        " there; and what only a newer PostgreSQL raises is not raised on 15.\n",
        *table(["routine", "not executed"], unexecuted(missed)),
        "",
        *table(["module", "covered", "lines not executed"], modules),
    ]
    return "\n".join(lines) + "\n"


def table(heads: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def unexecuted(missed: set[Statement]) -> Iterator[list[str]]:
    """A row a routine."""
    of: defaultdict[str, list[str]] = defaultdict(list)
    for statement in sorted(missed):
        of[statement.routine].append(statement.text)
    for routine, texts in of.items():
        shown = ["all of it" if not text else f"`{cell(text)}`" for text in texts]
        yield [f"`{routine}`", "<br>".join(shown)]


def cell(text: str) -> str:
    """A line of SQL as it may stand in a cell, not too long."""
    short = text if len(text) <= 90 else text[:89] + "…"
    return short.replace("|", "\\|").replace("`", "'")


def executed(directory: Path) -> dict[Statement, int]:
    """How often each statement of the present routines was executed."""
    present = fingerprints()
    counts: defaultdict[Statement, int] = defaultdict(int)
    for path in directory.glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            routine, digest, number, kind, text, count = json.loads(line)
            if present.get(routine) == digest and kind not in BLOCKS:
                name = routine.partition("(")[0].removeprefix("hotmesh_dba.")
                at = -1 if number is None else number
                counts[Statement(name, at, (text or "").strip())] += count
    return counts


def fingerprints() -> dict[str, str]:
    """The digest of each routine's source: tests look at older ones too, and at spoilt ones."""
    with (
        PrivateServer(os.environ.get("HOTMESH_DBA_PG_CONFIG")) as server,
        server.connect() as conn,
    ):
        conn.execute("CREATE EXTENSION hotmesh_dba")
        rows = conn.execute(
            "SELECT p.oid::regprocedure::text, md5(p.prosrc) FROM pg_proc p"
            " WHERE p.pronamespace = 'hotmesh_dba'::regnamespace"
        ).fetchall()
    return {str(routine): str(digest) for routine, digest in rows}


def python(path: Path) -> list[list[str]]:
    """A row a module that is not covered wholly, from coverage's JSON."""
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return [
        [
            f"`{Path(name).relative_to('python')}`",
            f"{found['summary']['percent_covered']:.0f} %",
            ranges(found["missing_lines"]),
        ]
        for name, found in sorted(files.items())
        if found["missing_lines"]
    ]


def ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def with_section(page: str, section: str) -> str:
    """The page with this section in place of its last; at the end where it had none."""
    found = re.search(rf"^{HEADING}.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    if found is None:
        return f"{page.rstrip()}\n\n{section}"
    rest = page[found.end() :]
    return page[: found.start()] + section + (f"\n{rest}" if rest else "")


if __name__ == "__main__":
    main()
