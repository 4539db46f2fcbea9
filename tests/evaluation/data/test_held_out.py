"""A share held out by content: the same samples whatever their order, each on one side, with labels and calls as they were."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.data import held_out
from mlpack.evaluation.data.calls import CallsWriter, check_disjoint
from mlpack.evaluation.data.reader import read

OPEN = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("n", 2)),), outputs=())
FIXED = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(4, 2)),), outputs=())
TEXTS = Signature(inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("n", "t")),), outputs=())


def recorded(folder: Path, calls: list[list[int]], labels: Any = None) -> Path:
    """Calls of samples, each of which is a number."""
    folder.mkdir(parents=True)
    with CallsWriter(folder) as writer:
        for call in calls:
            writer.tensors({"x": np.array([[number, -number] for number in call], np.float32)}, len(call))
        writer.finish(labels)
    return folder


def sides(folder: Path, signature: Signature, share: float, *, by_label: bool = False) -> tuple[Path, Path]:
    """The held out and the rest, written."""
    found = held_out.split(folder, signature, share, by_label=by_label)
    written = []
    for name, side in (("held", found.held), ("rest", found.rest)):
        out = folder.parent / f"{folder.name}-{name}"
        out.mkdir()
        held_out.write(folder, side, out)
        written.append(out)
    return written[0], written[1]


def numbers(folder: Path, signature: Signature = OPEN) -> list[list[int]]:
    """The samples of each call, read back."""
    if not json.loads((folder / "calls.json").read_bytes()):
        return []
    loose = Signature(inputs=tuple(TensorSpec(name=s.name, dtype=s.dtype, shape=("n", 2)) for s in signature.inputs), outputs=())
    return [[int(value) for value in feed["x"][:, 0]] for feed in read(folder, folder, loose)]


def flat(calls: list[list[int]]) -> list[int]:
    return [number for call in calls for number in call]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=25),
    st.floats(0.05, 0.95),
    st.randoms(),
)
def test_split_is_by_content_disjoint_and_exhaustive(calls: list[list[int]], share: float, random: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = [number * 10 for call in calls for number in call]
        held, rest = sides(recorded(folder / "a", calls, labels), OPEN, share)
        ours, others = flat(numbers(held)), flat(numbers(rest))
        assert sorted(ours + others) == sorted(flat(calls))
        assert not set(ours) & set(others)
        assert others
        check_disjoint(rest, held)
        for side, found in ((held, ours), (rest, others)):
            assert json.loads((side / "labels.json").read_bytes()) == [number * 10 for number in found]
            assert len(json.loads((side / "samples.json").read_bytes())) == len(found)
            assert [call["samples"] for call in json.loads((side / "calls.json").read_bytes())] == list(map(len, numbers(side)))
        random.shuffle(calls)
        again, _ = sides(recorded(folder / "b", calls, None), OPEN, share)
        assert sorted(flat(numbers(again))) == sorted(ours)


def test_a_share_of_single_samples_is_exact(tmp_path: Path) -> None:
    held, rest = sides(recorded(tmp_path / "a", [[number] for number in range(200)]), OPEN, 0.2)
    assert (len(numbers(held)), len(numbers(rest))) == (40, 160)


def test_more_samples_move_few(tmp_path: Path) -> None:
    """Who was held out of a hundred is among those held out of a hundred and ten, or was pushed out by a new one."""
    before, _ = sides(recorded(tmp_path / "a", [[number] for number in range(100)]), OPEN, 0.2)
    after, _ = sides(recorded(tmp_path / "b", [[number] for number in range(110)]), OPEN, 0.2)
    stayed = set(flat(numbers(before))) & set(flat(numbers(after)))
    new = [number for number in flat(numbers(after)) if number >= 100]
    assert len(stayed) >= 20 - len(new)


def test_calls_stay_whole_where_there_are_enough(tmp_path: Path) -> None:
    calls = [[10 * number + each for each in range(4)] for number in range(20)]
    held, rest = sides(recorded(tmp_path / "a", calls), FIXED, 0.25)
    assert len(numbers(held)) == 5
    assert all(call in calls for call in (*numbers(held), *numbers(rest)))


def test_one_call_is_cut_where_its_rows_are_samples(tmp_path: Path) -> None:
    held, rest = sides(recorded(tmp_path / "a", [list(range(50))], list(range(50))), OPEN, 0.2)
    assert [len(numbers(side)) for side in (held, rest)] == [1, 1]
    assert (len(numbers(held)[0]), len(numbers(rest)[0])) == (10, 40)
    assert json.loads((rest / "labels.json").read_bytes()) == numbers(rest)[0]


def test_one_call_of_a_fixed_batch_cannot_be_cut(tmp_path: Path) -> None:
    assert held_out.split(recorded(tmp_path / "a", [[1, 2, 3, 4]]), FIXED, 0.5, by_label=False).held == ()


def test_equal_samples_are_on_one_side(tmp_path: Path) -> None:
    calls = [[number % 7, 100 + number] for number in range(28)]
    held, rest = sides(recorded(tmp_path / "a", calls), OPEN, 0.4)
    assert 0 < len(numbers(held)) < 28
    assert not set(flat(numbers(held))) & set(flat(numbers(rest)))


@pytest.mark.parametrize("paired", [True, False])
def test_a_query_and_its_answer_stay_together(tmp_path: Path, paired: bool) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    labels = [*range(30), *range(30)] if paired else [*range(30), *reversed(range(30))]
    with CallsWriter(folder) as writer:
        for number in range(60):
            writer.texts([f"text {number}"])
        writer.finish(labels)
    for by_label in {True, not paired}:
        found = held_out.split(folder, TEXTS, 0.2, by_label=by_label)
        held = [labels[number] for piece in found.held for number in piece.samples]
        assert len(held) == 12
        assert (len(set(held)) == 6) == (paired or by_label)


def test_a_class_of_many_is_parted(tmp_path: Path) -> None:
    labels = [number % 4 for number in range(80)]
    folder = recorded(tmp_path / "a", [[number] for number in range(80)], labels)
    found = held_out.split(folder, OPEN, 0.2, by_label=True)
    assert found.held_samples == 16
    assert {labels[number] for piece in found.rest for number in piece.samples} == {0, 1, 2, 3}


def test_texts_of_one_call_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with CallsWriter(folder) as writer:
        writer.texts([f"text {number}" for number in range(20)])
        writer.finish(None)
    held, rest = sides(folder, TEXTS, 0.25)
    (ours,), (others,) = (json.loads((side / "calls.json").read_bytes()) for side in (held, rest))
    assert (ours["samples"], others["samples"]) == (5, 15)
    assert sorted(ours["texts"] + others["texts"]) == sorted(f"text {number}" for number in range(20))


def test_rows_of_strings_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    signature = Signature(inputs=(TensorSpec(name="s", dtype="string", shape=("n", 1)),), outputs=())
    words = np.array([[f"w{number}" * (number % 3 + 1)] for number in range(20)], dtype=object)
    with CallsWriter(folder) as writer:
        writer.tensors({"s": words}, 20)
        writer.finish(None)
    held, rest = sides(folder, signature, 0.25)
    (ours,), (others,) = (list(read(side, side, signature)) for side in (held, rest))
    assert sorted([*ours["s"].ravel(), *others["s"].ravel()]) == sorted(words.ravel())
    check_disjoint(rest, held)
    with pytest.raises(RecipeError, match="evaluation samples too"):
        check_disjoint(folder, held)
