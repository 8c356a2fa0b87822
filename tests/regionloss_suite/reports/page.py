"""The frame of every HTML file: no script, nothing loaded from other hosts, all foreign text escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path

from regionloss_suite.judging.report import printable

_STYLES = [Path(__file__).with_name(name) for name in ("page.css", "pictures.css")]

#: Even text that was not escaped could neither run nor load anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, body: list[str]) -> str:
    """A complete HTML file from its title, which is foreign text, and its body."""
    style = "".join(path.read_text(encoding="utf-8") for path in _STYLES)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def safe(text: str) -> str:
    """Foreign text, escaped for use between tags or in a quoted attribute."""
    return escape(printable(text))
