"""Every option can be set by an environment variable, which its help names."""

from __future__ import annotations

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
            parameter.envvar = "_".join((*path, parameter.name)).upper()
    for name, inner in getattr(command, "commands", {}).items():
        name_variables(inner, (*path, name.replace("-", "_")))
