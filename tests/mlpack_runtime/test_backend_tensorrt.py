"""The TensorRT backend up to the device: the driver is a C library made here, TensorRT computes on its memory."""

from __future__ import annotations

import ctypes
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime import fake_tensorrt
from tests.support.runtime.engine_packages import engine_package

from mlpack_runtime import backend
from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends import cuda_driver
from mlpack_runtime.backends.cuda_driver import Cuda
from mlpack_runtime.tensor import Tensor
from mlpack_runtime.tensorrt import engine_opening
from mlpack_runtime.tensorrt.backend import TensorrtBackend


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The library, as new."""
    loaded = ctypes.CDLL(str(library))
    loaded.fake_limit.argtypes = [ctypes.c_size_t]
    loaded.fake_reset()
    monkeypatch.setattr(fake_tensorrt.Runtime, "driver", loaded)
    monkeypatch.setattr(fake_tensorrt.Runtime, "starts", True)
    monkeypatch.setenv("MLPACK_JIT_CACHE", str(tmp_path / "jit"))
    fake_tensorrt.Context.made.clear()
    yield loaded
    loaded.fake_reset()


def spec(*profiles: tuple[list[int], list[int], list[int]]) -> dict[str, Any]:
    return {
        "graph": "sha256:0", "precision": "fp32", "tensorrt": {"flavour": "rtx", "version": "1.7.1.116", "cuda": "12"},
        "flags": {"hardware": "none", "version_compatible": False}, "workspace_bytes": None,
        "profiles": [{"x": dict(zip(("min", "opt", "max"), bounds, strict=True))} for bounds in profiles],
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
    }  # fmt: skip


def plan(profiles: int, **more: Any) -> bytes:
    return json.dumps(
        {"inputs": {"x": ["FLOAT", [-1, 3]]}, "outputs": {"y": ["FLOAT", [-1, 3]]}, "profiles": [0] * profiles, **more}
    ).encode()


SMALL, LARGE = ([1, 3], [1, 3], [4, 3]), ([1, 3], [16, 3], [64, 3])


def rows(count: int) -> Tensor:
    return Tensor("FP32", (count, 3), struct.pack(f"<{3 * count}f", *range(3 * count)))


def opened(library: Path, *profiles: tuple[list[int], list[int], list[int]], **more: Any) -> TensorrtBackend:
    return TensorrtBackend(spec(*profiles), plan(len(profiles), **more), Cuda(str(library)), fake_tensorrt)


def test_a_call_goes_to_the_device_and_back_in_order(driver: Any, library: Path) -> None:
    engine = opened(library, LARGE)
    for count in (1, 5, 64, 2):
        answer = engine.run({"x": rows(count)})
        assert answer["y"].shape == (count, 3)
        assert answer["y"].flat() == [2.0 * value for value in range(3 * count)]
    assert engine.device == "Imitation L4, sm89"
    assert [port.name for port in (*engine.inputs, *engine.outputs)] == ["x", "y"]
    engine.close()
    engine.close()
    assert driver.fake_live() == 0
    with pytest.raises(BackendError, match="closed"):
        engine.run({"x": rows(1)})


def test_the_smallest_profile_that_holds_a_call_is_taken(driver: Any, library: Path) -> None:
    engine = opened(library, LARGE, SMALL)
    assert [context.profile for context in fake_tensorrt.Context.made] == [0, 1]
    for count in (1, 4, 5, 64):
        engine.run({"x": rows(count)})
    assert [context.calls for context in fake_tensorrt.Context.made] == [2, 2]
    assert engine.shapes().profiles[1]["x"] == ((1, 3), (1, 3), (4, 3))
    engine.close()


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": rows(65)}, "no profile of this engine holds 'x' [65, 3]"),
        ({"x": rows(0)}, "no profile"),
        ({"x": Tensor("FP32", (2, 2), bytes(16))}, "has shape [2, 2]"),
        ({"x": Tensor("FP32", (3,), bytes(12))}, "has shape [3]"),
        ({"x": Tensor("INT32", (1, 3), bytes(12))}, "is FP32, not INT32"),
        ({}, "'x' is missing"),
    ],
)
def test_wrong_call_is_the_callers_and_never_reaches_the_device(
    feeds: dict[str, Tensor], words: str, driver: Any, library: Path
) -> None:
    engine = opened(library, LARGE)
    with pytest.raises(BackendError) as caught:
        engine.run(feeds)
    assert (caught.value.sort, words in str(caught.value)) == ("input", True)
    assert fake_tensorrt.Context.made[0].calls == 0
    engine.close()


def test_output_whose_size_depends_on_the_data_is_allocated_for(driver: Any, library: Path) -> None:
    engine = opened(library, LARGE, nonzero=True)
    answer = engine.run({"x": rows(3)})
    assert answer["y"].shape == (8,)  # the first of 0..8 is zero
    assert answer["y"].flat() == [2.0 * value for value in range(1, 9)]
    engine.close()
    assert driver.fake_live() == 0


@pytest.mark.parametrize(
    ("function", "code", "sort"),
    [("cuMemAlloc_v2", 2, "device"), ("cuStreamSynchronize", 700, "sticky"), ("cuMemcpyHtoDAsync_v2", 719, "sticky"),
     ("cuStreamSynchronize", 999, "sticky"), ("cuMemcpyDtoHAsync_v2", 1, "device"), ("cuStreamSynchronize", 209, "package")],
)  # fmt: skip
def test_the_drivers_errors_keep_their_sort(function: str, code: int, sort: str, driver: Any, library: Path) -> None:
    engine = opened(library, LARGE)
    driver.fake_fail(function.encode(), code, 0)
    with pytest.raises(BackendError) as caught:
        engine.run({"x": rows(1)})
    assert caught.value.sort == sort
    assert function in str(caught.value)
    assert "as the test asked" in str(caught.value)
    if sort == "device":
        assert engine.run({"x": rows(2)})["y"].shape == (2, 3)
        engine.close()
        assert driver.fake_live() == 0


def test_memory_that_is_full_comes_back_when_there_is_some(driver: Any, library: Path) -> None:
    engine = opened(library, LARGE)
    driver.fake_limit(100)
    with pytest.raises(BackendError, match="OUT_OF_MEMORY") as caught:
        engine.run({"x": rows(64)})
    assert caught.value.sort == "device"
    driver.fake_limit(1 << 20)
    assert engine.run({"x": rows(64)})["y"].flat()[-1] == 2.0 * 191
    engine.close()
    assert driver.fake_live() == 0


def test_a_call_that_does_not_start_is_told(driver: Any, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(library, LARGE)
    monkeypatch.setattr(fake_tensorrt.Runtime, "starts", False)
    with pytest.raises(BackendError, match="did not start") as caught:
        engine.run({"x": rows(1)})
    assert caught.value.sort == "device"
    driver.fake_fail(b"cuStreamSynchronize", 700, 0)
    with pytest.raises(BackendError, match="ILLEGAL_ADDRESS") as caught:
        engine.run({"x": rows(1)})
    assert caught.value.sort == "sticky"


def test_calls_from_many_threads_do_not_mix(driver: Any, library: Path) -> None:
    """Each thread has to make the context its own, and buffers are shared."""
    engine = opened(library, LARGE)
    wrong: list[object] = []

    def work(count: int) -> None:
        for _ in range(30):
            try:
                if engine.run({"x": rows(count)})["y"].flat() != [2.0 * value for value in range(3 * count)]:
                    wrong.append(count)
            except BackendError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 3, 17, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    engine.close()


def test_kernels_are_kept_for_the_next_process(driver: Any, library: Path, tmp_path: Path) -> None:
    engine = opened(library, LARGE, SMALL)
    assert not list(tmp_path.glob("jit/*"))
    engine.run({"x": rows(1)})
    (kept,) = tmp_path.glob("jit/*.kernels")
    assert kept.read_bytes() == b"kernels"
    kept.unlink()
    engine.run({"x": rows(2)})
    assert not kept.exists()  # nothing new was compiled
    engine.run({"x": rows(64)})
    assert kept.exists()  # for the other profile
    engine.close()
    fake_tensorrt.Context.made.clear()
    opened(library, LARGE, SMALL).close()
    assert fake_tensorrt.Context.made[0].config.cache.known == b"kernels"


def test_kernels_without_a_place_are_compiled_again(driver: Any, library: Path, tmp_path: Path) -> None:
    (tmp_path / "jit").write_text("a file, no directory")
    engine = opened(library, LARGE)
    assert engine.keep_kernels() is None
    assert engine.run({"x": rows(1)})["y"].shape == (1, 3)
    engine.close()
    assert driver.fake_live() == 0


def test_an_engine_that_is_another_is_refused(driver: Any, library: Path) -> None:
    cuda = Cuda(str(library))
    for damaged, words in (
        (b"not a plan", "unsupported cc, version mismatch"),
        (plan(1, outputs={"z": ["FLOAT", [-1, 3]]}), "the specification says"),
        (plan(1, inputs={"x": ["HALF", [-1, 3]]}), "the specification says"),
        (plan(2), "2 profiles"),
    ):
        with pytest.raises(BackendError, match=words) as caught:
            TensorrtBackend(spec(LARGE), damaged, cuda, fake_tensorrt)
        assert caught.value.sort == "package"


def test_without_a_driver_it_says_where_one_comes_from(tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    with pytest.raises(BackendError, match="The driver comes from the host") as caught:
        engine_opening.load(str(directory), {}, library=str(tmp_path / "libcuda.so.1"))
    assert caught.value.sort == "package"
    if not _has_driver():
        with pytest.raises(BackendError, match=r"libcuda\.so\.1"):
            backend.open_backend(str(directory), {"backend": {"kind": "tensorrt"}})


def test_a_driver_without_a_device_is_the_packages_fault(driver: Any, library: Path, tmp_path: Path) -> None:
    driver.fake_fail(b"cuInit", 100, 0)
    with pytest.raises(BackendError, match="cannot run here") as caught:
        engine_opening.load(str(engine_package(tmp_path / "model")), {}, library=str(library))
    assert caught.value.sort == "package"


def test_load_goes_up_to_tensorrt_itself(driver: Any, library: Path, tmp_path: Path) -> None:
    """The real bindings, a real engine, its digest verified; TensorRT's own library then finds no GPU, and that is said."""
    if _has_driver():
        pytest.skip("here it would go further")
    directory = engine_package(tmp_path / "model")
    with pytest.raises(BackendError, match=r"TensorRT 1\.7\.1\.116 does not take this engine") as caught:
        engine_opening.load(str(directory), {}, library=str(library))
    assert caught.value.sort == "package"
    assert driver.fake_live() == 0


def test_an_engine_that_was_replaced_is_not_loaded(driver: Any, library: Path, tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    path = directory / "engines/sm89.engine"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BackendError, match="was not loaded") as caught:
        engine_opening.load(str(directory), {}, library=str(library))
    assert caught.value.sort == "package"
    assert driver.fake_live() == 0


def test_a_graph_that_was_replaced_is_not_served(driver: Any, library: Path, tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    (directory / "model.onnx").write_bytes(b"another")
    with pytest.raises(BackendError, match="damaged or mixed"):
        engine_opening.load(str(directory), {}, library=str(library))


def test_the_device_is_described_in_a_process_of_its_own(driver: Any, library: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(library))
    assert Cuda(str(library)).describe() == {"name": "Imitation L4", "sm": "sm89", "driver": 12040}


def _has_driver() -> bool:
    try:
        Cuda().close()
    except BackendError:
        return False
    return True


@pytest.mark.gpu
def test_an_engine_answers_as_the_cpu_engine_does(tmp_path: Path) -> None:
    """On a real GPU: an engine for it, built ahead of time, loaded and held against the CPU engine's answers."""
    from mlpack_runtime.tensorrt import engine_verify

    sm = Cuda().describe()["sm"]
    directory = engine_package(tmp_path / "model", sm=sm)
    engine = engine_opening.load(str(directory), {})
    found = engine_verify.verify(str(directory), engine.run)
    assert found["calls"] == 3
    engine.close()
