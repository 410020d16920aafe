"""The built site holds together: every link inside it leads somewhere, nothing is fetched from elsewhere."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

from tests.test_api import NAMES

LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
NO_LOADS = {"canonical", "next", "prev", "search", "index", "genindex"}


class Page(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if anchor := found.get("id"):
            self.anchors[anchor] += 1
        if tag == "a" and (link := found.get("href")):
            self.links.append(link)
        if (load := found.get(LOADS.get(tag, ""))) and found.get("rel") not in NO_LOADS:
            self.loads.append(load)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def broken(path: Path, links: list[str], pages: dict[Path, Page]) -> list[str]:
    """Return the links whose file or anchor does not exist; those to elsewhere are left alone."""
    result = []
    for link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
            result.append(link)
    return result


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    assert len(pages) > 30
    failures = {str(path): bad for path, page in pages.items() if (bad := broken(path, page.links, pages))}
    assert not failures


def test_what_pages_load_is_here(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not broken(path, page.loads, pages)
        assert not [load for load in page.loads if urlsplit(load).netloc]


def test_a_broken_link_is_found(site: Path, pages: dict[Path, Page]) -> None:
    links = ["index.html#nowhere", "nowhere.html", "index.html", "https://example.org/nowhere"]
    assert broken(site / "index.html", links, pages) == links[:2]


def test_every_public_name_has_its_entry(site: Path) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for kind in ("py:function", "py:class") for name in inventory.data[kind] if "._" not in name}
    assert documented == {f"{package}.{name}" for package, names in NAMES.items() for name in names}
