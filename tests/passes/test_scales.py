"""Steps of 8 bits: for weights, ranges and biases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.passes.quantize import scales

REACH = st.floats(min_value=0, max_value=1e30, allow_nan=False, allow_subnormal=False)


@given(low=REACH.map(lambda value: -value), high=REACH, signed=st.booleans(), symmetric=st.booleans())
def test_ranges_hold_zero_exactly_and_their_ends_nearly(low: float, high: float, signed: bool, symmetric: bool) -> None:
    step, zero = scales.of_range(low, high, signed=signed, symmetric=symmetric)
    lowest, highest = (-128, 127) if signed else (0, 255)
    assert lowest <= zero <= highest
    assert step >= scales.SMALLEST_SCALE
    assert step == np.float32(step)
    for end in (low, high):
        whole = np.clip(round(end / step) + zero, lowest, highest)
        assert abs((whole - zero) * step - end) <= 1.01 * step
    if symmetric and low < 0 < high:
        assert zero == (0 if signed else 128)


def test_what_begins_at_zero_uses_every_step() -> None:
    assert scales.of_range(0, 25.5, signed=False, symmetric=True) == (pytest.approx(0.1), 0)
    assert scales.of_range(0, 25.5, signed=True, symmetric=True) == (pytest.approx(0.1), -128)
    assert scales.of_range(0, 0, signed=False, symmetric=False) == (1.0, 0)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_are_within_half_a_step(axis: int | None) -> None:
    values = np.random.default_rng(0).normal(size=(5, 7, 3)).astype("f4")
    values[2, 3] = 0
    whole, steps = scales.of_weight(values, axis, 64)
    spread = steps if axis is None else steps.reshape([-1 if place == axis else 1 for place in range(3)])
    assert int(np.abs(whole.astype(int)).max()) == 64
    assert (np.abs(whole * spread - values) <= 0.5001 * spread).all()
    assert not whole[2, 3].any()


@pytest.mark.parametrize("bias", [0.0, 1e-20, 1.0, 1e20])
def test_biases_fit(bias: float) -> None:
    values = np.stack([np.full((4, 3, 3), size, "f4") for size in (1.0, 1e-30, 0.0)])
    biases = np.full(3, bias, "f4")
    whole, steps = scales.of_weight(values, 0, 127, scales.for_bias(biases, 0.01))
    stored, of_bias = scales.of_bias(biases, 0.01, steps)
    assert stored.dtype == np.int32
    assert np.isfinite(of_bias).all()
    assert (np.abs(stored * of_bias.astype("f8") - biases) <= 1e-6 * np.abs(biases) + of_bias).all()
    assert bias > 1e10 or int(whole[0].max()) == 127
