"""What a serialised engine says of itself, read without a device.

TensorRT deserialises an engine only where there is a GPU (without one: CUDA error 35). Its first 64 bytes are a header: magic
number, length, and the version that made it as four bytes at offset 24, where `trtexec --getPlanVersionOnly` looks too. Plans of
TensorRT for RTX also hold in plain text for which architecture they were compiled (`accelerators={sm89 }`) and the names of the
inputs and outputs. None of that is a documented format: what is not found is said to be unknown, never guessed.

Promises: never more than the bytes say. Will not: prove that an engine runs; only a device does.
"""

import re

from mlpack_runtime.tensorrt import engine_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MAGIC = {"rtx": b"vtrt", "standard": b"ftrt", "lean": b"ftrt"}
HEADER_BYTES = 64
_ACCELERATORS = re.compile(rb"accelerators=\{((?:sm\d+[a-z]? )+)\}")


def inspect(data: bytes, names: "Iterable[str]" = ()) -> "dict[str, Any]":
    """{"magic", "size_bytes", "version", "sms", "names"}; `sms`: the architectures that its text names; `names`: those of the given
    ones that occur in it. `size_bytes` is what the header says, None when there is no header."""
    if len(data) < HEADER_BYTES:
        return {"magic": "", "size_bytes": None, "version": None, "sms": [], "names": []}
    found = {sm.decode() for match in _ACCELERATORS.finditer(data) for sm in match.group(1).split()}
    return {
        "magic": data[:4].decode("ascii", "replace"),
        "size_bytes": int.from_bytes(data[16:24], "little"),
        "version": ".".join(str(number) for number in data[24:28]),
        "sms": sorted(found),
        "names": [name for name in names if name.encode() in data],
    }


def problems(data: bytes, flavour: str, version: str, sm: str, names: "Iterable[str]") -> "tuple[list[str], list[str]]":
    """(what contradicts the specification, what could not be read). `sm`: what it has to be for, `engine_key.architecture`."""
    wanted = tuple(names)
    seen = inspect(data, wanted)
    if seen["magic"] != MAGIC[flavour].decode():
        if flavour == "rtx":
            return [f"its first bytes are {data[:4]!r}, not those of an engine of TensorRT for RTX ({MAGIC['rtx']!r})"], []
        return [], [f"its header starts with {data[:4]!r}, which is not known: version and length were not read"]
    wrong, unknown = [], []
    if seen["size_bytes"] != len(data):
        wrong.append(f"its header says {seen['size_bytes']:,} bytes, and there are {len(data):,}: it was cut off")
    if seen["version"] != version:
        wrong.append(f"it was made by TensorRT {seen['version']}, not {version}")
    fits = all(map(engine_key.is_ampere_plus, seen["sms"])) if sm == engine_key.AMPERE_PLUS else seen["sms"] == [sm]
    if seen["sms"] and not fits:
        wrong.append(f"it is for {', '.join(seen['sms'])}, not for {sm}")
    if not seen["sms"]:
        unknown.append("the architecture: its text names none")
    missing = [name for name in wanted if name not in seen["names"]]
    if missing and flavour == "rtx":
        wrong.append(f"it does not name {', '.join(map(repr, missing))}, which the graph has as inputs or outputs")
    return wrong, unknown


def against(spec: "Mapping[str, Any]", data: bytes, sm: str) -> "tuple[list[str], list[str]]":
    """`problems` of this specification's engine for a device of `sm`."""
    tensorrt = spec["tensorrt"]
    return problems(data, tensorrt["flavour"], tensorrt["version"], engine_key.architecture(spec, sm), described(spec))


def described(spec: "Mapping[str, Any]") -> "tuple[str, ...]":
    """The names of the specification's inputs and outputs."""
    return tuple(port["name"] for port in (*spec["inputs"], *spec["outputs"]))
