"""What a call is made of: a generator of statements, written once, for both clients to drive."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

R = TypeVar("R")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its parameters."""

    sql: str
    params: list[object] | None = None


Steps = Generator[Query, list[Row], R]
"""Yields each `Query`, is sent its rows (or thrown its error), and returns the result."""
