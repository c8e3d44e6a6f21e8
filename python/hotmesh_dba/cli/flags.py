"""What the options of prune are called on the command line."""

from __future__ import annotations

import re

from hotmesh_dba.options import BATCH_OPTIONS, OPTIONS

_ALL = OPTIONS | BATCH_OPTIONS

# Only these differ from the Python name with dashes.
_FLAGS = {"entities": "--entity", "prune_transient": "--transient"}


def flag(name: str) -> str:
    """Return the flag of an option, which has its Python name here."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def negation(name: str) -> str | None:
    """Return the flag that switches an option off; what is off unless asked for needs none."""
    sql = _ALL[name]
    needed = sql.type == "bool" and sql.default is not False
    return f"--no-{flag(name)[2:]}" if needed else None


def in_options(hint: str) -> str:
    """Return a hint of the server with ``retention => '7 days'`` as ``--expire '7 days'``.

    A whole statement stays as it is: it is to be typed into psql.
    """
    return re.sub(r"(?<=: )(\w+) => ('[^']*'|true|false)", _translated, hint)


def _translated(match: re.Match[str]) -> str:
    names = [name for name, sql in _ALL.items() if sql.name == match[1]]
    if not names:
        return match[0]
    [name] = names
    if _ALL[name].type == "interval":
        return f"{flag(name)} {match[2]}"
    return (flag(name) if match[2] == "true" else negation(name)) or match[0]
