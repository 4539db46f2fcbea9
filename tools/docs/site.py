"""Holds a built site to what its readers are promised: nothing is fetched from elsewhere, and every link leads somewhere.

    python tools/docs/site.py build/site

Needs nothing but Python. Links to other sites are allowed: following one is the reader's choice. What a browser fetches by itself
(scripts, style sheets, fonts, pictures) has to lie in the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "src"),
    ("iframe", "src"),
    ("object", "data"),
    ("form", "action"),
}
_LINKED = {"stylesheet", "icon", "preconnect", "preload", "dns-prefetch", "modulepreload", "prefetch", "manifest"}
_LOADING = {"mermaid", "glightbox", "pyodide"}
"""Classes of elements for which the theme's script loads a program of that name from a content network."""
_ELSEWHERE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")


class _Page(HTMLParser):
    """What a page names: addresses that the browser fetches by itself, those that readers follow, and its own anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.followed: list[str] = []
        self.anchors: set[str] = set()
        self.loading: set[str] = set()
        self.feed(text)
        self.fetched += _ELSEWHERE.findall(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the element's addresses."""
        given = {name: value or "" for name, value in attrs}
        self.loading |= _LOADING & set(given.get("class", "").split())
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.fetched += [given[name] for element, name in _FETCHED if element == tag and name in given]
        if tag == "link" and _LINKED & set(given.get("rel", "").split()):
            self.fetched.append(given.get("href", ""))
        elif tag == "a" and "href" in given:
            self.followed.append(given["href"])


def problems(site: Path) -> Iterator[str]:
    """What is wrong with a site, a line each. A site without pages is wrong, too."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site}: no pages"
    for path in pages:
        where, page = path.relative_to(site), _page(path)
        yield from (f"{where}: fetches {each} from elsewhere" for each in page.fetched if _is_elsewhere(each))
        yield from (f"{where}: {each} is loaded from elsewhere" for each in sorted(page.loading))
        if path.name != "404.html":  # served in the place of any page, so its links count from the top
            for address in dict.fromkeys((*page.fetched, *page.followed)):
                if why := _broken(site, path, address):
                    yield f"{where}: {address}: {why}"
    for path in sorted(site.rglob("*.css")):
        yield from (f"{path.relative_to(site)}: fetches {each}" for each in _ELSEWHERE.findall(path.read_text("utf-8")))


@cache
def _page(path: Path) -> _Page:
    return _Page(path.read_text("utf-8"))


def _is_elsewhere(address: str) -> bool:
    return urlsplit(address).scheme in {"http", "https"} or address.startswith("//")


def _broken(site: Path, page: Path, address: str) -> str | None:
    """Why an address of this site leads nowhere, or None."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    there = page
    if parts.path:
        there = (site if parts.path.startswith("/") else page.parent) / unquote(parts.path).lstrip("/")
    there = there / "index.html" if there.is_dir() else there
    if not there.is_file():
        return "no such file"
    if not there.resolve().is_relative_to(site.resolve()):
        return "outside of the site"
    if parts.fragment and there.suffix == ".html" and unquote(parts.fragment) not in _page(there).anchors:
        return "no such heading"
    return None


def main(words: list[str]) -> int:
    """Print each problem; 1 when there is one."""
    if len(words) != 1:
        print(__doc__)
        return 2
    found = list(problems(Path(words[0])))
    print("\n".join(found) if found else f"{words[0]}: nothing is fetched from elsewhere, and every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
