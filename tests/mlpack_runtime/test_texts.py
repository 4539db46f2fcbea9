"""Texts of plain requests, single and in pairs, and what of them is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack_runtime import texts
from mlpack_runtime.limits import Limits, RequestError, variable

SMALL = Limits({variable(name): "20" for name in ("rows", "text_chars")}, {})


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"text": "a"}, ["a"]), ({"texts": ["a", "b"]}, ["a", "b"]), ({"text": "a", "text_pair": "b"}, [("a", "b")]),
        ({"texts": [["a", "b"], ["", "c"]]}, [("a", "b"), ("", "c")]), ({"text": "", "text_pair": ""}, [("", "")]),
    ],
)  # fmt: skip
def test_plain_requests(request_: dict[str, Any], wanted: list[Any]) -> None:
    assert texts.plain(request_, SMALL) == wanted


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"texts": [["a", "b"], "c"]}, "not a list of strings, nor one of pairs"), ({"texts": [["a"]]}, "nor one of pairs"),
        ({"texts": [["a", "b", "c"]]}, "nor one of pairs"), ({"texts": [["a", 7]]}, "nor one of pairs"),
        ({"texts": []}, "at least one text"), ({"texts": "a"}, "not a list"), ({"text": ["a", "b"]}, "not a list of strings"),
        ({"text": "a", "text_pair": None}, "'text_pair': data is not"), ({"text": "a", "text_pair": ["b"]}, "'text_pair'"),
        ({"text": "a" * 11, "text_pair": "b" * 10}, "characters of a text: 21; at most 20"),
        ({"texts": [["a", "b"]] * 21}, "texts: 21; at most 20"), ({"texts": [["a" * 20, "b"]]}, "characters of a text: 21"),
        ({"texts": [["a", "\ud800"]]}, "surrogate"), ({"text": "a", "text_pair": "\udfff"}, "surrogate"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        texts.plain(request_, SMALL)


def test_recorded_calls_give_pairs_back() -> None:
    assert texts.of_call(["a", ["b", "c"]]) == ["a", ("b", "c")]
