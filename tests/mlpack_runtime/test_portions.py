"""Texts and tensors that are more than the engine is asked for at a time, where nobody gathers batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import package, save, words

from mlpack_runtime import model
from mlpack_runtime.service import Service, open_service

TEXTS = ["the cat sat on the mat", *["a", "dogs"] * 8, "", "a cat"]


def tokens(path: Path) -> Path:
    """embedding[batch, 5], and each token's own, tokens[batch, sequence, 5]."""
    return words_and(path, ["kept"], "tokens", ["batch", "sequence", 5])


def crowd(path: Path) -> Path:
    """What each row gets depends on the others: its share of the sum over the batch."""
    return words_and(path, ["embedding", "all"], "share", ["batch", 5])


def words_and(path: Path, given: list[str], name: str, shape: list[Any]) -> Path:
    import numpy as np
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["embedding"], keepdims=0),
        helper.make_node("ReduceSum", ["embedding", "first"], ["all"], keepdims=1),
        helper.make_node("Identity" if len(given) == 1 else "Div", given, [name]),
    ]
    inputs = [
        helper.make_tensor_value_info(each, TensorProto.INT64, ["batch", "sequence"]) for each in ("input_ids", "attention_mask")
    ]
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 5]),
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape),
    ]
    axes = {"last": np.array([-1]), "middle": np.array([1]), "first": np.array([0])}
    return save(path, nodes, inputs, outputs, {"table": np.arange(1, 61, dtype=np.float32).reshape(12, 5) / 7, **axes})


def opened(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None = None) -> tuple[Service, list[tuple[int, ...]]]:
    """A service, and the shapes that its engine is asked for."""
    monkeypatch.setattr(model, "ROOT", str(root))
    if limit is not None:
        monkeypatch.setenv("MLPACK_LIMIT_ENGINE_TOKENS", str(limit))
    made, asked = open_service(), []
    session: Any = made.model.session
    run = session.run

    def noted(feeds: Any) -> Any:
        asked.append(feeds["input_ids"].shape)
        return run(feeds)

    session.run = noted
    return made, asked


def outputs(service: Service, value: Any) -> dict[str, tuple[list[int], list[float]]]:
    reply = service.value(value)
    assert reply.status == 200, reply.body
    return {row["name"]: (row["shape"], row["data"]) for row in json.loads(reply.body)["outputs"]}


@pytest.mark.parametrize("graph", [words, tokens])
def test_texts_in_portions_are_what_they_are_together(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "p", graph, tokenizer={"file": "tokenizer.json", "max_length": 8})
    whole, asked = opened(root, monkeypatch)
    expected = outputs(whole, {"texts": TEXTS})
    assert asked == [(len(TEXTS), 8)]
    service, asked = opened(root, monkeypatch, 20)
    found = outputs(service, {"texts": TEXTS})
    assert {name: shape for name, (shape, _) in found.items()} == {name: shape for name, (shape, _) in expected.items()}
    for name, (_, values) in found.items():
        assert values == pytest.approx(expected[name][1], rel=1e-5)
    assert all(rows * length <= 20 for rows, length in asked)
    padded = sum(rows * length for rows, length in asked[3:])  # after the two texts alone and together
    assert padded < 0.6 * len(TEXTS) * 8  # the one long text does not make the others as long
    again = len(asked)
    outputs(service, {"texts": TEXTS})
    assert len(asked) - again == again - 3  # the graph is looked at once


def test_tensors_are_cut_by_rows(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, asked = opened(texts, monkeypatch, 20)
    rows = [[2, 4 + at % 8, 3] for at in range(25)]
    found = outputs(service, {"inputs": {"input_ids": rows, "attention_mask": [[1, 1, 1]] * 25}})
    assert asked[3:] == [(6, 3)] * 4 + [(1, 3)]
    alone = [outputs(service, {"inputs": {"input_ids": [row], "attention_mask": [[1, 1, 1]]}})["embedding"][1] for row in rows]
    assert found["embedding"][1] == pytest.approx([value for row in alone for value in row], rel=1e-6)


def test_rows_that_depend_on_one_another_are_refused_by_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "p", crowd, tokenizer={"file": "tokenizer.json", "max_length": 8})
    service, asked = opened(root, monkeypatch, 20)
    reply = service.value({"texts": TEXTS})
    assert reply.status == 413
    for part in (b"20 tokens", b"MLPACK_LIMIT_ENGINE_TOKENS", b"'share' of two texts at once", b"fewer or shorter"):
        assert part in reply.body
    assert outputs(service, {"texts": ["a cat"]})
    assert len(asked) == 4


def test_a_row_that_is_too_long_by_itself_is_refused(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = opened(texts, monkeypatch, 20)
    reply = service.value({"inputs": {name: [[1] * 21] for name in ("input_ids", "attention_mask")}})
    assert reply.status == 413
    assert b"a row alone has 21" in reply.body


def test_texts_are_tokenized_few_at_a_time_where_they_are_long(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_LIMIT_TEXT_CHARS", "50")
    service, _ = opened(texts, monkeypatch)
    assert outputs(service, {"texts": ["a cat sat on the mat"] * 10})["embedding"][0] == [10, 5]
    reply = service.value({"texts": ["a", "a cat sat on the mat " * 3]})
    assert reply.status == 413
    assert b"MLPACK_LIMIT_TEXT_CHARS" in reply.body
