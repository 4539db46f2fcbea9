"""The roofline against what somebody else measured: ResNet-50 in int8 on an L4, as NVIDIA submitted it to MLPerf Inference v3.1.

Nobody ran anything for this: the figures are from
https://github.com/mlcommons/inference_results_v3.1/tree/main/closed/NVIDIA/results/L4x1_TRT/resnet50 (read 2026-11-25). They are
the best that its maker gets: CUDA graphs, pinned memory, no queue. The network is built here with weights of nought: times do not
depend on them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mlpack.graphs import files
from mlpack.graphs.facts import graph_work
from mlpack.graphs.facts.graph_work import GraphWork
from mlpack.pipeline.estimates import roofline
from mlpack.pipeline.estimates.devices import DEVICES

SINGLE_STREAM_MS = 0.346
OFFLINE_PER_S = 12_881.7
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


class ResNet50:
    """Version 1.5 (the stride in the 3x3), every product and sum of what was quantized, batch normalisation folded."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._quantized: dict[str, str] = {}
        self.weights = [
            numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]

    def product(self, operator: str, given: str, weights: tuple[int, ...], **attributes: object) -> str:
        """A convolution or a dense layer of int8 weights, and its bias."""
        name = f"{operator}{len(self.nodes)}"
        self.weights.append(numpy_helper.from_array(np.zeros(weights, np.int8), f"{name}_w"))
        self.weights.append(numpy_helper.from_array(np.zeros(weights[0], np.float32), f"{name}_b"))
        self.add("DequantizeLinear", f"{name}_dw", f"{name}_w", "scale", "zero")
        return self.add(operator, name, self.quantized(given), f"{name}_dw", f"{name}_b", **attributes)

    def quantized(self, given: str) -> str:
        """The tensor through int8 and back, once however many need it."""
        if given not in self._quantized:
            self.add("QuantizeLinear", f"{given}_q", given, "scale", "zero")
            self._quantized[given] = self.add("DequantizeLinear", f"{given}_d", f"{given}_q", "scale", "zero")
        return self._quantized[given]

    def add(self, operator: str, output: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def conv(self, given: str, channels: tuple[int, int], size: int, stride: int = 1) -> str:
        out, pad = (*channels, size, size), size // 2
        return self.product("Conv", given, out, strides=[stride] * 2, pads=[pad] * 4)

    def relu(self, given: str) -> str:
        return self.add("Relu", f"{given}_relu", given)

    def blocks(self, given: str) -> str:
        """Four stages of bottlenecks."""
        channels = 64
        for stage, (count, width) in enumerate(STAGES):
            for block in range(count):
                stride = 2 if stage and not block else 1
                short = given if block else self.conv(given, (width * 4, channels), 1, stride)
                made = self.relu(self.conv(given, (width, channels), 1))
                made = self.relu(self.conv(made, (width, width), 3, stride))
                made = self.conv(made, (width * 4, width), 1)
                given = self.relu(self.add("Add", f"{made}_sum", made, self.quantized(short)))
                channels = width * 4
        return given


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    net = ResNet50()
    stem = net.relu(net.conv("image", (64, 3), 7, 2))
    pooled = net.add("MaxPool", "pool", stem, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    mean = net.add("GlobalAveragePool", "mean", net.blocks(pooled))
    flat = net.add("Flatten", "flat", mean)
    logits = net.product("Gemm", flat, (1000, 2048), transB=1)
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])
    gives = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", 1000])
    made = helper.make_graph(net.nodes, "resnet50", [given], [gives], net.weights)
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder)
    return folder


def work(folder: Path, batch: int) -> GraphWork:
    return graph_work.work_of(folder, {"image": (batch, 3, 224, 224)})


def test_the_network_is_the_one_that_everybody_measures(resnet: Path) -> None:
    found = work(resnet, 1)
    assert found.flops["int8"] == pytest.approx(2 * 4.09e9, rel=0.01)  # 4.09 G multiply-adds, in every description of it
    assert found.weight_bytes == pytest.approx(25.6e6, rel=0.02)
    assert found.unknown == ()
    assert found.launches == 53 + 1 + 2 + 1  # convolutions, dense, pools, and the picture's own quantization


def test_estimate_is_slower_than_published_but_not_by_an_order(resnet: Path) -> None:
    (l4,) = (device for device in DEVICES if device.name == "L4")
    latency_ms = (roofline.seconds(work(resnet, 1), l4, 1) or 0.0) * 1000
    per_second = 64 / (roofline.seconds(work(resnet, 64), l4, 64) or 0.0)
    print(f"L4, ResNet-50 int8: {latency_ms:.3f} ms for {SINGLE_STREAM_MS}, {per_second:.0f}/s for {OFFLINE_PER_S}")
    assert 1 <= latency_ms / SINGLE_STREAM_MS < 4
    assert 1 <= OFFLINE_PER_S / per_second < 8


def test_without_the_host_it_is_within_a_factor_of_three(resnet: Path) -> None:
    """MLPerf has no queue, no JSON and no copies worth the name: what the card itself does is the fairer comparison."""
    (l4,) = (device for device in DEVICES if device.name == "L4")
    card = replace(roofline.ASSUMPTIONS, call_s=0.0, sample_s=0.0, pcie_bytes_s=1e30)
    latency_ms = (roofline.seconds(work(resnet, 1), l4, 1, card) or 0.0) * 1000
    per_second = 64 / (roofline.seconds(work(resnet, 64), l4, 64, card) or 0.0)
    print(f"the card alone: {latency_ms:.3f} ms, {per_second:.0f}/s")
    assert 1 / 3 < latency_ms / SINGLE_STREAM_MS < 3
    assert 1 / 3 < per_second / OFFLINE_PER_S < 3
