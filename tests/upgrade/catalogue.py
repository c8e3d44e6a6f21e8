"""What an installed extension consists of, object by object, in a form that two databases share.

No identifier of one database (an oid) is in it, so that a database which was updated and one that
was installed fresh can be compared as dictionaries.
"""

# ruff: noqa: E501 - the queries read better in whole lines

from __future__ import annotations

from typing import Any

from tests.support.server import Connection

Catalogue = dict[str, Any]

MEMBERS = """
SELECT d.classid::regclass::text AS catalogue,
       pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) AS object,
       pg_catalog.obj_description(d.objid, d.classid::regclass::text) AS comment,
       coalesce((SELECT pg_catalog.pg_get_functiondef(p.oid) FROM pg_proc p
                 WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prokind IN ('f', 'p')),
                (SELECT pg_catalog.pg_get_viewdef(c.oid) FROM pg_class c
                 WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'v'),
                '') AS definition,
       coalesce((SELECT p.proowner FROM pg_proc p WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid),
                (SELECT c.relowner FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid),
                (SELECT t.typowner FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid),
                (SELECT n.nspowner FROM pg_namespace n
                 WHERE d.classid = 'pg_namespace'::regclass AND n.oid = d.objid))::regrole::text AS owner,
       ARRAY(SELECT unnest(coalesce(
                (SELECT p.proacl FROM pg_proc p WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid),
                (SELECT c.relacl FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid),
                (SELECT t.typacl FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid),
                (SELECT n.nspacl FROM pg_namespace n
                 WHERE d.classid = 'pg_namespace'::regclass AND n.oid = d.objid)))::text
             ORDER BY 1) AS acl
FROM pg_depend d
JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'hotmesh_dba' AND d.deptype = 'e'
"""

# Columns in order, as seen from outside: attnum itself keeps the gaps of dropped columns.
COLUMNS = """
SELECT c.oid::regclass::text AS relation, a.attname AS name,
       row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) AS position,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       a.attcollation::regcollation::text AS collation, a.attstorage::text AS storage,
       a.attidentity::text AS identity, a.attgenerated::text AS generated, a.attacl::text AS acl,
       pg_catalog.pg_get_expr(b.adbin, b.adrelid) AS default,
       pg_catalog.col_description(c.oid, a.attnum) AS comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef b ON b.adrelid = c.oid AND b.adnum = a.attnum
WHERE n.nspname = 'hotmesh_dba' AND c.relkind IN ('r', 'p', 'v', 'c', 'S')
"""

TABLES = """
SELECT c.oid::regclass::text AS relation, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.reloptions::text AS options, c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced,
       ARRAY(SELECT pg_catalog.format('%s %s', k.conname, pg_catalog.pg_get_constraintdef(k.oid))
             FROM pg_constraint k WHERE k.conrelid = c.oid ORDER BY k.conname) AS constraints,
       ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid)
             FROM pg_index i WHERE i.indrelid = c.oid ORDER BY 1) AS indexes,
       ARRAY(SELECT pg_catalog.pg_get_triggerdef(t.oid)
             FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY 1) AS triggers,
       ARRAY(SELECT pg_catalog.format('%s %s %s %s %s %s', p.polname, p.polcmd, p.polpermissive,
                                      p.polroles::regrole[], pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                                      pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
             FROM pg_policy p WHERE p.polrelid = c.oid ORDER BY 1) AS policies,
       (SELECT e.extcondition[array_position(e.extconfig, c.oid)]
        FROM pg_extension e WHERE e.extname = 'hotmesh_dba') AS dump_condition
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'hotmesh_dba' AND c.relkind IN ('r', 'p', 'v', 'S')
"""


def catalogue(conn: Connection) -> Catalogue:
    """Everything that hotmesh_dba has in the database of `conn`; comparable with ==."""
    conn.execute("SET search_path = pg_catalog")
    found: Catalogue = {}
    for kind, query in {"member": MEMBERS, "column": COLUMNS, "table": TABLES}.items():
        cursor = conn.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        for row in cursor:
            found[f"{kind} {row[0]} {row[1]}"] = dict(zip(names, row, strict=True))
    conn.execute("RESET search_path")
    return found


def differences(updated: Catalogue, fresh: Catalogue) -> list[str]:
    """The objects in which the two differ, by name."""
    return sorted(
        key for key in updated.keys() | fresh.keys() if updated.get(key) != fresh.get(key)
    )
