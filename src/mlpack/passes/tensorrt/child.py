"""TensorRT in a child process: one JSON request, one JSON answer.

The parser and the builder are C++ and read foreign files. A crash there must not end the build, and a build that never ends
must be ended. The child runs `mlpack_runtime.tensorrt.engine_build`, the code that the image runs on the fleet's GPU. It is
found as files, as `pack` finds the runtime.

Promises:
- Every way in which the process can end is an answer or a PassError with the reason.

Will not: read an engine.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.core.files import temporary
from mlpack.errors import PassError

LIMIT_S = 1800
"""The time limit of one parse or build: MiniLM takes 4 s on one core, a graph of some GB minutes."""

Answer = dict[str, Any]

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; "
    "sys.exit(import_module('mlpack_runtime.{module}').main(sys.argv[2:]))"
)
_SHOWN = 600


def ask(request: Mapping[str, Any], limit_s: float = LIMIT_S) -> Answer:
    """The answer of `engine_build` to this request. Raises PassError when it crashes, or takes more than `limit_s` seconds."""
    with temporary.directory("tensorrt") as scratch:
        request_path, answer_path = Path(scratch, "request.json"), Path(scratch, "answer.json")
        request_path.write_text(json.dumps(request))
        code, log = start("tensorrt.engine_build", [str(request_path), str(answer_path)], limit_s)
        if code == 0 and answer_path.is_file():
            answer: Answer = json.loads(answer_path.read_bytes())
            return answer
    raise PassError(
        f"tensorrt: TensorRT's {request['op']} of this graph {ending(code, limit_s)}. It reads files in C++, which a damaged or "
        f"hostile graph can bring down: check where the model is from, and report it to NVIDIA if it is sound\n{log}".rstrip()
    )


def start(module: str, arguments: list[str], limit_s: float = LIMIT_S) -> tuple[int | None, str]:
    """Run a module of the runtime. Returns (exit code, the end of its stderr); the code is None when it was killed after
    `limit_s`."""
    command = [sys.executable, "-I", "-c", _START.format(module=module), str(_root()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        return None, _end(error.stderr or b"")
    return done.returncode, _end(done.stderr)


def ending(code: int | None, limit_s: float) -> str:
    """How a process ended, in words."""
    if code is None:
        return f"was not done after {limit_s:g} s"
    if code < 0:
        return f"ended with signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _end(log: bytes) -> str:
    return log.decode("utf-8", "replace").strip()[-_SHOWN:]


def _root() -> Path:
    spec = importlib.util.find_spec("mlpack_runtime")
    if spec is None or not spec.submodule_search_locations:
        raise PassError("tensorrt: the package mlpack_runtime is not installed beside mlpack: install mlpack anew")
    return Path(next(iter(spec.submodule_search_locations))).parent
