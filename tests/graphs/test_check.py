"""Inputs that a model can take, and differences that cannot be talked away."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import check, quiet


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def test_feeds_cover_batches_and_are_the_same_every_time() -> None:
    signature = Signature(inputs=(spec("x", "float32", "batch", 3), spec("fixed", "float64", 2, 2)), outputs=())
    first, second = check.feeds(signature, {}), check.feeds(signature, {})
    assert [feed["x"].shape for feed in first] == [(1, 3), (2, 3), (5, 3)]
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


def test_feeds_of_texts_are_plausible() -> None:
    names = ("input_ids", "attention_mask", "token_type_ids")
    signature = Signature(inputs=tuple(spec(name, "int64", "batch", "sequence") for name in names), outputs=())
    feed = check.feeds(signature, {"input_ids": 7})[2]
    assert feed["input_ids"].max() < 7
    assert feed["token_type_ids"].max() == 0
    mask = feed["attention_mask"]
    assert mask[0].all()
    assert 0 < mask[4].sum() < mask.shape[1]
    assert (np.diff(mask, axis=1) <= 0).all(), "padding stands on the right"


@pytest.mark.parametrize(
    ("got", "want", "gap"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.5], [0.25], 0.25),
        ([110.0], [100.0], 0.1),
        ([np.nan], [1.0], np.inf),
        ([np.inf], [1.0], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
    ],
)
def test_difference_is_relative_above_one(got: list[float], want: list[float], gap: float) -> None:
    assert check.difference([np.array(got)], [np.array(want)]) == pytest.approx(gap)


def test_similarity_sees_infinities() -> None:
    assert check.similarity([np.array([[np.inf, 1.0]])], [np.array([[1.0, 1.0]])]) == -1
    assert check.similarity([np.array([[2.0, 2.0]])], [np.array([[1.0, 1.0]])]) == pytest.approx(1)


def test_quiet_restores_what_it_touched(capsys: pytest.CaptureFixture[str]) -> None:
    before = (list(sys.path), list(logging.root.handlers), logging.root.manager.disable)
    with quiet.engine_tools("step"):
        print("chatter")
        warnings.warn("chatter", UserWarning, stacklevel=1)
        logging.getLogger("fusion_attention").warning("chatter")
        sys.path.append("tools")
    with quiet.exporters():
        logging.getLogger("torch.onnx").error("chatter")
    assert (list(sys.path), list(logging.root.handlers), logging.root.manager.disable) == before
    assert capsys.readouterr() == ("", "")


def test_quiet_raises_what_a_tool_logs_as_an_error() -> None:
    with pytest.raises(PassError, match="step: onnxruntime's tool reports: shape inference failed"), quiet.engine_tools("step"):
        logging.getLogger("symbolic_shape_infer").error("shape inference failed")


def test_engine_tools_keep_the_models_words_off_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The engine writes names of the model's raw, and has no other way: its sessions of others' making are silent meanwhile."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    name = "w\n::error::spoofed"
    unused = numpy_helper.from_array(np.zeros((2, 2), np.float32), name)
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["b", 2]) for each in ("x", "y")]
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:], [unused])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    with quiet.engine_tools("step"):
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert "spoofed" in capfd.readouterr().err


def test_a_loop_that_never_ends_is_ended() -> None:
    """Its condition is its own input: no call comes back by itself."""
    kept = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Mul", ["s", "s"], ["s2"])]
    scalar = [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y", "s", "s2")]
    goes_on = helper.make_tensor_value_info("c2", TensorProto.BOOL, [])
    body = helper.make_graph(kept, "body", [*scalar, state[2]], [goes_on, state[3]])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)],
        "endless", [state[0]], [state[1]], [helper.make_tensor("true", TensorProto.BOOL, [], [True])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    opened = check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    with pytest.raises(PassError, match="has not ended one call"):
        check.run(opened, {"x": np.ones(1, np.float32)}, limit_s=0.2)
