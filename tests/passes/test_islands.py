"""Islands of 8 bits, counted on graphs of convolutions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.passes.quantize.islands import PAYS, NodeLoad, islands, saved, unpaying

PIXELS, CHANNELS = 64.0, 32


def chain(*between: str) -> onnx.ModelProto:
    """Convolutions c0, c1, ... with these operators between them."""
    nodes, stored, last = [], [], "x"
    for number in range(len(between) + 1):
        weight = np.ones((CHANNELS, CHANNELS, 3, 3), "float32")
        stored.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"t{number}"], f"c{number}", pads=[1, 1, 1, 1]))
        last = f"t{number}"
        if number < len(between):
            nodes.append(helper.make_node(between[number], [last], [f"s{number}"], f"o{number}"))
            last = f"s{number}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 8, 8]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def loads(count: int, work: float = 9.0 * CHANNELS) -> dict[str, NodeLoad]:
    """Multiplications for each value that is written."""
    size = PIXELS * CHANNELS
    return {f"c{number}": NodeLoad(work=work * size, read=size, written=size) for number in range(count)}


def test_a_run_that_stays_in_8_bits_is_one_island() -> None:
    (island,) = islands(chain("Relu", "MaxPool", "Relu"), {f"c{n}" for n in range(4)}, loads(4))
    assert island.nodes == ["c0", "c1", "c2", "c3"]
    assert island.crossing == 2 * PIXELS * CHANNELS  # in at the first, out at the last


@pytest.mark.parametrize("float_", [["Softmax"], ["Erf"], ["Exp"]])
def test_what_has_no_kernel_in_8_bits_parts_two(float_: list[str]) -> None:
    first, second = islands(chain(*float_), {"c0", "c1"}, loads(2))
    assert (first.nodes, second.nodes) == (["c0"], ["c1"])
    assert first.crossing == second.crossing == 2 * PIXELS * CHANNELS


def test_a_convolution_that_is_put_back_parts_two() -> None:
    found = islands(chain("Relu", "Relu"), {"c0", "c2"}, loads(3))
    assert [island.nodes for island in found] == [["c0"], ["c2"]]
    assert sum(island.crossing for island in found) == 4 * PIXELS * CHANNELS


def test_island_pays_by_products_for_each_value_that_crosses() -> None:
    model, static = chain("Relu", "Relu"), {"c0", "c1", "c2"}
    just = 2 * PAYS / 3  # three convolutions share two borders
    assert unpaying(model, static, loads(3, just * 0.99)) == ("c0", "c1", "c2")
    assert unpaying(model, static, loads(3, just * 1.01)) == ()
    assert unpaying(model, {"c1"}, loads(3, just * 1.01)) == ("c1",)
    assert saved(model, static, loads(3, just * 0.99)) == 0
    assert 0 < saved(model, static, loads(3, just * 1.01)) < 0.02


def test_what_nothing_is_known_of_counts_for_nothing() -> None:
    assert islands(chain("Relu"), {"c0", "c1"}, {}) == []
    assert saved(chain("Relu"), {"c0", "c1"}, {}) == 0
    assert unpaying(chain("Relu"), set(), loads(2)) == ()
