"""TensorRT engines by name: the specification in a package, and the key under which an engine of it is kept.

    tensorrt.json   what to build: the graph's digest, precision, TensorRT's flavour and version, flags, profiles, devices, and the
                    engines that lie beside it
    key             SHA-256 of everything that decides an engine; two that share it may be exchanged for one another

Promises: the same values give the same key in the build and on the device (the build computes it on its own; a test holds both
together). A specification that is damaged or of another schema is a SpecError that says what to do. Will not: touch a device.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import hashlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCHEMA = 1
FILE = "tensorrt.json"
GRAPH_FILES = ("model.onnx", "model.onnx.data")
BINDINGS = {"rtx": "tensorrt_rtx_bindings", "standard": "tensorrt", "lean": "tensorrt_lean_bindings"}
"""By flavour: the Python module that runs an engine. Lean runs what `tensorrt` builds to be version compatible."""

AMPERE_PLUS = "sm80+"
"""What an engine is for that `hardware: ampere_plus` made: sm80 and all that came later."""

_CHUNK_BYTES = 1 << 20
_NEEDED = {"graph": str, "precision": str, "builder": str, "tensorrt": dict, "flags": dict, "profiles": list, "gpus": list,
           "inputs": list, "outputs": list, "engines": list}  # fmt: skip


class SpecError(ValueError):
    """tensorrt.json is missing, damaged or from another mlpack, or the graph beside it is not the one that it names."""


def canonical(value: "Any") -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def architecture(spec: "Mapping[str, Any]", sm: str) -> str:
    """What an engine of this specification for a device of `sm` is for: `sm` alone, or AMPERE_PLUS. Engines that are for the same
    may be exchanged."""
    return AMPERE_PLUS if spec["flags"]["hardware"] == "ampere_plus" and is_ampere_plus(sm) else sm


def is_ampere_plus(sm: str) -> bool:
    """Whether this compute capability is sm80 or newer."""
    digits = sm.removeprefix("sm").rstrip("abcdefghijklmnopqrstuvwxyz")
    return digits.isdecimal() and int(digits) >= 80


def key(spec: "Mapping[str, Any]", sm: str, device: "str | None" = None, driver_cuda: "int | None" = None) -> str:
    """64 hexadecimal digits. `sm`: the device's; `device`, `driver_cuda`: only where they decide too, see `key_here`."""
    tensorrt = spec["tensorrt"]
    named = {
        "graph": spec["graph"],
        "flavour": tensorrt["flavour"],
        "version": tensorrt["version"],
        "cuda": tensorrt["cuda"],
        "sm": architecture(spec, sm),
        "device": device,
        "driver_cuda": driver_cuda,
        "flags": spec["flags"],
        "workspace_bytes": spec["workspace_bytes"],
        "profiles": spec["profiles"],
        "precision": spec["precision"],
    }
    return hashlib.sha256(canonical(named)).hexdigest()


def key_here(spec: "Mapping[str, Any]", device: "Mapping[str, Any]") -> str:
    """The key of this specification's engine on a device ({"name", "sm", "driver"}).

    An engine of TensorRT for RTX knows neither device nor driver: its last compilation is at load. One of the full TensorRT is tied
    to the major version of the newest CUDA that the driver knows (`driver` is 1,000 of it), and to the very model of GPU unless its
    flags say `hardware`.
    """
    if spec["tensorrt"]["flavour"] == "rtx":
        return key(spec, device["sm"])
    tied = device["name"] if spec["flags"]["hardware"] == "none" else None
    return key(spec, device["sm"], tied, device["driver"] // 1000)


def file_digest(path: str) -> str:
    """`sha256:` and the digits, of a file's bytes."""
    state = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return "sha256:" + state.hexdigest()


def graph_digest(directory: str) -> str:
    """The digest of the graph together with its weights: of the canonical JSON of their files' digests, by name."""
    files = [name for name in GRAPH_FILES if os.path.isfile(os.path.join(directory, name))]
    named = {name: file_digest(os.path.join(directory, name)) for name in files}
    return "sha256:" + hashlib.sha256(canonical(named)).hexdigest()


def read(directory: str) -> "dict[str, Any]":
    """The specification in a package's model directory. Raises SpecError."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as stream:
            spec = json.loads(stream.read())
    except OSError as error:
        raise SpecError(f"{path} cannot be read ({error.strerror}): this package was not built for TensorRT") from None
    except ValueError as error:
        raise SpecError(f"{path} is not JSON ({error}): copy the package again") from None
    if type(spec) is not dict or spec.get("schema") != SCHEMA:
        found = spec.get("schema") if type(spec) is dict else None
        raise SpecError(f"{path} has schema {found!r}; this runtime reads schema {SCHEMA}: rebuild the package")
    for name, kind in _NEEDED.items():
        if type(spec.get(name)) is not kind:
            raise SpecError(f"{path} has no {name!r} that is a {kind.__name__}: rebuild the package")
    tensorrt = spec["tensorrt"]
    if tensorrt.get("flavour") not in BINDINGS or not all(type(tensorrt.get(each)) is str for each in ("version", "cuda")):
        raise SpecError(f"{path} names no TensorRT that this runtime knows ({', '.join(BINDINGS)}): rebuild the package")
    if type(spec["flags"].get("hardware")) is not str or "workspace_bytes" not in spec:
        raise SpecError(f"{path} lacks flags: rebuild the package")
    return spec


def check_graph(directory: str, spec: "Mapping[str, Any]") -> None:
    """Raises SpecError unless the graph beside the specification is the one that it names."""
    found = graph_digest(directory)
    if found != spec["graph"]:
        raise SpecError(
            f"the graph in {directory} is {found}, and {FILE} was written for {spec['graph']}: the package is damaged or mixed "
            "from two; copy it again"
        )


def packaged(spec: "Mapping[str, Any]", sm: str) -> "dict[str, Any] | None":
    """The row of the engine that lies in the package for this device, if there is one."""
    rows: list[dict[str, Any]] = spec["engines"]
    wanted = architecture(spec, sm)
    return next((row for row in rows if architecture(spec, row["sm"]) == wanted), None)
