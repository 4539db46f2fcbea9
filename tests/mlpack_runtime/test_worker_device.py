"""Whole workers in front of a device: a real package, a real engine that is verified and never run, and behind the driver's
functions the imitations of `fake_cuda.c` and `fake_tensorrt.py`. What no GPU was there to show is theirs alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.support.runtime.engine_packages import engine_package
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, Process, add_botocore, until
from tests.support.services.aws_server import Fault

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support/runtime"

# The module that the package's `site/` has instead of NVIDIA's: any engine doubles its input, unless a value breaks the device.
BINDINGS = """
import ctypes, json, os
import fake_tensorrt
from fake_tensorrt import *
from fake_tensorrt import __version__

class Runtime(fake_tensorrt.Runtime):
    def deserialize_cuda_engine(self, plan):
        assert plan.startswith(b"vtrt")
        return super().deserialize_cuda_engine(json.dumps(
            {"inputs": {"x": ["FLOAT", [-1, 4]]}, "outputs": {"y": ["FLOAT", [-1, 3]]}, "profiles": [0]}))

driver = fake_tensorrt.Runtime.driver = ctypes.CDLL("libcuda.so.1")
execute = fake_tensorrt.Context.execute_async_v3

def execute_async_v3(self, stream):
    done = execute(self, stream)
    if str(ctypes.c_float.from_address(self.addresses["x"]).value) == os.environ.get("FAKE_BREAKS_AT"):
        driver.fake_fail(b"cuStreamSynchronize", 700, 0)
    return done

fake_tensorrt.Context.execute_async_v3 = execute_async_v3
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = package(tmp_path_factory.mktemp("worker") / "package", affine)
    shutil.rmtree(made / "model")
    engine_package(made / "model")
    described = json.loads((made / "model/model.json").read_text())
    described |= {"session": {}, "tokenizer": None, "preprocess": None, "postprocess": None, "graph_optimization_level": 1,
                  "memory_mb": 2048, "backend": {"kind": "tensorrt", "fallback": []},
                  "worker": {"max_batch": 4, "max_wait_ms": 1}}  # fmt: skip
    (made / "model/model.json").write_text(json.dumps(described))
    (made / "site/tensorrt_rtx_bindings.py").write_text(BINDINGS)
    shutil.copy(SUPPORT / "fake_tensorrt.py", made / "site")
    return add_botocore(made)


def worker(place: Place, root: Path, library: Path, tmp_path: Path, **environment: str) -> Process:
    found = {**place.aws.environment, "LD_LIBRARY_PATH": str(library.parent), "MLPACK_JIT_CACHE": str(tmp_path / "jit")}
    return Process(root, found | environment, queue_url=place.url, results="s3://results/answers", poll_s=1)


def changed(root: Path, to: Path, *, fallback: list[str]) -> Path:
    """The worker's package without its engine, and with these fallbacks."""
    shutil.copytree(root, to, symlinks=True)
    for name, more in (("tensorrt.json", {"engines": []}), ("model.json", {"backend": {"kind": "tensorrt", "fallback": fallback}})):
        path = to / "model" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return to


@pytest.mark.parametrize("fallback", [[], ["cpu"]], ids=["alone", "fallback"])
def test_worker_that_no_service_answers_ends_with_4(
    fallback: list[str], root: Path, place: Place, library: Path, tmp_path: Path
) -> None:
    place.aws.plan(Fault("error", service="s3", operation="GetObject", onward=True, status=403, code="AccessDenied"))
    package = changed(root, tmp_path / "package", fallback=fallback)
    started = worker(place, package, library, tmp_path, MLPACK_ENGINES="s3://results/engines")
    until(lambda: started.process.poll() is not None, "the worker ends by itself")
    assert started.end() == 4, started.lines
    (said,) = started.said("the worker cannot start")
    assert "AccessDenied" in said["message"]
    assert "Start the worker again" in said["message"]
    place.aws.plan()
    again = worker(place, package, library, tmp_path, MLPACK_ENGINES="s3://results/engines")
    until(lambda: again.process.poll() is not None or again.said("ready"), "the worker knows")
    assert again.end() == (0 if fallback else 5), again.lines  # now it is known that there is none


def test_worker_without_an_engine_ends_with_5_or_falls_back(root: Path, place: Place, library: Path, tmp_path: Path) -> None:
    alone = worker(place, changed(root, tmp_path / "alone", fallback=[]), library, tmp_path)
    until(lambda: alone.process.poll() is not None, "the worker ends by itself")
    assert alone.end() == 5, alone.lines
    assert "has no engine for sm89" in alone.said("the worker cannot start")[0]["message"]
    allowed = worker(place, changed(root, tmp_path / "allowed", fallback=["cpu"]), library, tmp_path).ready()
    assert allowed.said("ready")[0]["device"] == "cpu"
    assert allowed.end() == 0


def message(value: float) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value, 1.0, 2.0, 3.0]}]}


def test_lost_device_ends_worker_with_70_and_loses_no_message(root: Path, place: Place, library: Path, tmp_path: Path) -> None:
    first = worker(place, root, library, tmp_path, FAKE_BREAKS_AT="13.0").ready()
    assert first.said("ready")[0]["device"] == "Imitation L4, sm89"
    place.send(message(5), request_id="before")
    assert place.answer("before")[1]["outputs"][0]["data"] == [10.0, 2.0, 4.0, 6.0]
    assert [path.read_bytes() for path in (tmp_path / "jit").iterdir()] == [b"kernels"]
    place.send(message(13), request_id="lost")
    until(lambda: first.process.poll() is not None, "the worker ends by itself")
    place.send(message(6), request_id="after")
    assert first.end() == 70, first.lines
    assert "ILLEGAL_ADDRESS" in first.said("ending: the device is lost")[0]["message"]
    assert place.result("lost") is None
    assert sum(place.counts()) == 2
    second = worker(place, root, library, tmp_path).ready()
    assert place.answer("lost")[1]["outputs"][0]["data"][0] == 26.0
    assert place.answer("after")[1]["outputs"][0]["data"][0] == 12.0
    assert second.end() == 0
    assert place.dead() == []
