"""A restored database has no statistics: attributes are found by their key all the same.

The planner then takes a job's attributes for a large part of the table, and would read all of it,
or the index (type, symbol), for every batch.
"""

from __future__ import annotations

import re

import pytest

from tests.conftest import Database, NewDatabase
from tests.deploy.observe import deploy, run
from tests.deploy.plain import plain_script
from tests.support.layout import create_app
from tests.support.sample import load_sample
from tests.support.server import Connection

GUARD = r"\nSET enable_seqscan = off\b"

# Where the attributes of the jobs are removed by us, and not by their foreign key's cascade.
WAYS = {
    "strip": ("", "SELECT marked_pruned FROM myapp.prune('7 days', false, false, true)"),
    "delete": (
        "SET LOCAL session_replication_role = replica",
        "SELECT deleted_jobs FROM myapp.prune('7 days', true, false)",
    ),
    # The callers of the function that deletes guard it as well; so it is looked at alone too.
    "attributes": (
        "",
        "SELECT hotmesh_dba._delete_attributes('myapp.jobs_attributes',"
        " (SELECT array_agg(id) FROM myapp.jobs),"
        " hotmesh_dba._attribute_filter('myapp.jobs_attributes', false))",
    ),
}

# In this transaction, over all leaves: sequential scans, scans of the primary key, of any other.
SCANS = """
WITH leaf AS (
  SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = 'myapp.jobs_attributes'::regclass
), index AS (
  SELECT i.indexrelid AS oid, i.indisprimary FROM pg_index i JOIN leaf l ON l.oid = i.indrelid
)
SELECT (SELECT sum(pg_stat_get_xact_numscans(l.oid)) FROM leaf l),
       (SELECT sum(pg_stat_get_xact_numscans(i.oid)) FROM index i WHERE i.indisprimary),
       (SELECT sum(pg_stat_get_xact_numscans(i.oid)) FROM index i WHERE NOT i.indisprimary)
"""
NEVER_ANALYZED = """
SELECT count(*) FROM pg_class c JOIN pg_inherits h ON h.inhrelid = c.oid
WHERE h.inhparent IN ('myapp.jobs'::regclass, 'myapp.jobs_attributes'::regclass)
  AND c.reltuples = -1
"""


@pytest.fixture
def bare(new_database: NewDatabase) -> Database:
    return new_database()


def scans(conn: Connection, way: str) -> tuple[int, int, int]:
    """Prune in one way on fresh tables, and count; nothing is kept."""
    before, call = WAYS[way]
    with conn.transaction(force_rollback=True):
        if before:
            run(conn, before)
        start = run(conn, SCANS)[0]
        ((taken,),) = run(conn, call)
        assert taken > 0
        end = run(conn, SCANS)[0]
    sequential, by_key, by_others = (b - a for a, b in zip(start, end, strict=True))
    return int(sequential), int(by_key), int(by_others)


def fill(conn: Connection) -> None:
    """An app without statistics, and with nobody who would gather them meanwhile."""
    create_app(conn, "myapp")
    deploy(conn, "myapp")
    for table in ("jobs", "jobs_attributes"):
        for (leaf,) in run(
            conn,
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            f" WHERE inhparent = 'myapp.{table}'::regclass",
        ):
            run(conn, f"ALTER TABLE {leaf} SET (autovacuum_enabled = false)")
    load_sample(conn, "myapp", jobs=2000, attributes=20, engine_messages=0, worker_messages=0)
    assert run(conn, NEVER_ANALYZED) == [(16,)]


@pytest.mark.parametrize("way", WAYS)
def test_attributes_are_found_by_their_key(bare: Database, way: str) -> None:
    with bare.connect() as conn:
        conn.execute(plain_script().encode())
        fill(conn)
        sequential, by_key, by_others = scans(conn, way)
    assert (sequential, by_others) == (0, 0)
    assert by_key > 0


@pytest.mark.parametrize("way", WAYS)
def test_without_the_guard_they_would_not_be(bare: Database, way: str) -> None:
    script, changes = re.subn(GUARD, "", plain_script())
    assert changes
    with bare.connect() as conn:
        conn.execute(script.encode())
        fill(conn)
        sequential, _, by_others = scans(conn, way)
    assert sequential + by_others > 0
