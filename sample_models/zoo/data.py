"""Evaluation and calibration data for models that come without any: synthesised, deterministic, and of the kind that each expects.

Pictures of soft shapes over gradients, words in a small bitmap font, tones with harmonics and breath, smooth walks where a model
takes another's features. They exercise what the models do; they say nothing of how good the models are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_FONT = {
    "0": "0e11191513110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    "a": "0e11111f111111", "b": "1e11111e11111e", "c": "0e11101010110e", "d": "1c12111111121c", "e": "1f10101e10101f",
    "f": "1f10101e101010", "h": "1111111f111111", "k": "11121418141211", "n": "11111915131111", "r": "1e11111e141211",
    "t": "1f040404040404", "u": "1111111111110e", "x": "11110a040a1111", "y": "1111110a040404", "z": "1f01020408101f",
}  # fmt: skip
"""Seven rows of five dots, a byte a row."""


def pictures(count: int, height: int, width: int, seed: int) -> Array:
    """[count, 3, height, width] between 0 and 1: two gradients, a few ellipses with soft edges, grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype("f4")
    made = np.empty((count, 3, height, width), "f4")
    for number in range(count):
        ends = random.uniform(0.1, 0.9, (2, 3, 1, 1)).astype("f4")
        along = (x / width if number % 2 else y / height)[None]
        picture = ends[0] * (1 - along) + ends[1] * along
        for _ in range(int(random.integers(3, 8))):
            cy, cx = random.uniform(0, 1, 2) * (height, width)
            ry, rx = random.uniform(0.04, 0.3, 2) * (height, width)
            distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
            weight = 1 / (1 + np.exp(np.clip(8 * (distance - 1), -30, 30)))
            picture = picture * (1 - weight) + random.uniform(0, 1, (3, 1, 1)) * weight
        made[number] = np.clip(picture + random.normal(0, 0.02, picture.shape), 0, 1)
    return made


def words(count: int, width: int, seed: int) -> Array:
    """[count, 1, 64, width] between 0 and 1: four characters, dark on light, shaken and spotted as captchas are."""
    random = np.random.default_rng(seed)
    made = np.empty((count, 1, 64, width), "f4")
    for number in range(count):
        ground = np.full((64, width), random.uniform(0.75, 1.0))
        for place, letter in enumerate(random.choice(sorted(_FONT), 4)):
            rows = np.array([[int(_FONT[letter][2 * r : 2 * r + 2], 16) >> (4 - c) & 1 for c in range(5)] for r in range(7)])
            glyph = np.kron(rows, np.ones((6, 6)))
            top, left = int(random.integers(4, 18)), 6 + place * ((width - 12) // 4) + int(random.integers(0, 4))
            ground[top : top + 42, left : left + 30] -= 0.6 * glyph[:, : max(0, width - left)]
        made[number, 0] = np.clip(ground + random.normal(0, 0.05, ground.shape), 0, 1)
    return made


def tones(count: int, samples: int, rate: int, seed: int) -> Array:
    """[count, samples] between -1 and 1: one to three notes with harmonics that swell and fade, over noise."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    made = np.empty((count, samples), "f4")
    for number in range(count):
        sound = random.normal(0, 0.003, samples)
        for _ in range(int(random.integers(1, 4))):
            pitch = 440 * 2 ** (float(random.integers(-24, 24)) / 12)
            begin, length = random.uniform(0, 0.6) * time[-1], random.uniform(0.2, 0.8) * time[-1]
            envelope = np.clip((time - begin) / 0.02, 0, 1) * np.clip((begin + length - time) / 0.1, 0, 1)
            sound += envelope * sum(np.sin(2 * np.pi * pitch * k * time) * 0.25 / k**1.5 for k in range(1, 6))
        made[number] = np.clip(sound, -1, 1)
    return made


def features(count: int, shape: tuple[int, ...], mean: float, spread: float, seed: int) -> Array:
    """[count, *shape] of walks along the first axis that return to `mean`, as frames of sound or of another model are."""
    random = np.random.default_rng(seed)
    level = random.normal(0, spread, (count, 1, *shape[1:]))
    made = np.empty((count, *shape), "f4")
    state: NDArray[Any] = level[:, 0]
    for frame in range(shape[0]):
        state = 0.9 * state + random.normal(0, 0.45 * spread, state.shape)
        made[:, frame] = mean + state
    return made
