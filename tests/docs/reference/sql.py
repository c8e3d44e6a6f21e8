"""docs/sql.md, from the server's catalogues: signatures, columns, and every COMMENT."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.docs.reference import markdown as md
from tests.support.server import Connection

INTRODUCTION = """# SQL

Every routine, table and view of the schema `hotmesh_dba`; on the server `\\df+ hotmesh_dba.*`
and `\\d+ hotmesh_dba.*` say the same. Names that begin with `_` are private. What an error
means, and its cure: [errors.md](errors.md)."""

# Every public routine and relation has its place here; what has none fails the generator.
SECTIONS: dict[str, list[str]] = {
    "Apps": ["app", "app_schema", "deploy", "undeploy", "version"],
    "Prune": ["prune", "preview", "prune_batched", "run", "progress"],
    "Policies": [
        "set_policy",
        "drop_policy",
        "run_policy",
        "run_due",
        "policy",
        "schedule",
        "unschedule",
        "schedules",
    ],
    "Watching": ["backlog", "doctor"],
    "Rights": ["grant_prune", "revoke_prune"],
}

SETTINGS = {
    "disable_triggers": (
        "off",
        "`on`: `prune`, also an app's own, works as `prune_batched` does with `disable_triggers`.",
    ),
    "old_transaction": ("10 minutes", "`doctor`: from what age on a transaction is old."),
    "old_xid_age": (
        "1000000",
        "`doctor`: of how many transactions ago a standby may still ask for rows.",
    ),
}

ROUTINES = """
SELECT p.proname, p.prokind::text,
       p.proargnames, coalesce(p.proargmodes::text[], array_fill('i'::text, ARRAY[p.pronargs])),
       ARRAY(SELECT format_type(t, NULL)
             FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY a (t, n)
             ORDER BY a.n),
       ARRAY(SELECT pg_get_function_arg_default(p.oid, n)
             FROM generate_series(1, p.pronargs) n ORDER BY n),
       pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc')
FROM pg_proc p
WHERE p.pronamespace = 'hotmesh_dba'::regnamespace AND left(p.proname, 1) <> '_'
ORDER BY p.proname
"""

RELATIONS = """
SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END,
       obj_description(c.oid, 'pg_class'),
       ARRAY(SELECT ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod),
                          coalesce(col_description(c.oid, a.attnum), '')]
             FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY a.attnum)
FROM pg_class c
WHERE c.relnamespace = 'hotmesh_dba'::regnamespace AND left(c.relname, 1) <> '_'
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument, or a column of the result."""

    name: str
    mode: str
    type: str
    default: str | None


def page(conn: Connection) -> str:
    """Return the page of the extension that is in a database."""
    entries = dict(_routines(conn)) | dict(_relations(conn))
    parts = [INTRODUCTION, _contents(set(entries))]
    for section, names in SECTIONS.items():
        known = [name for name in names if name in entries]
        parts += [f"## {section}"] * bool(known)
        parts += [entries.pop(name) for name in known]
    if entries:
        raise SystemExit(f"no section of tests/docs/reference/sql.py names {', '.join(entries)}")
    settings = [
        [f"`hotmesh_dba.{name}`", f"`{default}`", use] for name, (default, use) in SETTINGS.items()
    ]
    return md.page(
        *parts,
        "## Settings",
        "Set by `SET`, `ALTER ROLE … SET` or `ALTER DATABASE … SET`; anybody may.",
        md.table(["setting", "default", ""], settings),
    )


def _contents(names: set[str]) -> str:
    rows = [
        [section, ", ".join(f"[`{name}`](#{name})" for name in known if name in names)]
        for section, known in SECTIONS.items()
        if names & set(known)
    ]
    return md.table(["", ""], rows)


def _routines(conn: Connection) -> list[tuple[str, str]]:
    found = []
    for name, kind, names, modes, types, defaults, result, comment in conn.execute(ROUTINES):
        inputs = iter(defaults)
        arguments = [
            Argument(argument, mode, type_, _plain(next(inputs)) if mode in "ib" else None)
            for argument, mode, type_ in zip(names or [], modes, types, strict=True)
        ]
        signature = _signature(name, kind, arguments, result)
        known = {argument.name for argument in arguments}
        found.append(
            (name, md.page(f"### {name}", md.code(signature), _described(comment or "", known)))
        )
    return found


def _signature(name: str, kind: str, arguments: list[Argument], result: str | None) -> str:
    call = "CALL " if kind == "p" else ""
    given = [argument for argument in arguments if argument.mode in "ib"]
    returned = [argument for argument in arguments if argument.mode == "t"]
    lines = f"{call}hotmesh_dba.{name}({_listed(given)})"
    if kind == "p":
        return lines
    return f"{lines}\nRETURNS {f'TABLE ({_listed(returned)})' if returned else result}"


def _listed(arguments: list[Argument]) -> str:
    """Return arguments on one line where they are few, else on a line each."""
    defaults = [f" DEFAULT {a.default}" if a.default is not None else "" for a in arguments]
    words = [
        f"{'INOUT ' if a.mode == 'b' else ''}{a.name} {a.type}{default}"
        for a, default in zip(arguments, defaults, strict=True)
    ]
    if sum(map(len, words)) < 70:
        return ", ".join(words)
    width = max(len(a.name) + 6 * (a.mode == "b") for a in arguments)
    aligned = []
    for argument, default in zip(arguments, defaults, strict=True):
        shown = f"{'INOUT ' if argument.mode == 'b' else ''}{argument.name}"
        aligned.append(f"    {shown:{width}} {argument.type}{default}")
    return "\n" + ",\n".join(aligned)


def _plain(default: str | None) -> str | None:
    """Return a default as people write it: without the cast, an interval in its own unit."""
    if default is None:
        return None
    bare = re.sub(r"::[\w ]+(\[\])?$", "", default)
    clock = re.fullmatch(r"'00:00:(\d\d(?:\.\d+)?)'", bare)
    if clock is None:
        return bare
    milliseconds = round(float(clock[1]) * 1000)
    return f"'{milliseconds} ms'" if milliseconds else "'0'"


def _described(comment: str, known: set[str]) -> str:
    """Return a comment: its lines as paragraphs, those about arguments as a list."""
    name = r"[a-z_]+(?: \([^)]*\))?"
    parts: list[str] = []
    for line in comment.splitlines():
        match = re.match(rf"({name}(?:, {name})*): (.*)", line)
        subjects = re.findall(r"([a-z_]+)(?: \([^)]*\))?(?:, |$)", match[1]) if match else []
        if match and set(subjects) <= known:
            shown = re.sub(r"([a-z_]+)( \([^)]*\))?(, |$)", r"`\1`\2\3", match[1])
            item = f"- {shown}: {md.text(match[2])}"
            follows = bool(parts) and parts[-1].startswith("- ")
            parts.append(f"{parts.pop()}\n{item}" if follows else item)
        elif line.startswith("Errors: "):
            parts.append(f"[Errors](errors.md): {md.text(line.removeprefix('Errors: '))}")
        else:
            parts.append(md.text(line))
    return "\n\n".join(parts)


def _relations(conn: Connection) -> list[tuple[str, str]]:
    return [
        (
            name,
            md.page(
                f"### {name}",
                f"A {kind}. {md.text(comment or '')}",
                md.table(
                    ["column", "type", ""],
                    [[f"`{column}`", type_, md.text(words)] for column, type_, words in columns],
                ),
            ),
        )
        for name, kind, comment, columns in conn.execute(RELATIONS)
    ]
