"""The other tools: each in an environment of its own, each preset a script that is given a model and calls, with a time limit.

Promises: an environment is made once of its requirements file, every distribution pinned; a preset's model or failure is kept by
what decides it (model, calls, script, requirements, preset, limit), so that judging anew costs nothing; nothing of a tool is
imported here, and none reports home.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "quantizers"
MODEL = "model.onnx"
OUTCOME = "outcome.json"
QUIET = {"CI": "true", "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
"""Olive and NNCF report their use, except in CI; no tool is to look for models elsewhere."""
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool: the name of its script and requirements, its presets, and those that are for transformers alone."""

    name: str
    presets: tuple[str, ...]
    for_transformers: tuple[str, ...] = ()


PEERS = (
    Peer(name="onnxruntime", presets=("static", "static-x86", "dynamic", "dynamic-x86", "fused"), for_transformers=("fused",)),
    Peer(name="optimum", presets=("avx2", "avx512_vnni")),
    Peer(name="olive", presets=("static", "dynamic")),
    Peer(name="neural_compressor", presets=("static", "dynamic")),
    Peer(name="onnx_neural_compressor", presets=("static", "smooth", "dynamic")),
    Peer(name="nncf", presets=("performance", "mixed", "transformer"), for_transformers=("transformer",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a preset came to: a model in `folder`, or the reason why there is none."""

    tool: str
    folder: Path | None
    reason: str
    seconds: float


def environment(peer: Peer, kept: Path) -> Path:
    """The interpreter of the peer's own environment, made of its requirements file where it is not there yet. OSError when the
    package index does not give them."""
    pinned = HERE / f"requirements-{peer.name}.txt"
    key = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = kept / "envs" / f"{peer.name}-{key}"
    with alone(place):
        if not (place / "ready").is_file():
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            command = [place / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "-r", pinned]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise OSError(f"{peer.name}: its environment cannot be made of {pinned.name}\n{done.stderr[-1500:]}")
            (place / "ready").touch()
    return place / "bin/python"


def run(peer: Peer, preset: str, model: Path, calibration: Path, kept: Path, limit_s: float) -> Outcome:
    """The preset's model of this model, or why there is none: made now, or read from an earlier run."""
    tool = f"{peer.name} {preset}"
    script = SCRIPTS / f"by_{peer.name}.py"
    parts: Mapping[str, Any] = {
        "model": [_sha256(path) for path in sorted(model.parent.glob(f"{model.name}*"))],
        "calls": _sha256(calibration),
        "script": [_sha256(script), _sha256(SCRIPTS / "calls.py")],
        "requirements": _sha256(HERE / f"requirements-{peer.name}.txt"),
        "preset": preset,
        "limit": limit_s,
    }
    place = kept / "made" / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    with alone(place):
        if not (place / OUTCOME).is_file():
            _make(environment(peer, kept), script, (preset, model, calibration), place, limit_s)
    found = json.loads((place / OUTCOME).read_bytes())
    return Outcome(tool=tool, folder=None if found["reason"] else place, reason=found["reason"], seconds=found["seconds"])


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Nobody else makes `place` meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(python: Path, script: Path, given: tuple[str, Path, Path], place: Path, limit_s: float) -> None:
    """Run the script into `place`, which is whole when its outcome lies in it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    log, began = place / "log.txt", time.monotonic()
    with log.open("w") as words:
        process = subprocess.Popen(
            [python, script, *map(str, given), place],
            stdout=words,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            cwd=place,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.monotonic() - began
    reason = ""
    if status is None:
        reason = f"took more than {limit_s:.0f} s"
    elif status != 0 or not (place / MODEL).is_file():
        reason = last_words(log.read_text(errors="replace")) or f"ended with {status} and left no model"
    partial = place / f".{OUTCOME}"
    partial.write_text(json.dumps({"reason": reason, "seconds": round(seconds, 2)}))
    partial.replace(place / OUTCOME)


def last_words(log: str) -> str:
    """The line that says why: the last one that is an exception's, else the last one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [
        line for line in lines if line.partition(":")[0].rpartition(".")[2].endswith(("Error", "Exception", "Fail", "Invalid"))
    ]
    return " ".join((raised or lines or [""])[-1].split())[:REASON_CHARACTERS]


def size_of(folder: Path, model: str = MODEL) -> int:
    """Bytes of a model with its external data: every file that the graph names, and the graph."""
    import onnx

    graph = onnx.load(str(folder / model), load_external_data=False)
    names = {model}
    for tensor in _tensors(graph.graph):
        names |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return sum((folder / name).stat().st_size for name in names)


def _tensors(graph: Any) -> Any:
    """Every stored tensor, those of nested graphs and of attributes too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(nested)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
