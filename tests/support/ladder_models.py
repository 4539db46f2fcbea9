"""Small models of which one layer ruins int8, with their projects: for tests of the search between int8 and float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support import workshop
from tests.support.workshop import FEATURES, Workshop

LAYERS, BAD = 12, 7

PLAIN = """\
name: ladder
source: {onnx: model.onnx}
data: {evaluation: eval.npz, calibration: calib.npz}
metric: cosine
variants: {fp32: [], int8: [quantize]}
targets:
  lambda-zip: {arch: x86_64, memory_mb: 1769}
budgets: {accuracy_drop: 0.01}
prefer: size
"""
RECIPE = PLAIN + "search: {minutes: 60}\n"
"""Without minutes of its own a search ends by how quick the machine is."""


def chain(root: Path, recipe: str = RECIPE, layers: int = LAYERS, bad: int = BAD) -> Workshop:
    """Products of matrices one after the other; in each column of one of them a weight is so large that 7 bits leave the others
    nothing, and what it is multiplied with is so small that the others matter."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    nodes, stored, name = [], [], "x"
    for layer in range(layers):
        weight = random.normal(size=(FEATURES, FEATURES)).astype("float32") / FEATURES**0.5
        if layer == bad:
            weight[0] = 300.0
        stored.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"h{layer}"], f"product{layer}"))
        scale = np.ones(FEATURES, "float32")
        scale[0] = 1e-5 if layer == bad - 1 else 1.0
        stored.append(numpy_helper.from_array(scale, f"s{layer}"))
        nodes.append(helper.make_node("Tanh", [f"h{layer}"], [f"t{layer}"], f"tanh{layer}"))
        nodes.append(helper.make_node("Mul", [f"t{layer}", f"s{layer}"], [f"m{layer}"], f"scale{layer}"))
        name = f"m{layer}"
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["batch", FEATURES]) for each in ("x", name)]
    return _project(root, helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), (FEATURES,), recipe)


def convolutions(root: Path, recipe: str = RECIPE) -> Workshop:
    """Convolutions one after the other, of which one has such weights."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    nodes, stored, name, channels = [], [], "x", 16
    for layer in range(LAYERS):
        weight = random.normal(size=(channels, channels, 3, 3)).astype("float32") / (9 * channels) ** 0.5
        if layer == BAD:
            weight[:, 0] = 300.0
        scale = np.ones((1, channels, 1, 1), "float32")
        scale[0, 0] = 1e-5 if layer == BAD - 1 else 1.0
        stored += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(scale, f"s{layer}")]
        nodes.append(helper.make_node("Conv", [name, f"w{layer}"], [f"h{layer}"], f"conv{layer}", pads=[1] * 4))
        nodes.append(helper.make_node("Tanh", [f"h{layer}"], [f"t{layer}"], f"tanh{layer}"))
        nodes.append(helper.make_node("Mul", [f"t{layer}", f"s{layer}"], [f"m{layer}"], f"scale{layer}"))
        name = f"m{layer}"
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["batch", channels, 8, 8]) for each in ("x", name)]
    return _project(root, helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), (channels, 8, 8), recipe)


def recurrent(root: Path, recipe: str = RECIPE) -> Workshop:
    """Three LSTMs one after the other; the second reads a channel that is nearly nought by weights of a hundred times the size."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    size, nodes, stored, name = 32, [], [], "x"
    for layer in range(3):
        given = random.normal(size=(1, 4 * size, size)).astype("float32") / size**0.5
        again = random.normal(size=(1, 4 * size, size)).astype("float32") / size**0.5
        scale = np.ones(size, "float32")
        if layer == 1:
            given[:, :, 0], scale[0] = 300.0, 1e-5
        stored += [numpy_helper.from_array(each, f"{kind}{layer}") for kind, each in (("w", given), ("r", again), ("s", scale))]
        nodes.append(helper.make_node("Mul", [name, f"s{layer}"], [f"m{layer}"], f"scale{layer}"))
        ends = [f"w{layer}", f"r{layer}"]
        nodes.append(helper.make_node("LSTM", [f"m{layer}", *ends], [f"y{layer}"], f"lstm{layer}", hidden_size=size))
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "axes"], [f"h{layer}"], f"squeeze{layer}"))
        name = f"h{layer}"
    stored.append(numpy_helper.from_array(np.array([1], "int64"), "axes"))
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["steps", 1, size]) for each in ("x", name)]
    return _project(root, helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), (9, 1, size), recipe)


def _project(root: Path, graph: Any, shape: tuple[int, ...], recipe: str) -> Workshop:
    import numpy as np
    import onnx
    from onnx import helper

    made = workshop.make(root)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for leftover in root.glob("model.onnx*"):
        leftover.unlink()
    onnx.save(model, root / "model.onnx")
    random = np.random.default_rng(11)
    for name, count in (("eval", 24), ("calib", 12)):
        np.savez(root / f"{name}.npz", x=random.normal(size=(count, *shape)).astype("float32"))
    made.recipe.write_text(recipe)
    return made
