"""A tiny real model, the installed engine as its wheel leaves it, and packages of both: for the tests of packing and booting."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from mlpack.core.machine import arch
from mlpack.core.records import Artifact, Target
from mlpack.oci.base import Base, resolve_base
from mlpack.pipeline.packing import wheels
from mlpack.pipeline.packing.pack import Hooks, PackRequest, RuntimeRequest, assemble_runtime, pack
from mlpack.pipeline.packing.wheels import Pin
from mlpack.targets import TARGETS, Container, CpuWorker, GpuWorker, LambdaImage, LambdaZip
from mlpack.targets.format import bytecode

SAMPLE = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
ANSWER = [60, 70, 80]
HERE = arch()
ELF = {
    "x86_64": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00",
    "arm64": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00",
}
PIN = Pin(name="onnxruntime", version=wheels.ENGINE.partition("==")[2], sha256s=("0" * 64,))
TOKENIZER_PIN = Pin(name="tokenizers", version=wheels.TOKENIZER.partition("==")[2], sha256s=("1" * 64,))


Config = LambdaZip | LambdaImage | CpuWorker | GpuWorker | Container


def running() -> bytecode.Interpreter:
    """The Python that runs the tests."""
    import sys

    found = bytecode.interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert found is not None
    return found


PYTHON = ".".join(running().version.split(".")[:2])


def model_dir(path: Path, **files: Any) -> Path:
    """y[batch, 3] = x[batch, 4] @ w, as the passes leave a model; `files`: more JSON files by their stem."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save_model

    path.mkdir(parents=True)
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "tiny", [given], [result], [weight])
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path / "model.onnx"))
    ports = {"inputs": [("x", ["batch", 4])], "outputs": [("y", ["batch", 3])]}
    signature = {key: [{"name": name, "dtype": "float32", "shape": shape} for name, shape in rows] for key, rows in ports.items()}
    for stem, value in {"signature": signature, "engine": {"graph_optimization_level": 1, "session": {}}, **files}.items():
        (path / f"{stem}.json").write_text(json.dumps(value))
    return path


def installed(path: Path, *, real: bool = False) -> Path:
    """The engine's wheel as it is unpacked. Unless `real`, its library of 30 MB is only the head of one: enough to be packed."""
    import onnxruntime

    source = Path(onnxruntime.__file__).parent
    (path / "onnxruntime/capi").mkdir(parents=True)
    library = next((source / "capi").glob("libonnxruntime.so.*"))
    if real:
        shutil.copyfile(library, path / "onnxruntime/capi" / library.name)
    else:
        (path / "onnxruntime/capi" / library.name).write_bytes(ELF[HERE] + b"engine" * 10_000)
    for name in ("LICENSE", "ThirdPartyNotices.txt", "__init__.py"):
        shutil.copyfile(source / name, path / "onnxruntime" / name)
    records = path / f"onnxruntime-{importlib.metadata.version('onnxruntime')}.dist-info"
    records.mkdir()
    (records / "METADATA").write_text("Name: onnxruntime\nLicense: MIT License\n")
    (records / "RECORD").write_text("")
    return path


def runtime(path: Path, prefix: str = "/var/task", *, real: bool = False) -> Path:
    """The runtime part for this machine; only a `real` one can be booted."""
    request = RuntimeRequest(python=PYTHON, arch=HERE, text=False, pins=(PIN,), prefix=prefix, interpreter=running())
    path.mkdir(parents=True)
    assemble_runtime(installed(path.with_name(f"{path.name}-installed"), real=real), request, path)
    return path


def rootfs(path: Path, arch: str = HERE) -> Path:
    """A root file system of a few files, none of which runs: a Python of the tests' version and the C++ library."""
    for folder in ("usr/lib", "usr/bin", "tmp"):
        (path / folder).mkdir(parents=True)
    for name in ("lib", "bin"):
        (path / name).symlink_to(f"usr/{name}")
    (path / "usr/lib/libstdc++.so.6").write_bytes(b"library")
    for name in ("true", f"python{PYTHON}"):
        (path / "usr/bin" / name).write_bytes(ELF[arch])
        (path / "usr/bin" / name).chmod(0o755)
    return path


def base(path: Path, cache: Path, arch: str = HERE) -> Base:
    """It as a base."""
    return resolve_base(str(rootfs(path, arch)), arch, cache)


def target(config: Config) -> Target:
    """The target of this config."""
    kind = next(kind for kind, row in TARGETS.items() if row.config is type(config))
    return Target(kind=kind, arch=config.arch, config=config)


def packed(work: Path, config: Config, runtime_dir: Path, **other: Any) -> tuple[Path, Artifact]:
    """A package of the tiny model in `work/out`; `other`: fields of the request, and `hooks` as {file: source}."""
    sources = other.pop("hooks", None)
    if sources:
        (work / "hooks").mkdir(parents=True)
        for name, text in sources.items():
            (work / "hooks" / name).write_text(text)
        known = {name for name in ("preprocess", "postprocess") if f"def {name}" in "".join(sources.values())}
        references = {name: f"app:{name}" for name in known}
        other["hooks"] = Hooks(root=work / "hooks", files=tuple(sorted(sources)), **references)
    given: dict[str, Any] = {
        "name": "tiny",
        "version": "abcdef012345",
        "variant": "fp32",
        "target": target(config),
        "runtime": runtime_dir,
        "python": PYTHON,
        "sample": SAMPLE,
        "cache_dir": work / "cache",
    }
    if "model_dir" not in other:
        given["model_dir"] = model_dir(work / "model")
    (work / "work").mkdir(parents=True)
    (work / "out").mkdir()
    return work / "out", pack(PackRequest(**(given | other)), work / "work", work / "out")
