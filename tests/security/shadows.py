"""Operators that wait for a privileged caller: one for each pair of types, each a trap.

Where pg_catalog has no operator for just these two types, anybody's on the search_path is taken
before the catalogue's own with a conversion.
"""

from __future__ import annotations

from tests.support.server import Connection

TYPES = [
    *("oid", "regnamespace", "regproc", "regprocedure", "regclass", "name", "text", '"char"'),
    *("boolean", "smallint", "integer", "bigint", "float8", "numeric", "timestamptz", "interval"),
]
OPERATORS = ["=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "~", "~~"]
TRAPPED = "trapped"

_FUNCTION = """
CREATE FUNCTION {schema}.trap({left}, {right}) RETURNS boolean
LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped %', session_user; END $$;
"""
_OPERATOR = """
CREATE OPERATOR {schema}.{name}
    (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {schema}.trap);
"""


def swarm(conn: Connection, schema: str) -> None:
    """Put them into a schema that everybody may use, as the role of `conn`."""
    statements = [f"GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"]
    for left in TYPES:
        for right in TYPES:
            statements.append(_FUNCTION.format(schema=schema, left=left, right=right))
            statements += [
                _OPERATOR.format(schema=schema, name=name, left=left, right=right)
                for name in OPERATORS
            ]
    conn.execute("".join(statements).encode())
