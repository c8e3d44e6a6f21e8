"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# A name with an underscore or a dot in it, alone or qualified, with what it is called with.
_NAME = re.compile(
    r"(?<![\w`<'/.-])(hotmesh_dba\.\w+|(?:\w+\.)?[A-Za-z]\w*_\w*[A-Za-z0-9])(?![\w`>/-])"
)


def text(words: str) -> str:
    """Return words as they are, names in them as code."""
    return _NAME.sub(r"`\1`", escaped(words))


def escaped(words: str) -> str:
    """Return words in which nothing is taken for Markdown."""
    return re.sub(r"([<*\[\]])", r"\\\1", words)


def cell(words: str) -> str:
    """Return words that fit into a table."""
    return " ".join(words.split()).replace("|", r"\|")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(cell(words) for words in row)} |" for row in rows]
    return "\n".join(lines)


def code(lines: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{lines.rstrip()}\n```"


def anchor(heading: str) -> str:
    """Return what a link to a heading is called, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def page(*parts: str) -> str:
    """Return a page of its parts."""
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
