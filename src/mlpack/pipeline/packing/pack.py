"""Pack one candidate: its model, the runtime and the user's code become the package that ships.

    Model ─pack→ Artifact

Promises:
- Equal requests give equal bytes on every machine with the same interpreters: no clock, path or user goes in.
- A target's limits are checked before anything is written, and what is written is read back.

`runtime_tree` is a function of its own because its result is the same for every candidate of one platform: the caller may keep it.

Will not: resolve versions, boot or measure.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest
from mlpack.core.records import Artifact, Target
from mlpack.core.serving import OutsideWeights
from mlpack.errors import PackError
from mlpack.graphs import sounds
from mlpack.pipeline.packing import openapi
from mlpack.pipeline.packing.requirements import SUMMARY
from mlpack.pipeline.packing.runtime_part import (
    RuntimeRequest,
    assemble_runtime,
    copy,
    explain_full_disk,
    runtime_key,
    runtime_request,
    runtime_tree,
    sources_dir,
)
from mlpack.targets import TARGETS
from mlpack.targets.format import bytecode, outside, tokenizer_files
from mlpack.targets.format.bytecode import Interpreter
from mlpack.targets.format.contents import NO_FACTS, TASK_ROOT, Contents, Facts, Written
from mlpack.targets.format.outside import Taken
from mlpack.targets.format.unpacking import PACKAGE, SCHEMA, describe
from mlpack.targets.shipped import unpack

if TYPE_CHECKING:
    from mlpack.oci.base import Base

__all__ = [
    "Hooks",
    "PackRequest",
    "RuntimeRequest",
    "assemble_runtime",
    "describe",
    "interpreter_for",
    "lay_out",
    "pack",
    "python_of",
    "requirements_of",
    "runtime_key",
    "runtime_request",
    "runtime_tree",
    "tools",
    "unpack",
]

VERSION = 3
"""Raised when equal requests would give other bytes."""
EVENT = "event.json"
OPENAPI = "openapi.json"
MODEL_SCHEMA = 1
DEFAULT_MAX_LENGTH = 512
"""Tokens, where neither the recipe nor the model's files state a length: the positions of BERT and similar models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The user's code: `module:function` for each hook, and every file that it needs, relative to `root`."""

    root: Path
    files: tuple[str, ...]
    preprocess: str | None = None
    postprocess: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRequest:
    """One candidate to pack.

    `version`: a short name of the model's content. `model_dir`: model.onnx, model.onnx.data, signature.json, engine.json and, for
    text, tokenizer.json. `task`: model.json's. `further`: keys of model.json that open a part of the runtime each. `runtime`: a
    tree from `runtime_tree` for this target (see `runtime_request`). `sample`: the JSON body of a request that the package
    answers. `weights`: where they will be, if not in the package. `base`: for targets that need one.
    """

    name: str
    version: str
    variant: str
    target: Target
    model_dir: Path
    runtime: Path
    python: str
    sample: Mapping[str, Any]
    hooks: Hooks | None = None
    tokenizer: Path | None = None
    max_length: int | None = None
    task: Mapping[str, Any] | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    weights: OutsideWeights | None = None
    base: Base | None = None
    cache_dir: Path | None = None
    notes: tuple[str, ...] = field(default=())
    facts: Facts = NO_FACTS


def tools() -> dict[str, str]:
    """Versions of the tools that decide a package's bytes beside the request, for its action."""
    from importlib.metadata import version

    return {"deflate": version("deflate")}


def python_of(target: Target, base: Base | None, cache_dir: Path | None = None) -> str:
    """The package's Python minor version: that of the managed runtime, or of the base. PackError when the base has none."""
    if base is None:
        return str(target.config.python)
    from mlpack.oci.layers import paths

    return paths.find_python(paths.base_paths(base.image, cache_dir))[1]


def pack(request: PackRequest, work_dir: Path, out_dir: Path) -> Artifact:
    """Write what ships for this candidate to `out_dir` (empty): function.zip and layer.zip, or image/; and beside it event.json,
    openapi.json and package.json.

    `work_dir` (empty) is for intermediate files. LimitError when the target's limits are exceeded, before anything is written;
    PackError when the request contradicts itself.
    """
    kind = TARGETS[request.target.kind]
    if kind.needs_base != (request.base is not None):
        raise PackError(f"target {request.target.kind}: {'needs a base image' if kind.needs_base else 'has no base image'}")
    with explain_full_disk(out_dir):
        contents = _contents(request, work_dir)
        result, taken = outside.write(kind.write, contents, request.target.config, request.weights, (work_dir, out_dir))
        event = _event(request)
        (out_dir / EVENT).write_bytes(event)
        settings = _json(contents.code / "model" / "model.json")
        limits = openapi.limits_of(sources_dir(), settings)
        (out_dir / OPENAPI).write_bytes(openapi.document(settings, request.sample, limits))
        notes = (*request.notes, *result.notes, *outside.notes(taken, request.weights))
        return finish(out_dir, result, _package(request, result, taken), notes)


def finish(out_dir: Path, written: Written, described: Mapping[str, Any], notes: tuple[str, ...]) -> Artifact:
    """Write package.json beside what ships, and return what the directory is then."""
    (out_dir / PACKAGE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", "utf-8")
    files = [path for path, entry in digest.entries(out_dir) if entry.is_file(follow_symlinks=False)]
    return Artifact(
        kind=written.kind,
        digest=written.digest,
        tree=digest.of_tree(out_dir),
        files=tuple(sorted(files)),
        size_bytes=written.size_bytes,
        compressed_bytes=written.compressed_bytes,
        parts=written.parts,
        notes=notes,
    )


def lay_out(request: PackRequest, work_dir: Path, out_dir: Path) -> None:
    """Write the content of /var/task as a directory, whatever its size: others may be compared with a package too large to ship."""
    with explain_full_disk(out_dir):
        contents = _contents(request, work_dir)
        for part in contents.parts:
            shutil.copytree(contents.tree(part), out_dir, copy_function=copy, dirs_exist_ok=True)


def _contents(request: PackRequest, work_dir: Path) -> Contents:
    model, code = work_dir / "model", work_dir / "code"
    (model / "model").mkdir(parents=True)
    (code / "model").mkdir(parents=True)
    if not (request.model_dir / "model.onnx").is_file():
        raise PackError(f"{request.model_dir} has no model.onnx: the last step did not give an ONNX model")
    for graph in sorted(set(_graphs(request).values())):
        for path in sorted(request.model_dir.glob(f"{graph}*")):
            if path.is_file():
                copy(path, model / "model" / path.name)
    if request.task and "sound" in request.task:
        sounds.write(request.task, _json(request.model_dir / "signature.json"), model / "model" / "sounds")
    tokenizer = _tokenizer(request)
    text = {**tokenizer_files.write(tokenizer, model / "model"), **_text_settings(request, tokenizer)} if tokenizer else None
    settings = _settings(request, text)
    (code / "model" / "model.json").write_bytes(digest.canonical_json(settings))
    if request.hooks is not None:
        _copy_hooks(request, request.hooks, code)
    labels = {"org.opencontainers.image.title": request.name, "org.opencontainers.image.version": request.version}
    labels |= dict(request.facts.labels)
    return Contents(
        runtime=request.runtime,
        model=model,
        code=code,
        labels=labels,
        created_s=request.facts.created_s,
        engines=_engines(request, work_dir / "engines"),
        base=request.base,
        cache_dir=request.cache_dir,
    )


def _graphs(request: PackRequest) -> dict[str, str]:
    """The graph, and its twin where the processor needs another one: the `precision` pass writes cpu.onnx."""
    row, twin = TARGETS[request.target.kind], (request.model_dir / "cpu.onnx").is_file()
    if row.device == "cpu":
        return {"graph": "cpu.onnx" if twin else "model.onnx"}
    falls_back = twin and "cpu" in getattr(request.target.config, "fallback", ())
    return {"graph": "model.onnx", **({"cpu_graph": "cpu.onnx"} if falls_back else {})}


def _engines(request: PackRequest, out_dir: Path) -> Path | None:
    """The results of the `tensorrt` step, for a GPU worker: the specification, recorded answers, and the engines."""
    specification = request.model_dir / "tensorrt.json"
    if TARGETS[request.target.kind].device != "gpu" or not specification.is_file():
        return None
    (out_dir / "model" / "engines").mkdir(parents=True)
    for path in sorted(request.model_dir.glob("tensorrt*.*")):
        copy(path, out_dir / "model" / path.name)
    for row in _json(specification).get("engines", ()):
        engine = request.model_dir / row["file"]
        if not engine.is_file() or str(digest.of_file(engine)) != row["digest"]:
            raise PackError(f"{engine} is not the engine that {specification.name} lists: run the `tensorrt` step again")
        copy(engine, out_dir / "model" / "engines" / engine.name)
    return out_dir


def _tokenizer(request: PackRequest) -> Path | None:
    path = request.tokenizer or request.model_dir / "tokenizer.json"
    if path.is_file():
        return path
    if request.tokenizer is not None:
        raise PackError(f"there is no tokenizer at {path}")
    return None


def _settings(request: PackRequest, text: dict[str, Any] | None) -> dict[str, Any]:
    """model.json, which the runtime reads."""
    signature = _json(request.model_dir / "signature.json")
    engine = _json(request.model_dir / "engine.json") if (request.model_dir / "engine.json").is_file() else {}
    hooks = request.hooks
    return {
        "schema": MODEL_SCHEMA,
        "name": request.name,
        "version": request.version,
        "variant": request.variant,
        "target": request.target.kind,
        **_graphs(request),
        "graph_optimization_level": engine.get("graph_optimization_level", 99),
        "session": engine.get("session", {}),
        "memory_mb": request.target.config.memory_mb,
        "inputs": [_port(each) for each in signature["inputs"]],
        "outputs": [_port(each) for each in signature["outputs"]],
        "tokenizer": text,
        "preprocess": hooks.preprocess if hooks else None,
        "postprocess": hooks.postprocess if hooks else None,
        **({"task": dict(request.task)} if request.task else {}),
        **request.further,
        **TARGETS[request.target.kind].settings(request.target.config),
    }


def _port(port: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": port["name"], "dtype": port["dtype"], "shape": list(port["shape"])}


def _text_settings(request: PackRequest, tokenizer: Path) -> dict[str, Any]:
    """`max_length` in tokens, the padding token, and `pairs` where callers send pairs of texts. The length is the recipe's, else
    the sentence model's, else the tokenizer's, else what tokenizer.json cuts at (an export writes the model's there), else 512."""
    path = request.model_dir / "tokenizer_config.json"
    pad = _json(path).get("pad_token") if path.is_file() else None
    pad = pad.get("content") if isinstance(pad, dict) else pad
    length = request.max_length or _max_length(request) or tokenizer_files.longest(tokenizer) or DEFAULT_MAX_LENGTH
    more = {"pad_token": pad} if isinstance(pad, str) else {}
    return {"max_length": length, **more, **({"pairs": True} if _is_of_pairs(request.sample) else {})}


def _is_of_pairs(sample: Mapping[str, Any]) -> bool:
    """Whether a request, in any of its forms, asks about pairs of texts."""
    if sample.keys() & {"context", "documents"}:  # of a task that reads pairs
        return True
    rows, texts = sample.get("inputs"), sample.get("texts")
    names = [row.get("name") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return "text_pair" in sample or "text_pair" in names or (isinstance(texts, list) and bool(texts) and isinstance(texts[0], list))


def _max_length(request: PackRequest) -> int | None:
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = request.model_dir / name
        value = _json(path).get(key) if path.is_file() else None
        # Hugging Face writes 1e30 for "no limit".
        if isinstance(value, int | float) and 0 < value <= 1_000_000:
            return int(value)
    return None


def _copy_hooks(request: PackRequest, hooks: Hooks, code: Path) -> None:
    for name in hooks.files:
        if name.startswith("/") or ".." in name.split("/"):
            raise PackError(f"the hook's file {name!r} is outside {hooks.root}: move it beside the recipe")
        target = code / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(hooks.root / name, target)
    if interpreter := interpreter_for(request.python):
        bytecode.compile_tree(code, interpreter, TASK_ROOT)


def interpreter_for(python: str) -> Interpreter | None:
    """The Python of this machine that can compile and run packages of this minor version; None when there is none."""
    return bytecode.interpreter(python)


def _event(request: PackRequest) -> bytes:
    """The sample as the event of an HTTP API (payload format 2.0)."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": f"/v2/models/{request.name}/infer",
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": f"/v2/models/{request.name}/infer", "protocol": "HTTP/1.1"}},
        "body": json.dumps(request.sample, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        "isBase64Encoded": False,
    }
    return json.dumps(event, indent=1, ensure_ascii=False).encode() + b"\n"


def _package(request: PackRequest, result: Written, taken: Taken | None) -> dict[str, Any]:
    """package.json, which describes the package to those who unpack, boot, publish or compare it."""
    return {
        "name": request.name,
        "version": request.version,
        "variant": request.variant,
        "python": request.python,
        **described_by(result, request.target),
        **({"weights": taken.as_json()} if taken else {}),
        **_licences(request),
        **requirements_of(request.runtime),
    }


def described_by(written: Written, target: Target) -> dict[str, Any]:
    """The keys of package.json that follow from its target, and from what was written for it."""
    row = TARGETS[target.kind]
    return {
        "schema": SCHEMA,
        "kind": written.kind,
        "digest": str(written.digest),
        "target": target.kind,
        "arch": target.arch,
        "memory_mb": target.config.memory_mb,
        "size_bytes": written.size_bytes,
        "compressed_bytes": written.compressed_bytes,
        "parts": {part.name: part.size_bytes for part in written.parts},
        "layers": {part: str(each) for part, each in written.layers.items()},
        "files": [each.as_json() for each in written.files],
        **row.settings(target.config),
        **row.provider,
    }


def _licences(request: PackRequest) -> dict[str, Any]:
    """The accepted licences of the package's content, if there are any."""
    licences = TARGETS[request.target.kind].licenses(request.target.config)
    return {"licenses": [each.as_json() for each in licences]} if licences else {}


def requirements_of(runtime: Path) -> dict[str, Any]:
    """What package.json says of the wheels that the hooks brought, by name, version and licence."""
    summary = runtime / SUMMARY
    return {"requirements": _json(summary)["wheels"]} if summary.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read ({error}): the step that writes it did not finish") from None
    if not isinstance(document, dict):
        raise PackError(f"{path} holds no JSON object: the step that writes it is not one of mlpack's")
    return document
