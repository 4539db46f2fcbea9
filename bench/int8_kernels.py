"""What stands between two int8 convolutions: in 8 bits, with a pair around each operator, against float between two conversions.

Each form is a graph of two convolutions of one pixel with the form between them, written with pairs as `quantize` writes them. The
engine makes what it can of them. Sides take turns on one thread; what counts is the thread's own processor time. Forms that
`quantize` puts in 8 bits must not lose, at any of three shapes. Those that it leaves float stand beside them. `--runs` are rounds.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from common import Row, number, parser, ratio, report, scratch
from onnx import TensorProto, helper, numpy_helper

SHAPES = ((32, 8), (32, 80), (128, 20))
"""Channels, height and width."""
MOST = 1.1
"""Of what `quantize` puts in 8 bits, over float between conversions: noise on graphs of 10 microseconds is 5 %."""
BLOCK_S = 0.01
LEFT_OUT = ["NchwcTransformer", "WeightBiasQuantization"]
"""As `optimize` leaves them out."""


@dataclass(slots=True)
class Graph:
    """A graph in the making; `whole` says whether operators between have pairs."""

    whole: bool
    channels: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)

    def keep(self, values: Any) -> str:
        """A stored tensor's name."""
        self.stored.append(numpy_helper.from_array(np.asarray(values), f"k{len(self.stored)}"))
        return str(self.stored[-1].name)

    def node(self, kind: str, *takes: str, **attributes: Any) -> str:
        """The name of what a node gives."""
        self.nodes.append(helper.make_node(kind, takes, [f"t{len(self.nodes)}"], name=f"n{len(self.nodes)}", **attributes))
        return str(self.nodes[-1].output[0])

    def pair(self, tensor: str, low: float = -4.0, high: float = 4.0, cut: float = 1.0) -> str:
        """The tensor in 8 bits and back; `cut`: the first of the two scales over the second."""
        step = (high - low) / 255
        zero = self.keep(np.uint8(round(-low / step)))
        eight = self.node("QuantizeLinear", tensor, self.keep(np.float32(step * cut)), zero)
        return self.node("DequantizeLinear", eight, self.keep(np.float32(step)), zero)

    def inner(self, tensor: str, low: float = -4.0, high: float = 4.0) -> str:
        """A pair where the form is in 8 bits, else the tensor."""
        return self.pair(tensor, low, high) if self.whole else tensor

    def convolution(self, tensor: str, groups: int = 1, size: int = 1, *, float_weights: bool = False) -> str:
        """A convolution's result; its weights have 7 bits."""
        shape = (self.channels, self.channels // groups, size, size)
        values = np.random.default_rng(0).integers(-64, 64, shape).astype(np.int8)
        scales = np.full(self.channels, 0.02, np.float32)
        if float_weights:
            weight = self.keep(values.astype(np.float32) * np.float32(0.02))
        else:
            zero = self.keep(np.zeros(self.channels, np.int8))
            weight = self.node("DequantizeLinear", self.keep(values), self.keep(scales), zero, axis=0)
        return self.node("Conv", tensor, weight, kernel_shape=[size, size], pads=[size // 2] * 4, group=groups)


def gated(kind: str, **said: float) -> Callable[[Graph, str], str]:
    """The operator's result as a gate of what it takes."""
    return lambda g, x: g.inner(g.node("Mul", x, g.inner(g.node(kind, x, **said), 0, 1)))


def alone(kind: str, low: float = -4.0, high: float = 4.0, **said: Any) -> Callable[[Graph, str], str]:
    """One operator."""
    return lambda g, x: g.inner(g.node(kind, x, **said), low, high)


def hard_swish(g: Graph, x: str) -> str:
    """As `quantize` writes it: a sum that its range cuts off."""
    if not g.whole:
        return g.node("Mul", x, g.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    shifted = g.node("Add", x, g.pair(g.keep(np.float32(3)), 0, 3))
    return g.pair(g.node("Mul", x, g.pair(shifted, 0, 1, cut=6.0)))


def squeezed(g: Graph, x: str) -> str:
    """A gate of each channel, from its mean."""
    mean = g.pair(g.convolution(g.pair(g.node("GlobalAveragePool", x))))
    return g.inner(g.node("Mul", x, g.inner(g.node("Sigmoid", mean), 0, 1)))


def residual(g: Graph, x: str) -> str:
    """SiLU and a sum with it."""
    gate = gated("Sigmoid")(g, x)
    return g.inner(g.node("Add", gate, g.inner(g.node("LeakyRelu", x, alpha=0.1))))


def parted(g: Graph, x: str) -> str:
    """Two parts, changed about."""
    half = g.channels // 2
    ends = [g.keep(np.array([end])) for end in (0, half, 2 * half, 1)]
    parts = [g.inner(g.node("Slice", x, low, high, ends[3])) for low, high in ((ends[0], ends[1]), (ends[1], ends[2]))]
    return g.inner(g.node("Concat", *reversed(parts), axis=1))


def depthwise(g: Graph, x: str) -> str:
    """A depthwise convolution of 3 by 3."""
    return g.inner(g.convolution(x, g.channels, 3, float_weights=not g.whole))


def by_channel(g: Graph, x: str) -> str:
    """A normalisation: as a depthwise convolution of one weight a channel where it is in 8 bits."""
    if g.whole:
        return g.pair(g.convolution(x, g.channels))
    return g.node("BatchNormalization", x, *(g.keep(np.ones(g.channels, np.float32)) for _ in range(4)))


FORMS: dict[str, tuple[Callable[[Graph, str], str], bool]] = {
    "SiLU (Sigmoid, Mul)": (gated("Sigmoid"), True),
    "HardSwish": (hard_swish, True),
    "Sigmoid of the mean, Mul": (squeezed, True),
    "SiLU, LeakyRelu, Add": (residual, True),
    "Slice, Concat": (parted, True),
    "depthwise Conv": (depthwise, True),
    "BatchNormalization": (by_channel, True),
    "Resize, nearest": (lambda g, x: g.inner(g.node("Resize", x, "", g.keep(np.array([1, 1, 2, 2], "f4")), mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor")), True),
    "Resize, linear": (lambda g, x: g.inner(g.node("Resize", x, "", g.keep(np.array([1, 1, 2, 2], "f4")), mode="linear")), False),
    "Softmax over channels": (alone("Softmax", 0, 1, axis=1), False),
    "Tanh": (alone("Tanh", -1, 1), False),
    "Elu": (alone("Elu"), False),
    "Mul by a constant of each channel": (
        lambda g, x: g.inner(g.node("Mul", x, g.inner(g.keep(np.ones((1, g.channels, 1, 1), np.float32))))), False),
}  # fmt: skip
"""What stands between, and whether `quantize` puts it in 8 bits."""


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, runs=15).parse_args()
    rows: list[Row] = []
    with scratch() as work:
        for name, (form, placed) in FORMS.items():
            rows += [measured(f"{name}, {c} × {s} × {s}", form, (c, s), work, options.runs, MOST if placed else None)
                     for c, s in SHAPES]  # fmt: skip
    how = "processor time of one thread, a form between two int8 convolutions: in 8 bits / in float between conversions"
    return report("int8_kernels", rows, how, options.out)


def measured(
    name: str, form: Callable[[Graph, str], str], shape: tuple[int, int], work: Path, rounds: int, most: float | None
) -> Row:  # fmt: skip
    """One form at one shape. Beside the ratio: microseconds and conversions of both sides."""
    channels, size = shape
    feed = {"x": np.random.default_rng(0).integers(0, 255, (1, channels, size, size)).astype(np.uint8)}
    opened, converted = {}, {}
    for whole in (True, False):
        opened[whole], converted[whole] = session(made(form, channels, size, whole=whole), work / "optimised.onnx")
    calls = max(3, min(300, round(BLOCK_S / seconds(opened[False], feed, 3))))
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number_ in range(rounds):
        for whole in (True, False) if number_ % 2 else (False, True):
            taken[whole].append(seconds(opened[whole], feed, calls))
    told = [f"{number(min(taken[whole]) * 1e6)} µs with {converted[whole]} conversions" for whole in (True, False)]
    row = ratio(name, taken[True], taken[False], **({} if most is None else {"at_most": most}))
    return Row(name=name, value=row.value, unit=row.unit, detail=f"{' / '.join(told)}; {row.detail}", at_most=most)


def made(form: Callable[[Graph, str], str], channels: int, size: int, *, whole: bool) -> onnx.ModelProto:
    """The graph: 8 bits in and out, so that nothing else is converted."""
    g = Graph(whole, channels)
    step, zero = g.keep(np.float32(8 / 255)), g.keep(np.uint8(128))
    first = g.pair(g.convolution(g.node("DequantizeLinear", "x", step, zero)))
    between = form(g, first)
    last = g.convolution(between if whole else g.pair(between))
    result = g.node("QuantizeLinear", last, step, zero)
    ends = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, channels, size, size])
    graph = helper.make_graph(g.nodes, "form", [ends], [helper.make_empty_tensor_value_info(result)], g.stored)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def session(model: onnx.ModelProto, path: Path) -> tuple[onnxruntime.InferenceSession, int]:
    """The engine with the graph, and the conversions that are left in what it makes of it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    opened = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=LEFT_OUT
    )
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return opened, kinds["QuantizeLinear"] + kinds["DequantizeLinear"]


def seconds(opened: onnxruntime.InferenceSession, feed: dict[str, Any], calls: int) -> float:
    """Processor time of one call, of so many, after one that is not counted."""
    opened.run(None, feed)
    began = time.thread_time()
    for _ in range(calls):
        opened.run(None, feed)
    return (time.thread_time() - began) / calls


if __name__ == "__main__":
    sys.exit(main())
