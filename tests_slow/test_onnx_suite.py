"""ONNX's own backend tests, as models that somebody brings: none is refused and none comes out wrong.

By default 150 of them, evenly over their names; with MLPACK_SOAK=1 all.
"""

from __future__ import annotations

import os

from tests_slow import onnx_suite


def test_every_model_that_the_engine_runs_comes_out_right() -> None:
    every = list(onnx_suite.cases())
    chosen = every if os.environ.get("MLPACK_SOAK") == "1" else onnx_suite.sample(every, 150)
    found = onnx_suite.run(chosen)
    said = onnx_suite.summary(found)
    print(said)
    by = {what: [each for each in found if each.what == what] for what in ("right", "refused", "wrong")}
    assert not by["refused"], said
    assert not by["wrong"], said
    assert len(by["right"]) > len(found) // 2
