"""The tensorrt pass: a specification of engines, and the engines themselves where they can be built here.

    model.onnx (+ data)      the graph as it came; cpu.onnx, its twin for the CPU engine, comes along where there is one
    tensorrt.json            the specification: graph, precision, TensorRT, flags, profiles, GPUs, engines (canonical JSON)
    tensorrt-check.json/.bin a few calls with the CPU engine's answers, for verification on the device
    engines/smNN.engine      the engine of an architecture

`builder: check` is a gate alone: parser and builder are run, nothing is kept but notes.json.

Promises:
- Engines are built without a GPU (TensorRT for RTX) or verified on one (native), and otherwise left to the image that runs
  them.
- A graph that TensorRT refuses is a PassError with node, reason and a smaller failing graph.

Will not: change the graph (`precision` does), or claim that an engine that was only built also runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.graphs import files, trials
from mlpack.passes.tensorrt import build, child, golden, native, profiles, refusal
from mlpack.passes.tensorrt.profiles import MAX_BATCH, Bounds

if TYPE_CHECKING:
    import onnx

    from mlpack.core.records import Signature

VERSIONS = {"rtx": ("1.7.1.116", "12"), "standard": ("11.4.0.106", "12"), "lean": ("11.4.0.106", "12")}
"""By flavour: TensorRT's version and CUDA's major version in a worker image, with which engines are therefore built."""

SMS = ("sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm120", "sm121")
"""Compute capabilities of GPUs in fleets. TensorRT for RTX builds for all except sm90 and sm100."""

_DISTRIBUTIONS = {"rtx": "tensorrt_rtx_cu12_bindings", "standard": "tensorrt", "lean": "tensorrt"}
_KINDS = ("fp32", "fp16", "bf16", "int8", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensorrt:
    """Who builds engines, for which GPUs and which shapes."""

    builder: Literal["auto", "check", "rtx", "native", "deferred"] = "auto"
    """`check` only tests whether TensorRT takes the graph. `rtx` builds engines without a GPU, `native` on this machine's GPU;
    `deferred` leaves that to the worker image, which with `lean` cannot. `auto`: `rtx` for that flavour if its wheels are
    installed; for others `native` if the full TensorRT and a GPU are here; else `deferred`, which for `lean` is an error."""
    gpus: tuple[str, ...] = ("sm86", "sm89")
    """Compute capabilities of the fleet: sm75 T4, sm80 A100, sm86 A10G, sm89 L4 and L40S, sm120 RTX PRO 6000."""
    flavour: Literal["rtx", "standard", "lean"] = "rtx"
    """The TensorRT that runs in the worker image."""
    profiles: tuple[Mapping[str, Bounds], ...] = ()
    """Shapes that engines take, by input; from the evaluation data when empty."""
    max_batch: int = MAX_BATCH
    """Rows at once, for profiles from data."""
    workspace_mb: int | None = None
    """Scratch memory for kernels in MB; all of the device's when unset."""
    hardware: Literal["none", "same_compute_capability", "ampere_plus"] = "same_compute_capability"
    """Full TensorRT: which other GPUs an engine must run on. `none` ties it to one model of GPU, and is the fastest."""
    version_compatible: bool = False
    """Full TensorRT: engines that later versions run too; `lean` always does."""
    tf32: bool = False
    """Whether fp32 products may be computed in TF32: faster from sm80 on, with 10 bits of mantissa."""
    optimization_level: Literal[0, 1, 2, 3, 4, 5] | None = None
    """TensorRT's own: higher builds longer."""
    timing_cache: str | None = None
    """Directory for native builds' timings, kept by device, TensorRT and CUDA."""
    evaluation: Path | None = None
    """Recorded calls; filled by the build."""


def run(model_dir: Path, config: Tensorrt, out_dir: Path) -> None:
    """Specify and build, or check. Raises PassError, ModuleNotFoundError when the builder's package is not installed."""
    wrong = [sm for sm in config.gpus if sm not in SMS]
    if wrong or not config.gpus:
        raise PassError(f"tensorrt: gpus {', '.join(wrong) or 'are empty'}: known are {', '.join(SMS)}")
    if config.builder == "check":
        return _gate(model_dir, config, out_dir)
    builder = chosen(config)
    spec = specification(model_dir, config, builder)
    _carry(model_dir, out_dir)
    usual = _usual(files.read_signature(model_dir), spec["profiles"])
    checked = golden.write(model_dir, out_dir, spec, config.evaluation)
    built = build.build(build.BuildJob(spec=spec, out_dir=out_dir, usual=usual, timing_cache=config.timing_cache))
    spec |= {"engines": list(built.engines), "refused": dict(built.refused)}
    if builder == "native":
        spec["gpus"] = [engine["sm"] for engine in built.engines]
    (out_dir / build.SPEC).write_bytes(digest.canonical_json(spec))
    files.finish(model_dir, out_dir, {
        "builder": builder, "tensorrt": spec["tensorrt"], "precision": spec["precision"], "profiles": spec["profiles"],
        "engines": {engine["sm"]: engine["size_bytes"] for engine in built.engines}, "refused": dict(built.refused),
        "check_calls": checked, "not_checked": list(built.notes),
    })  # fmt: skip
    return None


def chosen(config: Tensorrt) -> str:
    """The builder that `auto` means on this machine. Raises PassError where there is none."""
    if config.builder != "auto":
        if config.builder == "rtx" and config.flavour != "rtx":
            otherwise = native.LEAN if config.flavour == "lean" else "say `builder: deferred`"
            raise PassError(f"tensorrt: the builder `rtx` builds for TensorRT for RTX, and the image runs {config.flavour}: "
                            f"say `runtime: rtx` at the target; otherwise {otherwise}")  # fmt: skip
        if config.builder == "native" and config.flavour == "rtx":
            raise PassError("tensorrt: the builder `native` builds for the full TensorRT, and the image runs TensorRT for RTX, "
                            "which needs no GPU to build: say `builder: rtx`")  # fmt: skip
        return config.builder
    if config.flavour == "rtx":
        return "rtx" if native.installed("rtx") else "deferred"
    if native.installed("standard") and native.device():
        return "native"
    if config.flavour == "lean":
        raise PassError("tensorrt: no engine for the lean runtime can be built here, without the full TensorRT and a GPU, nor in "
                        f"its image later: {native.LEAN}. `runtime: rtx` needs no GPU to build")  # fmt: skip
    return "deferred"


def machine(config: Tensorrt) -> str:
    """The facts about this machine that decide the result beside the installed packages."""
    return native.decides(config.flavour) if config.builder in ("auto", "native") else ""


def specification(model_dir: Path, config: Tensorrt, builder: str) -> build.Spec:
    """tensorrt.json without engines, for the graph in `model_dir`. Raises PassError, also when there are no profiles."""
    signature = files.read_signature(model_dir)
    shapes_seen = profiles.observed_shapes(config.evaluation, model_dir, signature) if config.evaluation is not None else ()
    profile_list = profiles.of(signature, config.profiles, shapes_seen, config.max_batch)
    return _specified(model_dir, config, builder, [profile.as_json() for profile in profile_list])


def _specified(model_dir: Path, config: Tensorrt, builder: str, shapes: list[dict[str, Any]]) -> build.Spec:
    signature = files.read_signature(model_dir)
    version, cuda = VERSIONS[config.flavour]
    if builder in ("rtx", "native"):
        _check_version(config.flavour, version)
    parts = [name for name in (files.MODEL, files.DATA) if (model_dir / name).is_file()]
    lean = config.flavour == "lean"
    flags = {
        "tf32": config.tf32, "hardware": "none" if config.flavour == "rtx" else config.hardware,
        "version_compatible": lean or (config.version_compatible and config.flavour != "rtx"), "exclude_lean_runtime": lean,
        "optimization_level": config.optimization_level,
    }  # fmt: skip
    return {
        "schema": 1,
        "graph": str(digest.of_json({name: str(digest.of_file(model_dir / name)) for name in parts})),
        "precision": precision_of(model_dir),
        "builder": builder,
        "tensorrt": {"flavour": config.flavour, "version": version, "cuda": cuda},
        "flags": flags,
        "workspace_bytes": config.workspace_mb * 1024 * 1024 if config.workspace_mb else None,
        "profiles": shapes,
        "gpus": list(config.gpus),
        "inputs": _ports(signature.inputs),
        "outputs": _ports(signature.outputs),
        "engines": [],
        "refused": {},
    }


def precision_of(model_dir: Path) -> str:
    """fp32, fp16, bf16, int8 or mixed: the note of the pass `precision`, else what the graph itself shows."""
    from onnx import TensorProto

    model = files.load(model_dir)
    noted = check_note(model_dir)
    if noted in _KINDS:
        return noted
    kinds = {tensor.data_type for tensor in files.tensors(model.graph)} | {_cast_to(node) for node in model.graph.node}
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        return "int8"
    if TensorProto.BFLOAT16 in kinds:
        return "bf16"
    return "fp16" if TensorProto.FLOAT16 in kinds else "fp32"


def check_note(model_dir: Path) -> str:
    """`type` of notes.json, as `precision` writes it; empty without one."""
    import json

    path = model_dir / files.NOTES
    noted = json.loads(path.read_bytes()) if path.is_file() else {}
    return str(noted.get("type", ""))


def _cast_to(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0) if node.op_type == "Cast" else 0


def _gate(model_dir: Path, config: Tensorrt, out_dir: Path) -> None:
    """Run the parser and builder of TensorRT for RTX on the graph, for every requested GPU; the model stays as it was."""

    native.require("rtx")
    signature = files.read_signature(model_dir)
    shapes_seen = (
        profiles.observed_shapes(config.evaluation, model_dir, signature)
        if config.evaluation is not None
        else _invented(model_dir, signature)
    )
    shapes = [profile.as_json() for profile in profiles.of(signature, config.profiles, shapes_seen, config.max_batch)]
    spec = _specified(model_dir, config, "check", shapes) | {
        "tensorrt": {"flavour": "rtx", "version": _installed_version("rtx"), "cuda": "12"}
    }
    spec["flags"] = {**spec["flags"], "hardware": "none", "version_compatible": False, "exclude_lean_runtime": False}
    sizes: dict[str, int] = {}
    with temporary.directory("gate") as scratch:
        for sm in config.gpus:
            path = Path(scratch, f"{sm}.engine")
            request = build.request_of(spec, model_dir / files.MODEL, sm, path)
            answer = child.ask(request)
            if not answer["ok"]:
                raise PassError(refusal.words(model_dir, request, answer, _usual(signature, shapes)))
            build.read_back(spec, answer, path, sm)
            sizes[sm] = path.stat().st_size
            path.unlink()
    _carry(model_dir, out_dir)
    files.finish(model_dir, out_dir, {
        "checked_with": {"tensorrt": spec["tensorrt"]["version"], "flavour": "rtx"}, "engine_bytes": sizes, "profiles": shapes,
        "shapes_from": "the recipe" if config.profiles else "the evaluation data" if config.evaluation else "invented inputs",
    })  # fmt: skip


def _invented(model_dir: Path, signature: Signature) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Shapes of generated inputs, because a gate must not need data."""
    feeds = trials.feeds_of(model_dir, files.load(model_dir))
    return tuple({spec.name: tuple(feed[spec.name].shape) for spec in signature.inputs} for feed in feeds)


def _installed_version(flavour: str) -> str | None:
    try:
        return metadata.version(_DISTRIBUTIONS[flavour])
    except metadata.PackageNotFoundError:
        return None


def _check_version(flavour: str, version: str) -> None:
    """Raise PassError when the installed builder has another version than the image that will run its engines."""
    installed = _installed_version(flavour)
    if installed is not None and installed != version:
        name = _DISTRIBUTIONS[flavour]
        both = f"'{name}=={version}' 'tensorrt_rtx_cu12_libs=={version}'" if flavour == "rtx" else f"'{name}=={version}'"
        raise PassError(f"tensorrt: {name} {installed} is installed, and worker images run TensorRT {version}, which takes no "
                        f"other version's engines: pip install {both}")  # fmt: skip


def _usual(signature: Signature, shapes: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """A shape of every input: the first profile's preferred one."""
    first = shapes[0] if shapes else {}
    fixed = {spec.name: tuple(axis for axis in spec.shape if isinstance(axis, int)) for spec in signature.inputs}
    return {name: tuple(first[name]["opt"]) if name in first else shape for name, shape in fixed.items()}


def _ports(specs: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]


def _carry(model_dir: Path, out_dir: Path) -> None:
    """Copy every file of the model except the last pass's notes."""
    for item in sorted(model_dir.iterdir()):
        if item.is_file() and item.name != files.NOTES:
            shutil.copyfile(item, out_dir / item.name)
