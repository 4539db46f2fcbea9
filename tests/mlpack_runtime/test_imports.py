"""What a cold start imports, as a list: a module that appears here costs every start of every package."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.runtime.tiny_packages import package, words

if TYPE_CHECKING:
    from pathlib import Path

# Loaded by every interpreter, by `os`, or frozen or built in: nothing to read from disk.
FREE = {
    "__main__",
    "_abc",
    "_codecs",
    "_collections_abc",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_imp",
    "_io",
    "_operator",
    "_signal",
    "_sre",
    "_stat",
    "_thread",
    "_warnings",
    "_weakref",
    "abc",
    "builtins",
    "codecs",
    "encodings",
    "encodings.aliases",
    "encodings.utf_8",
    "errno",
    "faulthandler",
    "genericpath",
    "io",
    "itertools",
    "marshal",
    "os",
    "os.path",
    "posix",
    "posixpath",
    "stat",
    "sys",
    "time",
    "zipimport",
}
ENGINE = {"_ctypes", "_struct", "struct", "types", "ctypes", "ctypes._endian", "_json"}
ALLOWED = {
    "bench": FREE | ENGINE | {"mmap", "mlpack_runtime.bench"},
    "loop": FREE | ENGINE | {"_socket", "mlpack_runtime.loop"}
    | {f"mlpack_runtime.{name}" for name in ("failure", "handler", "service", "protocol", "shapes", "values", "telemetry")},
}  # fmt: skip
COMMON = {"mlpack_runtime"} | {
    f"mlpack_runtime.{name}" for name in ("jsontext", "limits", "model", "ort", "starting", "tensor", "texts")
}

LOOP = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import loop
from mlpack_runtime.handler import render
assert b"outputs" in render({EVENT}, loop.Context({{}}))
"""
BENCH = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import bench
bench.Bench(sys.argv[2]).load({{}})
"""
SHOW = """
sys.stderr.write(repr(sorted(sys.modules)))
"""


def loaded(root: Path, code: str, *arguments: str) -> set[str]:
    # From a file, as a package starts: from Python 3.13 on `-c` loads modules of its own.
    program = root.parent / "program.py"
    program.write_text(code + SHOW)
    run = subprocess.run([sys.executable, "-I", "-S", program, str(root), *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stderr.replace("'", '"')))


def test_loop_first_answer_imports_nothing_else(tiny: Path) -> None:
    event = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}
    assert loaded(tiny, LOOP.format(EVENT=event)) - ALLOWED["loop"] - COMMON == set()


def test_loop_reaches_the_platform_without_another_import(tiny: Path) -> None:
    """A host name as text is encoded by `encodings.idna`, which imports `re`, `enum` and `collections`."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime.loop import Connection
from _socket import socket
listener = socket()
listener.bind(("127.0.0.1", 0))
listener.listen(1)
Connection(f"localhost:{listener.getsockname()[1]}")._connect()
"""
    assert loaded(tiny, code) - ALLOWED["loop"] - COMMON == set()


def test_request_that_only_looks_like_an_event_adds_one_module(tiny: Path) -> None:
    event = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}, "info": {}}
    code = LOOP.format(EVENT=event).replace('b"outputs"', 'b"error"')
    extra = {"mlpack_runtime.triggers", "mlpack_runtime.triggers.sources"}
    assert loaded(tiny, code) - ALLOWED["loop"] - COMMON == extra


def test_loop_first_answer_of_text_model_adds_only_tokenizer(texts: Path) -> None:
    extra = {"tokenizers", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "importlib.machinery", "warnings"}
    assert loaded(texts, LOOP.format(EVENT={"text": "the cat"})) - ALLOWED["loop"] - COMMON <= extra


def test_a_task_adds_its_own_modules_alone(tmp_path: Path) -> None:
    task = {"name": "text-classification", "output": "embedding", "labels": [], "activation": "none"}
    root = package(tmp_path / "task", words, tokenizer={"file": "tokenizer.json", "max_length": 6}, task=task)
    extra = {"tokenizers", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "importlib.machinery", "warnings"}
    extra |= {"math"} | {f"mlpack_runtime.tasks{name}" for name in ("", ".requests", ".scores", ".text_classification")}
    program = LOOP.format(EVENT={"text": "the cat"}).replace('b"outputs"', 'b"labels"')
    assert loaded(root, program) - ALLOWED["loop"] - COMMON <= extra


def test_bench_load_imports_nothing_else(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "calls.json").write_text("[]")
    (tmp_path / "calls.bin").write_bytes(b"")
    assert loaded(tiny, BENCH.format(), str(tmp_path)) - ALLOWED["bench"] - COMMON == set()


RUNTIME = ["tensor", "jsontext", "limits", "texts", "ort", "model", "values", "protocol", "shapes", "telemetry", "service", "loop"]
RUNTIME += ["failure", "snapshot", "starting", "bench", "routes", "hooks", "encodings", "classification", "media"]
RUNTIME += [
    "sounds",
    "sounds.listening",
    "sounds.resampling",
    "sounds.wave",
    "tasks.files",
    "tasks.series",
    "fetching",
    "fetching.download",
    "fetching.network",
    "fetching.policy",
]
RUNTIME += ["triggers.answers", "triggers.dispatch", "triggers.records", "triggers.settings", "triggers.sources"]
WORKER = [
    "aws",
    "backend",
    "backends.cpu",
    "backends.cuda",
    "serving.batched",
    "serving.batcher",
    "serving.batching",
    "serving.breaker",
    "queueing.consumer",
    "queueing.drain",
]
WORKER += [
    "serving.health",
    "serving.http_head",
    "serving.http_server",
    "serving.http_wire",
    "queueing.intake",
    "json_room",
    "portions",
    "serving.probe",
    "queueing.results",
    "queueing.settings",
]
WORKER += [
    "queueing.envelopes",
    "queueing.letters",
    "queueing.batches",
    "triggers.batches",
    "aws.objects",
    "queueing.payloads",
    "queueing.sqs",
    "serving.waiting",
    "queueing.worker",
]
WORKER += ["hosting.process", "hosting.serve", "hosting.settings", "hosting.stop"]
WORKER += ["serving.admission", "serving.gzipped", "serving.http_listener", "serving.prometheus", "serving.side"]
WORKER += [
    f"batch.{name}" for name in ("answering", "engines", "errors", "invoked", "items", "jobs", "main", "orders", "places", "runs")
]
WORKER += [
    f"batch.reading.{name}" for name in ("lines", "manifests", "parquet", "plans", "ranges", "records", "sources", "unzipped")
]
WORKER += [f"batch.writing.{name}" for name in ("claims", "folders", "local_folder", "pieces", "progress")]
ENGINES = [
    "tensorrt.backend",
    "backends.cuda_driver",
    "tensorrt.bindings",
    "tensorrt.engine_key",
    "tensorrt.engine_plan",
    "tensorrt.engine_build",
    "tensorrt.engine_verify",
]
ENGINES += [
    "tensorrt.engine_store",
    "tensorrt.engine_lease",
    "tensorrt.engine_make",
    "tensorrt.engine_opening",
    "tensorrt.engine_check",
    "tensorrt.verbs",
]


@pytest.mark.parametrize("module", RUNTIME + WORKER + ENGINES)
def test_module_is_importable_by_itself(tiny: Path, module: str) -> None:
    found = loaded(tiny, f"import sys\nsys.path.insert(0, sys.argv[1])\nimport mlpack_runtime.{module}\n")
    assert not any(name == "mlpack" or name.startswith("mlpack.") for name in found)
    # Those wait until a client is asked for. Engines are built and verified once: `json` may take its time there.
    assert not found & ({"botocore", "boto3", "logging", "numpy"} | ({"json"} if module not in ENGINES else set()))


def test_start_uses_the_bytecode_of_the_package(texts: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-v", str(texts / "bootstrap.py")], capture_output=True, text=True, check=False, env={}
    )
    assert "code object from '" + str(texts / "mlpack_runtime/loop.py") not in run.stderr
    assert "matches" in run.stderr or "loop.cpython" in run.stderr
