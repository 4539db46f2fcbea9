"""Somebody else's words, sink by sink: what comes out means what went in, and nothing else."""

from __future__ import annotations

import html
import json
import re
import shlex
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.hostile import CONTROL, LOG, MARKDOWN, commands, references, rendered, without_code

from mlpack.core import yaml_positions
from mlpack.core.text import sinks, words

ANY = st.text(st.characters(), max_size=60) | st.sampled_from([*LOG, *MARKDOWN])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain, é漢😀❤️ → ×", "plain, é漢😀❤️ → ×"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\rb", "a\\x0db"),
        ("\u202ea\u200b", "\\u202ea\\u200b"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
        ("a\xa0b\u3000c", "a b c"),
    ],
)
def test_what_is_not_seen_is_an_escape(text: str, said: str) -> None:
    assert words.clean(text) == said


@settings(deadline=None)
@given(ANY)
def test_a_line_of_a_log_is_one_line_of_words(text: str) -> None:
    made = sinks.line(text)
    assert "\n" not in made
    assert CONTROL.search(made) is None
    assert not commands(made)


@settings(deadline=None)
@given(ANY)
def test_lines_of_a_log_hold_no_command(text: str) -> None:
    for made in (sinks.lines(text), sinks.told(text)):
        assert CONTROL.search(made) is None
        assert not commands(made)
    assert all(line.startswith(("mlpack: ", "  ")) or not line for line in sinks.told(text).split("\n"))


@pytest.mark.parametrize("word", LOG)
def test_each_hostile_word_alone_and_behind_our_own(word: str) -> None:
    for made in (sinks.lines(word), sinks.line(word), sinks.told(word), sinks.lines(f"ours\n{word}\nours")):
        assert CONTROL.search(made) is None
        assert not commands(made)


def test_what_is_long_says_how_much_was_cut() -> None:
    assert sinks.lines("x" * 10_000).endswith("xxx ... (6,000 more characters)")
    assert sinks.lines("x\n" * 5_000).splitlines()[-1] == "... (4,001 more lines)"
    assert len(sinks.markdown("x " * 100_000)) < 3_000


def test_ordinary_words_stay_as_they_are() -> None:
    for text in ("recipe.yaml:3: metric: unknown key", "a - b", "x::y ## z", "1. first\n2. second", "~/models --out x", "50 % # 3"):
        assert sinks.lines(text) == text
    assert sinks.told("a\nb") == "mlpack: a\n  b"


@settings(deadline=None)
@given(ANY, ANY)
def test_a_workflow_command_is_one_line_and_its_own(text: str, value: str) -> None:
    made = sinks.command("error", {"file": value, "line": "1"}, text)
    assert CONTROL.search(made) is None
    assert "\n" not in made
    found = re.fullmatch(r"::error file=([^:,]*),line=1::(.*)", made)
    assert found is not None
    assert not re.search(r"%(?!25|0A|0D|3A|2C)", made)


@settings(deadline=None)
@given(ANY)
def test_markdown_shows_the_words_and_no_more(text: str) -> None:
    for source in (
        sinks.markdown(text),
        f"- {sinks.markdown(text)}",
        f"| head |\n| --- |\n| {sinks.markdown(text)} |",
        sinks.code(text),
    ):
        page = rendered(source)
        rest = without_code(page)
        assert set(re.findall(r"<(\w+)", rest)) <= {"p", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"}
        assert rest.count("<td>") == source.startswith("| head |\n")
        assert not references(rest)
        assert CONTROL.search(page) is None
        assert not re.search(r"(?<!\\)\$", re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", source))


@settings(deadline=None)
@given(ANY)
def test_markdown_loses_nothing(text: str) -> None:
    shown = html.unescape(re.sub(r"<[^>]*>", "", rendered(sinks.markdown(text)))).split()
    meant = words.clean(sinks.shortened(text, sinks.MARKDOWN_MOST)).replace("|", "\\x7c")
    assert " ".join(shown).replace("|", "\\x7c") == " ".join(meant.split())


def test_prose_stays_prose_in_markdown() -> None:
    for text in ("package size exceeds the budget", "it isn't (yet) so: why?", "95 % of 1,234.5 MB, 32.3/s", "10 × 3 → 30"):
        assert sinks.markdown(text) == text
    assert sinks.markdown("$0.43 of int8@lambda-zip (GH-1).") == "\\$0.43 of `int8@lambda-zip` (`GH-1`)."


@settings(deadline=None)
@given(ANY)
def test_markup_is_well_formed_and_says_the_words(text: str) -> None:
    made = ElementTree.fromstring(f'<a b="{sinks.markup(text)}">{sinks.markup(text)}</a>')
    assert made.text or not text
    assert (made.text or "") == words.clean(text)
    assert len(made) == 0


@settings(deadline=None)
@given(ANY)
def test_yaml_is_the_string_that_it_was(text: str) -> None:
    made = sinks.yaml_text(text)
    assert made.isprintable()
    assert not commands(made)
    meant = yaml_positions.UNPRINTABLE.sub("?", text)
    for document, shape in (
        (made, meant),
        (f"a: {made}   # b", {"a": meant}),
        (f"[{made}, 1]", [meant, 1]),
        (f"{made}: 1", {meant: 1}),
    ):
        if len(text) < 1_000:  # a key may not be longer
            assert yaml_positions.parse(document, "x").value == shape


@settings(deadline=None)
@given(ANY)
def test_a_yaml_comment_stays_one(text: str) -> None:
    read = yaml_positions.parse(f"a: 1 # {sinks.yaml_comment(text)}\nb: 2\n", "x")
    assert read.value == {"a": 1, "b": 2}


@settings(deadline=None)
@given(ANY)
def test_a_word_of_a_shell_is_one_word(text: str) -> None:
    assert shlex.split(sinks.shell(text)) == [sinks.line(text)]


@settings(deadline=None)
@given(
    st.recursive(
        ANY | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3)
    )
)
def test_json_is_exact_and_seen(value: object) -> None:
    made = sinks.json_text(value)
    assert made.isascii()
    assert CONTROL.search(made) is None
    assert not commands(made)
    assert json.loads(made) == value
    seen = sinks.json_seen(json.dumps(value, ensure_ascii=False, indent=1))
    assert CONTROL.search(seen) is None
    assert json.loads(seen) == value
    assert seen.encode()


@settings(deadline=None)
@given(ANY)
def test_an_exact_value_is_itself_or_nothing(text: str) -> None:
    assert sinks.exact(text) in (text, None)
    if sinks.exact(text) is not None:
        assert not commands(text)
        assert "\n" not in text
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)


def test_names_of_the_world_are_exact() -> None:
    for text in ("out/é 漢", "Screenshot 3.02\u202fPM.png", "caf\udce9", "s3://b/c?d=e&f=g#h", "a@sha256:0a", "👩\u200d💻"):
        assert sinks.exact(text) == text


@pytest.mark.parametrize("space", ["", " ", "\xa0", "\u1680", "\u2003", "\u202f", "\u205f", "\u3000", " \u2009 "])
@pytest.mark.parametrize("begins", ["::error::x", "::stop-commands::x", "--- x", "section_start:1:x", "##[error]x"])
def test_no_space_hides_a_command_in_a_value(space: str, begins: str) -> None:
    """GitHub's runner trims as .NET does, which knows every space of Unicode."""
    assert sinks.exact(space + begins) is None


@pytest.mark.parametrize("text", ["\udcc2\udca0::error::x", "\udcef\udcbb\udcbf::error::x", "\udce2\udc80\udcae", "a\udcc3\udca9"])
def test_halves_that_are_a_character_together_are_no_value(text: str) -> None:
    """JSON can hold them, and they would come out as bytes that are another text."""
    assert sinks.exact(text) is None


def test_megabytes_of_what_is_not_seen_cost_little() -> None:
    """Counted in characters that are cleaned: what is cut is never written as escapes."""
    huge = "\x1b" * 50_000_000
    for made in (sinks.line(huge), sinks.lines(huge), sinks.markdown(huge), sinks.code(huge), sinks.told(huge)):
        assert len(made) < 10 * sinks.LINE_MOST


def test_a_message_begins_with_what_was_named() -> None:
    """Our own words stand before it, so that the name needs no mark of its own."""
    assert sinks.told("::error::x holds no image") == "mlpack: ::error::x holds no image"
    assert sinks.told("::a\n::b", "") == ".::a\n  .::b"
