"""Which graphs may be asked for several calls at once: real ones, of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, save, wide_identity, words

from mlpack_runtime import model
from mlpack_runtime.backend import open_backend
from mlpack_runtime.serving.probe import Found, probe


def found(root: Path, graph: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Found:
    monkeypatch.setattr(model, "ROOT", str(package(root, graph, **settings)))
    loaded = model.load(open_backend)
    made = probe(loaded, loaded.session)  # type: ignore[arg-type]
    loaded.session.close()
    return made


def graph_of(nodes: Callable[[Any], list[Any]], given: list[Any], result: list[Any]) -> Callable[[Path], Path]:
    """A graph from x to y."""

    def make(path: Path) -> Path:
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, given)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, result)
        return save(path, nodes(helper), [x], [y])

    return make


def test_an_output_without_the_batch_keeps_calls_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(tmp_path / "p", affine, monkeypatch)
    assert (made.layout.batched, made.why) == (False, "'count' has no free first axis")
    assert made.sample is not None


def test_rows_each_by_itself_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(tmp_path / "p", wide_identity, monkeypatch)
    assert (made.layout.batched, made.layout.pads, made.why) == (True, {}, "")


def test_a_first_axis_that_is_no_batch_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    softmax = graph_of(lambda helper: [helper.make_node("Softmax", ["x"], ["y"], axis=0)], ["n", 3], ["n", 3])
    made = found(tmp_path / "p", softmax, monkeypatch)
    assert (made.layout.batched, made.why) == (False, "output 'y' of two calls at once is not what each gets alone")


def test_a_fixed_batch_keeps_calls_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = graph_of(lambda helper: [helper.make_node("Relu", ["x"], ["y"])], [1, 3], [1, 3])
    made = found(tmp_path / "p", fixed, monkeypatch)
    assert (made.layout.batched, made.why) == (False, "'x' has no free first axis")


def test_an_invented_call_that_is_refused_leaves_calls_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(path: Path) -> Path:
        import numpy as np
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "width"])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 5])
        node = helper.make_node("Reshape", ["x", "shape"], ["y"])
        return save(path, [node], [x], [y], {"shape": np.array([-1, 2, 5])})

    made = found(tmp_path / "p", make, monkeypatch)
    assert not made.layout.batched
    assert made.sample is None
    assert "was refused" in made.why


def tokens(path: Path) -> Path:
    """values[batch, sequence, 2]: the id twice, where the mask is 1."""
    import numpy as np
    from onnx import TensorProto, helper

    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names]
    outputs = [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", "sequence", 2])]
    nodes = [
        helper.make_node("Mul", list(names), ["kept"]),
        helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["values"], axis=2),
    ]
    return save(path, nodes, inputs, outputs, {"last": np.array([-1])})


@pytest.mark.parametrize(("graph", "lengths"), [(words, {}), (tokens, {"values": 1})])
def test_a_text_models_lengths_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: Callable[[Path], Path], lengths: dict[str, int]
) -> None:
    made = found(tmp_path / "p", graph, monkeypatch, tokenizer={"file": "tokenizer.json", "max_length": 16})
    assert (made.layout.batched, made.layout.lengths, made.why) == (True, lengths, "")


def one_hot(zeros: int) -> Callable[[Path], Path]:
    """A column of strings beside one of numbers, as scikit-learn's encoders leave them: a row each."""

    def make(path: Path) -> Path:
        from onnx import TensorProto, helper

        nodes = [
            helper.make_node("OneHotEncoder", ["city"], ["hot"], domain="ai.onnx.ml", cats_strings=["Riga", "Oslo"], zeros=zeros),
            helper.make_node("ReduceSum", ["hot", "axis"], ["flat"], keepdims=0),
            helper.make_node("Concat", ["age", "flat"], ["row"], axis=1),
        ]
        given = [helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1])]
        given.append(helper.make_tensor_value_info("city", TensorProto.STRING, ["n", 1]))
        result = [helper.make_tensor_value_info(name, kind, ["n", width])
                  for name, kind, width in (("row", TensorProto.FLOAT, 3), ("said", TensorProto.STRING, 1))]  # fmt: skip
        nodes.append(helper.make_node("Identity", ["city"], ["said"]))
        import numpy as np

        return save(path, nodes, given, result, {"axis": np.array([1], dtype=np.int64)})

    return make


def test_columns_of_strings_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(tmp_path / "p", one_hot(1), monkeypatch)
    assert (made.layout.batched, made.why) == (True, "")


def test_encoder_that_refuses_unknown_words_keeps_calls_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(tmp_path / "p", one_hot(0), monkeypatch)
    assert not made.layout.batched
    assert "invented call was refused" in made.why
