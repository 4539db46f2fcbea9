"""TensorRT on this machine: its packages, and a GPU to build on.

Promises:
- What is missing is an error that says what to install or where to build.
- A child process asks the GPU through the runtime's own driver code.

Will not: need a GPU to be imported, or to report that there is none.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.passes.tensorrt import child

LEAN = (
    "build on a machine of the fleet's kind, with its GPU and the full TensorRT (`builder: auto` does it there), or say "
    "`builder: deferred` and run `engine build` on the fleet's GPU from an environment with the full TensorRT, which publishes to "
    'MLPACK_ENGINES: docs/tensorrt.md, "Engines for the lean runtime", has the command'
)
"""The ways to engines for the lean runtime, whose image builds none."""

MODULES = {"rtx": "tensorrt_rtx_bindings", "standard": "tensorrt", "lean": "tensorrt"}
"""By flavour: the Python module that builds for it."""


def installed(flavour: str) -> bool:
    """Whether this flavour's builder can be imported."""
    return importlib.util.find_spec(MODULES[flavour]) is not None


def require(flavour: str) -> None:
    """Raise ModuleNotFoundError, which `transform` turns into what to install, or PassError where no index has the package."""
    if installed(flavour):
        return
    if flavour == "rtx":
        raise ModuleNotFoundError(f"No module named {MODULES['rtx']!r}", name=MODULES["rtx"])
    raise PassError(
        "tensorrt: the builder `native` needs the full TensorRT (Python package `tensorrt`), which is not installed here. Its "
        "libraries come from NVIDIA's own package index, as its installation guide says. Otherwise " + _otherwise(flavour)
    )


def _otherwise(flavour: str) -> str:
    return LEAN if flavour == "lean" else "say `builder: deferred`, and the worker image builds on the fleet's GPU"


@cache
def device() -> dict[str, Any] | None:
    """{"name", "sm", "driver"} of this machine's first GPU; None when there is none, or no driver."""
    with temporary.directory("device") as scratch:
        answer = Path(scratch, "device.json")
        code, _ = child.start("backends.cuda_driver", [str(answer)], limit_s=60)
        if code != 0 or not answer.is_file():
            return None
        description: dict[str, Any] = json.loads(answer.read_bytes())
        return description


def require_device(flavour: str) -> dict[str, Any]:
    """The GPU to build on for this flavour, with the full TensorRT there. Raises PassError."""
    require(flavour)
    description = device()
    if description is None:
        raise PassError(
            "tensorrt: the builder `native` needs a GPU, and this machine has none that its driver knows (libcuda.so.1). Build on "
            f"a machine of the fleet's kind; otherwise {_otherwise(flavour)}"
        )
    return description


def decides(flavour: str) -> str:
    """The facts about this machine that decide which builder `auto` is, for the store's key: the GPU, where the full TensorRT could
    use it."""
    if flavour == "rtx" or not installed("standard"):
        return "no native builder"
    description = device()
    return "no GPU" if description is None else f"{description['name']} {description['sm']} driver {description['driver']}"


def timing_cache_path(folder: Path, description: Mapping[str, Any], tensorrt: Mapping[str, str]) -> Path:
    """The file of timings for this device, TensorRT and CUDA. NVIDIA warns that timings of another device mislead."""
    fields = {"device": description["name"], "sm": description["sm"], "driver_cuda": description["driver"] // 1000,
             "version": tensorrt["version"], "cuda": tensorrt["cuda"]}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest.of_json(fields).hex}.timing"


def verify(model_dir: Path) -> str:
    """Run the engine in this directory on its check calls. Returns the worst difference in words. Raises PassError when it is too
    large."""
    with temporary.directory("verify") as scratch:
        answer = Path(scratch, "verified.json")
        code, log = child.start("tensorrt.engine_check", [str(model_dir), str(answer)])
        answer_json = json.loads(answer.read_bytes()) if answer.is_file() else {"ok": False, "reason": log}
    if code != 0 or not answer_json["ok"]:
        reason = answer_json.get("reason") or log or "its process ended without a word"
        raise PassError(f"tensorrt: the engine was built, and is not kept: {reason}")
    return str(answer_json["words"])
