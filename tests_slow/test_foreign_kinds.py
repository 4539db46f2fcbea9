"""Kinds of models that nobody reported yet, with the recipe that `init` writes on them: float answers equal to the engine's on the
source file, a reason for every other candidate. A few by default, all of them with MLPACK_SOAK=1."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from sample_models.zoo import by_the_engine
from tests.support.models.foreign_kinds import KINDS
from tools import tryout

from mlpack.store.local import Store

FEW = ("finds_nothing", "scan_state", "uint8_picture", "old_resize", "words_inside", "stored_output")


@pytest.mark.parametrize("kind", KINDS if os.environ.get("MLPACK_SOAK") else FEW)
def test_kind_builds_as_init_says(kind: str, store: Store, tmp_path: Path) -> None:
    made, arrays = KINDS[kind]()
    onnx.save(made, tmp_path / "model.onnx")
    np.savez(tmp_path / "eval.npz", **arrays)
    tried = tryout.try_out(tryout.write_recipe(tmp_path / "model.onnx"), store)
    assert tried.code in (0, 5), tried.error
    assert tryout.difference(tried.float_answers, by_the_engine(tmp_path / "model.onnx", tried.calls)) <= 2e-4
    for candidate in tried.record["candidates"]:
        assert candidate["status"] == "ok" or candidate["reasons"], candidate["id"]
