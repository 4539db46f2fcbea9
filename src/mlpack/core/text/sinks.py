"""Escapes foreign text for the place where it goes: one function for each place, and no other way there. Pure.

The places: a log or a terminal (`lines`, `line`, `told`), a workflow command of GitHub's (`command`), printed JSON
(`json_text`), Markdown (`markdown`, `code`), HTML and SVG (`markup`), YAML (`yaml_text`, `yaml_comment`), a shell (`shell`),
and a value that a script reads (`exact`). Callers pass raw text; text that is safe in one place is not safe in another.

Promises:
- Whatever the text is, it comes out as text: no line of a log begins a command of a CI system, no control code reaches a
  terminal, nothing becomes a link, a mention or markup, and no key is added to a document.
- Nothing is lost in silence: an unprintable character is written as an escape, and a cut says how much is missing.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from mlpack.core.text import words

LINE_MOST = 4_000
"""Characters of one line of a log: a megabyte in one buries what is beside it."""
LINES_MOST = 1_000
MARKDOWN_MOST = 2_000
"""Characters of one text in a report: GitHub refuses comments of more than 65,536."""

_MARKS = re.compile(r"##(?=\w*\[)")
"""Azure's `##vso[`, TeamCity's `##teamcity[` and GitHub's old `##[` count anywhere in a line."""

_COMMAND = re.compile(r"^[ \t]*(?=::|\#\#|section_(?:start|end):|travis_\w+:|(?:---|\+\+\+|~~~|\^\^\^)(?:[ \t]|$))", re.MULTILINE)
"""What begins a command at the start of a line: GitHub (which trims first), GitLab, Travis, Buildkite."""


_HARMLESS = re.compile("[\xa0\u1680\u2000-\u200a\u200c\u200d\u202f\u205f\u3000\udca0-\udcff]")


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and the number of characters that were cut."""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most:,} more characters)"


# --- logs and terminals -----------------------------------------------------------------------------------------------


def lines(text: object) -> str:
    """Text for a log or a terminal, of one line or several. No line is a command of a CI system; long text is cut."""
    return _guarded(_cut(text))


def _cut(text: object) -> str:
    """The text, cut first and cleaned then: megabytes of escapes would take seconds to write, and nobody would see them."""
    each = str(text).replace("\r\n", "\n").split("\n")
    if len(each) > LINES_MOST:
        each = [*each[:LINES_MOST], f"... ({len(each) - LINES_MOST:,} more lines)"]
    return words.clean("\n".join(shortened(one, LINE_MOST) for one in each)).expandtabs(4)


def line(text: object, most: int = LINE_MOST) -> str:
    """The same as one line: line ends and runs of spaces become a space."""
    return _guarded(_one(text, most))


def _one(text: object, most: int) -> str:
    return " ".join(words.clean(shortened(str(text), most)).split())


def told(text: object, before: str = "mlpack: ") -> str:
    """A message of mlpack's for a log, with a prefix and its further lines indented, so that no line can be taken for another
    message."""
    first, *more = _cut(text).split("\n")
    return _guarded("\n".join((f"{before}{first}", *(f"  {_guarded(each)}" if each else "" for each in more))))


def command(name: str, properties: Mapping[str, str], text: str) -> str:
    """A GitHub workflow command, escaped as the runner's own toolkit does it (actions/toolkit, command.ts)."""
    pairs = ",".join(f"{key}={_data(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items())
    return f"::{name}{' ' + pairs if pairs else ''}::{_data(text)}"


def _data(text: str) -> str:
    masked = _MARKS.sub("# #", _cut(text))
    return masked.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _guarded(text: str) -> str:
    return _COMMAND.sub(".", _MARKS.sub("# #", text))


# --- what programs read -----------------------------------------------------------------------------------------------


def exact(value: str) -> str | None:
    """The value unchanged, if it can stand on a line of its own without being taken for anything else; otherwise None.

    Spaces and joiners of other scripts may be in it (macOS names files with U+202F), and bytes that are no text, as Python reads
    them from names of files, except those of control codes.
    """
    plain = _HARMLESS.sub("", value)
    if plain != words.clean(plain) or set(value) & set("\t\n"):
        return None
    trimmed = value.lstrip()  # GitHub's runner trims every space of Unicode before it looks for `::`, as Python does
    read = value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return value if read == value and trimmed == _guarded(trimmed) else None


def json_text(value: Any) -> str:
    """JSON for stdout: the value exactly, in printable ASCII without the marks of CI systems."""
    text = json.dumps(value, indent=2, sort_keys=True)
    return text.replace("\x7f", "\\u007f").replace("##", "#\\u0023")  # neither stands outside of a JSON string


def json_seen(text: str) -> str:
    """JSON text with escapes in place of characters that are not seen; its values are the same."""
    return re.sub(r"[^\n -~]", lambda match: match[0] if words.is_seen(match[0]) else json.dumps(match[0])[1:-1], text).replace(
        "\x7f", "\\u007f"
    )


def shell(value: object) -> str:
    """A word of a command that is printed for copying."""
    return shlex.quote(line(value))


# --- Markdown and markup ----------------------------------------------------------------------------------------------

_PROSE = re.compile(
    r"""(?P<before>[("']*)
    (?P<core>[^\W\d_]+(?:['’][^\W\d_]+)* | [+-]?\$?\d{1,6}(?:,\d{3})*(?:\.\d{1,6})?(?:/s)?)?
    (?P<after>[)"'.,;:!?%]*)""",
    re.VERBOSE,
)
"""A word or a number with the marks that prose has around it. Nothing that GitHub makes a link, a reference or a picture of fits:
those have a digit beside a letter, or one of `@#/.:-_` inside."""

_HASH = re.compile(r"[0-9a-f]{7,40}", re.IGNORECASE)
"""Text that may be the name of a commit, which GitHub looks for everywhere."""

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def markdown(text: object) -> str:
    """Text as one line that stays text wherever it is in Markdown.

    Prose stays prose. Each word that is anything else (a name, a path, a reference, markup) becomes a code span: inside of one
    GitHub reads neither markup nor mentions, references, links, shortcodes and formulas, its users' own autolinks included.
    """
    line = " ".join(map(_word, _one(text, MARKDOWN_MOST).split(" ")))
    return re.sub(r"^(\d{1,9})([.)])(?=\s|$)|^([+-])", r"\1\\\2\3", line)  # nor a list of one


def _word(word: str) -> str:
    match = _PROSE.fullmatch(word)
    if match is None or _HASH.fullmatch(match["core"] or ""):
        marks = not any(map(str.isalnum, word)) and not set(word) & set("`\\")
        return _PUNCTUATION.sub(_mark, word) if marks and len(word) == 1 else _pieces(word)
    core = (match["core"] or "").replace("$", "\\$")
    return f"{html.escape(match['before'], quote=False)}{core}{match['after']}"


def _pieces(word: str) -> str:
    """A code span, with surrounding punctuation outside of it."""
    core = word.lstrip("('\"")
    trimmed = core.rstrip("'\".,;:!?")
    while trimmed.endswith(")") and trimmed.count(")") > trimmed.count("("):
        trimmed = trimmed[:-1].rstrip("'\".,;:!?")
    if not trimmed:
        return code(word)
    return f"{word[: len(word) - len(core)]}{code(trimmed)}{core[len(trimmed) :]}"


def _mark(match: re.Match[str]) -> str:
    return {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(match[0], f"\\{match[0]}")


def code(text: object) -> str:
    """A name as a code span, in a fence that it cannot close; a character that would end a table's cell is written as an escape."""
    shown = _one(text, MARKDOWN_MOST).replace("|", "\\x7c")
    if not shown:
        return ""
    runs = set(map(len, re.findall(r"`+", shown)))
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    edge = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def markup(text: object) -> str:
    """Text for an element or an attribute of HTML or SVG, without characters that XML forbids."""
    return html.escape(words.clean(text))


# --- YAML -------------------------------------------------------------------------------------------------------------

_YAML_PLAIN = re.compile(r"(?:\.{0,2}/)?[A-Za-z_][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*", re.ASCII)
_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""Words that YAML 1.1 or 1.2 reads as something other than text."""


def yaml_text(value: object) -> str:
    """A string as one YAML scalar: plain where no reader of YAML 1.1 or 1.2 could take it for anything else, otherwise in double
    quotes, in which every character that is not seen is an escape."""
    text = str(value)
    if _YAML_PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    shown = re.sub(r"[^ -~]", lambda match: match[0] if words.is_seen(match[0]) else words.escaped(match[0]), quoted)
    return f'"{shown}"'.replace("##", "#\\x23")


def yaml_comment(text: object, most: int = 200) -> str:
    """Words for the rest of a line after `#`: one line whatever YAML calls a line end."""
    return line(text, most)
