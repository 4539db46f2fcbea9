"""A package's OpenAPI 3.1 document: what it takes and answers over HTTP, for generators of clients, gateways and people.

Promises: the same package gives the same bytes; what stands in it holds for every entrance (Lambda, worker, container); limits are
the package's own, as its runtime computes them. What a task takes and answers is in the table of
`openapi_tasks`. Will not: tell what a user's hook takes; an example of it is there.

Sources: OpenAPI 3.1.1; the Open Inference Protocol's REST API and its binary tensor extension.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlpack.errors import PackError
from mlpack.evaluation.data.calls import DATATYPES
from mlpack.pipeline.packing.openapi_tasks import Schema, TaskForms, open_object, task_forms

_JSON, _BINARY = "application/json", "application/octet-stream"
_LENGTH = "Inference-Header-Content-Length"
_LIMITS = """
import sys
from json import dumps, load
sys.path.insert(0, sys.argv[1])
from mlpack_runtime.limits import NAMES, Limits
limits = Limits({}, load(sys.stdin))
print(dumps({name: getattr(limits, name) for name in NAMES}))
"""
_WHOLE = "INT", "UINT"
_TEXT: Schema = {"type": "string"}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


def limits_of(sources: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """A package's limits by their names, as the runtime of these sources computes them without any variable.

    PackError when it cannot.
    """
    command = [sys.executable, "-I", "-S", "-c", _LIMITS, str(sources.parent)]
    done = subprocess.run(command, input=json.dumps(settings), capture_output=True, text=True, check=False, env={})
    if done.returncode:
        raise PackError(f"the runtime at {sources} does not say its limits: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))


def document(settings: Mapping[str, Any], sample: Mapping[str, Any], limits: Mapping[str, int]) -> bytes:
    """The document of the package with this model.json. `sample`: a request that it answers; `limits`: those of `limits_of`."""
    model = f"/v2/models/{quote(settings['name'], safe='')}"
    infer, forms = _infer(settings, sample), task_forms(settings.get("task"), limits)
    paths = {
        "/": {
            "post": {**infer, "operationId": "call"},
            **_get("root", "The same as /v2.", "ServerMetadata"),
        },
        "/v2": _get("serverMetadata", "The server: its version and the protocol's extensions that it has.", "ServerMetadata"),
        "/v2/health/live": _get("serverLive", "Whether the process can answer at all.", "Live"),
        "/v2/health/ready": _get("serverReady", "Whether requests are taken; 503 while they are not.", "Ready"),
        model: _get("modelMetadata", "The model's inputs, as callers send them, and its outputs.", "ModelMetadata"),
        f"{model}/ready": _get("modelReady", "Whether the model takes requests.", "ModelReady"),
        f"{model}/infer": {"post": infer},
        f"{model}/versions/{quote(settings['version'], safe='')}/infer": {"post": {**infer, "operationId": "inferVersion"}},
        **_interfaces(settings, forms),
    }
    made: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {
            "title": settings["name"],
            "version": settings["version"],
            "description": "A model behind the Open Inference Protocol v2. Bodies may be compressed by gzip or deflate.",
        },
        "paths": paths,
        "components": {
            "schemas": {**_envelopes(settings, forms), **_requests(settings, limits, forms)},
            "responses": {"Error": _response("What went wrong, for people, and as a stable word for programs.", "Error")},
        },
        "x-mlpack-limits": dict(sorted(limits.items())),
    }
    if schemes := _security(settings):
        made["components"]["securitySchemes"] = schemes
        made["security"] = [{name: []} for name in schemes]
        for path in _public(settings, model):
            paths[path]["get"]["security"] = []
    return json.dumps(made, indent=1, ensure_ascii=False).encode() + b"\n"


def _security(settings: Mapping[str, Any]) -> Schema:
    """How callers are known, as far as it can be told: a hook's way is its own."""
    told = settings.get("authorize") or {}
    schemes: Schema = {}
    if "api_keys" in told:
        header = told["api_keys"]["header"]
        schemes["api_key"] = (
            {"type": "http", "scheme": "bearer"}
            if header == "authorization"
            else {"type": "apiKey", "in": "header", "name": header}
        )
    if "jwt" in told:
        schemes["jwt"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return schemes


def _public(settings: Mapping[str, Any], model: str) -> list[str]:
    """The paths that anybody may ask."""
    sorts = {"health": ["/v2/health/live", "/v2/health/ready", f"{model}/ready"], "metadata": ["/", "/v2", model]}
    return [path for sort, paths in sorts.items() if sort in settings["authorize"]["public"] for path in paths]


def _get(operation: str, summary: str, schema: str) -> Schema:
    responses = {"200": _response(summary, schema), **_errors()}
    if operation == "serverReady":
        responses["503"] = {"description": "Not ready, and why.", "content": {_JSON: {"schema": {"type": "object"}}}}
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


def _infer(settings: Mapping[str, Any], sample: Mapping[str, Any]) -> Schema:
    header = {"name": _LENGTH, "in": "header", "required": False, "schema": {"type": "integer", "minimum": 0}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    answered: Schema = {"anyOf": [_ref("InferenceAnswer"), _ref("PlainAnswer")]}
    return {
        "operationId": "infer",
        "summary": f"Outputs of {settings['name']} for a protocol request or a plain one.",
        "parameters": [
            {**header, "description": "Bytes of JSON before the binary tensors; left out where the whole body is JSON."},
            {
                "name": "X-Trace-Id",
                "in": "header",
                "required": False,
                "schema": {**_TEXT, "maxLength": 128},
                "description": "Comes back in the answer; `traceparent` goes before it.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": {"anyOf": [_ref("InferenceRequest"), _ref("PlainRequest")]}, "example": dict(sample)},
                _BINARY: binary,
                **dict.fromkeys(_file_types(settings), binary),
            },
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": {"x-trace-id": {"schema": _TEXT}},
                "content": {_JSON: {"schema": answered}, _BINARY: binary},
            },
            **_errors(),
        },
    }


def _interfaces(settings: Mapping[str, Any], forms: TaskForms | None) -> Schema:
    """The paths of interfaces that a task speaks, such as OpenAI's: a hook in its place takes or answers what it likes."""
    if forms is None or settings.get("preprocess") or settings.get("postprocess"):
        return {}
    return {
        path: {
            "post": {
                "operationId": path.strip("/").replace("/", "_"),
                "summary": f"The {settings['task']['name']} of {settings['name']}, as clients of that interface ask for it.",
                "requestBody": {"required": True, "content": {_JSON: {"schema": forms.requests[at]}}},
                "responses": {
                    "200": {
                        "description": "The answer.",
                        "headers": {"x-trace-id": {"schema": _TEXT}},
                        "content": {_JSON: {"schema": forms.answers[at]}},
                    },
                    **_errors(),
                },
            }
        }
        for path, at in forms.paths.items()
    }


def _file_types(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a body may be for a task that reads files."""
    task = settings.get("task") or {}
    kinds = [kind for key, kind in (("image", "image/*"), ("sound", "audio/*")) if key in task]
    return (*kinds, "multipart/form-data") if kinds else ()


def _errors() -> Schema:
    return {"4XX": {"$ref": "#/components/responses/Error"}, "5XX": {"$ref": "#/components/responses/Error"}}


def _response(description: str, schema: str) -> Schema:
    headers = {"x-trace-id": {"schema": _TEXT, "description": "The same as in the body, where that has one."}}
    return {"description": description, "headers": headers, "content": {_JSON: {"schema": _ref(schema)}}}


def _envelopes(settings: Mapping[str, Any], forms: TaskForms | None) -> Schema:
    """Answers that have one form whatever the model is, and those that name it."""
    name, version = {"const": settings["name"]}, {"const": settings["version"]}
    row = open_object({"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}}})
    rows = {"type": "array", "items": row}
    ready = {"type": "boolean"}
    return {
        "Error": open_object({key: {**_TEXT, "minLength": 1} for key in ("error", "error_type", "trace_id")}),
        "ServerMetadata": open_object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
        "Live": open_object({"live": {"const": True}}),
        "Ready": open_object({"ready": ready}),
        "ModelReady": open_object({"name": name, "ready": ready}),
        "ModelMetadata": open_object(
            {"name": name, "versions": {"type": "array", "items": version}, "platform": _TEXT, "inputs": rows, "outputs": rows}
        ),
        "InferenceAnswer": open_object(
            {
                "model_name": name,
                "model_version": version,
                "parameters": _PARAMETERS,
                "outputs": {"type": "array", "items": {"anyOf": [_output(port) for port in settings["outputs"]]}},
            }
        ),
        "PlainAnswer": _plain_answer(settings, forms),
    }


def _plain_answer(settings: Mapping[str, Any], forms: TaskForms | None) -> Schema:
    if settings.get("postprocess") or (settings.get("task") and forms is None):
        return {"description": "What this package's hook or task answers."}
    return {"anyOf": [*forms.answers, _ref("InferenceAnswer")]} if forms is not None else _ref("InferenceAnswer")


def _requests(settings: Mapping[str, Any], limits: Mapping[str, int], task: TaskForms | None) -> Schema:
    tensors = {port["name"]: _input(port) for port in settings["inputs"]}
    tokenizer, texts = settings.get("tokenizer"), {}
    if tokenizer:
        text = {"type": "array", "items": {**_TEXT, "maxLength": limits["text_chars"]}, "minItems": 1, "maxItems": limits["rows"]}
        texts = {name: _tensor(name, "BYTES", {"minItems": 1, "maxItems": 4}, text) for name in ("text", "text_pair")}
    outputs = [open_object({"name": {"const": port["name"]}, "parameters": _PARAMETERS}, ("name",)) for port in settings["outputs"]]
    forms = [list(tensors.values()), *([[texts["text"]], list(texts.values())] if texts else [])]
    return {
        "InferenceRequest": {
            **open_object(
                {
                    "id": {**_TEXT, "maxLength": limits["id_chars"]},
                    "parameters": _PARAMETERS,
                    "inputs": {"anyOf": [_list_of(rows) for rows in forms]},
                    "outputs": {"type": "array", "items": {"anyOf": outputs}, "maxItems": len(outputs)},
                },
                ("inputs",),
            ),
            "description": "A request of the Open Inference Protocol v2. `data` holds as many values as `shape` says.",
        },
        "PlainRequest": _plain(settings, limits, task),
    }


_ENTITY: Schema = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 2048}, {"type": "integer"}]}
_ENTITIES: Schema = {
    "description": "An id, or ids of several samples, whose features the package looks up.",
    "anyOf": [_ENTITY, {"type": "array", "items": _ENTITY, "minItems": 1}],
}


def _plain(settings: Mapping[str, Any], limits: Mapping[str, int], task: TaskForms | None) -> Schema:
    if settings.get("preprocess") or (settings.get("task") and task is None):
        return {"type": "object", "description": "What this package's hook or task takes."}
    lists: Schema = {"description": "Nested lists."}
    forms = [open_object({"inputs": open_object({port["name"]: lists for port in settings["inputs"]})})]
    if settings.get("tokenizer"):
        text = {**_TEXT, "maxLength": limits["text_chars"]}
        pair = {"type": "array", "items": text, "minItems": 2, "maxItems": 2}
        many = {"type": "array", "items": {"anyOf": [text, pair]}, "minItems": 1, "maxItems": limits["rows"]}
        forms += [open_object({"text": text}), open_object({"text": text, "text_pair": text}), open_object({"texts": many})]
    taken = list(task.requests) if task is not None else []
    if features := settings.get("around", {}).get("features"):
        taken.append(open_object(dict.fromkeys(features["key"], _ENTITIES)))
    keys = [form["required"] for form in taken]
    # Tensors by their names stand beside a task's own `inputs`; of texts the task's form is the one that counts.
    forms = [form for form in forms if form["required"] == ["inputs"] or form["required"] not in keys]
    return {"anyOf": [*taken, *({**form, "additionalProperties": False} for form in forms)]}


def _input(port: Mapping[str, Any]) -> Schema:
    datatype = DATATYPES[port["dtype"]]
    value: Schema = {"type": ["number", "null"]}
    if datatype == "BYTES":
        value = _TEXT
    elif datatype == "BOOL":
        value = {"type": "boolean"}
    elif datatype.startswith(_WHOLE):
        value = {"type": "integer"}
    shape = [{"const": size} if isinstance(size, int) else {"type": "integer", "minimum": 0} for size in port["shape"]]
    fixed = {"prefixItems": shape, "minItems": len(shape), "maxItems": len(shape)} if shape else {"maxItems": 0}
    flat = {"type": "array", "items": value}
    return _tensor(port["name"], datatype, fixed, {"anyOf": [flat, {"type": "array", "items": {"type": "array"}}]})


def _tensor(name: str, datatype: str, shape: Schema, data: Schema) -> Schema:
    sizes = {"type": "array", "items": {"type": "integer", "minimum": 0}, **shape}
    properties = {"name": {"const": name}, "datatype": {"const": datatype}, "shape": sizes, "data": data, "parameters": _PARAMETERS}
    return open_object(properties, ("name", "datatype", "shape", "data"))


def _output(port: Mapping[str, Any]) -> Schema:
    own = DATATYPES[port["dtype"]]
    value = {"type": ["number", "string", "boolean", "null"]}
    properties = {
        "name": {"const": port["name"]},
        "datatype": {"enum": sorted({own, "BYTES"})},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array", "items": value},
        "parameters": _PARAMETERS,
    }
    return open_object(properties, ("name", "datatype", "shape"))


def _list_of(rows: list[Schema]) -> Schema:
    """Each of these once, in any order."""
    return {"type": "array", "items": {"anyOf": rows}, "minItems": len(rows), "maxItems": len(rows)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
