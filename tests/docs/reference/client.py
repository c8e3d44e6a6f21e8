"""docs/python.md, from the client's signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import hotmesh_dba
from hotmesh_dba import DBA, HotMeshDBAError, extension, models, options
from tests.docs.reference import markdown as md

EXTRAS = """The core needs psycopg alone. `pip install 'hotmesh-dba[binary]'` brings a libpq
too, `[pool]` psycopg's pool, `[cli]` the command ([command.md](command.md)).
`hotmesh_dba.__version__` is the package's version."""

ASYNC = """`AsyncDBA` takes a conninfo, a `psycopg.AsyncConnection` or a
`psycopg_pool.AsyncConnectionPool`; its methods are the same, to be awaited."""

OPTIONS = """A window or other interval (`Window`) is a `datetime.timedelta`, or text that is an
interval to PostgreSQL. The signatures show the server's defaults of options: what is not given
is not sent."""

# The methods in the order in which they are shown; what is missing here comes last.
METHODS = [
    "deploy",
    "undeploy",
    "apps",
    "installation",
    "prune",
    "preview",
    "prune_batched",
    "runs",
    "progress",
    "vacuum",
]


def page() -> str:
    """Return the page."""
    kinds = [getattr(hotmesh_dba, name) for name in hotmesh_dba.__all__]
    rows = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    errors = [k for k in kinds if isinstance(k, type) and issubclass(k, HotMeshDBAError)]
    docs = field_docs()
    return md.page(
        "# Python",
        described(hotmesh_dba.__doc__ or ""),
        EXTRAS,
        "## DBA and AsyncDBA",
        described(DBA.__doc__ or ""),
        ASYNC,
        OPTIONS,
        ", ".join(f"[`{name}`](#{name})" for name in methods()),
        *(_method(name) for name in methods()),
        "## What is returned",
        *(_row(kind, docs) for kind in rows),
        "## Errors",
        described(HotMeshDBAError.__doc__ or ""),
        md.table(
            ["attribute of `HotMeshDBAError`", ""],
            [[f"`{name}`", inline(words)] for name, words in _error_attributes().items()],
        ),
        "Which SQLSTATE is which, and what to do about it: [errors.md](errors.md).",
        md.table(["class", ""], [[f"`{kind.__name__}`", _first(kind)] for kind in errors]),
        "## hotmesh_dba.extension",
        described(extension.__doc__ or ""),
        *(_function(function) for function in functions()),
    )


def methods() -> list[str]:
    """Return the names of the client's methods."""
    public = [name for name in vars(DBA) if not name.startswith("_")]
    return [*METHODS, *(name for name in public if name not in METHODS)]


def functions() -> Iterator[Any]:
    """Return the public functions of the module that knows the extension's files."""
    for name, function in vars(extension).items():
        function = inspect.unwrap(function) if callable(function) else function
        own = inspect.isfunction(function) and function.__module__ == extension.__name__
        if own and not name.startswith("_"):
            yield function


def _method(name: str) -> str:
    method = getattr(DBA, name)
    result = inspect.signature(method).return_annotation
    return md.page(
        f"### {name}",
        md.code(_signature(name, parameters(method), result)),
        described(inspect.getdoc(method) or ""),
    )


def parameters(method: Any) -> list[inspect.Parameter]:
    """Return what a method is given."""
    return [p for p in inspect.signature(method).parameters.values() if p.name != "self"]


def is_option(name: str) -> bool:
    """Whether a parameter is one of the options that are declared once, for SQL too."""
    return name in options.BATCHED_OPTIONS


def _function(function: Any) -> str:
    signature = inspect.signature(function)
    return md.page(
        f"### extension.{function.__name__}",
        md.code(
            _signature(
                function.__name__, list(signature.parameters.values()), signature.return_annotation
            )
        ),
        described(inspect.getdoc(function) or ""),
    )


def _signature(name: str, given: list[inspect.Parameter], result: Any) -> str:
    words: list[str] = []
    for parameter in given:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = (
            "" if parameter.default is parameter.empty else f" = {_literal(parameter.default)}"
        )
        words.append(f"{parameter.name}: {type_name(parameter.annotation)}{default}")
    joined = ", ".join(words)
    if len(joined) > 80:
        joined = "\n    " + ",\n    ".join(words) + ",\n"
    return f"{name}({joined}) -> {type_name(result)}"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def type_name(annotation: Any) -> str:
    """Return a type as it is written in source."""
    name = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    name = name.replace("str | datetime.timedelta", "Window")
    name = re.sub(r"\b(?:collections\.abc|typing|datetime|pathlib|psycopg)\.", "", name)
    return name.replace("Report", "Callable[[Progress], object]")


def _row(kind: type[Any], docs: dict[tuple[str, str], str]) -> str:
    rows = []
    for field in dataclasses.fields(kind):
        words = next(
            (
                docs[k.__name__, field.name]
                for k in kind.__mro__
                if (k.__name__, field.name) in docs
            ),
            "",
        )
        rows.append([f"`{field.name}`", f"`{type_name(field.type)}`", inline(words)])
    properties = [
        [
            f"`{name}`",
            f"`{type_name(value.fget.__annotations__['return'])}`",
            inline(value.__doc__ or ""),
        ]
        for name, value in vars(kind).items()
        if isinstance(value, property)
    ]
    return md.page(
        f"### {kind.__name__}",
        described(inspect.getdoc(kind) or ""),
        md.table(["field", "type", ""], rows + properties),
    )


def field_docs() -> dict[tuple[str, str], str]:
    """Return what is said below each field of the result classes, by class and field."""
    found = {}
    for kind in ast.parse(inspect.getsource(models)).body:
        if isinstance(kind, ast.ClassDef):
            for field, after in zip(kind.body, kind.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and (words := _string(after)):
                    assert isinstance(field.target, ast.Name)
                    found[kind.name, field.target.id] = words
    return found


def _error_attributes() -> dict[str, str]:
    [kind] = ast.parse(inspect.getsource(HotMeshDBAError)).body
    assert isinstance(kind, ast.ClassDef)
    [init] = [
        part for part in kind.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"
    ]
    found = {}
    for field, after in zip(init.body, init.body[1:], strict=False):
        if isinstance(field, ast.Assign | ast.AnnAssign) and (words := _string(after)):
            target = field.target if isinstance(field, ast.AnnAssign) else field.targets[0]
            found[ast.unparse(target).removeprefix("self.")] = words
    return found


def _string(node: ast.stmt) -> str | None:
    constant = node.value if isinstance(node, ast.Expr) else None
    return (
        constant.value
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
        else None
    )


def _first(kind: type[Any]) -> str:
    return inline((inspect.getdoc(kind) or "").split("\n\n")[0])


# --- docstrings ------------------------------------------------------------------------------


def inline(words: str) -> str:
    """Return a docstring's words on one line."""
    return re.sub(
        r"`[^`]*`|[^`]+", _outside, re.sub(r"``(.*?)``", r"`\1`", " ".join(words.split()))
    )


def _outside(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith("`") else md.escaped(match[0])


def described(docstring: str) -> str:
    """Return a docstring: its paragraphs, its examples, and its fields as lists."""
    # A blank line with more of an example behind it does not end the example.
    parts = re.sub(r"(?m)^(    .*)\n\n(?=    )", r"\1\n\0", inspect.cleandoc(docstring))
    return "\n\n".join(_part(part.replace("\0", "\n")) for part in parts.split("\n\n"))


def _part(part: str) -> str:
    if part.startswith("    "):
        return md.code(textwrap.dedent(part), "python")
    if not part.startswith(":"):
        return inline(part)
    return "\n".join(_field(field) for field in re.split(r"\n(?=:)", part))


def _field(field: str) -> str:
    match = re.match(r":(param|returns?|raises)\s*([^:]*):\s*(.*)", field, re.DOTALL)
    assert match, field
    kind, names, words = match.groups()
    coded = ", ".join(f"`{name}`" for name in re.split(r",\s*", names)) if names else ""
    head = {"param": coded, "raises": f"raises {coded}"}.get(kind, "returns")
    return f"- {head}: {inline(words)}"
