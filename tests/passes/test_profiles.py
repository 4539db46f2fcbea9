"""Profiles: the recipe's are held against the model, the data's cover what was seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.tensorrt import profiles
from mlpack.passes.tensorrt.profiles import Bounds


def signature(**shapes: tuple[int | str, ...]) -> Signature:
    return Signature(inputs=tuple(TensorSpec(name=name, dtype="int64", shape=s) for name, s in shapes.items()), outputs=())


TEXT = signature(input_ids=("batch", "length"), attention_mask=("batch", "length"))
ROW = Bounds(min=(1, 8), opt=(8, 64), max=(32, 256))


def test_calls_give_one_profile_with_the_batch_of_the_target() -> None:
    seen = [{"input_ids": (16, n), "attention_mask": (16, n)} for n in (12, 5, 40)]
    (profile,) = profiles.of(TEXT, (), seen, 8)
    row = {"min": [1, 5], "opt": [8, 12], "max": [8, 40]}
    assert profile.as_json() == {"input_ids": row, "attention_mask": row}


def test_recipe_gives_its_own() -> None:
    (profile,) = profiles.of(TEXT, [{"attention_mask": ROW, "input_ids": ROW}], [])
    assert profile.inputs == (("input_ids", ROW), ("attention_mask", ROW))


def test_fixed_inputs_need_no_profile() -> None:
    assert profiles.of(signature(image=(1, 3, 8, 8)), (), []) == ()
    mixed = signature(image=("batch", 3, 8, 8), scale=(2,))
    (profile,) = profiles.of(mixed, (), [])
    assert profile.as_json() == {"image": {"min": [1, 3, 8, 8], "opt": [32, 3, 8, 8], "max": [32, 3, 8, 8]}}


@pytest.mark.parametrize(("one", "said"), [
    ({"input_ids": ROW}, "says nothing of 'attention_mask'"),
    ({"input_ids": ROW, "attention_mask": ROW, "token": ROW}, "no input 'token'"),
    ({"input_ids": ROW, "attention_mask": Bounds(min=(1, 8), opt=(8, 64), max=(32, 128))}, "axes of one name have one length"),
    ({"input_ids": ROW, "attention_mask": Bounds(min=(1,), opt=(8, 64), max=(32, 256))}, "has 1 axes"),
    ({"input_ids": ROW, "attention_mask": Bounds(min=(9, 8), opt=(8, 64), max=(32, 256))},
     "min <= opt <= max does not hold: 9, 8"),
    ({"input_ids": ROW, "attention_mask": Bounds(min=(0, 8), opt=(8, 64), max=(32, 256))}, "must be from 1 to"),
])  # fmt: skip
def test_profile_that_does_not_fit_says_where(one: dict[str, Bounds], said: str) -> None:
    with pytest.raises(PassError, match=said):
        profiles.of(TEXT, [one], [])


def test_fixed_axis_stays_as_it_is() -> None:
    image = signature(image=("batch", 3), scale=(2,))
    wrong = {"image": Bounds(min=(1, 3), opt=(1, 3), max=(1, 4)), "scale": Bounds(min=(2,), opt=(2,), max=(2,))}
    with pytest.raises(PassError, match=r"(?s)'scale' has no axis that may vary.*axis 1 is always 3, not 4"):
        profiles.of(image, [wrong], [])


def test_length_that_nothing_says_is_asked_for() -> None:
    with pytest.raises(PassError, match=r"axis 'length' of 'input_ids'.*profiles"):
        profiles.of(TEXT, (), [])


def test_texts_are_counted_one_by_one_in_tokens(models: dict[str, Path], tmp_path: Path) -> None:
    texts = [{"samples": 2, "texts": ["the cat sat", "a dog ran under the tree"]}]
    (tmp_path / "calls.json").write_text(json.dumps(texts))
    model = files.read_signature(models["bert-simple"])
    seen = profiles.observed_shapes(tmp_path, models["bert-simple"], model)
    assert [shapes["input_ids"] for shapes in seen] == [(1, 2), (1, 5), (1, 8)]
    (profile,) = profiles.of(model, (), seen, 4)
    assert profile.as_json()["input_ids"] == {"min": [1, 2], "opt": [4, 5], "max": [4, 8]}


def test_recorded_arrays_are_read_by_their_shapes(models: dict[str, Path]) -> None:
    model = files.read_signature(models["cnn-simple"])
    assert set(profiles.observed_shapes(models["calls"], models["cnn-simple"], model)[0].values()) == {(2, 3, 16, 16)}


def test_damaged_calls_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "calls.json").write_text('[{"inputs": {"image": {}}}]')
    with pytest.raises(PassError, match="call 0 is damaged"):
        profiles.observed_shapes(tmp_path, models["cnn-simple"], files.read_signature(models["cnn-simple"]))


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 512)), min_size=1), st.integers(1, 64))
def test_profile_from_calls_holds_every_length(shapes: list[tuple[int, int]], max_batch: int) -> None:
    seen: Any = [{"input_ids": shape, "attention_mask": shape} for shape in shapes]
    (profile,) = profiles.of(TEXT, (), seen, max_batch)
    bounds = dict(profile.inputs)["input_ids"]
    assert bounds.min[0] == 1
    assert bounds.max[0] == bounds.opt[0] == max_batch
    assert all(bounds.min[1] <= length <= bounds.max[1] for _, length in shapes)
    assert profiles.of(TEXT, [dict(profile.inputs)], []) == (profile,)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A pass that takes profiles."""

    profiles: tuple[Mapping[str, Bounds], ...] = ()
    """The recipe's own."""


def test_recipe_with_a_mistyped_bound_says_so() -> None:
    from mlpack.recipe.schema import keys_of, validated, wording

    model = keys_of(Config, ())
    row = {"min": [1, 8], "opt": [8, 64], "max": [32, 256]}
    read: Any = validated(model, {"profiles": [{"input_ids": row}]})
    assert read.profiles == ({"input_ids": ROW},)
    wrong = validated(model, {"profiles": [{"input_ids": {**row, "mx": [1]}}, {"mask": {**row, "min": [0.5]}}]})
    assert isinstance(wrong, list)
    assert [(error["loc"], wording(error, model)) for error in wrong] == [
        (("profiles", 0, "input_ids", "mx"), "unknown key; did you mean 'max'? (known: min, opt, max)"),
        (("profiles", 1, "mask", "min", 0), "must be a whole number, not 0.5"),
    ]
