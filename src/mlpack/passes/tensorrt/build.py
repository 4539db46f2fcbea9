"""Three builders behind one function: each builds the part of a specification that it can build here.

    rtx        TensorRT for RTX, ahead of time: an engine for each architecture, on any x86-64 machine, without a GPU
    native     the full TensorRT on this machine's GPU: timing cache, verified against the CPU engine before it is kept
    deferred   nothing now: the worker image builds, verifies and publishes on the fleet's GPU (`bootstrap.py engine build`); for
               the lean runtime, whose image has no builder, an environment with the full TensorRT does

Promises:
- An engine is read back and compared with the specification (version, architecture, names, types, shapes, profiles) before it
  is kept. The notes say what could not be read without a GPU.
- A GPU that TensorRT for RTX refuses is recorded with the reason; it is an error when no GPU is left.

Will not: choose a builder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest, interrupts
from mlpack.errors import PassError
from mlpack.passes.tensorrt import child, native, refusal

SPEC = "tensorrt.json"
ENGINES = "engines"

Spec = dict[str, Any]

_RTX_MAGIC = b"vtrt"
_VERSION_AT = slice(24, 28)  # where `trtexec --getPlanVersionOnly` reads it
_AMPERE = 80
_ACCELERATORS = re.compile(rb"accelerators=\{((?:sm\d+[a-z]? )+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """The result of a builder: rows of tensorrt.json's `engines`, refused GPUs with the reason, and notes on what was not
    checked."""

    engines: tuple[dict[str, Any], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """The task of a builder: a specification without engines, where the graph is and engines go, a usual shape of every input, and
    native's timings."""

    spec: Spec
    out_dir: Path
    usual: refusal.Shapes
    timing_cache: str | None = None


def build(work: BuildJob) -> EngineBuild:
    """Carry out the specification with the builder that it names. Raises PassError."""
    return BUILDERS[work.spec["builder"]](work)


def key_of(spec: Spec, sm: str, device: str | None = None, driver_cuda: int | None = None) -> str:
    """The engine's key. This is the build's copy of `mlpack_runtime.tensorrt.engine_key.key`."""
    ampere_plus = spec["flags"]["hardware"] == "ampere_plus" and int(sm.removeprefix("sm")) >= _AMPERE
    fields = {
        **{name: spec[name] for name in ("graph", "flags", "workspace_bytes", "profiles", "precision")},
        **{name: spec["tensorrt"][name] for name in ("flavour", "version", "cuda")},
        "sm": "sm80+" if ampere_plus else sm, "device": device, "driver_cuda": driver_cuda,
    }  # fmt: skip
    return digest.of_json(fields).hex


def request_of(spec: Spec, graph_path: Path, sm: str | None, out: Path, op: str = "build") -> dict[str, Any]:
    """The request to `engine_build` for this specification."""
    return {
        "op": op, "graph": str(graph_path), "flavour": spec["tensorrt"]["flavour"], "sm": sm, "profiles": spec["profiles"],
        "flags": spec["flags"], "workspace_bytes": spec["workspace_bytes"], "timing_cache": None, "out": str(out),
    }  # fmt: skip


def _rtx(work: BuildJob) -> EngineBuild:
    spec, out_dir = work.spec, work.out_dir
    native.require("rtx")
    (out_dir / ENGINES).mkdir()
    engines, refused, unread = [], [], set()
    last: tuple[dict[str, Any], dict[str, Any]] | None = None
    for sm in spec["gpus"]:
        interrupts.check()
        path = out_dir / ENGINES / f"{sm}.engine"
        request = request_of(spec, out_dir / "model.onnx", sm, path)
        answer = child.ask(request)
        if not answer["ok"]:
            last = (request, answer)
            refused.append((sm, refusal.reason(answer)))
            if answer["stage"] != "build":
                break  # the same for every GPU
            continue
        unread.update(read_back(spec, answer, path, sm))
        engines.append(row(sm, path, key_of(spec, sm)))
    if not engines and last is not None:
        raise PassError(refusal.words(out_dir, *last, work.usual))
    return EngineBuild(
        engines=tuple(engines), refused=tuple(refused), version=spec["tensorrt"]["version"], notes=tuple(sorted(unread))
    )


def _native(work: BuildJob) -> EngineBuild:
    spec, out_dir = work.spec, work.out_dir
    device = native.require_device(spec["tensorrt"]["flavour"])
    sm = device["sm"]
    (out_dir / ENGINES).mkdir()
    path = out_dir / ENGINES / f"{sm}.engine"
    request = request_of(spec, out_dir / "model.onnx", None, path)
    if work.timing_cache is not None:
        request["timing_cache"] = str(native.timing_cache_path(Path(work.timing_cache), device, spec["tensorrt"]))
    answer = child.ask(request)
    if not answer["ok"]:
        raise PassError(refusal.words(out_dir, request, answer, work.usual))
    unread = read_back(spec, answer, path, sm)
    tied = device["name"] if spec["flags"]["hardware"] == "none" else None
    engine = row(sm, path, key_of(spec, sm, tied, device["driver"] // 1000))
    (out_dir / SPEC).write_bytes(digest.canonical_json({**spec, "gpus": [sm], "engines": [engine]}))
    worst = native.verify(out_dir)
    return EngineBuild(engines=(engine,), version=answer["version"], notes=(*unread, f"verified on {device['name']}: {worst}"))


def _deferred(work: BuildJob) -> EngineBuild:
    who = "the worker image builds this"
    if work.spec["tensorrt"]["flavour"] == "lean":
        who = "the worker image has no builder: an environment with the full TensorRT builds this (docs/tensorrt.md)"
    return EngineBuild(notes=(f"nothing was built: {who} on the fleet's GPU, with `bootstrap.py engine build`",))


BUILDERS: Mapping[str, Callable[[BuildJob], EngineBuild]] = {
    "rtx": _rtx, "native": _native, "deferred": _deferred,
}  # fmt: skip
"""The builders, by the name in a specification's `builder`."""


def row(sm: str, path: Path, key: str) -> dict[str, Any]:
    """An engine's entry in tensorrt.json."""
    return {"sm": sm, "file": f"{ENGINES}/{path.name}", "digest": str(digest.of_file(path)),
            "size_bytes": path.stat().st_size, "key": key}  # fmt: skip


def read_back(spec: Spec, answer: Mapping[str, Any], path: Path, sm: str) -> list[str]:
    """Compare an engine with the specification; returns what could not be read. Raises PassError on a contradiction."""
    wrong = []
    if answer["version"] != spec["tensorrt"]["version"]:
        wrong.append(f"TensorRT {answer['version']} built it, and {spec['tensorrt']['version']} was asked for")
    for side in ("inputs", "outputs"):
        wrong += _ports(side, spec[side], answer[side])
    if answer["profiles"] != spec["profiles"]:
        wrong.append(f"its profiles are {answer['profiles']}, not {spec['profiles']}")
    data = path.read_bytes()
    bad, unread = _plan(data, spec, sm)
    if wrong + bad:
        raise PassError(
            f"tensorrt: the engine for {sm} is not what was asked for: {'; '.join(wrong + bad)}. This is a fault of mlpack or of "
            "TensorRT; report it with the model"
        )
    return unread


def _ports(side: str, expected: list[dict[str, Any]], actual: list[dict[str, Any]]) -> list[str]:
    """Differences of names, types and fixed axes. TensorRT keeps the order of the graph's inputs, on which nothing relies."""
    ports = {port["name"]: port for port in actual}
    problems = [f"it has {side} {sorted(ports)}, not {sorted(port['name'] for port in expected)}"]
    if set(ports) == {port["name"] for port in expected}:
        problems = []
        for port in expected:
            other = ports[port["name"]]
            if other["dtype"] != port["dtype"]:
                problems.append(f"{port['name']!r} is {other['dtype']}, not {port['dtype']}")
            fits = len(other["shape"]) == len(port["shape"]) and all(
                mine == -1 or isinstance(axis, str) or mine == axis
                for mine, axis in zip(other["shape"], port["shape"], strict=True)
            )
            if not fits:
                problems.append(f"{port['name']!r} has shape {other['shape']}, not {port['shape']}")
    return problems


def _plan(data: bytes, spec: Spec, sm: str) -> tuple[list[str], list[str]]:
    """(contradictions, what was not read) of the serialised engine itself; `mlpack_runtime.tensorrt.engine_plan` has the form."""
    unread = ["the engine was not deserialised: TensorRT does that only where there is a GPU"]
    if data[:4] != _RTX_MAGIC:
        if spec["tensorrt"]["flavour"] == "rtx":
            return [f"its first bytes are {data[:4]!r}, not those of TensorRT for RTX"], unread
        return [], [*unread, "the engine's header: its form is not known"]
    wrong = []
    version = ".".join(map(str, data[_VERSION_AT]))
    if version != spec["tensorrt"]["version"]:
        wrong.append(f"its header says TensorRT {version}")
    if int.from_bytes(data[16:24], "little") != len(data):
        wrong.append("its header has another length")
    sms = {each.decode() for match in _ACCELERATORS.finditer(data) for each in match.group(1).split()}
    if sms and sms != {sm}:
        wrong.append(f"its text says that it is for {', '.join(sorted(sms))}")
    if not sms:
        unread.append(f"the architecture of the engine for {sm}: its text names none")
    wrong += [
        f"it does not name {port['name']!r}" for port in (*spec["inputs"], *spec["outputs"]) if port["name"].encode() not in data
    ]
    return wrong, unread
