"""plpgsql_check over every routine of every installation; what may stay stands in a list.

On Debian's PostgreSQL 15, whichever server the tests are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.deploy.observe import deploy, one, run
from tests.deploy.plain import install_plain
from tests.support.debian import pg_config_with
from tests.support.layout import create_app
from tests.support.server import Connection, PrivateServer
from tests.upgrade.test_released import RELEASED

pytestmark = pytest.mark.once

INSTALLATIONS = ["fresh", "plain", *RELEASED]
Finding = tuple[str, str]

# Not the performance warnings: they are about casts, and routines that could promise more.
CHECK = """
SELECT DISTINCT p.proname::text, t.message
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
LEFT JOIN pg_trigger g ON g.tgfoid = p.oid,
     plpgsql_check_function_tb(p.oid, coalesce(g.tgrelid, 0), fatal_errors => false,
                               security_warnings => true, compatibility_warnings => true) t
WHERE p.pronamespace = 'hotmesh_dba'::regnamespace OR p.oid = to_regproc('myapp.prune')
"""


def allowed() -> dict[Finding, str]:
    """The list: routine and message, with the reason."""
    path = Path(__file__).with_name("plpgsql_check.txt")
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {(routine, message): reason for routine, message, reason in cells}


def allows(line: Finding, found: Finding) -> bool:
    """Whether a line of the list is about this finding; its message may have a `*`."""
    return line[0] == found[0] and fnmatchcase(found[1], line[1])


def install(conn: Connection, installation: str) -> None:
    if installation == "plain":
        install_plain(conn)
    elif installation == "fresh":
        run(conn, "CREATE EXTENSION hotmesh_dba")
    else:
        run(conn, f"CREATE EXTENSION hotmesh_dba VERSION '{installation}'")
        run(conn, "ALTER EXTENSION hotmesh_dba UPDATE")


def findings(conn: Connection) -> set[Finding]:
    return {(routine, message) for routine, message in run(conn, CHECK)}


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    with PrivateServer(pg_config_with("plpgsql_check", "plpgsql-check"), in_memory=True) as private:
        yield private


@pytest.fixture
def checker(new_database: NewDatabase) -> Iterator[Connection]:
    """A database with plpgsql_check and nothing else."""
    with new_database().connect() as conn:
        run(conn, "CREATE EXTENSION plpgsql_check")
        yield conn


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_what_is_found_is_allowed_and_needed(checker: Connection, installation: str) -> None:
    install(checker, installation)
    count = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'hotmesh_dba'::regnamespace"
    assert one(checker, count) > 150
    bare = findings(checker)
    assert {found for found in bare if not any(allows(line, found) for line in allowed())} == set()
    assert {line for line in allowed() if not any(allows(line, found) for found in bare)} == set()
    create_app(checker, "myapp", "mixture")
    deploy(checker, "myapp")
    assert findings(checker) == bare


def test_each_has_a_reason() -> None:
    assert all(allowed().values())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("PERFORM 1 FROM hotmesh_dba.nothing;", 'relation "hotmesh_dba.nothing" does not exist'),
        ("EXECUTE 'SELECT ' || t;", "text type variable is not sanitized"),
        ("t := nothing;", 'column "nothing" does not exist'),
    ],
)
def test_a_fault_is_found(checker: Connection, body: str, message: str) -> None:
    """Also where it stands in a branch that no test takes."""
    install(checker, "fresh")
    run(
        checker,
        "CREATE FUNCTION hotmesh_dba._faulty(t text) RETURNS void LANGUAGE plpgsql"
        f" AS $$ BEGIN IF t = 'never' THEN {body} END IF; END $$",
    )
    assert ("_faulty", message) in findings(checker)


def test_a_fault_in_a_trigger_is_found(checker: Connection) -> None:
    install(checker, "fresh")
    run(
        checker,
        "CREATE FUNCTION hotmesh_dba._faulty() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN NEW.nothing := 1; RETURN NEW; END $$;"
        "CREATE TRIGGER faulty BEFORE INSERT ON hotmesh_dba.run"
        " FOR EACH ROW EXECUTE FUNCTION hotmesh_dba._faulty()",
    )
    assert ("_faulty", 'record "new" has no field "nothing"') in findings(checker)
