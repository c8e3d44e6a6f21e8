"""What the options of prune and of policies are called on the command line."""

from __future__ import annotations

import re
import shlex

from hotmesh_dba.options import BATCHED_OPTIONS, POLICY_OPTIONS, Sql

_ALL = POLICY_OPTIONS | BATCHED_OPTIONS
_NAMES = {sql.name: name for name, sql in _ALL.items()}

# Only these differ from the Python name with dashes.
_FLAGS = {"entities": "--entity", "prune_transient": "--transient"}
_NEGATIONS = {"enabled": "--disabled"}


def flag(name: str) -> str:
    """Return the flag of an option, which has its Python name here."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def negation(name: str, sql: Sql | None = None) -> str | None:
    """Return the flag that switches an option off; what is off unless asked for needs none."""
    sql = sql or _ALL[name]
    needed = sql.type == "bool" and sql.default is not False
    return _NEGATIONS.get(name, f"--no-{flag(name)[2:]}") if needed else None


_WORD = "'([^']*)'"
_RUN = re.compile(rf"CALL hotmesh_dba\.run_policy\({_WORD}, {_WORD}, force => true\)")
_LOOK = re.compile(
    r"SELECT \* FROM hotmesh_dba\.preview\((?:[^';]|'(?:[^']|'')*')*\)(?=; if all of it may go: )"
)


def in_options(hint: str) -> str:
    """Return a hint of the server with ``retention => '7 days'`` as ``--expire '7 days'``.

    A whole statement stays as it is: it is to be typed into psql. But a policy that is to be
    looked at and run by force is so by the command.
    """
    run = _RUN.search(hint)
    if run is not None:
        command = shlex.join(["hotmesh-dba", "policy", "run", *run.groups()])
        hint = _LOOK.sub(lambda _: f"{command} --dry-run", hint)
        hint = _RUN.sub(lambda _: f"{command} --force", hint)
    return re.sub(r"(?:(?<=: )|(?<=example ))(\w+) => ('[^']*'|true|false|\d+)", _translated, hint)


def _translated(match: re.Match[str]) -> str:
    sql_name, value = match.groups()
    if sql_name == "workers":  # a client's own: it fills in who is which
        return f"{flag(sql_name)} {value}"
    name = _NAMES.get(sql_name)
    if name is None:
        return match[0]
    if _ALL[name].type != "bool":
        return f"{flag(name)} {value}"
    return (flag(name) if value == "true" else negation(name)) or match[0]
