"""What is done to the HTML of the site, and the check of its links, on small sites that are wrong in one way each."""

from __future__ import annotations

from pathlib import Path

import pytest

import links
from regionloss_docs.markup import Formulas, linked, spoken

GOOD = '<html><body id="top"><a href="b.html#there">b</a><img src="a.png"><a href="https://example.org">out</a></body></html>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.html").write_text('<h2 id="there">b</h2><a href="index.html#top">a</a>', encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.css").write_text(
        "a { background: url(a.png) } b { mask: url('data:image/png;,') }", encoding="utf-8"
    )
    return tmp_path


def test_a_good_site_is_good(site: Path) -> None:
    assert list(links.wrong(site)) == []
    assert links.main([str(site)]) == 0


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="c.html">c</a>', "links to c.html, which is not there"),
        ('<a href="b.html#nowhere">b</a>', "where there is no such anchor"),
        ('<a href="#nowhere">here</a>', "where there is no such anchor"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js from elsewhere"),
        ('<script src="//example.org/a.js"></script>', "from elsewhere"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "from elsewhere"),
        ('<link rel="preconnect" href="https://example.org">', "from elsewhere"),
        ('<img src="https://example.org/a.png">', "from elsewhere"),
        ('<img srcset="a.png 1x, https://example.org/b.png 2x">', "from elsewhere"),
        ('<img src="c.png">', "loads c.png, which is not there"),
        ('<iframe src="https://example.org"></iframe>', "from elsewhere"),
        ('<p style="background: url(https://example.org/a.png)"></p>', "from elsewhere"),
        ('<style>@import "https://example.org/a.css";</style>', "from elsewhere"),
        ('<style>@font-face { src: url("https://example.org/a.woff2") }</style>', "from elsewhere"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(site: Path, html: str, said: str) -> None:
    (site / "index.html").write_text(GOOD + html, encoding="utf-8")
    (message,) = links.wrong(site)
    assert message.startswith("index.html: ")
    assert said in message
    assert links.main([str(site)]) == 1


def test_a_style_sheet_is_checked_too(site: Path) -> None:
    (site / "a.css").write_text("@font-face { src: url(//example.org/a.woff2), url(gone.woff2) }", encoding="utf-8")
    assert [message.partition(": ")[2] for message in links.wrong(site)] == [
        "loads //example.org/a.woff2 from elsewhere",
        "loads gone.woff2, which is not there",
    ]


def test_a_folder_without_a_site_is_no_good_site(tmp_path: Path) -> None:
    assert links.main([str(tmp_path)]) == 2


def test_a_clause_that_stands_as_code_is_linked() -> None:
    html = linked("<p>See <code>noobj.equality</code>.</p>", "faq.html")
    assert html == (
        '<p>See <a class="named" href="spec/05-no-object.html#noobj.equality"><code>noobj.equality</code></a>.</p>'
    )
    assert 'href="../cases/pj-batch.html"' in linked("<code>pj-batch</code>", "spec/index.html")


@pytest.mark.parametrize(
    "html",
    [
        '<a href="x"><code>noobj.equality</code></a>',
        "<pre><code>noobj.equality</code></pre>",
        "<h3><code>noobj.equality</code></h3>",
        "<code>noobj.unheard-of</code>",
        "<p>noobj.equality</p>",
    ],
)
def test_what_is_no_reference_is_left_alone(html: str) -> None:
    assert linked(html, "faq.html") == html


def test_an_issue_is_linked_outside_of_code() -> None:
    html = linked("<p>AlexeyAB/darknet#733</p><pre>AlexeyAB/darknet#733</pre>", "faq.html")
    assert html == (
        '<p><a href="https://github.com/AlexeyAB/darknet/issues/733">AlexeyAB/darknet#733</a></p>'
        "<pre>AlexeyAB/darknet#733</pre>"
    )


def test_the_search_reads_a_formula_in_words() -> None:
    assert spoken(r"\mathrm{MaxIOU}_k \le \mathrm{thresh}") == "MaxIOU_k ≤ thresh"
    html = Formulas().take_out(
        r'<div class="arithmatex">\[a &lt; b\]</div><span class="arithmatex">\(\sigma(t)\)</span>'
    )
    assert html == (
        '<div class="arithmatex" data-formula="0" data-search-exclude>a &lt; b</div>'
        '<span class="arithmatex" data-formula="1">σ(t)</span>'
    )
