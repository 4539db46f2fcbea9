"""Words as nobody well-meaning would choose them, and what must not become of them: one table for the tests of every sink."""

from __future__ import annotations

import html
import re
from typing import Any

LOG = (
    "a\n::error file=README.md,line=1,title=pwned::spoofed",
    "::add-mask::production",
    "  ::stop-commands::abc",
    "a\r::set-output name=x::y",
    "a\r\n::warning::b",
    "a\n\n\n::group::b",
    "a\u2028::error::b\u2029::error::c\x85::error::d\x0b::error::e\x0c::error::f\x1c::error::g",
    "\u3000::error::wide\xa0\n\xa0::error::narrow",
    "\ufeff::error::after a mark",
    "##[error]old",
    "in the middle ##[group]x and ###[command]y",
    "##vso[task.setvariable variable=x]y",
    "x ##vso[task.logissue type=error]y",
    "##teamcity[buildStatus status='FAILURE']",
    "\x1b[0Ksection_start:1:x\r\x1b[0Kevil",
    "section_end:1:x",
    "a\ntravis_fold:start:x",
    "a\n--- folded",
    "a\n+++ open",
    "a\n~~~ muted",
    "a\n^^^ +++",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m\x9d0;title\x9c\x90\x84",
    "\u202etxt.exe\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "zero\u200bwidth\u200c\u200d\u2060\u00ad\ufeff",
    "\ud800 half \udfff halves \udce9",
    "\x00\x01\x07\x08\x1f\x7f",
    "\U000e0001\U000e0041 tags \ufff9\ufffb \uffff \U0010ffff",
    "\u3164\u115f\uffa0",
    "back\b\b\b\bspace\x7f",
    "tab\tand\x0bother",
    "",
    "x" * 100_000,
    "many\n" * 5_000,
)
"""For logs, terminals and rows."""

MARKDOWN = (
    "GH-1",
    "org/repo#3",
    "#3",
    "see #3, (#4) and [#5]",
    "@user",
    "(@user)",
    "@org/team",
    "deadbee",
    "0123456789abcdef0123456789abcdef01234567",
    "user/repo@deadbee",
    "1234567",
    "WWW.example.com",
    "www.example.com",
    "http://example.com",
    "HTTPS://example.com/?a=b&c",
    "ftp://example.com",
    "a@b.c",
    "mailto:a@b.c",
    "xmpp:a@b.c",
    "javascript:alert(1)",
    "[x](http://evil.example)",
    "![x](http://evil.example/p.png)",
    "[x]: http://evil.example",
    "[^1]",
    "[^1]: note",
    "<b>bold</b>",
    "<img src=x onerror=alert(1)>",
    "<!-- hidden -->",
    "</details>",
    "</sub>",
    "<https://evil.example>",
    "&lt;b&gt; &#64;user &commat;user",
    "`code`",
    "``",
    "` `` ```",
    "```\nfence\n```",
    "~~~\nfence\n~~~",
    "a | b || c",
    "a\\|b \\",
    "\\`x\\`",
    ":smile:",
    "x :smile: y",
    "[[wiki]]",
    "$math$",
    "$$math$$",
    "a $ b $ c",
    "JIRA-123",
    "TICKET-1 ABC123",
    "*em* **strong** _em_ __strong__ ~~gone~~",
    "- item",
    "* item",
    "+ item",
    "1. item",
    "1) item",
    "- [ ] task",
    "> quoted",
    "# heading",
    "====",
    "----",
    "***",
    "    indented",
    "\ttabbed",
    "line\n\n# heading\n\nline",
    "line\\\nbreak",
    "line  \nbreak",
    "| a | b |\n| - | - |",
    "word\u2060joined @\u200buser",
    "\u202eltr\u202c",
    "\x00\x1b[31m",
    "half \ud800",
    "",
    "x" * 10_000,
)
"""For reports that GitHub shows."""

CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_COMMANDS = re.compile(r"^\s*(::|##|section_(start|end):|travis_)|^(---|\+\+\+|~~~|\^\^\^)(\s|$)|##\w*\[")


def commands(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """The lines of a log that a CI system would act upon, as it parts lines; those that begin with `allowed` are meant."""
    return [line for line in re.split("[\n\r]", text) if _COMMANDS.search(line) and not line.startswith(allowed or "\0")]


def rendered(markdown: str) -> str:
    """The page that GitHub's dialect makes of it, without what GitHub adds to text afterwards: see `references`."""
    from markdown_it import MarkdownIt

    made: Any = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    return str(made)


def without_code(page: str) -> str:
    """What is not in a code span: where GitHub looks for references and mentions."""
    assert "<pre>" not in page
    return re.sub(r"<code>.*?</code>", "<code></code>", page, flags=re.DOTALL)


_REFERENCES = re.compile(
    r"@\w|\w@|#\w|\bGH-\d|\b[0-9a-f]{7,40}\b|\bwww\.\w|\w:/|\b\w+:\w|:\w+:|\[\[|\[\^|(?-i:\b[A-Z]+-?\d)", re.IGNORECASE
)


def references(page: str) -> list[str]:
    """What GitHub, or an autolink of its users', would make a link, a mention, a picture or a footnote of."""
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    return _REFERENCES.findall(text) and [found[0] for found in _REFERENCES.finditer(text)]
