"""From one sampling rate to another: the filter that a graph multiplies with, and how it cuts the samples. Pure.

A windowed sinc as torchaudio's `resample` has it, which transformers' pipelines use: Hann window, 6 zeros a side, rolled off at
0.99 of the lower rate. Julius O. Smith, Digital Audio Resampling.
"""

from array import array
from math import ceil, cos, gcd, pi, sin

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tensor import Tensor

_ZEROS, _ROLLOFF = 6, 0.99
_BLOCK = 256
"""Samples of a block at least: short blocks would be read many times, as part of their neighbours."""
_MOST = 1_000_000
"""Numbers of a filter, of which several are kept. Ordinary rates have up to 300,000; rates without a common divisor the product of
both."""


class Filter:
    """What takes blocks of `block` samples, each with `width` of its neighbours on both sides, to `step` samples each."""

    __slots__ = ("block", "kernel", "new", "old", "step", "width")

    def __init__(self, old: int, new: int) -> None:
        """`old` and `new` in Hz. Raises RequestError where the two do not fit together."""
        divisor = gcd(old, new)
        self.old, self.new = old // divisor, new // divisor
        base = min(self.old, self.new) * _ROLLOFF
        self.width = ceil(_ZEROS * self.old / base)
        times = max(1, -(-_BLOCK // self.old), -(-self.width // self.old))
        self.block, self.step = times * self.old, times * self.new
        taps = self.block + 2 * self.width
        if taps * self.step > _MOST:
            raise RequestError(
                f"the sound has {old} Hz, which has no short ratio to the model's {new} Hz: send it at {new} Hz",
                422,
                "Unprocessable",
            )
        self.kernel = Tensor("FP32", (taps, self.step), _kernel(self, base, taps))

    def frames(self, frames: int) -> int:
        """How many samples come out."""
        return -(-self.new * frames // self.old)


def _kernel(filter_: Filter, base: float, taps: int) -> memoryview:
    """[taps, step], zero where the window has ended: of each column only that part is computed."""
    kernel = array("f", bytes(4 * taps * filter_.step))
    scale, reach = base / filter_.old, _ZEROS / base
    for at in range(filter_.step):
        centre = at / filter_.new
        first = max(0, ceil((centre - reach) * filter_.old) + filter_.width)
        last = min(taps - 1, int((centre + reach) * filter_.old) + filter_.width)
        for tap in range(first, last + 1):
            time = ((tap - filter_.width) / filter_.old - centre) * base
            if abs(time) < _ZEROS:
                sinc = sin(pi * time) / (pi * time) if time else 1.0
                kernel[tap * filter_.step + at] = sinc * cos(pi * time / _ZEROS / 2) ** 2 * scale
    return memoryview(kernel).cast("B")
