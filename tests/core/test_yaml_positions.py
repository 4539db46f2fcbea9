"""Tests of `mlpack.core.yaml_positions`: what YAML means here, where things stand, and that nothing but RecipeError comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.yaml_positions import SIZE_BYTES_MAX, parse, read
from mlpack.errors import RecipeError


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    value = parse("[1, 0x10, 0o17, 1.5, .5, 1e3, true, False, null, ~, yes, 012, 1_000, 2024-01-01, '1', \"x\"]", "r").value
    assert value == [1, 16, 15, 1.5, 0.5, 1000.0, True, False, None, None, "yes", 12, "1_000", "2024-01-01", "1", "x"]


def test_every_key_and_item_has_its_line() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\ne: [1,\n    2]\n", "r")
    assert document.value == {"a": {"b": 1, "c": ["x", {"d": 2}]}, "e": [1, 2]}
    places = {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1, "d"): 5, ("e", 1): 7}
    assert {place: document.positions.line(place) for place in places} == places


def test_line_of_a_missing_key_is_its_parents() -> None:
    assert parse("x: 1\na:\n  b: 1\n", "r").positions.line(("a", "missing", 3)) == 2


def test_aliases_repeat_what_was_anchored() -> None:
    assert parse("a: &one [1, 2]\nb: *one\n", "r").value == {"a": [1, 2], "b": [1, 2]}


def test_alias_has_its_own_line_and_what_it_repeats_has_that() -> None:
    document = parse("a: &one {b: 1}\nc:\n  - x\n  - *one\nd:\n  *one\n", "r")
    assert [document.positions.line(place) for place in (("c", 1), ("c", 1, "b"), ("d", "b"))] == [4, 4, 5]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x 1\nb: *x\nc: &x 2\nd: *x\n", {"a": 1, "b": 1, "c": 2, "d": 2}),
        ("&k a: 1\nb: *k\n", {"a": 1, "b": "a"}),
        ("a: &k b\n*k : 1\n", {"a": "b", "b": 1}),
        ("? [&k 1]\n: x\nb: *k\n", {"?": "x", "b": 1}),
        ("a: &o [&i 1, *i]\nb: [*o, *i]\n", {"a": [1, 1], "b": [[1, 1], 1]}),
    ],
)
def test_anchor_counts_anywhere_and_the_last_of_a_name_counts(text: str, value: object) -> None:
    assert parse(text, "r").value == value


def test_lines_of_what_is_written_twice_are_those_of_the_first() -> None:
    document = parse("a:\n  b: 1\na:\n  b: 2\n", "r")
    assert document.value == {"a": {"b": 1}}
    assert document.positions.line(("a", "b")) == 2


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\na: 2\n", 2, "is written twice (first in line 1)"),
        ("a: !!python/object/apply:os.system [echo]\n", 1, "nothing in one is constructed or executed"),
        ("a: ! 3\n", 1, "the tag ! is not used in recipes"),
        ("a:\n  - !!str 3\n", 2, "the tag tag:yaml.org,2002:str is not used in recipes"),
        ("a: !thing 3\n", 1, "the tag !thing is not used in recipes"),
        ("a: 1\n3: x\n", 2, 'write it in quotes: "3"'),
        ("true: x\n", 1, 'write it in quotes: "true"'),
        ("? [a, b]\n: x\n", 1, "a list or mapping cannot be a key"),
        ("a: .nan\n", 1, "not a number that a recipe can hold"),
        ("a: 1e999\n", 1, "too large"),
        ("a: 123456789012345678901234567890\n", 1, "more than 20 digits"),
        ('a: "\\0"\n', 1, "control character"),
        ('a: "\\uD800"\n', 1, "surrogate"),
    ],
)
def test_problem_that_lets_reading_go_on_is_noted_with_its_line(text: str, line: int, said: str) -> None:
    (problem,) = parse(text, "r").problems
    assert problem.line == line
    assert said in problem.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1,\n", "r:2: is not YAML"),
        ("a: 1\n\tb: 2\n", "r:2: is not YAML"),
        ("a: b: c\n", "r:1: is not YAML"),
        ("--- a\n--- b\n", "r:2: a second document begins"),
        ("--- a\n--- }\n", "r:2: a second document begins"),
        ("a: 1\nb: *nowhere\n", "r:2: the alias *nowhere has no anchor"),
        ("a: *nowhere\n", "r:1: the alias *nowhere has no anchor"),
        ("a: &a [*a]\n", "stands inside its own anchor"),
        ("a: &a\n  b: &b [1]\n  c: [*b, *a]\n", "r:3: the alias *a"),
        ("[" * 40, "r:1: is nested more than 32 levels deep"),
        ('a: "\\UFFFFFFFF"\n', "r:1: is not YAML"),
        ("%YAML 9.0\n---\na\n", "is not YAML"),
    ],
)
def test_text_that_cannot_be_read_says_where(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse(text, "r")
    assert said in str(raised.value)


def test_depth_is_counted_in_lists_and_mappings() -> None:
    assert parse("[" * 32 + "1" + "]" * 32, "r").value is not None
    with pytest.raises(RecipeError, match="more than 32 levels"):
        parse("[" * 33 + "]" * 33, "r")
    with pytest.raises(RecipeError, match="more than 32 levels"):
        parse("? " * 33 + "a", "r")


@pytest.mark.slow
def test_what_holds_too_many_values_is_stopped_where_it_does() -> None:
    """Not at its end, when all of it is in memory: what comes behind is no YAML, and is not read."""
    with pytest.raises(RecipeError, match="r:20000: holds more than 20000 values"):
        parse("- 1\n" * 30_000 + "}", "r")
    assert len(parse("- 1\n" * 19_999, "r").value) == 19_999


def test_alias_bomb_is_stopped_before_it_grows() -> None:
    levels = [f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)]
    with pytest.raises(RecipeError, match="more than 20000 values"):
        parse("x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(levels), "r")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: \xff\n", "r.yaml:1: is not UTF-8 (byte 3)"),
        (b"a: 1\nb: caf\xe9\n", "r.yaml:2: is not UTF-8"),
        (b"# " + b"x" * SIZE_BYTES_MAX, "is larger than 1048576 bytes"),
        ("a: 1\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_bytes_that_are_no_recipe_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as raised:
        read(path)
    assert said in str(raised.value)


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read(tmp_path / "r.yaml").value == {"name": "x"}


def test_missing_file_and_directory_say_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a directory"):
        read(tmp_path)


_MARKS = "ab:-[]{}#&*!|>'\"%@`,?\n\t  01.~\\xUu<=é\x85\u2028"
_TOKENS = [*_MARKS, "&a", "*a", "!!str", "---", "...", "<<", "%YAML 1.1", "? ", ": "]


@given(st.lists(st.sampled_from(_TOKENS), max_size=40).map("".join) | st.text(max_size=60))
def test_garbage_gives_a_value_or_a_recipe_error(text: str) -> None:
    said = "r:"
    try:
        parse(text, "r")
    except RecipeError as error:
        said = str(error)
    assert said.startswith("r:")
