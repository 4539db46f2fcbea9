"""What the OpenAPI document says of a task, held against the runtime's own task: names, requests and answers."""

from __future__ import annotations

import base64
import itertools
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.support.runtime.sounds import hearing, tone, wave
from tests.support.runtime.tiny_packages import package, tags, words

from mlpack.pipeline.packing import openapi
from mlpack.pipeline.packing.openapi_tasks import TABLE, task_forms
from mlpack.pipeline.packing.runtime_part import sources_dir
from mlpack.recipe import tasks
from mlpack_runtime import model
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.tensor import DATATYPES

LABELS = ["a", "b", "c", "d", "e"]
SETTINGS: dict[str, dict[str, Any]] = {
    "text-classification": {"output": "embedding", "labels": LABELS, "activation": "softmax"},
    "rerank": {"output": "embedding", "labels": LABELS, "activation": "sigmoid"},
    "embeddings": {"output": "embedding"},
    "token-classification": {"output": "logits", "labels": LABELS[:3], "aggregation": "simple"},
    "question-answering": {"start": "start_logits", "end": "end_logits"},
}
PORTS = {
    "inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}],
    "outputs": [{"name": "embedding", "dtype": "float32", "shape": ["batch", 5]}],
}
LIMITS = {"rows": 9, "text_chars": 60}
ONE: dict[str, Any] = {"text": "cat"}
PAIR: dict[str, Any] = {"text": "cat", "text_pair": "dog"}
QUESTION: dict[str, Any] = {"question": "cat", "context": "the dog"}
VALUES: list[Any] = [
    "the cat", "", "x" * 61, 1, None, True, [], ["cat"], ["cat", "dog"], ["a"] * 10, [["cat", "dog"]], [["a"]], [["a", "b", "c"]],
    ["cat", 1], ["cat", ["a", "b"]], ONE, PAIR, QUESTION, {}, [ONE], [PAIR], [QUESTION], [ONE, PAIR], [{**ONE, "more": 1}], [1, 2],
    [[1]], {"input_ids": [[1]]}, {**ONE, "more": 1},
]  # fmt: skip
PARAMETERS: list[Any] = [
    None, True, "all", "x", "none", "max", "softmax", "base64", 0, 1, 3, 2.5, -1, 1001, 10**7, 1e301, [], ["O"], [1], {}
]  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tokenizer = {"file": "tokenizer.json", "max_length": 6}
    graphs = {"words": words, "tags": tags}
    return {
        name: package(tmp_path_factory.mktemp(name), graph, tokenizer=tokenizer, limits=LIMITS) for name, graph in graphs.items()
    }


def opened(roots: dict[str, Path], name: str, patch: pytest.MonkeyPatch) -> tuple[Service, Any, Any]:
    """The task's service, and readers of its document's schemas of plain requests and answers."""
    root = roots["tags" if name in ("token-classification", "question-answering") else "words"]
    path = root / "model/model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": {"name": name, **SETTINGS[name]}}))
    return served(root, patch)


def served(root: Path, patch: pytest.MonkeyPatch) -> tuple[Service, Any, Any]:
    """The package's service, and those readers."""
    settings = json.loads((root / "model/model.json").read_text())
    patch.setattr(model, "ROOT", str(root))
    service = open_service()
    ports = {
        key: [
            {"name": port.name, "dtype": DATATYPES[port.datatype][3], "shape": list(port.shape)}
            for port in getattr(service.model, key)
        ]
        for key in ("inputs", "outputs")
    }
    told = json.loads(openapi.document({**settings, **ports}, ONE, openapi.limits_of(sources_dir(), settings)))
    schemas = (
        {"$ref": f"#/components/schemas/{each}", "components": told["components"]} for each in ("PlainRequest", "PlainAnswer")
    )
    request, answer = (jsonschema.Draft202012Validator(schema) for schema in schemas)
    return service, request, answer


def good(name: str) -> dict[str, Any]:
    return {"question-answering": QUESTION, "embeddings": {"input": "cat"}}.get(name, ONE)


def bodies(name: str) -> list[dict[str, Any]]:
    keys = [list(form) for form in runtime(name).forms]
    found = [dict(zip(form, values, strict=True)) for form in keys if len(form) == 1 for values in itertools.product(VALUES)]
    found += [
        dict(zip(form, pair, strict=True)) for form in keys if len(form) == 2 for pair in itertools.product(VALUES[::2], repeat=2)
    ]
    parameters = [*TABLE[name].parameters, *TABLE[name].synonyms, "temperature"]
    for key, value in itertools.product(parameters, PARAMETERS):
        found += [{**good(name), key: value}, {**good(name), "parameters": {key: value}}]
    return [
        *found,
        {},
        {**good(name), "options": {}},
        {**good(name), "parameters": None},
        {**good(name), "parameters": [1]},
        {"text": 1},
    ]


def runtime(name: str) -> Any:
    return import_module(f"mlpack_runtime.{tasks.module_of(name)}").TASK


TOLD = ("a text has no tokens", "'dimensions' is", "leave a window no room", "a window has", "of texts, and this task")
"""Refusals that no schema can tell beforehand."""


@pytest.mark.parametrize("name", list(TABLE))
def test_names_are_those_of_the_runtimes_task(name: str) -> None:
    task, forms = runtime(name), task_forms({"name": name}, {"rows": 2, "text_chars": 9})
    assert forms is not None
    assert {frozenset(request["required"]) for request in forms.requests} == set(task.forms)
    assert TABLE[name].parameters.keys() == task.parameters.keys()
    assert TABLE[name].synonyms == task.synonyms
    assert len(forms.requests) == len(forms.answers)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_document_takes_what_the_task_takes(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    service, request, answer = opened(roots, name, monkeypatch)
    answered = 0
    for body in bodies(name):
        reply = service.http("POST", "/", {}, json.dumps(body).encode())
        told = json.loads(reply.body)
        if reply.status == 200:
            answered += 1
            assert request.is_valid(body), body
            assert answer.is_valid(told), (body, told)
        else:
            assert reply.status in (400, 413), (body, told)
            if request.is_valid(body):
                assert reply.status == 413 or any(words_ in told["error"] for words_ in TOLD), (body, told)
    assert answered > 20


@pytest.mark.parametrize("name", ["audio-classification", "automatic-speech-recognition"])
def test_document_takes_what_a_task_for_sounds_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    service, request, answer = served(hearing(tmp_path / "package", name), monkeypatch)
    sound = base64.b64encode(wave(tone(0.1))).decode()
    forms = [{"audio": sound}, {"audio": {"b64": sound}}, {"audios": [sound]}, {"inputs": sound}, {"inputs": [sound]}]
    forms.append({"audio": {"array": [0.5] * 900, "sampling_rate": 16_000}})
    asked: list[dict[str, Any]] = [*forms, {"audio": [sound]}, {"audios": sound}, {"audios": []}, {"audio": 1}, {}]
    for key, value in itertools.product([*TABLE[name].parameters, *TABLE[name].synonyms, "stride"], PARAMETERS):
        asked += [{"audio": sound, key: value}, {"audio": sound, "parameters": {key: value}}]
    answered = 0
    for body in asked:
        reply = service.http("POST", "/", {}, json.dumps(body).encode())
        assert (reply.status == 200) <= request.is_valid(body), (body, reply.body)
        if reply.status == 200:
            answered += 1
            assert answer.is_valid(json.loads(reply.body)), body
        elif request.is_valid(body):  # of windows, which no schema can tell
            assert b"length_s' is" in reply.body, (body, reply.body)
    assert answered > 20


def test_defaults_are_the_packages_own() -> None:
    forms = task_forms({"name": "token-classification", "aggregation": "max", "top_k": 3}, {"rows": 2, "text_chars": 9})
    assert forms is not None
    for request in forms.requests:
        properties = request["properties"]
        assert [properties[key].get("default") for key in ("aggregation", "aggregation_strategy", "top_k", "stride")] == [
            "max",
            "max",
            3,
            None,
        ]


def test_task_without_a_row_is_left_open() -> None:
    assert task_forms({"name": "else"}, {"rows": 2, "text_chars": 9}) is None
    assert task_forms(None, {"rows": 2, "text_chars": 9}) is None


@pytest.mark.parametrize(("name", "paths"), [("embeddings", ["/v1/embeddings"]), ("rerank", ["/v1/rerank", "/v2/rerank"])])
def test_interfaces_of_others_have_their_paths(name: str, paths: list[str]) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    settings = {"name": "m", "version": "1", "tokenizer": {"file": "t"}, **PORTS, "task": {"name": name, **SETTINGS[name]}}
    limits = openapi.limits_of(sources_dir(), settings)
    told = json.loads(openapi.document(settings, ONE, limits))
    assert [path for path in told["paths"] if path in ("/v1/embeddings", "/v1/rerank", "/v2/rerank")] == paths
    assert [error.message for error in OpenAPIV31SpecValidator(told).iter_errors()] == []
    hooked = json.loads(openapi.document({**settings, "postprocess": "a:b"}, ONE, limits))
    assert not any(path in hooked["paths"] for path in paths)
