"""Tests of `mlpack.recipe.first.metric`: every job is seen by the metric that is proposed for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlpack.core import yaml_positions
from mlpack.graphs.files import signature_of
from mlpack.recipe.first import labels as looking
from mlpack.recipe.first import metric
from mlpack.recipe.first.labels import NONE, UNKNOWN, Labels

Output = tuple[str, list[Any], str]
"""Name, shape, and the operator that makes it."""


def _model(*outputs: Output) -> Any:
    nodes, values = [], []
    for name, shape, operator in outputs:
        kind = TensorProto.INT64 if operator == "ArgMax" else TensorProto.STRING if operator == "Label" else TensorProto.FLOAT
        nodes.append(helper.make_node(operator, ["x"], [name]))
        values.append(helper.make_tensor_value_info(name, kind, shape))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    return helper.make_model(helper.make_graph(nodes, "g", [x], values))


def _proposed(found: Labels, *outputs: Output) -> str:
    model = _model(*outputs)
    return metric.for_onnx(model, signature_of(model), found).metric


def _labels(array: Any) -> Labels:
    return looking._of_array(np.asarray(array))  # type: ignore[no-any-return]  # what `look` does with the file's array


YOLO: Output = ("output0", ["batch", 8400, 84], "Concat")
LOGITS: Output = ("logits", ["batch", 3], "Gemm")
ONE: Output = ("p", ["batch", 1], "Sigmoid")
ROWS: Output = ("y", ["batch", 3], "Gemm")
VECTOR: Output = ("sentence_embedding", ["batch", 384], "LpNormalization")


@pytest.mark.parametrize(
    ("found", "outputs", "wanted"),
    [
        (NONE, [YOLO], "fidelity"),
        (UNKNOWN, [YOLO], "fidelity"),
        (_labels(np.zeros((4, 3, 5))), [YOLO], "fidelity"),
        (_labels(np.eye(3)), [ROWS], "{name: multilabel_f1, threshold: 0}"),
        (_labels(np.eye(3, dtype=int)), [("y", ["batch", 3], "Sigmoid")], "{name: multilabel_f1, threshold: 0.5}"),
        (_labels(np.eye(3, dtype=int)), [("y", ["batch", 3, 2], "Gemm")], "f1"),
        (_labels(np.eye(3, dtype=int)), [("flags", ["batch", 3], "ArgMax"), ONE], "{name: multilabel_f1, output: flags}"),
        (_labels(np.ones((2, 8, 8), dtype=int)), [("y", ["batch", 3, 8, 8], "Conv")], "mean_iou"),
        (_labels(np.ones((2, 8, 8), dtype=np.uint8)), [("y", ["batch", 1, 8, 8], "Sigmoid")], "{name: mean_iou, threshold: 0.5}"),
        (_labels(np.ones((2, 8, 8), dtype=int)), [("y", ["batch", 8, 8], "ArgMax")], "mean_iou"),
        (_labels([0, 1, 2]), [LOGITS], "top1"),
        (UNKNOWN, [LOGITS], "top1"),
        (NONE, [LOGITS], "agreement"),
        (UNKNOWN, [("387", [1, "seqlen"], "Gather")], "fidelity"),
        (NONE, [ROWS], "fidelity"),
        (_labels([0, 1, 2]), [ROWS], "top1"),
        (_labels([0.5, 1, 2]), [ROWS], "fidelity"),
        (_labels([[0.5, 1, 2]] * 3), [ROWS], "mae"),
        (_labels([0, 1, 0]), [ONE], "{name: f1, threshold: 0.5}"),
        (_labels([0, 1, 0]), [("y", ["n"], "Squeeze")], "{name: f1, threshold: 0}"),
        (_labels([0, 1, 7]), [ONE], "mae"),
        (_labels([0.1, 0.7]), [ONE], "mae"),
        (NONE, [ONE], "fidelity"),
        (UNKNOWN, [ONE], "fidelity"),
        (NONE, [VECTOR], "cosine"),
        (UNKNOWN, [VECTOR], "cosine"),
        (_labels([0, 0, 0, 7, 7, 7]), [VECTOR], "recall_at_5"),
        (_labels(["ann", "bob", "bob"]), [VECTOR], "recall_at_5"),
        (_labels([0, 1, 1]), [VECTOR, ("pooler", ["batch", 9], "Gemm")], "{name: recall_at_5, output: sentence_embedding}"),
        (_labels([0, 4, 2]), [ROWS, ("topic", ["batch", 5], "Gemm")], "{name: top1, output: topic}"),
        (_labels([1, 5]), [("label", ["batch"], "ArgMax"), ("probabilities", ["batch", 5], "Softmax")], "top1"),
        (NONE, [("label", ["batch"], "ArgMax"), ("probabilities", ["batch", 5], "Softmax")], "agreement"),
        (_labels(["a", "b", "c"]), [LOGITS], "{name: top1, classes: [a, b, c]}"),
        (_labels(["a", "b"]), [LOGITS], "fidelity"),
        (_labels(["a", "b"]), [("label", ["batch"], "Label")], "top1"),
        (_labels([[1, -100], [0, 2]]), [("logits", ["batch", "tokens", 5], "MatMul")], "f1"),
        (NONE, [("logits", ["batch", "tokens", 5], "MatMul")], "fidelity"),
        (NONE, [("mask", ["batch", 21, "h", "w"], "Conv")], "fidelity"),
        (_labels(np.zeros((4, 24, 24), int)), [("mask", ["batch", 21, "h", "w"], "Conv")], "mean_iou"),
        (_labels([[0.5, 1]] * 3), [("y", ["batch", "columns"], "Gemm")], "mae"),
        (NONE, [("boxes", ["n", 4], "Gather"), ("scores", ["n"], "Gather"), ("labels", ["n"], "ArgMax")], "fidelity"),
        (
            _labels(np.zeros((4, 3, 5))),
            [("boxes", ["n", 4], "Gather"), ("scores", ["n"], "Gather"), ("labels", ["n"], "ArgMax")],
            "map_50",
        ),
    ],
)
def test_graphs(found: Labels, outputs: list[Output], wanted: str) -> None:
    assert _proposed(found, *outputs) == wanted


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([("ReduceL2", ["x"], "l"), ("Clip", ["l"], "c"), ("Expand", ["c"], "e"), ("Div", ["x", "e"], "y")], "recall_at_5"),
        ([("ReduceSum", ["q"], "s"), ("Sqrt", ["s"], "l"), ("Div", ["x", "l"], "y")], "recall_at_5"),
        ([("Exp", ["x"], "q"), ("ReduceSum", ["q"], "s"), ("Div", ["q", "s"], "y")], "top1"),  # a softmax by hand
        ([("ReduceMean", ["x"], "m"), ("Sqrt", ["m"], "l"), ("Div", ["x", "l"], "y")], "top1"),
        ([("Div", ["x", "w"], "y")], "top1"),
    ],
)
def test_a_division_by_its_own_length_is_a_vector(nodes: list[tuple[str, list[str], str]], wanted: str) -> None:
    model = _model(("y", ["batch", 64], "Relu"))
    del model.graph.node[:]
    model.graph.node.extend(helper.make_node(operator, taken, [given]) for operator, taken, given in nodes)
    assert metric.for_onnx(model, signature_of(model), _labels([0, 0, 3])).metric == wanted


@pytest.mark.parametrize(
    ("architecture", "config", "found", "wanted"),
    [
        ("BertForSequenceClassification", {"id2label": {"0": "a", "1": "b"}}, Labels(kind=looking.Kind.NAMES), "top1"),
        ("BertForSequenceClassification", {"id2label": {"0": "score"}}, _labels([0.5, 0.7]), "mae"),
        ("BertForSequenceClassification", {"num_labels": 1}, NONE, "fidelity"),
        ("ViTForImageClassification", {}, NONE, "agreement"),
        ("BertForTokenClassification", {}, UNKNOWN, "f1"),
        ("GPT2LMHeadModel", {}, NONE, "agreement"),
        ("Wav2Vec2ForCTC", {}, NONE, "agreement"),
        ("YolosForObjectDetection", {}, NONE, "fidelity"),
        ("SegformerForSemanticSegmentation", {}, UNKNOWN, "fidelity"),
        ("DPTForDepthEstimation", {}, NONE, "fidelity"),
    ],
)
def test_architectures(architecture: str, config: dict[str, Any], found: Labels, wanted: str) -> None:
    assert metric.for_huggingface([architecture], config, found, embeds=False, texts=True).metric == wanted


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"text": "a"}], "NONE"),
        ([{"text": "a", "label": 1}, {"text": "b", "label": 0}], "CLASSES"),
        ([{"text": "a", "label": "x"}], "NAMES"),
        ([{"text": "a", "label": 0.25}], "NUMBERS"),
        ([{"text": "a", "label": [1, -100]}], "TOKENS"),
        ([{"query": "a", "document": "b"}], "PAIRS"),
        ([], "UNKNOWN"),
        ([3], "UNKNOWN"),
        ([{"text": "a", "label": {"x": 1}}], "UNKNOWN"),
    ],
)
def test_labels_of_texts(tmp_path: Path, rows: list[Any], kind: str) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert looking.look(path).kind.name == kind


def test_labels_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "eval.npz"
    given: tuple[tuple[dict[str, Any], str], ...] = (
        ({"x": np.zeros(3)}, "NONE"),
        ({"labels": np.arange(3)}, "CLASSES"),
        ({"labels": np.array([{}])}, "UNKNOWN"),
    )
    for arrays, kind in given:
        np.savez(path, **arrays)
        assert looking.look(path).kind.name == kind
    path.write_bytes(b"PK\x03\x04 cut off")
    assert looking.look(path).kind.name == "UNKNOWN"
    assert looking.look(None) is UNKNOWN


def test_a_loss_of_numbers_is_in_their_own_unit() -> None:
    model = _model(ONE)
    proposed = metric.for_onnx(model, signature_of(model), _labels(np.linspace(0.5, 10_000, 50)))
    assert (proposed.metric, proposed.drop) == ("mae", 60.0)


@pytest.mark.parametrize("name", ["a, threshold: 9}", "x}\nevil: 1\n#", "# y", "'", "yes", "0.5", ""])
def test_names_of_outputs_stay_names(name: str) -> None:
    text = _proposed(_labels([0, 1, 2]), (name or "q", ["batch", 3], "Gemm"), ("r", ["batch"], "Gemm"))
    assert yaml_positions.parse(f"metric: {text}", "r.yaml").value == {"metric": {"name": "top1", "output": name or "q"}}
