"""What the site takes from npm packages, each with its licence: style sheets with their fonts, and one script."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

#: For each package the files that are taken; what a style sheet refers to comes with it.
TAKEN = {
    "@fontsource-variable/inter": ("wght.css", "wght-italic.css"),
    "@fontsource-variable/jetbrains-mono": ("wght.css",),
    "iframe-worker": ("shim/index.js",),
    "katex": ("dist/katex.min.css",),
}
_REFERRED = re.compile(r"url\(['\"]?([^'\")]+)['\"]?\)")


def files(node_modules: Path) -> dict[str, Path]:
    """What is shipped, by its place under `assets/vendor` of the site. Raises `FileNotFoundError`."""
    shipped: dict[str, Path] = {}
    for package, taken in TAKEN.items():
        folder = node_modules / package
        for name in ("LICENSE", *taken):
            shipped[f"{package}/{name}"] = _there(folder / name)
            if name.endswith(".css"):
                for referred in _REFERRED.findall((folder / name).read_text(encoding="utf-8")):
                    beside = posixpath.normpath(posixpath.join(posixpath.dirname(name), referred))
                    shipped[f"{package}/{beside}"] = _there(folder / beside)
    return shipped


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the npm package has no such file; `make docs` installs them")
    return path
