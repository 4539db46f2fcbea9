"""Model, runtime and code in; what ships out.

    Model ─pack→ Artifact

Promises: equal requests give equal bytes on every machine with the same interpreters (no clock, path or user goes in); a target's
limits are checked before anything is written; what is written was read back. `runtime_tree` is apart because it is the same for
every candidate of one platform: whoever calls may keep it. Will not resolve versions, boot or measure.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack import bytecode, digest, wheels
from mlpack.bytecode import Interpreter
from mlpack.digest import Digest
from mlpack.errors import PackError, full_disk
from mlpack.records import Artifact, Target
from mlpack.targets import TARGETS, tokenizer_files
from mlpack.targets.contents import LAYER_ROOT, PARTS, TASK_ROOT, Contents, Written
from mlpack.targets.unpacking import PACKAGE, SCHEMA, describe, unpack
from mlpack.wheels import Pin

if TYPE_CHECKING:
    from mlpack.oci.base import Base

__all__ = [
    "Hooks",
    "PackRequest",
    "RuntimeRequest",
    "describe",
    "interpreter_for",
    "lay_out",
    "pack",
    "python_of",
    "runtime_key",
    "runtime_request",
    "runtime_tree",
    "tools",
    "unpack",
]

VERSION = 1
"""Raised whenever equal requests would give other bytes."""
EVENT = "event.json"
MODEL_SCHEMA = 1
DEFAULT_MAX_LENGTH = 512
"""Tokens, where neither the recipe nor the model's own files say: what BERT and its kin have positions for."""
_ELF_MACHINES = {"x86_64": 0x3E, "arm64": 0xB7}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRequest:
    """Everything that decides the bytes of a package's runtime part. `prefix`: where it will lie in the function's file system."""

    python: str
    arch: str
    text: bool
    pins: tuple[Pin, ...]
    prefix: str = TASK_ROOT
    interpreter: Interpreter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The user's own code: `module:function` for each hook, and every file it needs, relative to `root`."""

    root: Path
    files: tuple[str, ...]
    preprocess: str | None = None
    postprocess: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRequest:
    """One candidate to pack.

    `version`: a short name of the model's content. `model_dir`: model.onnx, model.onnx.data, signature.json, engine.json and, for
    text, tokenizer.json. `runtime`: a tree that `runtime_tree` made for this target (see `runtime_request`). `sample`: the JSON
    body of a request which the package answers. `base`: for targets that need one.
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
    base: Base | None = None
    cache_dir: Path | None = None
    notes: tuple[str, ...] = field(default=())


def tools() -> dict[str, str]:
    """Versions of what decides the bytes of a package beside the request, for its action."""
    from importlib.metadata import version

    return {"deflate": version("deflate")}


def python_of(target: Target, base: Base | None, cache_dir: Path | None = None) -> str:
    """The Python minor version that the package will meet: of the managed runtime, or of the base. PackError when that has none."""
    if base is None:
        return str(target.config.python)
    from mlpack.oci import paths

    return paths.find_python(paths.base_paths(base.image, cache_dir))[1]


def runtime_request(target: Target, python: str, text: bool, pins: tuple[Pin, ...]) -> RuntimeRequest:
    """What `target` needs as its runtime part, with the interpreter of this machine that can compile for it."""
    prefix = LAYER_ROOT if getattr(target.config, "layer", False) else TASK_ROOT
    needed = {wheels.ENGINE, wheels.TOKENIZER} if text else {wheels.ENGINE}
    chosen = tuple(pin for pin in pins if f"{pin.name}=={pin.version}" in needed)
    if len(chosen) != len(needed):
        raise PackError(
            f"{wheels.LOCK_NAME} does not pin {' and '.join(sorted(needed))} for {python} on {target.arch}: delete it to pin anew"
        )
    return RuntimeRequest(
        python=python, arch=target.arch, text=text, pins=chosen, prefix=prefix, interpreter=bytecode.interpreter(python)
    )


def runtime_key(request: RuntimeRequest) -> dict[str, Any]:
    """Everything that decides what `runtime_tree` writes, as JSON for an action: the runtime's own sources among it."""
    return {
        "runtime": str(_sources_digest()),
        "python": request.python,
        "arch": request.arch,
        "text": request.text,
        "pins": [[pin.name, pin.version, list(pin.sha256s)] for pin in request.pins],
        "prefix": request.prefix,
        "compiler": request.interpreter.version if request.interpreter else None,
        "versions": {"pack": VERSION, "bytecode": bytecode.VERSION},
        "rules": [[rule.pattern, rule.to] for rule in wheels.RULES],
    }


def runtime_tree(request: RuntimeRequest, out_dir: Path) -> tuple[str, ...]:
    """bootstrap.py, mlpack_runtime/, lib/, site/ and licenses/ in `out_dir`, which is empty; returns notes for the user.

    Reads the wheels from the index or uv's cache (ServiceError, PackError); PackError when a library is for another processor.
    """
    with _space(out_dir):
        installed = out_dir / ".installed"
        wheels.install(request.pins, request.python, request.arch, installed)
        notes = assemble_runtime(installed, request, out_dir)
        shutil.rmtree(installed)
        return notes


def assemble_runtime(installed: Path, request: RuntimeRequest, out_dir: Path) -> tuple[str, ...]:
    """What `runtime_tree` does after the wheels were unpacked to `installed`, whose kept files are moved."""
    for path in wheels.slim(installed, out_dir):
        _check_machine(out_dir / path, request.arch)
    sources = _sources()
    for name in _source_names(sources):
        target = out_dir / ("bootstrap.py" if name == "bootstrap.py" else f"mlpack_runtime/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(sources / name, target)
    if request.interpreter is None:
        return (bytecode.missing_note(request.python),)
    bytecode.compile_tree(out_dir, request.interpreter, request.prefix)
    return ()


def pack(request: PackRequest, work_dir: Path, out_dir: Path) -> Artifact:
    """Write what ships for this candidate to `out_dir` (empty): function.zip and layer.zip, or image/; event.json; package.json.

    `work_dir` (empty) is for intermediate files. LimitError when the target's limits are exceeded, before anything is written;
    PackError when the request contradicts itself.
    """
    kind = TARGETS[request.target.kind]
    if kind.needs_base != (request.base is not None):
        raise PackError(f"target {request.target.kind}: {'needs a base image' if kind.needs_base else 'has no base image'}")
    with _space(out_dir):
        contents = _contents(request, work_dir)
        written = kind.write(contents, request.target.config, out_dir)
        event = _event(request)
        (out_dir / EVENT).write_bytes(event)
        described = _package(request, written)
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
            notes=(*request.notes, *written.notes),
        )


def lay_out(request: PackRequest, work_dir: Path, out_dir: Path) -> None:
    """What would lie at /var/task, as a directory, whatever its size: what is too large to ship can still be compared with."""
    with _space(out_dir):
        contents = _contents(request, work_dir)
        for part in PARTS:
            shutil.copytree(contents.tree(part), out_dir, copy_function=_link, dirs_exist_ok=True)


def _contents(request: PackRequest, work_dir: Path) -> Contents:
    model, code = work_dir / "model", work_dir / "code"
    (model / "model").mkdir(parents=True)
    (code / "model").mkdir(parents=True)
    graphs = sorted(path for path in request.model_dir.glob("model.onnx*") if path.is_file())
    if not (request.model_dir / "model.onnx").is_file():
        raise PackError(f"{request.model_dir} has no model.onnx: the last step did not give an ONNX model")
    for path in graphs:
        _link(path, model / "model" / path.name)
    tokenizer = _tokenizer(request)
    text = {**tokenizer_files.write(tokenizer, model / "model"), **_text_settings(request)} if tokenizer else None
    settings = _settings(request, text)
    (code / "model" / "model.json").write_bytes(digest.canonical_json(settings))
    if request.hooks is not None:
        _copy_hooks(request, request.hooks, code)
    labels = {"org.opencontainers.image.title": request.name, "org.opencontainers.image.version": request.version}
    return Contents(runtime=request.runtime, model=model, code=code, labels=labels, base=request.base, cache_dir=request.cache_dir)


def _tokenizer(request: PackRequest) -> Path | None:
    given = request.tokenizer or request.model_dir / "tokenizer.json"
    if given.is_file():
        return given
    if request.tokenizer is not None:
        raise PackError(f"there is no tokenizer at {given}")
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
        "graph": "model.onnx",
        "graph_optimization_level": engine.get("graph_optimization_level", 99),
        "session": engine.get("session", {}),
        "memory_mb": request.target.config.memory_mb,
        "inputs": [_port(each) for each in signature["inputs"]],
        "outputs": [_port(each) for each in signature["outputs"]],
        "tokenizer": text,
        "preprocess": hooks.preprocess if hooks else None,
        "postprocess": hooks.postprocess if hooks else None,
    }


def _port(described: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": described["name"], "dtype": described["dtype"], "shape": list(described["shape"])}


def _text_settings(request: PackRequest) -> dict[str, Any]:
    """`max_length`, in tokens: the recipe's word, else the sentence model's, the tokenizer's, 512. And the padding token."""
    path = request.model_dir / "tokenizer_config.json"
    pad = _json(path).get("pad_token") if path.is_file() else None
    pad = pad.get("content") if isinstance(pad, dict) else pad
    length = request.max_length or _max_length(request)
    return {"max_length": length, **({"pad_token": pad} if isinstance(pad, str) else {})}


def _max_length(request: PackRequest) -> int:
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = request.model_dir / name
        found = _json(path).get(key) if path.is_file() else None
        # Hugging Face writes 1e30 for "no limit".
        if isinstance(found, int | float) and 0 < found <= 1_000_000:
            return int(found)
    return DEFAULT_MAX_LENGTH


def _copy_hooks(request: PackRequest, hooks: Hooks, code: Path) -> None:
    for name in hooks.files:
        if name.startswith("/") or ".." in name.split("/"):
            raise PackError(f"the hook's file {name!r} is outside {hooks.root}: move it beside the recipe")
        target = code / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(hooks.root / name, target)
    if interpreter := interpreter_for(request.python):
        bytecode.compile_tree(code, interpreter, TASK_ROOT)


def interpreter_for(python: str) -> Interpreter | None:
    """The Python of this machine that compiles for, and can run, packages of this minor version; None when there is none."""
    return bytecode.interpreter(python)


def _event(request: PackRequest) -> bytes:
    """The sample as an HTTP API (payload format 2.0) would hand it to the function."""
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


def _package(request: PackRequest, written: Written) -> dict[str, Any]:
    """package.json: what is in the package, for whoever unpacks, boots, publishes or compares it."""
    return {
        "schema": SCHEMA,
        "kind": written.kind,
        "digest": str(written.digest),
        "name": request.name,
        "version": request.version,
        "variant": request.variant,
        "target": request.target.kind,
        "arch": request.target.arch,
        "python": request.python,
        "memory_mb": request.target.config.memory_mb,
        "size_bytes": written.size_bytes,
        "compressed_bytes": written.compressed_bytes,
        "parts": {part.name: part.size_bytes for part in written.parts},
        "layers": {part: str(each) for part, each in written.layers.items()},
        "files": [each.as_json() for each in written.files],
    }


def _sources() -> Path:
    found = importlib.util.find_spec("mlpack_runtime")
    if found is None or not found.submodule_search_locations:
        raise PackError("the package mlpack_runtime is not installed beside mlpack: install mlpack anew")
    return Path(next(iter(found.submodule_search_locations)))


def _source_names(sources: Path) -> tuple[str, ...]:
    return tuple(path for path, entry in digest.entries(sources) if path.endswith(".py") and entry.is_file())


def _sources_digest() -> Digest:
    sources = _sources()
    return digest.of_json({name: str(digest.of_file(sources / name)) for name in _source_names(sources)})


def _check_machine(path: Path, arch: str) -> None:
    with path.open("rb") as file:
        header = file.read(20)
    if header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") != _ELF_MACHINES[arch]:
        raise PackError(f"{path.name} is not built for {arch}: the package index served a wheel for another processor")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read ({error}): the step that writes it did not finish") from None
    if not isinstance(found, dict):
        raise PackError(f"{path} holds no JSON object: the step that writes it is not one of mlpack's")
    return found


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name where the file system can, a copy where it cannot: models are large, and only read."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _space(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # No PackError: a full disk is no candidate's fault, and the build must not go on to choose another.
        if full := full_disk(str(error)):
            raise OSError(full.errno, full.strerror, str(directory)) from error
        raise
