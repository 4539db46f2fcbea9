"""Outputs as their best classes: the protocol's classification extension."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies
from tests.support.runtime.tiny_packages import package, words

from mlpack_runtime import classification, model
from mlpack_runtime.limits import RequestError
from mlpack_runtime.ort import Port
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.tensor import tensor

if TYPE_CHECKING:
    from pathlib import Path


def texts_of(values: list[float], datatype: str, shape: tuple[int, ...], most: int, labels: tuple[object, ...] = ()) -> list[str]:
    made = classification.best(tensor(values, datatype, shape), most, labels)
    assert made.datatype == "BYTES"
    assert made.shape == (*shape[:-1], min(most, shape[-1]))
    return made.flat()


def test_best_classes_come_first_and_equal_ones_in_their_order() -> None:
    assert texts_of([0.25, 0.5, 0.25], "FP32", (1, 3), 2) == ["0.5:1", "0.25:0"]
    assert texts_of([1, 1, 2, 3, 0, 0], "INT64", (2, 3), 9) == ["2:2", "1:0", "1:1", "3:0", "0:1", "0:2"]
    assert texts_of([True, False], "BOOL", (2,), 1) == ["1:0"]
    assert texts_of([0.5, 2.0], "FP16", (2,), 2, ("cat", "dog")) == ["2:1:dog", "0.5:0:cat"]
    assert texts_of([0.5, 2.0], "FP64", (1, 2), 2, ("cat",)) == ["2:1", "0.5:0"]  # labels of another model
    assert texts_of([], "FP32", (0, 3), 2) == []


def test_numbers_that_are_none_stand_behind_all_others() -> None:
    nan, inf = float("nan"), float("inf")
    assert texts_of([nan, -inf, 1, inf], "FP32", (1, 4), 4) == ["inf:3", "1:2", "-inf:1", "nan:0"]


@given(strategies.lists(strategies.floats(width=32, allow_nan=False), min_size=1, max_size=9))
def test_digits_bring_every_number_back(values: list[float]) -> None:
    texts = texts_of(values, "FP32", (1, len(values)), len(values))
    read = [(float(value), int(at)) for value, at in (text.split(":") for text in texts)]
    assert all(struct.pack("<f", value) == struct.pack("<f", values[at]) for value, at in read)
    assert [values[at] for _, at in read] == sorted(values, reverse=True)


@pytest.mark.parametrize("asked", [-1, True, "3", 1.5, None, [1]])
def test_numbers_of_classes_are_whole_numbers(asked: object) -> None:
    with pytest.raises(RequestError, match="not a number of classes"):
        classification.check(asked, Port("scores", "FP32", ("batch", 3)))


@pytest.mark.parametrize(
    ("datatype", "shape"), [("FP32", ()), ("FP32", ("batch",)), ("BYTES", ("batch", 3)), ("FP32", ("batch", "words", 9))]
)
def test_outputs_without_classes_are_refused(datatype: str, shape: tuple[int | str, ...]) -> None:
    port = Port("scores", datatype, shape)
    with pytest.raises(RequestError, match="'scores' has no classes to choose from"):
        classification.check(1, port)
    assert classification.check(0, port) == 0


@pytest.fixture
def labelled(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(model, "ROOT", str(tiny))
    service = open_service()
    monkeypatch.setattr(service.model, "settings", {**service.model.settings, "task": {"labels": ["a", "b", "c"]}})
    return service


def request(**output: Any) -> dict[str, Any]:
    rows = [
        {"name": "pixels", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 4, 3, 2, 1]},
        {"name": "marks", "shape": [2], "datatype": "INT64", "data": [2, 3]},
    ]
    return {"inputs": rows, "outputs": [{"name": "scores", "parameters": output}, {"name": "count"}]}


def test_a_request_gets_the_classes_that_it_asks_for(labelled: Service) -> None:
    plain = json.loads(labelled.value(request()).body)["outputs"][0]
    reply = labelled.value(request(classification=2))
    scores, count = json.loads(reply.body)["outputs"]
    assert (scores["datatype"], scores["shape"], count["data"]) == ("BYTES", [2, 2], [5])
    for row in (0, 1):
        values = plain["data"][3 * row : 3 * row + 3]
        best = sorted(range(3), key=values.__getitem__, reverse=True)[:2]
        assert [text.split(":")[1:] for text in scores["data"][2 * row : 2 * row + 2]] == [[str(at), "abc"[at]] for at in best]
    assert json.loads(labelled.value(request(classification=0)).body)["outputs"][0] == plain
    binary = labelled.http("POST", "/", {}, json.dumps(request(classification=1, binary_data=True)).encode())
    assert b":" in binary.body[int(binary.headers["inference-header-content-length"]) :]


def test_labels_are_those_of_the_tasks_output_alone(labelled: Service) -> None:
    """Another output may have as many columns, of something else."""
    for output, named in (("scores", True), ("others", False)):
        labelled.model.settings["task"]["output"] = output  # type: ignore[index]  # of this test's own
        scores, _ = json.loads(labelled.value(request(classification=1)).body)["outputs"]
        assert [text.count(":") == 2 for text in scores["data"]] == [named, named]


@pytest.mark.parametrize("output", [{"classification": "x"}, {"shared_memory_region": "r", "shared_memory_byte_size": 4}])
def test_what_cannot_be_answered_so_is_refused(labelled: Service, output: dict[str, Any]) -> None:
    reply = labelled.value(request(**output))
    assert (reply.status, json.loads(reply.body)["error_type"]) == (400, "InvalidRequest")


def test_parameters_without_a_meaning_are_passed_over(labelled: Service) -> None:
    outputs = [json.loads(labelled.value(request(**more)).body)["outputs"] for more in ({}, {"anything": "x"})]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(("tokenizer", "names"), [({}, ["text"]), ({"pairs": True}, ["text", "text_pair"])])
def test_metadata_of_text_models_lists_what_callers_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: dict[str, Any], names: list[str]
) -> None:
    root = package(tmp_path / "texts", words, tokenizer={"file": "tokenizer.json", "max_length": 6, **tokenizer})
    monkeypatch.setattr(model, "ROOT", str(root))
    service = open_service()
    told = json.loads(service.http("GET", "/v2/models/tiny", {}, b"").body)
    assert told["inputs"] == [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]
    assert [row["name"] for row in told["token_inputs"]] == ["input_ids", "attention_mask"]
    # A client that goes by the metadata alone, and one that goes by the tokens.
    texts = [{**row, "shape": [2], "data": ["the cat", "a dog"]} for row in told["inputs"]]
    tokens = [{**row, "shape": [1, 2], "data": [4, 5]} for row in told["token_inputs"]]
    assert [service.value({"inputs": rows}).status for rows in (texts, tokens)] == [200, 200]
