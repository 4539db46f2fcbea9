"""A small real project to build: an ONNX classifier with external data, its data, its recipe and a store that has the runtime.

The runtime part is made from the engine installed beside the tests instead of from the package index, which fast tests do
not reach; everything else is what a user's build does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import engine_library

from mlpack.core.progress import Silent
from mlpack.core.records import Target
from mlpack.pipeline.measuring.measure import Effort
from mlpack.pipeline.packing import pack, wheels
from mlpack.pipeline.packing.runtime_part import requirements
from mlpack.pipeline.packing.wheels import Lock, Pin
from mlpack.pipeline.verbs import Options, build
from mlpack.store.local import Store
from mlpack.targets import TARGETS, LambdaZip

PYTHON = "3.13"
QUICK = Effort(cold_starts=2, blocks=4, samples=20, seconds_per_subject=1.0, warmup_seconds=0.01, throughput_seconds=0.02)
CLASSES, FEATURES = 3, 64

RECIPE = """\
name: tiny
source: {onnx: model.onnx}
data: {evaluation: eval.npz, calibration: calib.npz}
metric: top1
targets:
  lambda-zip: {arch: x86_64, memory_mb: 1769}
prefer: size
"""


@dataclass(frozen=True)
class Workshop:
    """A project's directory and a store with its runtime."""

    root: Path
    store: Store

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    def edit(self, change: Callable[[str], str]) -> None:
        self.recipe.write_text(change(self.recipe.read_text()))

    def build(self, **options: Any) -> tuple[dict[str, Any], Path]:
        """Build the recipe with little effort, quietly."""
        chosen = Options(**({"out": self.root / "out", "effort": QUICK} | options))
        result = build(self.recipe, self.store, (self.root,), chosen, Silent())
        return result.record.to_json(), result.out


def make(root: Path) -> Workshop:
    """A project in `root`, ready to build."""
    root.mkdir(parents=True, exist_ok=True)
    write_model(root / "model.onnx")
    write_data(root)
    (root / "recipe.yaml").write_text(RECIPE)
    store = Store(root / "store")
    seed_runtime(root, store)
    return Workshop(root, store)


def write_model(path: Path, hidden: int = 96) -> None:
    """`scores = relu(x·W1)·W2` with a symbolic batch axis; the weights in a file beside it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    first = numpy_helper.from_array(random.normal(size=(FEATURES, hidden)).astype("float32"), "w1")
    second = numpy_helper.from_array(random.normal(size=(hidden, CLASSES)).astype("float32"), "w2")
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["scores"], "second"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [scores], [first, second]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    for leftover in path.parent.glob(path.name + "*"):
        leftover.unlink()
    onnx.save(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)


def write_data(root: Path, samples: int = 40) -> None:
    """Evaluation data labelled by the model itself, so that float is right everywhere, and calibration data of other samples."""
    import numpy as np
    import onnxruntime

    random = np.random.default_rng(11)
    x = random.normal(size=(samples, FEATURES)).astype("float32")
    session = onnxruntime.InferenceSession(str(root / "model.onnx"), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"x": x})
    np.savez(root / "eval.npz", x=x, labels=scores.argmax(axis=1))
    np.savez(root / "calib.npz", x=random.normal(size=(16, FEATURES)).astype("float32"))


def seed_runtime(
    root: Path,
    store: Store,
    *,
    arch: str = "x86_64",
    target: Target | None = None,
    python: str = PYTHON,
    modules: tuple[str, ...] = (),
) -> None:
    """Pin what `target` (a zip) needs in the project's lock, and put a runtime made from the installed engine into the store under
    its own action. `modules`: of the runtime, which the recipe asks for."""
    target = target or Target(kind="lambda-zip", arch=arch, config=LambdaZip(arch=arch, python=PYTHON))  # type: ignore[arg-type]
    names = requirements((*TARGETS[target.kind].needs(target.config), "tokenizer"))
    pins = tuple(Pin(name=n, version=v, sha256s=("0" * 64,)) for n, _, v in (each.partition("==") for each in names))
    wheels.write_lock(root / wheels.LOCK_NAME, Lock(wheels={wheels.platform_key(python, arch): pins}))
    put_runtime(store, replace(pack.runtime_request(target, python, False, pins), modules=modules))


def put_runtime(store: Store, request: pack.RuntimeRequest) -> None:
    """Put a runtime of this Python's engine into the store, as that of the request."""
    with store.entry({"kind": "runtime", **pack.runtime_key(request)}) as entry:
        if entry.hit:
            return
        sources = Path(__file__).parents[2] / "src" / "mlpack_runtime"
        shutil.copytree(sources, entry.dir / "mlpack_runtime", ignore=shutil.ignore_patterns("__pycache__"))
        (entry.dir / "mlpack_runtime" / "bootstrap.py").rename(entry.dir / "bootstrap.py")
        (entry.dir / "lib").mkdir()
        engine_library.write(entry.dir / "lib" / "libonnxruntime.so")


def measure_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's own builds measure with as little effort as `Workshop.build`."""
    monkeypatch.setattr(Effort.__init__, "__kwdefaults__", {**(Effort.__init__.__kwdefaults__ or {}), **asdict(QUICK)})
