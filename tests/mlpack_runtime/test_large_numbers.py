"""Vectors of doubles that a float32, or the sum of some, does not hold: each request is answered, or refused in words."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import package, save

from mlpack_runtime import model
from mlpack_runtime.service import open_service

LARGEST = 1.7976931348623157e308
ROWS = {4: (1.0, -2.0), 5: (LARGEST, -LARGEST), 6: (1e39, 0.0), 7: (3.4028235e38, 1e-310)}
"""Vectors of the words a, cat, dog and sat, by their numbers; those of [CLS] and [SEP], 2 and 3, are cat's."""


def doubles(path: Path) -> Path:
    """hidden[batch, sequence, 2] and first[batch, 2], which is that of the second token, as doubles."""
    import numpy as np
    from onnx import TensorProto, helper

    table = np.array([ROWS.get(at, ROWS[5]) for at in range(12)], np.float64)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("Gather", ["hidden", "one"], ["first"], axis=1),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    outputs = [("hidden", ["batch", "sequence", 2]), ("first", ["batch", 2])]
    ports = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape) for name, shape in outputs]
    return save(path, nodes, [ids], ports, {"table": table, "one": np.array(1)})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("doubles") / "package", doubles, tokenizer={"file": "tokenizer.json"})


def ask(root: Path, patch: pytest.MonkeyPatch, body: Any, **settings: Any) -> tuple[int, Any]:
    path = root / "model/model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": {"name": "embeddings", **settings}}))
    patch.setattr(model, "ROOT", str(root))
    reply = open_service().http("POST", "/", {}, json.dumps(body).encode())
    return reply.status, json.loads(reply.body)


@pytest.mark.parametrize(("text", "status"), [("a", 200), ("sat", 200), ("cat", 400), ("dog", 400)])
def test_base64_holds_floats_of_four_bytes(root: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: int) -> None:
    got, answer = ask(root, monkeypatch, {"input": text, "encoding_format": "base64"}, output="first")
    assert got == status
    if status == 200:
        vector = ROWS[{"a": 4, "sat": 7}[text]]
        assert struct.unpack("<2f", base64.b64decode(answer["data"][0]["embedding"])) == pytest.approx(vector, rel=1e-6, abs=1e-300)
    else:
        assert "ask for float" in answer["error"]
        assert ask(root, monkeypatch, {"input": text}, output="first")[0] == 200


@pytest.mark.parametrize("text", ["a", "cat", "dog", "sat"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_of_any_size_get_length_one(root: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str) -> None:
    body = {"input": text, "encoding_format": encoding}
    status, answer = ask(root, monkeypatch, body, output="first", normalize=True)
    assert status == 200
    vector = answer["data"][0]["embedding"]
    vector = struct.unpack("<2f", base64.b64decode(vector)) if encoding == "base64" else vector
    assert sum(value * value for value in vector) == pytest.approx(1)


def test_mean_of_numbers_whose_sum_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, answer = ask(root, monkeypatch, {"inputs": "cat cat"}, output="hidden", pooling="mean")
    assert (status, answer) == (200, [pytest.approx(ROWS[5], rel=1e-6)])
