"""Every option can be set by an environment variable, which its help names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

# These act at once, whatever else is asked for.
_NOT = {"help", "version", "install_completion", "show_completion"}


def name_variables(command: Any, path: tuple[str, ...] = ("HOTMESH_DBA",)) -> None:
    """Name the variable of each option that has none yet: after its command and itself.

    :param command: what Typer makes of an app: a group of commands, or a command.
    """
    for parameter in command.params:
        named = parameter.param_type_name != "option" or parameter.name in _NOT
        if not named and parameter.envvar is None:
            long = next(o for o in parameter.opts if o.startswith("--"))
            parameter.envvar = "_".join((*path, long[2:].replace("-", "_"))).upper()
    for name, inner in getattr(command, "commands", {}).items():
        name_variables(inner, (*path, name.replace("-", "_")))


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether --json was given, before anything else is understood."""
    variable = os.environ.get("HOTMESH_DBA_JSON", "").strip().lower()
    return "--json" in arguments or variable in ("1", "true", "t", "yes", "y", "on")
