"""What runs together: padded, cut. For any calls, by hypothesis; numbers small enough to be exact in float32."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.runtime.batches import IMAGE, LEFT, PADS, TEXT, model, text

from mlpack_runtime.backend import BackendError, Shapes
from mlpack_runtime.serving.batching import Layout, Unit, cut, fitted, join, most_rows, parts, shortened, together
from mlpack_runtime.tensor import tensor

texts = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), min_size=1, max_size=20)


@given(texts, st.booleans())
def test_a_call_in_pieces_is_put_together_again(sizes: list[tuple[int, int]], left: bool) -> None:
    layout = LEFT if left else TEXT
    units = [text(layout, rows, length, first=1) for rows, length in sizes]
    whole = together([model(dict(unit.feeds)) for unit in units], layout)
    longest = max(length for _, length in sizes)
    expected = model(join(layout, units, sum(rows for rows, _ in sizes), longest))
    assert {name: made.tolist() for name, made in whole.items()} == {name: made.tolist() for name, made in expected.items()}


@given(st.integers(0, 30), st.integers(1, 8))
def test_a_call_of_many_rows_is_cut_into_batches(rows: int, most: int) -> None:
    call = {"x": tensor(list(range(rows * 2)), "INT64", (rows, 2))}
    pieces = parts(IMAGE, call, most)
    assert all(piece["x"].shape[0] <= most for piece in pieces)
    assert [row for piece in pieces for row in piece["x"].tolist()] == call["x"].tolist()
    assert parts(Layout(batched=False), call, most) == [call]


def profile(least: tuple[int, int], most: tuple[int, int]) -> dict[str, Any]:
    return dict.fromkeys(PADS, (least, least, most))


PROFILES = Shapes((profile((4, 64), (4, 64)), profile((1, 8), (1, 8)), profile((4, 16), (8, 32))))


@pytest.mark.parametrize(
    ("sizes", "target"),
    [
        ([(1, 3)], (1, 8)),
        ([(1, 8)], (1, 8)),
        ([(1, 9)], (4, 16)),
        ([(2, 3), (3, 20)], (5, 20)),
        ([(1, 33)], (4, 64)),
    ],
)
def test_batch_is_padded_to_the_smallest_profile_that_takes_it(sizes: list[tuple[int, int]], target: tuple[int, int]) -> None:
    units = [text(TEXT, rows, length, first=at) for at, (rows, length) in enumerate(sizes)]
    assert fitted(TEXT, PROFILES, units) == target
    feeds = join(TEXT, units, *target)
    assert feeds["input_ids"].shape == target
    cuts = cut(TEXT, units, model(feeds), target[1])
    assert [own["pooled"].tolist() for own in cuts] == [model(dict(unit.feeds))["pooled"].tolist() for unit in units]
    assert all(any(row) for row in feeds["attention_mask"].tolist())  # a mask of zeros alone makes NaN of a softmax


@pytest.mark.parametrize("size", [(1, 65), (9, 3), (5, 33)])
def test_what_no_profile_takes_is_the_callers_fault(size: tuple[int, int]) -> None:
    with pytest.raises(BackendError, match=r"outside what this engine was built for: input_ids \[4, 64\] to \[4, 64\]") as caught:
        fitted(TEXT, PROFILES, [text(TEXT, *size)])
    assert caught.value.sort == "input"


def test_a_batch_is_no_larger_than_the_largest_profile() -> None:
    assert most_rows(PROFILES, 32) == 8
    assert most_rows(PROFILES, 2) == 2
    assert most_rows(Shapes(), 32) == 32


def test_outputs_that_lack_batchs_rows_are_the_packages_fault() -> None:
    units = [text(TEXT, 1, 3), text(TEXT, 1, 3)]
    with pytest.raises(BackendError, match="its rows are not the batch's") as caught:
        cut(TEXT, units, {"pooled": tensor([1], "INT64", (1,))}, 3)
    assert caught.value.sort == "package"


def test_an_axis_is_shortened_wherever_it_is() -> None:
    whole = tensor(list(range(24)), "INT32", (2, 3, 4))
    assert shortened(whole, 2, 2).tolist() == [[row[:2] for row in part] for part in whole.tolist()]
    assert shortened(whole, 1, 1, left=True).tolist() == [part[-1:] for part in whole.tolist()]


@given(st.lists(st.lists(st.text(max_size=4).filter(str.isprintable), min_size=1, max_size=3), min_size=1, max_size=6))
def test_strings_are_put_together_and_cut_as_numbers_are(calls: list[list[str]]) -> None:
    units = [Unit(IMAGE, {"city": tensor(call, "BYTES", (len(call), 1))}) for call in calls]
    rows, length = fitted(IMAGE, Shapes(), units)
    joined = join(IMAGE, units, rows, length)
    assert joined["city"].flat() == [text for call in calls for text in call]
    own = cut(IMAGE, units, {"label": joined["city"]}, length)
    assert [each["label"].flat() for each in own] == calls
    pieces = parts(IMAGE, joined, 2)
    assert together(pieces, IMAGE)["city"].flat() == joined["city"].flat()
    padded = join(IMAGE, units, rows + 2, length)["city"]
    assert padded.flat() == [*joined["city"].flat(), calls[-1][-1], calls[-1][-1]]


@pytest.mark.parametrize(
    ("layout", "first", "second", "together_"),
    [
        (TEXT, (1, 5), (3, 9), True),
        (Layout(batched=True, pads={"x": 0}), (1, 5, 4), (2, 7, 4), True),
        (Layout(batched=True, pads={"x": 0}), (1, 5, 4), (1, 5, 8), False),
        (Layout(batched=True, pads={"x": 0}), (1, 5, 4), (1, 5), False),
        (Layout(batched=True, pads={"x": 0}), (1, 5), (0, 5), False),
        (Layout(batched=True), (1, 5), (2, 5), True),
        (Layout(batched=True), (1, 5), (1, 6), False),
        (Layout(batched=False, pads={"x": 0}), (1, 5), (1, 6), False),
    ],
)
def test_only_the_batch_and_a_padded_length_may_differ(layout: Layout, first: Any, second: Any, together_: bool) -> None:
    kinds = [
        layout.kind({name: tensor([0] * math.prod(shape), "INT64", shape) for name in layout.pads or ("x",)})
        for shape in (first, second)
    ]
    assert (kinds[0] == kinds[1]) is together_
