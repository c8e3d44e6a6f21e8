"""What others have named, as it may be shown: nothing in it moves a cursor or hides the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

# Control characters but tab and newline, what turns the direction of writing, the separators of
# lines and paragraphs, and lone surrogates: an argument's bytes that are no UTF-8.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text with such characters spelt out."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_json(
    data: object, indent: int | None = None, default: Callable[[object], object] | None = None
) -> str:
    """Return JSON that says the same without such a character in it."""
    text = json.dumps(data, indent=indent, ensure_ascii=False, default=default)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
