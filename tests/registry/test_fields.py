"""Whatever stands in a row is a value of the right form, or one short line that says what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.registry.fields import FieldError, Fields, parse, shown

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        (DEEP, "nested too deeply"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "the number 1e999"),
        ("9" * 5000, "a number of 5,000 digits"),
        ('"\\ud800"', "half a surrogate"),
        ('{"\\udfff": 1}', "half a surrogate"),
        (json.dumps("x" * 200_000), "a text of 200,000 characters"),
        (b'"\xff"', "not UTF-8"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_bounded_json_is_said_shortly(text: str | bytes, said: str) -> None:
    with pytest.raises(FieldError, match=said) as caught:
        parse(text)
    assert len(str(caught.value)) < 300


def test_whole_surrogates_are_text() -> None:
    assert parse('"\\ud83d\\ude00"') == "\U0001f600"


def test_more_bytes_than_may_be_read_are_not_read() -> None:
    with pytest.raises(FieldError, match="it has 6 bytes, and at most 5"):
        parse(b"123456", 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
READERS = ("text", "label", "flag", "whole", "version", "seconds", "digest", "time", "each", "inside")


@given(JSON, st.sampled_from(READERS))
def test_every_reader_takes_every_value(value: object, reader: str) -> None:
    said = "key"
    try:
        getattr(Fields({"key": value}), reader)("key")
    except FieldError as error:
        said = str(error)
    assert "key" in said
    assert said.isprintable()
    assert len(said) < 300
    with pytest.raises(FieldError, match="missing"):
        getattr(Fields({}), reader)("key")


@given(st.text(max_size=400))
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 10 * 123
