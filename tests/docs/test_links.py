"""Every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, anchors, named, prose

pytestmark = pytest.mark.once


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", prose(document))
    broken = [link for link in links if "://" not in link and not leads_somewhere(document, link)]
    assert broken == []


def test_documents_link_to_each_other() -> None:
    pages = [page for page in DOCUMENTS if page.parent.name == "docs"]
    assert len(pages) == 7
    readme = prose(DOCUMENTS[0])
    for page in pages:
        assert f"](docs/{page.name})" in readme, page.name


def leads_somewhere(document: Path, link: str) -> bool:
    """Whether there is such a file, with such a heading."""
    file, _, anchor = link.partition("#")
    target = document.parent / file if file else document
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target)
