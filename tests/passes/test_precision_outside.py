"""float16 of weights that lie in files: the same bytes as with all of them in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support.models.quantized_graphs import KINDS

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.graphs import files, spill
from mlpack.graphs import weights as stored
from mlpack.passes import precision
from mlpack.passes.precision import Precision


def made(graph: onnx.ModelProto, folder: Path, keep: tuple[str, ...]) -> str:
    """The digest of what the pass makes of it, or its refusal."""
    (folder / "float").mkdir(parents=True)
    (folder / "out").mkdir()
    copied = onnx.ModelProto()
    copied.CopyFrom(graph)
    files.save(copied, folder / "float")
    try:
        precision.run(folder / "float", Precision(keep_float=keep), folder / "out")
    except PassError as error:
        return str(error)
    assert not [path for path in (folder / "out").iterdir() if path.is_dir()]
    return str(digest.of_tree(folder / "out"))


@pytest.mark.parametrize("keep", [(), ("MatMul",)], ids=["all", "products-float"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_the_same_wherever_weights_lie(
    kind: str, keep: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, _ = KINDS[kind]()
    for tensor in graph.graph.initializer:  # what float16 hardly holds, and both zeros
        if tensor.data_type == 1 and len(tensor.raw_data) > 4096:
            values = np.frombuffer(tensor.raw_data, "f4").copy()
            values[:4] = (1e-9, -1e-9, 0.0, -0.0)
            tensor.raw_data = values.tobytes()
    inside = made(graph, tmp_path / "inside", keep)
    monkeypatch.setattr(stored, "LARGE_BYTES", 4096)
    monkeypatch.setattr(spill, "HELD_BYTES", 1024)
    monkeypatch.setattr(precision, "_PART", 100)
    assert made(graph, tmp_path / "outside", keep) == inside
