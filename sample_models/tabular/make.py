"""Trains the tabular sample and writes `model.onnx`, `model.onnx.data`, `eval.npz` and `calib.npz` beside this file.

    python -m sample_models.tabular.make

A perceptron with two hidden layers that tells handwritten digits apart by 64 columns: how much ink (0..16) each cell of
an 8x8 grid holds. The data set comes with scikit-learn (`load_digits`, 1,797 rows), so nothing is downloaded. Every
third row is kept for evaluation; the calibration rows are among those trained on. The graph is written node by node,
its weights in a file of their own, as exporters leave models that are too large for one; the standardisation of the
columns is part of it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sample_models.npz import write_npz

HERE = Path(__file__).parent
HIDDEN = (256, 128)
CALIBRATION, SEED = 256, 20260101
OPSET, IR_VERSION = 20, 10

Array = NDArray[Any]


def split() -> tuple[Array, Array, Array, Array]:
    """Rows and digits to train on, then those to evaluate with; none of the former is among the latter."""
    rows, digits = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    kept = np.arange(len(rows)) % 3 == 0
    evaluated = {row.tobytes() for row in rows[kept]}
    trained = np.array([not keep and row.tobytes() not in evaluated for keep, row in zip(kept, rows, strict=True)])
    return rows[trained], digits[trained], rows[kept], digits[kept].astype(np.int64)


def graph(scaler: StandardScaler, network: MLPClassifier) -> onnx.ModelProto:
    """`features [batch, 64] -> logits [batch, 10]`: subtract, multiply, then Gemm and Relu by turns."""
    weights = {"mean": scaler.mean_, "inverse_deviation": 1 / scaler.scale_}
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"], name="centre"),
        helper.make_node("Mul", ["centred", "inverse_deviation"], ["hidden_0"], name="scale"),
    ]
    last = len(network.coefs_)
    for layer, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True), start=1):
        weights |= {f"weight_{layer}": weight, f"bias_{layer}": bias}
        result = "logits" if layer == last else f"sum_{layer}"
        inputs = [f"hidden_{layer - 1}", f"weight_{layer}", f"bias_{layer}"]
        nodes.append(helper.make_node("Gemm", inputs, [result], name=f"layer_{layer}"))
        if layer < last:
            nodes.append(helper.make_node("Relu", [result], [f"hidden_{layer}"], name=f"relu_{layer}"))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(scaler.mean_)])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(network.classes_)])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sample_models.tabular",
    )


def main() -> None:
    rows, digits, test_rows, test_digits = split()
    scaler = StandardScaler().fit(rows)
    scaler.scale_ = np.where(scaler.scale_ < 0.1, 1.0, scaler.scale_)  # cells that are all but always empty
    network = MLPClassifier(HIDDEN, alpha=1e-3, batch_size=64, max_iter=500, random_state=SEED)
    with threadpool_limits(1):  # the order of sums in a threaded product is not fixed
        network.fit(scaler.transform(rows), digits)
    model = graph(scaler, network)
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory(prefix=".make-", dir=HERE) as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save_model(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=1024)
        for name in ("model.onnx.data", "model.onnx"):
            (Path(scratch) / name).chmod(0o644)  # onnx makes the data readable by its owner alone
            (Path(scratch) / name).replace(HERE / name)
    write_npz(HERE / "eval.npz", {"features": test_rows, "labels": test_digits})
    write_npz(HERE / "calib.npz", {"features": rows[:CALIBRATION]})


if __name__ == "__main__":
    main()
