"""The public routines, as the catalogue has them, and calls of them with drawn arguments."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.deploy.observe import run
from tests.support.server import Connection

from .hostile import ALWAYS, USUAL, USUAL_BY_NAME, WAITS, Value, hostile, usual

FIND = """
SELECT n.nspname::text, p.proname::text, p.prokind = 'p', p.proargnames[1 : p.pronargs],
       ARRAY(SELECT format_type(t, NULL)
             FROM unnest(p.proargtypes) WITH ORDINALITY u (t, i) ORDER BY i),
       p.pronargdefaults
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'hotmesh_dba' AND left(p.proname, 1) <> '_'
   OR n.nspname = 'myapp' AND p.proname = 'prune'
ORDER BY 1, 2
"""

# The parameters that ask for a step, and the window without which there is none.
STEPS = ("prune_", "strip_", "retention")
MORE_STEPS = ("strip_attributes", "prune_streams", "prune_transient", "prune_signals")


@dataclass(frozen=True, slots=True)
class Routine:
    """One of them."""

    schema: str
    name: str
    commits: bool
    parameters: tuple[tuple[str, str], ...]
    required: int

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a routine, with what is said for some of its parameters."""

    routine: Routine
    arguments: dict[str, Value]

    @property
    def statement(self) -> str:
        """The statement, by name and with the parameter's own type."""
        types = dict(self.routine.parameters)
        named = ", ".join(f"{name} => %s::{types[name]}" for name in self.arguments)
        verb = "CALL" if self.routine.commits else "SELECT * FROM"
        return f"{verb} {self.routine}({named})"

    @property
    def values(self) -> list[Value]:
        """What stands for the %s: as text, which the server reads as that type."""
        return [_as_sent(value) for value in self.arguments.values()]

    @property
    def may_wait(self) -> bool:
        """Whether it was asked to: only then may it take long. Only a procedure pauses."""
        odd = {name for name in WAITS if name in self.arguments}
        odd = {name for name in odd if self.arguments[name] not in USUAL_BY_NAME[name]}
        return self.routine.commits and bool(odd)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} => {value!r:.80}" for name, value in self.arguments.items())
        return f"{self.routine}({shown})"


def find_routines(conn: Connection) -> list[Routine]:
    """All that anybody may call, the wrapper too."""
    return [
        Routine(
            schema, name, commits, tuple(zip(names or [], types, strict=True)), len(types) - given
        )
        for schema, name, commits, names, types, given in run(conn, FIND)
    ]


def calls(routine: Routine) -> st.SearchStrategy[Call]:
    """Calls in which most arguments are as they should be, so that the odd ones get deep."""

    @st.composite
    def draw_call(draw: st.DrawFn) -> Call:
        names = [name for name, _ in routine.parameters]
        odd = draw(odd_ones(names)) if names else set()
        arguments: dict[str, Value] = {}
        for place, (name, type_) in enumerate(routine.parameters):
            if name in odd:
                arguments[name] = draw(hostile(name, type_))
            elif place < routine.required or draw(st.integers(0, 3)) == 0:
                arguments[name] = draw(usual(name, type_))
        return Call(routine, arguments)

    return draw_call()


def usual_call(routine: Routine) -> Call:
    """One with nothing odd in it, that asks for every step."""
    return Call(
        routine,
        {
            name: (USUAL_BY_NAME.get(name) or USUAL[type_])[0]
            for place, (name, type_) in enumerate(routine.parameters)
            if place < routine.required or name.startswith(STEPS)
        },
    )


def calls_always(routine: Routine) -> list[Call]:
    """The usual one, each of its windows and lists in turn made hostile: the same in every run."""
    usually = usual_call(routine).arguments
    # A long list costs seconds with every step that looks at it: one will do.
    fewer = {name: value for name, value in usually.items() if name not in MORE_STEPS}
    return [
        Call(routine, {**(fewer if type_ == "text[]" else usually), name: value})
        for name, type_ in routine.parameters
        for value in ALWAYS.get(type_, [])
    ]


def odd_ones(names: list[str]) -> st.SearchStrategy[set[str]]:
    """Which arguments are hostile: none, one or two, and seldom the app, for that ends the call."""
    deeper = [name for name in names if name != "app_id"]
    return st.one_of(
        st.just(set()),
        st.sets(st.sampled_from(deeper or names), max_size=2),
        st.sets(st.sampled_from(names), max_size=2),
    )


def _as_sent(value: Value) -> Value:
    return value if value is None or isinstance(value, list) else str(value)
