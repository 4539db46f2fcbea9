"""The OpenAPI document beside a package: its schemas take what the package takes, and refuse what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE, SAMPLE, packed

from mlpack.errors import PackError
from mlpack.pipeline.packing import openapi
from mlpack.pipeline.packing.runtime_part import sources_dir
from mlpack.targets import LambdaZip

PORTS = {
    "inputs": [
        {"name": "x", "dtype": "float32", "shape": ["batch", 4]},
        {"name": "on", "dtype": "bool", "shape": ["batch"]},
        {"name": "required", "dtype": "string", "shape": [1, 2]},
        {"name": "n", "dtype": "int64", "shape": []},
    ],
    "outputs": [{"name": "a/b", "dtype": "float64", "shape": ["batch", 3]}],
}
SETTINGS: dict[str, Any] = {
    "name": "a model",
    "version": "3",
    "target": "cpu-worker",
    "memory_mb": 1769,
    "tokenizer": None,
    **PORTS,
}
LIMITS = openapi.limits_of(sources_dir(), SETTINGS)
ROWS = [
    {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2.5, None, 4]]},
    {"name": "on", "datatype": "BOOL", "shape": [1], "data": [True]},
    {"name": "required", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]},
    {"name": "n", "datatype": "INT64", "shape": [], "data": [3]},
]


def document(settings: dict[str, Any], sample: dict[str, Any] | None = None) -> dict[str, Any]:
    return dict(json.loads(openapi.document(settings, sample or {"inputs": ROWS}, LIMITS)))


def problems(told: dict[str, Any], name: str, value: object) -> list[str]:
    """What a JSON Schema reader has against a value of that schema."""
    import jsonschema

    schema = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def test_the_document_is_one_of_openapi() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert [error.message for error in OpenAPIV31SpecValidator(document(SETTINGS)).iter_errors()] == []


def test_a_package_of_pictures_takes_files() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    pictures = {**SETTINGS, "task": {"name": "image-classification", "image": {"input": "x"}}}
    told = document(pictures)
    assert [error.message for error in OpenAPIV31SpecValidator(told).iter_errors()] == []
    taken = set(told["paths"]["/"]["post"]["requestBody"]["content"])
    assert taken >= {"application/json", "image/*", "multipart/form-data"}
    for value in (
        {"image": "aGk="},
        {"images": ["aGk="], "top_k": 3},
        {"inputs": {"x": [[1]], "on": [True], "required": [["a", "b"]], "n": 3}},
        {"image": {"url": "https://a.b/c"}},
    ):
        assert problems(told, "PlainRequest", value) == []
    assert problems(told, "PlainRequest", {"image": 7})
    assert "image/*" not in document(SETTINGS)["paths"]["/"]["post"]["requestBody"]["content"]


def test_requests_of_every_form_are_taken() -> None:
    told = document(SETTINGS)
    assert problems(told, "InferenceRequest", {"inputs": ROWS, "id": "r", "outputs": [{"name": "a/b"}]}) == []
    assert problems(told, "PlainRequest", {"inputs": {"x": [[1]], "on": [True], "required": [["a", "b"]], "n": 3}}) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": ROWS[:3]},
        {"inputs": [*ROWS, ROWS[0]]},
        {"inputs": [{**ROWS[0], "datatype": "FP64"}, *ROWS[1:]]},
        {"inputs": [{**ROWS[0], "shape": [1, 5]}, *ROWS[1:]]},
        {"inputs": [{**ROWS[0], "shape": [4]}, *ROWS[1:]]},
        {"inputs": [*ROWS[:3], {**ROWS[3], "shape": [1]}]},
        {"inputs": [*ROWS[:3], {**ROWS[3], "data": ["3"]}]},
        {"inputs": ROWS, "outputs": [{"name": "other"}]},
        {"inputs": ROWS, "id": 3},
        {},
    ],
)
def test_what_a_package_refuses_its_schema_refuses(changed: dict[str, Any]) -> None:
    assert problems(document(SETTINGS), "InferenceRequest", changed)


def test_texts_are_told_beside_their_tokens() -> None:
    ids = [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}]
    told = document({**SETTINGS, "inputs": ids, "tokenizer": {"file": "tokenizer.json"}}, {"text": "a"})
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    tokens = {"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [1]}
    for rows in ([text], [text, {**text, "name": "text_pair"}], [tokens]):
        assert problems(told, "InferenceRequest", {"inputs": rows}) == []
    for plain in ({"text": "a"}, {"texts": ["a", ["b", "c"]]}, {"text": "a", "text_pair": "b"}, {"inputs": {"input_ids": [[1]]}}):
        assert problems(told, "PlainRequest", plain) == []
    assert problems(told, "PlainRequest", {"text": "a" * (LIMITS["text_chars"] + 1)})


@pytest.mark.parametrize(
    "own", [{"preprocess": "app:f"}, {"task": {"name": "embeddings"}, "preprocess": "app:f"}, {"task": {"name": "x"}}]
)
def test_what_a_hook_or_task_takes_is_left_open(own: dict[str, Any]) -> None:
    assert problems(document({**SETTINGS, **own}), "PlainRequest", {"anything": 1}) == []


@pytest.mark.parametrize(("key", "kind"), [("image", "image/*"), ("sound", "audio/*"), ("labels", None)])
def test_files_are_bodies_where_a_task_reads_them(key: str, kind: str | None) -> None:
    told = document({**SETTINGS, "task": {"name": "any", key: {}}})
    bodies = set(told["paths"]["/v2/models/a%20model/infer"]["post"]["requestBody"]["content"])
    assert bodies - {"application/json", "application/octet-stream"} == ({kind, "multipart/form-data"} if kind else set())


def test_ids_are_told_where_features_are_looked_up() -> None:
    features = {"table": "customers", "key": ["account", "day"], "columns": {"x": ["a"]}, "deadline_ms": 40}
    told = document({**SETTINGS, "around": {"features": features}})
    for taken in ({"account": "7", "day": 1}, {"account": ["7", "8"], "day": [1, 2]}, {"account": "7", "day": 1, "a": 2.5}):
        assert problems(told, "PlainRequest", taken) == []
    for refused in ({"account": "7"}, {"account": "7", "day": 1.5}, {"account": [], "day": []}, {"account": "", "day": 1}):
        assert problems(told, "PlainRequest", refused)


def test_names_are_written_as_paths_have_them() -> None:
    told = document({**SETTINGS, "name": "żółw/1 {x}"})
    assert "/v2/models/%C5%BC%C3%B3%C5%82w%2F1%20%7Bx%7D/infer" in told["paths"]
    operations = [way["operationId"] for path in told["paths"].values() for way in path.values()]
    assert len(operations) == len(set(operations))
    assert told["openapi"] == "3.1.1"
    assert json.dumps(told).count("$ref") > 10
    for reference in [part.split('"')[0] for part in json.dumps(told).split('"#/components/')[1:]]:
        kind, name = reference.split("/")
        assert name in told["components"][kind]


def test_limits_are_those_of_the_runtime_and_of_no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLPACK_LIMIT_ROWS", "7")
    assert openapi.limits_of(sources_dir(), SETTINGS) == LIMITS
    program = "import json, sys; from mlpack_runtime.limits import Limits; print(Limits({}, json.load(sys.stdin)).rows)"
    done = subprocess.run([sys.executable, "-c", program], input=json.dumps(SETTINGS), capture_output=True, text=True, check=True)
    assert LIMITS["rows"] == int(done.stdout)
    with pytest.raises(PackError, match="does not say its limits"):
        openapi.limits_of(tmp_path / "mlpack_runtime", SETTINGS)


def test_a_package_has_its_document_beside_it(tmp_path: Path) -> None:
    runtime = small_packages.runtime(tmp_path / "runtime")
    written = []
    for name in ("one", "other"):
        out, _ = packed(tmp_path / name, LambdaZip(arch=HERE), runtime)
        written.append((out / "openapi.json").read_bytes())
    assert written[0] == written[1]
    told = json.loads(written[0])
    assert problems(told, "InferenceRequest", SAMPLE) == []
    (path,) = [path for path in told["paths"] if path.endswith("/infer") and "versions" not in path]
    assert told["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"] == SAMPLE


def test_callers_that_are_asked_are_told_how() -> None:
    authorize = {"public": ["health"], "api_keys": {"header": "x-key"}, "jwt": {"jwks": "https://i.example/keys"}}
    told = document({**SETTINGS, "authorize": authorize})
    assert told["components"]["securitySchemes"]["api_key"] == {"type": "apiKey", "in": "header", "name": "x-key"}
    assert told["security"] == [{"api_key": []}, {"jwt": []}]
    assert told["paths"]["/v2/health/ready"]["get"]["security"] == []
    assert "security" not in told["paths"]["/v2"]["get"]
    bearer = document({**SETTINGS, "authorize": {"public": [], "api_keys": {"header": "authorization"}}})
    assert bearer["components"]["securitySchemes"] == {"api_key": {"type": "http", "scheme": "bearer"}}
    assert "security" not in document({**SETTINGS, "authorize": {"public": [], "hook": "auth:check"}})
    assert "security" not in document(SETTINGS)
