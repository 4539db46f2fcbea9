"""The checker of the built site finds what a browser would fetch from elsewhere, and links that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.docs.site import main, problems

GOOD = """<html><head><link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/page/"></head><body>
<h1 id="top">Title</h1><a href="#top">up</a> <a href="sub/">below</a> <a href="sub/#there">there</a> <a href="https://example.org">away</a>
<a href="mailto:a@example.org">mail</a> <img src="data:image/png;base64,AAAA"> <a href="a%20b.json">schema</a></body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text('<h2 id="there">There</h2><a href="..">up</a><a href="/#top">top</a>')
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "style.css").write_text("body { background: url(data:image/png;base64,AAAA) }")
    (tmp_path / "a b.json").write_text("{}")
    return tmp_path


def test_a_good_site_has_no_problems(site: Path) -> None:
    assert list(problems(site)) == []
    assert main([str(site)]) == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "fetches https://cdn.example.org/x.js"),
        ('<script src="//cdn.example.org/x.js"></script>', "fetches //cdn.example.org/x.js"),
        ('<img src="http://example.org/x.png">', "fetches http://example.org/x.png"),
        ('<link rel="preconnect" href="https://fonts.gstatic.com">', "fetches https://fonts.gstatic.com"),
        ('<link rel="stylesheet" href="https://fonts.googleapis.com/css">', "fetches https://fonts.googleapis.com/css"),
        ("<style>@import 'https://example.org/x.css'</style>", "fetches https://example.org/x.css"),
        ('<div class="mermaid">graph</div>', "mermaid is loaded from elsewhere"),
        ('<a href="gone/">x</a>', "gone/: no such file"),
        ('<a href="sub/#nowhere">x</a>', "sub/#nowhere: no such heading"),
        ('<a href="#nowhere">x</a>', "#nowhere: no such heading"),
        ('<a href="../outside.html">x</a>', "../outside.html: outside of the site"),
        ('<script src="gone.js"></script>', "gone.js: no such file"),
    ],
)
def test_each_fault_of_a_page_is_found(site: Path, text: str, problem: str) -> None:
    (site.parent / "outside.html").write_text("")
    (site / "index.html").write_text(GOOD + text)
    (found,) = problems(site)
    assert found.startswith("index.html: ")
    assert problem in found


def test_a_style_sheet_that_fetches_is_found(site: Path) -> None:
    (site / "style.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert list(problems(site)) == ["style.css: fetches https://fonts.example.org/a.woff2"]


def test_a_site_without_pages_is_wrong(tmp_path: Path) -> None:
    assert list(problems(tmp_path)) == [f"{tmp_path}: no pages"]
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
