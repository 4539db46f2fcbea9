"""Small real packages for TensorRT: the `tensorrt` pass run on a tiny classifier, as the build would. No GPU is needed."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mlpack.graphs import files
from mlpack.passes import tensorrt
from mlpack.passes.tensorrt import Tensorrt


def engine_package(folder: Path, builder: str = "rtx", flavour: str = "rtx", sm: str = "sm89") -> Path:
    """A model directory of a package: graph, specification, check calls, engine, model.json. A copy of the caller's own."""
    shutil.copytree(_made(builder, flavour, sm), folder)
    return folder


@cache
def _made(builder: str, flavour: str, sm: str) -> Path:
    root = Path(tempfile.mkdtemp(prefix="mlpack-test-engine-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "m").mkdir()
    random = np.random.default_rng(11)
    weights = {"w": random.standard_normal((4, 3)).astype(np.float32), "b": random.standard_normal(3).astype(np.float32)}
    made = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), root / "m")
    (root / "out").mkdir()
    tensorrt.run(root / "m", Tensorrt(builder=builder, flavour=flavour, gpus=(sm,)), root / "out")  # type: ignore[arg-type]
    described = {"schema": 1, "name": "tiny", "version": "1", "variant": "fp32", "target": "gpu-worker", "graph": "model.onnx"}
    (root / "out/model.json").write_text(json.dumps(described))
    return root / "out"
