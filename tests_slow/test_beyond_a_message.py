"""A model of more than a message's 2 GiB through every step that looks at its numbers, in a fraction of its bytes."""

from __future__ import annotations

from pathlib import Path

from tests.passes import test_memory as memory

COUNT = 140
"""Matrices: 2.35 GB."""
HALF = ("half", "precision", "adopt", {"type": "fp16"})
MOST = 1 << 30
"""Bytes of memory, what Python and the engine take included: the model's are mapped."""


def test_static_smoothed_corrected_ranked_and_halved(tmp_path: Path) -> None:
    assert COUNT * memory.MATRIX_BYTES > 2**31
    model = memory.chain(tmp_path / "model", COUNT, inside=False)
    taken = memory.peak(model, tmp_path / "work", (*memory.STATIC, HALF))
    assert taken <= MOST, f"{taken:,} bytes"
