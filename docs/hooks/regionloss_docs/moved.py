"""Pages at the addresses that chapters had before: each leads on to where its clauses stand now."""

from __future__ import annotations

import json
from html import escape

from regionloss_docs.places import chapter_url, clause_url, link, relative
from regionloss_spec import load_clauses

#: The chapter of today by the file name of the former one, and the family of clauses that the former one held.
_MOVED = {
    "01-notation.md": ("02-notation.md", "notation"),
    "02-decoding.md": ("03-decoding-and-iou.md", "decode"),
    "03-iou.md": ("03-decoding-and-iou.md", "iou"),
    "10-truth-table.md": ("00-the-loss.md", "table"),
    "11-constants.md": ("10-constants-and-scale.md", "constant"),
    "12-scale.md": ("10-constants-and-scale.md", "scale"),
    "13-truths.md": ("11-truths-and-domain.md", "truths"),
    "14-domain.md": ("11-truths-and-domain.md", "domain"),
    "15-numerics.md": ("12-numerics.md", "numerics"),
    "16-statistics.md": ("14-statistics.md", "statistics"),
    "17-yolo9000.md": ("13-class-tree.md", "tree"),
    "18-not.md": ("D-what-it-is-not.md", ""),
    "19-formula.md": ("C-formula-literally.md", ""),
    "20-profiles.md": ("B-profiles.md", ""),
    "21-worked-example.md": ("E-worked-example.md", ""),
}


def pages(titles: dict[str, str]) -> dict[str, str]:
    """The Markdown of each former page by its path, given the titles of today's chapters by file name."""
    return {f"spec/{old}": _page(old, new, family, titles[new]) for old, (new, family) in _MOVED.items()}


def _page(old: str, new: str, family: str, title: str) -> str:
    here = chapter_url(old)
    clauses = [clause for clause in load_clauses() if clause.startswith(f"{family}.")]
    targets = {f"#{clause}": relative(clause_url(clause), here) for clause in clauses}
    to = relative(chapter_url(new), here)
    rows = [f'<li id="{clause}">{link(clause, clause_url(clause), here)}</li>' for clause in clauses]
    return "\n".join(
        [
            "---",
            "hide: [navigation, toc]",
            "search: {exclude: true}",
            "---",
            "",
            "# This chapter has moved",
            "",
            f"It is now part of {link(title, chapter_url(new), here, code=False)}.",
            "",
            f"<ul>{''.join(rows)}</ul>" if rows else "",
            "",
            f"<script>location.replace({json.dumps(targets)}[location.hash] || {json.dumps(escape(to))})</script>",
            "",
        ]
    )
