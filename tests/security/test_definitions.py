"""How every routine is defined: caller's rights, a fixed search_path, a comment."""

from __future__ import annotations

import re

from tests.conftest import NewApp
from tests.deploy.observe import deploy, run
from tests.support.server import Connection

OURS = """
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE (n.nspname = 'hotmesh_dba' OR n.nspname = 'myapp' AND p.proname = 'prune')
"""

PUBLIC_ROUTINES = {
    "app_schema",
    "backlog",
    "deploy",
    "doctor",
    "drop_policy",
    "grant_prune",
    "preview",
    "prune",
    "prune_batched",
    "revoke_prune",
    "run_due",
    "run_policy",
    "schedule",
    "set_policy",
    "undeploy",
    "unschedule",
    "version",
}
PUBLIC_RELATIONS = [
    ("app", "v"),
    ("policy", "r"),
    ("progress", "v"),
    ("run", "r"),
    ("schedules", "v"),
]


def test_all_act_with_the_callers_rights_and_a_fixed_search_path(
    conn: Connection, app: NewApp
) -> None:
    deploy(conn, app("myapp"))
    routines = run(
        conn, f"SELECT p.oid::regprocedure::text, p.prosecdef, p.proconfig, p.prokind::text {OURS}"
    )
    assert len(routines) > 20
    for name, definer, config, kind in routines:
        assert not definer, name
        if kind == "p":
            continue  # it commits, so it cannot: see the test below
        assert "search_path=pg_catalog, pg_temp" in (config or []), name


def test_the_public_surface_is_the_designs(conn: Connection) -> None:
    functions = run(conn, f"SELECT p.proname {OURS} AND left(p.proname, 1) <> '_'")
    assert {name for (name,) in functions} == PUBLIC_ROUTINES
    assert len(functions) == len(PUBLIC_ROUTINES)
    relations = run(
        conn,
        "SELECT relname, relkind::text FROM pg_class"
        " WHERE relnamespace = 'hotmesh_dba'::regnamespace AND left(relname, 1) <> '_'"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1",
    )
    assert relations == PUBLIC_RELATIONS


def test_a_procedure_names_everything_by_schema(conn: Connection) -> None:
    """It commits, so it cannot fix its search_path: no operator, no bare name in it."""
    procedures = run(conn, f"SELECT p.proname, p.prosrc {OURS} AND p.prokind = 'p' ORDER BY 1")
    assert [name for name, _ in procedures] == ["_drive", "prune_batched", "run_due", "run_policy"]
    for name, source in procedures:
        body = re.sub(r"--.*", "", source[source.index("BEGIN") :])
        called = re.findall(r"([\w.]+)\(", body)
        assert called, name
        assert all(call.startswith("hotmesh_dba.") for call in called), (name, called)
        assert not re.search(r"[-+*/<>|&!@#%^]|(?<!:)=", body), name


def test_every_public_object_is_commented_and_everybodys_to_use(
    conn: Connection, app: NewApp
) -> None:
    deploy(conn, app("myapp"))
    uncommented = run(
        conn,
        f"SELECT p.oid::regprocedure::text {OURS}"
        " AND left(p.proname, 1) <> '_' AND obj_description(p.oid, 'pg_proc') IS NULL"
        " UNION ALL SELECT 'relation ' || c.relname FROM pg_class c"
        " WHERE c.relnamespace = 'hotmesh_dba'::regnamespace AND c.relkind IN ('r', 'v')"
        " AND obj_description(c.oid, 'pg_class') IS NULL"
        " UNION ALL SELECT format('column %s.%s', c.relname, a.attname) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'v')"
        " WHERE c.relnamespace = 'hotmesh_dba'::regnamespace AND a.attnum > 0"
        " AND col_description(a.attrelid, a.attnum) IS NULL"
        " UNION ALL SELECT 'schema' FROM pg_namespace n WHERE n.nspname = 'hotmesh_dba'"
        " AND obj_description(n.oid, 'pg_namespace') IS NULL"
        " UNION ALL SELECT 'extension' FROM pg_extension e WHERE e.extname = 'hotmesh_dba'"
        " AND obj_description(e.oid, 'pg_extension') IS NULL",
    )
    assert uncommented == []
    closed = run(
        conn,
        f"SELECT p.oid::regprocedure::text {OURS} AND NOT EXISTS (SELECT FROM"
        " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)",
    )
    assert closed == []


def test_each_comment_names_every_parameter(conn: Connection) -> None:
    rows = run(
        conn,
        "SELECT p.proname, obj_description(p.oid, 'pg_proc'), p.proargnames[1 : p.pronargs]"
        f" {OURS} AND left(p.proname, 1) <> '_' AND p.pronargs > 1"
        " AND p.proname <> 'preview'",  # whose options are prune's
    )
    assert len(rows) > 4
    for name, comment, parameters in rows:
        for parameter in parameters:
            assert parameter in comment, (name, parameter)


def test_everything_is_a_member_of_the_extension(conn: Connection) -> None:
    """So DROP EXTENSION takes it all, the schema too."""
    strays = run(
        conn,
        "SELECT pg_describe_object(o.classid, o.objid, 0) FROM ("
        " SELECT 'pg_proc'::regclass::oid AS classid, oid AS objid FROM pg_proc"
        "  WHERE pronamespace = 'hotmesh_dba'::regnamespace"
        " UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class"
        "  WHERE relnamespace = 'hotmesh_dba'::regnamespace AND relkind IN ('r', 'v', 'S')"
        " UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace"
        "  WHERE nspname = 'hotmesh_dba'"
        ") o WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid"
        " AND d.objid = o.objid AND d.deptype = 'e')",
    )
    assert strays == []


def test_where_sequential_scans_are_off_jit_is_too(conn: Connection) -> None:
    """Before PostgreSQL 18 "off" is a price of 1e10, and at that price JIT compiles for seconds."""
    rows = run(conn, f"SELECT p.proname, p.proconfig {OURS} AND p.proconfig IS NOT NULL")
    scanless = [(name, config) for name, config in rows if "enable_seqscan=off" in config]
    assert scanless
    for name, config in scanless:
        assert "jit=off" in config, name
