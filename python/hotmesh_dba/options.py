"""The twelve options of ``prune`` and ``preview``: declared here, once.

Signatures, SQL calls and the options of the command are all made from `PruneOptions`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

from hotmesh_dba.errors import InvalidOption

Window = str | timedelta
"""How long rows are kept: a `datetime.timedelta`, or text that PostgreSQL reads as an interval."""


@dataclass(frozen=True, slots=True)
class Sql:
    """What an option is in SQL, and how it is explained."""

    name: str
    """The parameter of ``hotmesh_dba.prune``."""
    type: str
    default: object
    """What the server uses where the option is not given. It is shown, never sent."""
    help: str


class PruneOptions(TypedDict, total=False):
    """Keyword options of ``prune`` and ``preview``; what is left out gets the server's default."""

    expire: Annotated[
        Window,
        Sql("retention", "interval", "7 days", "Delete what expired longer ago than this."),
    ]
    jobs: Annotated[bool, Sql("prune_jobs", "bool", True, "Delete expired jobs.")]
    streams: Annotated[
        bool, Sql("prune_streams", "bool", True, "Delete processed messages, both kinds.")
    ]
    attributes: Annotated[
        bool,
        Sql(
            "strip_attributes",
            "bool",
            False,
            "Strip execution artifacts from completed live jobs, whatever the window.",
        ),
    ]
    entities: Annotated[
        Sequence[str] | None,
        Sql("entity_list", "text[]", None, "Only jobs of these entities."),
    ]
    prune_transient: Annotated[
        bool,
        Sql(
            "prune_transient",
            "bool",
            False,
            "Delete expired jobs without an entity, whatever the entities.",
        ),
    ]
    keep_hmark: Annotated[
        bool, Sql("keep_hmark", "bool", False, "Keep hmark attributes when stripping.")
    ]
    engine_streams: Annotated[
        bool | None,
        Sql("prune_engine_streams", "bool", None, "Delete engine messages, whatever streams."),
    ]
    worker_streams: Annotated[
        bool | None,
        Sql("prune_worker_streams", "bool", None, "Delete worker messages, whatever streams."),
    ]
    engine_streams_expire: Annotated[
        Window | None,
        Sql("engine_streams_retention", "interval", None, "A window for engine messages alone."),
    ]
    worker_streams_expire: Annotated[
        Window | None,
        Sql("worker_streams_retention", "interval", None, "A window for worker messages alone."),
    ]
    signals: Annotated[
        bool, Sql("prune_signals", "bool", True, "Delete consumed and stale signals.")
    ]


_HINTS = get_type_hints(PruneOptions, include_extras=True)

OPTIONS: dict[str, Sql] = {name: get_args(hint)[1] for name, hint in _HINTS.items()}
"""Python name of each option -> what it is in SQL, in the order of the SQL signature."""


def arguments(options: PruneOptions) -> tuple[str, list[object]]:
    """Return the named SQL arguments for the options that were given, and their values.

    Raises `TypeError` for an unknown option or a value of the wrong type.
    """
    placeholders: list[str] = []
    values: list[object] = []
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"unknown option {name!r}; known ones are {', '.join(OPTIONS)}")
        sql = OPTIONS[name]
        placeholders.append(f", {sql.name} => %s::pg_catalog.{sql.type}")
        values.append(None if value is None else _ADAPT[sql.type](name, value))
    return "".join(placeholders), values


def _window(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        # Every field with its sign: under IntervalStyle sql_standard a leading one spreads.
        return f"{value.days:+d} days {value.seconds:+d} secs {value.microseconds:+d} microseconds"
    raise TypeError(f"{name} must be a timedelta or text such as '7 days', not {value!r}")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError(f"{name} must be True or False, not {value!r}")


def _names(name: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOption(
            f"{name} must be a list of names",
            detail=f"It is {value!r}.",
            hint=f"Write {name}=[{value!r}].",
        )
    return list(value)


_ADAPT: dict[str, Callable[[str, object], object]] = {
    "interval": _window,
    "bool": _flag,
    "text[]": _names,
}

F = TypeVar("F", bound=Callable[..., Any])


def spelled_out(function: F) -> F:
    """Show the options with their defaults in ``help()`` instead of ``**options``."""
    signature = inspect.signature(function)
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=sql.default,
            annotation=get_args(_HINTS[name])[0],
        )
        for name, sql in OPTIONS.items()
    ]
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    position = next(i for i, p in enumerate(own) if p.kind is p.KEYWORD_ONLY)
    own[position:position] = shown
    function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return function


def as_method(method: F, call: Callable[..., Any]) -> F:
    """Show a method with the signature of its call, returning the result and not the steps."""
    signature = inspect.signature(call)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    result = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()], return_annotation=result
    )
    return method
