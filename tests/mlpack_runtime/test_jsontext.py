from __future__ import annotations

import gc
import json
import math
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_dumps_and_loads_agree_with_json(value: object) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert jsontext.loads(text) == value
    assert jsontext.loads(f" \n{json.dumps(value, indent=1)}\t".encode()) == value


@given(st.text())
def test_loads_any_text_is_a_value_or_a_value_error(text: str) -> None:
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises(ValueError):
            jsontext.loads(text)
    else:
        if isinstance(expected, float) and not math.isfinite(expected) and text.strip() in ("NaN", "Infinity", "-Infinity"):
            with pytest.raises(ValueError, match="finite"):
                jsontext.loads(text)
        else:
            assert jsontext.loads(text) == expected


@pytest.mark.parametrize(
    "text", ["", "   ", "[1", "{'a':1}", "[1] 2", "NaN", "[-Infinity]", "[" * 100_000, b"\xff\xfe", "01", "\x0b1"]
)
def test_loads_malformed_raises_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_dumps_not_finite_raises_value_error(value: object) -> None:
    with pytest.raises(ValueError):
        jsontext.dumps(value)


def test_dumps_unknown_type_and_endless_nesting_raise() -> None:
    with pytest.raises(TypeError, match="set"):
        jsontext.dumps({1, 2})
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="deeply"):
        jsontext.dumps(endless)


@pytest.mark.parametrize("end", ["]", "", ",]", "] x"])
def test_a_large_text_is_read_without_the_collector(end: str) -> None:
    """JSON has no cycles: looking for them in 100,000 lists is most of the work, and nothing else runs meanwhile."""
    began: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        began.append(phase)

    gc.callbacks.append(note)
    try:
        with nullcontext() if end == "]" else pytest.raises(ValueError):
            assert len(jsontext.loads("[" + "[]," * 100_000 + "[]" + end)) == 100_001
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
    assert began.count("start") <= 2, "one before, and one when it goes on"


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        jsontext.loads("[" + "[]," * 100_000 + "[]]")
        assert not gc.isenabled()
    finally:
        gc.enable()
