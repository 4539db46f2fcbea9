"""8-bit numbers: the step of a range and of a weight, and how a bias fits beside them.

Promises:
- Scales are float32 and never too small for all their bits. Zero stays exactly zero.
- A channel's step is widened where its bias would not fit into 32 bits otherwise (onnxruntime's own adjustment raises on some
  graphs).
- A weight is read in parts, so that a mapped one takes the memory of its 8 bits and little more.

Will not: know graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    Array = np.ndarray[Any, Any]

SMALLEST_SCALE = 2.0**-126
"""The smallest float32 with all its bits."""

_BIAS_STEPS = 2**30
"""A 32-bit bias has twice as many on each side; the sums of products need room too."""

_PART_BYTES = 8 << 20


def of_weight(values: Array, axis: int | None, steps: int, least: Array | None = None) -> tuple[Array, Array]:
    """A weight in `-steps` to `steps`, and its scale: one, or one for each index of `axis`. `least`: the smallest scale allowed."""
    import numpy as np

    others = None if axis is None else tuple(place for place in range(values.ndim) if place != axis)
    reached = np.zeros(() if axis is None else values.shape[axis])
    for part in _parts(values):
        there = () if axis is None else part[axis]
        reached[there] = np.maximum(reached[there], np.abs(values[part]).max(axis=others, initial=0))
    scales = np.where(reached > 0, np.maximum(reached / steps, SMALLEST_SCALE), 1.0)
    if least is not None:
        scales = np.maximum(scales if axis is not None else np.full(np.shape(least), scales).max(), least)
    scales = np.asarray(scales if axis is not None else np.max(scales), np.float32)
    spread = scales if axis is None else scales.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
    whole = np.empty_like(values, np.int8)
    for part in _parts(values):
        step = spread if axis is None else spread[tuple(at if place == axis else slice(None) for place, at in enumerate(part))]
        whole[part] = np.clip(np.rint(values[part] / step), -steps, steps).astype(np.int8)
    return whole, scales


def _parts(values: Array) -> Iterator[tuple[slice, ...]]:
    """The indices of parts of an array that are apart in memory as well."""
    whole = [slice(None)] * values.ndim
    if values.nbytes <= _PART_BYTES:
        yield tuple(whole)
        return
    first = max(range(values.ndim), key=lambda place: (abs(values.strides[place]), values.shape[place]))
    step = max(1, _PART_BYTES * values.shape[first] // values.nbytes)
    for start in range(0, values.shape[first], step):
        yield (*whole[:first], slice(start, start + step), *whole[first + 1 :])


def for_bias(bias: Array, activation: float) -> Array:
    """The smallest scales of a weight's channels with which a bias fits into 32 bits, beside activations of this scale."""
    import numpy as np

    return np.asarray(np.abs(bias).astype(np.float64) / (activation * _BIAS_STEPS), np.float64)


def of_bias(bias: Array, activation: float, weight: Array) -> tuple[Array, Array]:
    """A bias in 32 bits, and its scale: one for each of its values, the product of the others'."""
    import numpy as np

    scales = np.broadcast_to(np.float64(activation) * weight.astype(np.float64), bias.shape)
    scales = np.maximum(scales, SMALLEST_SCALE).astype(np.float32)
    return np.clip(np.rint(bias / scales.astype(np.float64)), -(2.0**31 - 1), 2.0**31 - 1).astype(np.int32), scales


def of_range(low: float, high: float, *, signed: bool, symmetric: bool) -> tuple[float, int]:
    """The scale and zero point of activations between two values; zero is between them or becomes one of them.

    `symmetric`: zero in the middle where there are values on both sides of it.
    """
    import numpy as np

    low, high = min(0.0, low), max(0.0, high)
    lowest, highest = (-128, 127) if signed else (0, 255)
    if symmetric and low < 0 < high:
        scale = float(np.float32(max(max(-low, high) / 127, SMALLEST_SCALE)))
        return scale, lowest + 128
    scale = float(np.float32(max((high - low) / 255, SMALLEST_SCALE) if high > low else 1.0))
    return scale, int(np.clip(round(lowest - low / scale), lowest, highest))
