"""Check a built site: all links inside it resolve, and no page loads anything from elsewhere.

`python docs/hooks/links.py site` prints what is wrong, one line each, and exits with 1 if there is anything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads by itself, by element and attribute; everything else that is linked waits for a click.
_LOADED = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
_IN_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)|@import\s+['\"]([^'\"]+)['\"]")


@dataclass
class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    _in_style: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self._in_style = tag == "style"
        for name, value in given.items():
            if (tag, name) in _LOADED and not (tag == "link" and given.get("rel") in ("canonical", "next", "prev")):
                self.loads += [one.split()[0] for one in value.split(",")] if name == "srcset" else [value]
            elif name == "href":
                self.links.append(value)
            elif name == "style":
                self.loads += _in_style(value)

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += _in_style(data)
            self._in_style = False


def wrong(site: Path) -> Iterator[str]:
    """Everything that is wrong with a built site, one sentence each."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site.resolve()).as_posix()
        for target in page.loads:
            yield from _loaded(where, path, target)
        for target in dict.fromkeys(page.links):
            yield from _linked(where, path, target, pages)
    for path in sorted(site.rglob("*.css")):
        for target in _in_style(path.read_text(encoding="utf-8")):
            yield from _loaded(path.relative_to(site).as_posix(), path, target)


def _loaded(where: str, path: Path, target: str) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme == "data" or (not parts.path and not parts.netloc):
        return
    if parts.scheme or parts.netloc:
        yield f"{where}: loads {target} from elsewhere"
    elif not (path.parent / unquote(parts.path)).is_file():
        yield f"{where}: loads {target}, which is not there"


def _linked(where: str, path: Path, target: str, pages: dict[Path, _Page]) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return
    other = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    if not other.is_file():
        yield f"{where}: links to {target}, which is not there"
    elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].anchors:
        yield f"{where}: links to {target}, where there is no such anchor"


def _in_style(text: str) -> list[str]:
    return [first or second for first, second in _IN_STYLE.findall(text)]


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def main(arguments: list[str]) -> int:
    """Check the site in a folder; 0 if nothing is wrong, 1 if something is, 2 if there is no site."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "index.html").is_file():
        print("usage: links.py SITE, a folder that `make docs` has built", file=sys.stderr)
        return 2
    errors = list(wrong(Path(arguments[0])))
    for error in errors:
        print(error, file=sys.stderr)
    print(f"{len(errors)} wrong links" if errors else "all links resolve, and no page loads anything from elsewhere")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
