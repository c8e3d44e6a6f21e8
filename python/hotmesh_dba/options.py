"""The options of ``prune`` and ``preview``, of ``prune_batched`` and of policies: declared once.

Signatures, SQL calls and the options of the command are all made from these lists.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

from hotmesh_dba.errors import InvalidOption

Window = str | timedelta
"""How long rows are kept: a `datetime.timedelta`, or text that PostgreSQL reads as an interval."""


@dataclass(frozen=True, slots=True)
class Sql:
    """What an option is in SQL, and how it is explained."""

    name: str
    """The parameter of ``hotmesh_dba.prune`` or ``prune_batched``."""
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


class BatchOptions(TypedDict, total=False):
    """What ``prune_batched`` has beside `PruneOptions`, its workers left out."""

    batch_size: Annotated[
        int | None,
        Sql(
            "batch_size",
            "int4",
            None,
            "Rows of a transaction; steered towards the batch time where it is not given.",
        ),
    ]
    batch_time: Annotated[
        Window, Sql("batch_time", "interval", "200 ms", "How long a transaction should take.")
    ]
    batch_pause: Annotated[
        Window, Sql("batch_pause", "interval", "0", "Wait this long after each transaction.")
    ]
    max_runtime: Annotated[
        Window | None,
        Sql("max_runtime", "interval", None, "Stop after this time, at the end of a batch."),
    ]
    max_rows: Annotated[
        int | None,
        Sql(
            "max_rows", "int8", None, "Stop after this many rows a worker, attributes not counted."
        ),
    ]
    disable_triggers: Annotated[
        bool,
        Sql(
            "disable_triggers",
            "bool",
            False,
            "Work without the foreign key's and HotMesh's triggers: faster, where it is allowed.",
        ),
    ]
    max_wal_rate: Annotated[
        int | None,
        Sql("max_wal_rate", "int8", None, "Wait where more bytes of WAL a second were written."),
    ]
    max_replica_lag: Annotated[
        Window | None,
        Sql("max_replica_lag", "interval", None, "Wait while a replica lags by more than this."),
    ]


class BatchedOptions(PruneOptions, BatchOptions, total=False):
    """Keyword options of ``prune_batched``."""


class OwnPolicyOptions(TypedDict, total=False):
    """What ``set_policy`` has beside `BatchedOptions`."""

    max_percent: Annotated[
        float,
        Sql(
            "max_percent",
            "numeric",
            50,
            "Refuse to delete more of a table than this share of its live rows; 100 never refuses.",
        ),
    ]
    every: Annotated[
        Window | None,
        Sql("every", "interval", None, "How often run_due runs it; not given: it never does."),
    ]
    enabled: Annotated[
        bool, Sql("enabled", "bool", True, "Whether it runs; a disabled one runs by force alone.")
    ]
    note: Annotated[str | None, Sql("note", "text", None, "A word to those who come after.")]


class PolicyOptions(BatchedOptions, OwnPolicyOptions, total=False):
    """Keyword options of ``set_policy``. Every step is off unless it is named."""


_TYPES = {
    name: get_args(hint)
    for name, hint in get_type_hints(PolicyOptions, include_extras=True).items()
}

OPTIONS: dict[str, Sql] = {name: _TYPES[name][1] for name in PruneOptions.__annotations__}
"""Python name of each option -> what it is in SQL, in the order of the SQL signature."""

BATCH_OPTIONS: dict[str, Sql] = {name: _TYPES[name][1] for name in BatchOptions.__annotations__}
"""The same for what ``prune_batched`` adds."""

BATCHED_OPTIONS = OPTIONS | BATCH_OPTIONS


def _named_only(sql: Sql) -> Sql:
    """Return an option of prune as a policy has it: off, and without a window."""
    off = False if sql.default is True else sql.default
    return replace(sql, default=None if sql.type == "interval" else off)


POLICY_OPTIONS: dict[str, Sql] = {
    **{name: _named_only(sql) for name, sql in OPTIONS.items()},
    **BATCH_OPTIONS,
    **{name: _TYPES[name][1] for name in OwnPolicyOptions.__annotations__},
}
"""The same for a policy, in which every step is off unless it is named, and no window is given."""


def arguments(
    options: PruneOptions | BatchedOptions | PolicyOptions, known: Mapping[str, Sql] = OPTIONS
) -> tuple[str, list[object]]:
    """Return the named SQL arguments for the options that were given, and their values.

    Raises `TypeError` for an unknown option or a value of the wrong type.
    """
    placeholders: list[str] = []
    values: list[object] = []
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"unknown option {name!r}; known ones are {', '.join(known)}")
        sql = known[name]
        placeholders.append(f", {sql.name} => %s::pg_catalog.{sql.type}")
        values.append(None if value is None else _ADAPT[sql.type](name, value))
    return "".join(placeholders), values


def window(name: str, value: object) -> str:
    """Return a window as text that PostgreSQL reads as an interval."""
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        # Every field with its sign: under IntervalStyle sql_standard a leading one spreads.
        return f"{value.days:+d} days {value.seconds:+d} secs {value.microseconds:+d} microseconds"
    raise TypeError(f"{name} must be a timedelta or text such as '7 days', not {value!r}")


def flag(name: str, value: object) -> bool:
    """Return the value where it is True or False."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{name} must be True or False, not {value!r}")


def whole_number(name: str, value: object) -> int:
    """Return the value where it is a number; True is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{name} must be a whole number, not {value!r}")


def _number(name: str, value: object) -> object:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    raise TypeError(f"{name} must be a number, not {value!r}")


def text(name: str, value: object) -> str:
    """Return the value where it is text."""
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} must be text, not {value!r}")


def names_list(name: str, value: object) -> list[str]:
    """Return the value where it is a list of names; a single one is none."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOption(
            f"{name} must be a list of names",
            detail=f"It is {value!r}.",
            hint=f"Write {name}=[{value!r}].",
        )
    return list(value)


_ADAPT: dict[str, Callable[[str, object], object]] = {
    "interval": window,
    "bool": flag,
    "int4": whole_number,
    "int8": whole_number,
    "numeric": _number,
    "text": text,
    "text[]": names_list,
}

F = TypeVar("F", bound=Callable[..., Any])


def spelled_out(known: Mapping[str, Sql] = OPTIONS) -> Callable[[F], F]:
    """Show the options with their defaults in ``help()`` instead of ``**options``."""
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=sql.default,
            annotation=_TYPES[name][0],
        )
        for name, sql in known.items()
    ]

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        position = next((i for i, p in enumerate(own) if p.kind is p.KEYWORD_ONLY), len(own))
        own[position:position] = shown
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return show


def as_method(method: F, call: Callable[..., Any]) -> F:
    """Show a method with the signature of its call, returning the result and not the steps."""
    signature = inspect.signature(call)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    _, _, result = str(signature.return_annotation).removesuffix("]").partition("[")
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()], return_annotation=result
    )
    return method
