"""The documents, and what is in them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.installation import CHECKOUT

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
DOCUMENTS = [
    *PAGES,
    *(CHECKOUT / name for name in ("CHANGELOG.md", "SECURITY.md", "bench/RESULTS.md")),
]


def named(path: Path) -> str:
    """Return a document's name, as a test is called after it."""
    return str(path.relative_to(CHECKOUT))


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """Return a document without its fenced blocks and its code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def anchors(path: Path) -> set[str]:
    """Return what links into a document can point to, as GitHub names it."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        number = next(n for n in range(100) if (f"{name}-{n}" if n else name) not in found)
        found.add(f"{name}-{number}" if number else name)
    return found
