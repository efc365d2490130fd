"""What Sphinx does not look at: every link and anchor in the HTML itself, raw HTML included, and
that no page loads anything from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The ids of a page, what it links to, and what a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if given.get(LOADED.get(tag, "")):
            self.loads.add(given[LOADED[tag]])


def problems(root: Path) -> list[str]:
    """A sentence for each dead link, missing anchor and thing from elsewhere."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in root.rglob("*.html")}
    found = []
    for file, page in sorted(pages.items()):
        name = file.relative_to(root)
        for url in sorted(page.loads):
            if urlsplit(url).netloc:
                found.append(f"{name} loads {url}: only files of the site itself are shown")
        for url in sorted(page.links | page.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                found.append(f"{name} links to {url}, which is not there")
            elif target in pages and unquote(parts.fragment) not in {"", *pages[target].ids}:
                found.append(f"{name} links to {url}, an anchor that is not there")
    return found


def built(app: Any, error: Exception | None) -> None:
    """Warns of all that after a build of HTML; with -W a warning is an error."""
    from sphinx.util.logging import getLogger

    if error is None and app.builder.format == "html":
        for problem in problems(Path(app.outdir).resolve()):
            getLogger(__name__).warning(problem)
