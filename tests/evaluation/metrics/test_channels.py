"""Tests of `mlpack.evaluation.metrics.fidelity.channels`: one bad channel is the value, in every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpack.core.records import MetricSpec
from mlpack.errors import MeasureError, RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores
from mlpack.evaluation.metrics.fidelity import channels

RANDOM = np.random.default_rng(3)
BOXES = RANDOM.uniform(0, 600, (40, 64, 4)).astype(np.float32)
RAW = (RANDOM.random((40, 64, 3)) < 0.02) * RANDOM.uniform(0.6, 1, (40, 64, 3))
DETECTOR = np.concatenate([BOXES, RAW.astype(np.float32)], axis=2)


def _fidelity(ours: Any, theirs: Any, **spec: Any) -> Scores:
    """One call a sample; the output is called y."""
    metric = metrics.find(MetricSpec(name="fidelity", **spec))
    calls = [[{"y": np.asarray(row)[None]} for row in array] for array in (ours, theirs)]
    return metrics.evaluate(metric, calls[0], None, calls[1])


def _rounded(array: Any, step: float) -> Any:
    return (np.round(array / step) * step).astype(array.dtype)


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1)], ids=["boxes last", "transposed"])
def test_detector_of_one_scale_for_pixels_and_scores_is_refused(axes: tuple[int, ...]) -> None:
    """The int8 of a Concat: all columns in steps of 2.5. Of scores nothing is left, and cosine does not see it."""
    float_, shared = DETECTOR.transpose(axes), _rounded(DETECTOR, 631 / 255).transpose(axes)
    found = _fidelity(shared, float_)
    assert (found.value, found.output) == (0.0, "y")
    assert found.column is not None
    assert found.column >= 4
    apart = np.concatenate([_rounded(BOXES, 631 / 255), _rounded(DETECTOR[..., 4:], 1 / 255)], axis=2).transpose(axes)
    assert _fidelity(apart, float_).value > 0.98
    cosine = metrics.find("cosine")
    blind = metrics.evaluate(cosine, [{"y": row[None]} for row in shared], None, [{"y": row[None]} for row in float_])
    assert blind.value > 0.9999


@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-3, 1e-6])
def test_channel_that_became_constant_is_worth_nothing(scale: float) -> None:
    float_ = RANDOM.normal(size=(50, 6)).astype(np.float32)
    float_[:, 4] *= scale
    ours = float_.copy()
    ours[:, 4] = float_[:, 4].mean()
    found = _fidelity(ours, float_)
    assert (found.value, found.column) == (pytest.approx(0.0, abs=1e-3), 4)


def test_value_is_the_share_of_the_variance_that_is_kept() -> None:
    float_ = np.array([[1.0, -1.0], [-1.0, 1.0]] * 20)
    ours = float_.copy()
    ours[:, 1] *= 0.9
    assert _fidelity(ours, float_).value == pytest.approx(1 - 0.01)
    assert _fidelity(ours, float_, column=0).value == 1.0
    assert _fidelity(float_, float_).value == 1.0


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1)], ids=["boxes last", "transposed"])
def test_loss_is_one_minus_the_value_and_may_exceed_one(axes: tuple[int, ...]) -> None:
    """Without samples or intervals: what ranks layers."""
    float_ = DETECTOR.transpose(axes)
    for step in (0.001, 0.05, 0.4):
        ours = _rounded(float_, step)
        lost = channels.similarity_loss([(row[None], other[None]) for row, other in zip(ours, float_, strict=True)])
        assert lost == pytest.approx(1 - _fidelity(ours, float_).value)
    assert channels.similarity_loss([(float_, float_)]) == 0.0
    assert channels.similarity_loss([(3 * float_, float_)]) > 1.0
    assert channels.similarity_loss([(float_ * np.nan, float_)]) == float("inf")
    assert channels.similarity_loss([]) == 0.0
    assert channels.similarity_loss([(np.array([1, 2, 3, 5]), np.array([1, 2, 3, 4]))]) == 0.25


def test_constant_channel_is_judged_by_its_own_size() -> None:
    float_ = np.full((30, 2), 5.0, np.float32)
    float_[:, 1] = 0
    ours = float_ + np.float32(0.05)
    assert _fidelity(ours, float_).value == pytest.approx(1 - 0.01**2, abs=1e-4)
    assert _fidelity(float_ * 0, float_).value == 0.0


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (3, 8, 8), (1, 2000), (4, 4, 4, 2), ()])
def test_any_shape_is_judged(shape: tuple[int, ...]) -> None:
    float_ = RANDOM.normal(size=(30, *shape))
    assert _fidelity(float_ + 0.01 * RANDOM.normal(size=float_.shape), float_).value > 0.99
    assert _fidelity(float_[::-1], float_).value < 0.5


def test_quiet_places_of_a_signal_are_no_channels() -> None:
    """The first samples of audio are silence: an error that is small for the signal is small there too."""
    fade = np.concatenate([np.full(10, 1e-5), np.ones(1490)])
    float_ = RANDOM.normal(size=(20, 1, 1500)) * fade
    assert _fidelity(float_ + 1e-3 * RANDOM.normal(size=float_.shape), float_).value > 0.99


def test_calls_of_several_lengths_and_of_other_rows() -> None:
    metric = metrics.find("fidelity")
    theirs = [{"y": RANDOM.normal(size=(1, n, 4))} for n in (3, 5, 8, 2)]
    ours = [{"y": call["y"] + 0.01} for call in theirs]
    assert metrics.evaluate(metric, ours, None, theirs).value > 0.99
    ours[2] = {"y": ours[2]["y"][:, :-1]}
    found = metrics.evaluate(metric, ours, None, theirs)
    assert (found.value, found.n) == (pytest.approx(0.75, abs=0.01), 4)
    drop, low, high, *_ = metrics.paired_drop(metric, metrics.evaluate(metric, theirs, None), found)
    assert 0 <= low < drop < high <= 1


def test_whole_numbers_and_strings_are_equal_or_not() -> None:
    assert _fidelity(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])).value == 0.75
    assert _fidelity(np.array(["a", "b"]), np.array(["a", "c"])).value == 0.5


def test_infinities_and_nan_of_the_float_say_nothing() -> None:
    float_ = RANDOM.normal(size=(30, 3))
    float_[3, 1], float_[4, 2] = -np.inf, np.nan
    assert _fidelity(float_, float_).value == 1.0
    ours = float_.copy()
    ours[3, 1] = 7
    assert _fidelity(ours, float_).value < 1
    ours[5, 0] = np.inf
    assert _fidelity(ours, float_).value == 0
    ours[5, 0] = np.nan
    with pytest.raises(MeasureError, match="NaN in call 5"):
        _fidelity(ours, float_)


def test_worst_output_counts_and_one_may_be_named() -> None:
    good, bad = np.arange(20.0)[:, None], np.arange(20.0)[:, None] % 3
    theirs = [{"a": row[None], "b": other[None]} for row, other in zip(good, bad, strict=True)]
    ours = [{"a": call["a"], "b": call["b"] * 0} for call in theirs]
    metric = metrics.find("fidelity")
    assert metrics.evaluate(metric, ours, None, theirs).output == "b"
    assert metrics.evaluate(metrics.find(MetricSpec(name="fidelity", output="a")), ours, None, theirs).value == 1.0
    with pytest.raises(RecipeError, match="no output 'c'"):
        metrics.evaluate(metrics.find(MetricSpec(name="fidelity", output="c")), ours, None, theirs)


def test_interval_of_a_drop_holds_it() -> None:
    float_ = RANDOM.normal(size=(200, 5))
    ours = float_ + 0.2 * RANDOM.normal(size=float_.shape)
    metric = metrics.find("fidelity")
    drop, low, high, *_ = metrics.paired_drop(metric, _fidelity(float_, float_), _fidelity(ours, float_))
    assert 0.02 < low < drop < high < 0.08


@pytest.mark.parametrize("scale", [1e300, 1e-150, 3e38])
def test_sizes_near_the_ends_of_double_precision(scale: float) -> None:
    float_ = RANDOM.normal(size=(30, 4)) * scale
    assert _fidelity(float_, float_).value == 1.0
    assert 0 <= _fidelity(float_[::-1], float_).value < 1


def test_calls_whose_outputs_have_another_number_of_axes() -> None:
    metric = metrics.find("fidelity")
    theirs = [{"y": RANDOM.normal(size=shape)} for shape in ((1, 3), (1, 3, 2), (1,))]
    assert metrics.evaluate(metric, theirs, None).value == 1.0
    assert metrics.evaluate(metric, [{"y": call["y"] * 0} for call in theirs], None, theirs).value < 0.2
