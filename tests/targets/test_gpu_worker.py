"""Workers as images: who runs, what is refused, what a layer of its own is, held to the size beside the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE, PYTHON

from mlpack.errors import LimitError, PackError, RecipeError
from mlpack.oci import image, layout
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.image import Image
from mlpack.targets import Contents, CpuWorker, GpuWorker, worker
from mlpack.targets.format import layering
from mlpack.targets.limits import WORKER_IMAGE


def contents(root: Path, base: Base | None, **more: bytes) -> Contents:
    files = {
        "runtime/lib/libtensorrt_rtx.so.1": b"engine" * 20_000,
        "runtime/bootstrap.py": b"import sys\n",
        "model/model/model.onnx": bytes(range(256)) * 10,
        "engines/model/tensorrt.json": b"{}",
        "engines/model/engines/sm89.engine": b"plan" * 1000,
        "code/model/model.json": b"{}",
        **more,
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    labels = {"org.opencontainers.image.title": "tiny"}
    trees = {part: root / part for part in ("runtime", "model", "engines", "code")}
    return Contents(**trees, labels=labels, base=base, cache_dir=root / "cache")


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return small_packages.base(tmp_path / "rootfs", tmp_path / "cache")


def base_with(root: Path, *names: str) -> Base:
    rootfs = small_packages.rootfs(root / "rootfs-with")
    for name in names:
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).write_bytes(b"x")
    return resolve_base(str(rootfs), HERE, root / "cache")


def write(given: Contents, out: Path, config: CpuWorker | GpuWorker | None = None) -> Image:
    out.mkdir(parents=True)
    worker.write(given, config or GpuWorker(), out)
    return layout.read(out / "image")


pytestmark = pytest.mark.skipif(HERE != "x86_64", reason="GPU workers are for x86_64, and the tests' base is of this machine")


def test_write_says_who_runs_where_it_listens_and_how_it_ends(base: Base, tmp_path: Path) -> None:
    made = write(contents(tmp_path / "in", base), tmp_path / "out")
    settings = image.config(made)["config"]
    assert settings["User"] == "65532:65532"
    assert settings["ExposedPorts"] == {"8080/tcp": {}}
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Entrypoint"] == [f"/usr/bin/python{PYTHON}", "-I", "-S", "/var/task/bootstrap.py", "worker"]
    assert settings["Labels"]["io.mlpack.health.ready"] == "http://:8080/v2/health/ready"
    assert settings["Labels"]["io.mlpack.gpus"] == "sm75,sm86,sm89"
    assert {"CUDA_MODULE_LOADING=LAZY", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_VISIBLE_DEVICES=all"} <= set(
        settings["Env"]
    )
    assert "MLPACK_PORT=8080" in settings["Env"]
    assert image.validate(made) == []


def test_write_cpu_worker_has_nothing_of_a_gpu(base: Base, tmp_path: Path) -> None:
    made = write(contents(tmp_path / "in", base), tmp_path / "out", CpuWorker(port=9000, user="1000"))
    settings = image.config(made)["config"]
    assert (settings["User"], settings["ExposedPorts"]) == ("1000", {"9000/tcp": {}})
    assert not any("NVIDIA" in line or "CUDA" in line for line in settings["Env"])
    assert "io.mlpack.gpus" not in settings["Labels"]


def test_write_gives_each_part_a_layer_and_engines_change_alone(base: Base, tmp_path: Path) -> None:
    first = write(contents(tmp_path / "one", base), tmp_path / "out1")
    other = contents(tmp_path / "two", base, **{"engines/model/engines/sm86.engine": b"another"})
    second = write(other, tmp_path / "out2")
    assert [line["created_by"] for line in image.config(first)["history"]][-4:] == [
        "mlpack: runtime",
        "mlpack: model",
        "mlpack: engines",
        "mlpack: code",
    ]
    same = [a.digest == b.digest for a, b in zip(first.layers, second.layers, strict=True)]
    assert same == [True, True, True, False, True]


def test_write_in_another_place_gives_the_same_image(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "two/three"):
        base = small_packages.base(tmp_path / name / "rootfs", tmp_path / name / "cache")
        found.add(image.digest(write(contents(tmp_path / name / "in", base), tmp_path / name / "out")))
    assert len(found) == 1


def test_written_counts_engines_with_the_model(base: Base, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    written = worker.write(contents(tmp_path / "in", base), GpuWorker(), tmp_path / "out")
    sizes = {part.name: part.size_bytes for part in written.parts}
    assert sizes["model"] == 2560 + 2 + 4000
    assert sizes["base"] > 0
    assert written.layers.keys() == {"runtime", "model", "engines", "code"}
    assert "MB beside the model" in written.notes[-1]


@pytest.mark.parametrize(("beyond", "fits"), [(0, True), (1, False)])
def test_write_is_held_to_the_last_byte_beside_the_model(beyond: int, fits: bool, base: Base, tmp_path: Path) -> None:
    given = contents(tmp_path / "in", base)
    ours = sum(size for _, size in layering.tar_sizes([("a", 120_000), ("b", 11), ("c", 2)]))
    layer = replace(base.image.layers[0], uncompressed_bytes=WORKER_IMAGE.value - ours + beyond)
    large = replace(given, base=replace(base, image=replace(base.image, layers=(layer,))), cache_dir=None)
    if fits:
        write(large, tmp_path / "out")
        return
    with pytest.raises(LimitError, match=r"1 more than the 500,000,000 that are allowed(.|\n)*layer 0 of the base"):
        write(large, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_write_model_and_engines_are_not_counted(base: Base, tmp_path: Path) -> None:
    given = contents(tmp_path / "in", base)
    with (given.model / "model/model.onnx.data").open("wb") as file:
        file.truncate(600_000_000)
    under = layering.open_base(given)
    beside = sum(size for _, size in layering.layer_sizes(under))
    assert beside < WORKER_IMAGE.value  # what follows would raise, were the model counted
    write(given, tmp_path / "out")


REFUSED = [
    "usr/lib/libnvinfer_builder_resource_sm89.so.11.4.0",
    "usr/lib/libnvinfer.so.11",
    "usr/lib/libnvinfer_plugin.so.11",
    "usr/lib/libnvonnxparser.so.11",
    "usr/local/cuda/lib64/libcudnn_graph.so.9",
    "usr/local/cuda/lib64/libcublasLt.so.12",
    "usr/local/cuda/lib64/libnvrtc.so.12",
    "usr/lib/python3/dist-packages/torch/__init__.py",
    "usr/lib/libtorch_cuda.so",
    "root/wheels/numpy-2.0-py3-none-any.whl",
    "usr/local/cuda/bin/nvcc",
    "usr/local/cuda/lib64/libcudart_static.a",
]


@pytest.mark.parametrize("name", REFUSED)
def test_write_base_with_what_a_worker_does_not_need_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match=r"the base image holds [0-9]+ files that a worker must not carry") as caught:
        write(contents(tmp_path / "in", base_with(tmp_path, name)), tmp_path / "out")
    assert name in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_write_base_with_pythons_own_wheel_of_pip_is_taken(tmp_path: Path) -> None:
    """As all of Docker's official images of Python have it, the default base among them."""
    base = base_with(tmp_path, "usr/local/lib/python3.13/ensurepip/_bundled/pip-25.3-py3-none-any.whl")
    write(contents(tmp_path / "in", base), tmp_path / "out")


@pytest.mark.parametrize("name", ["lib/libnvinfer.so.11", "site/torch/__init__.py", "lib/libcudnn.so.9", "app/model.whl"])
def test_write_package_with_what_no_worker_needs_is_refused(name: str, base: Base, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="the package holds") as caught:
        write(contents(tmp_path / "in", base, **{f"runtime/{name}": b"x"}), tmp_path / "out")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["lib/libnvinfer_lean.so.11", "lib/libtensorrt_rtx.so.1", "lib/libonnxruntime.so", "site/torchlike.py"]
)
def test_write_what_runs_engines_is_taken(name: str, base: Base, tmp_path: Path) -> None:
    write(contents(tmp_path / "in", base, **{f"runtime/{name}": b"x"}), tmp_path / "out")


def test_write_cuda_needs_its_mathematics_in_the_base(base: Base, tmp_path: Path) -> None:
    config = GpuWorker(fallback=("cuda",))
    with pytest.raises(PackError, match=r"no libcublas\.so\.13"):
        write(contents(tmp_path / "one", base), tmp_path / "out1", config)
    rich = base_with(tmp_path, *(f"usr/lib/{name}" for name in worker.CUDA_NEEDS))
    write(contents(tmp_path / "two", rich), tmp_path / "out2", config)
    worse = base_with(tmp_path / "x", "usr/lib/libnvinfer_builder_resource.so.11", *(f"usr/lib/{n}" for n in worker.CUDA_NEEDS))
    with pytest.raises(LimitError, match="libnvinfer_builder_resource"):
        write(contents(tmp_path / "three", worse), tmp_path / "out3", config)


def test_write_without_a_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="needs a base"):
        write(contents(tmp_path / "in", None), tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"user": "root"}, "root and names are refused"),
        ({"user": "0:0"}, "root and names are refused"),
        ({"user": "1000:x"}, "root and names are refused"),
        ({"port": 80}, "port: 80"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_wait_ms": -1.0}, "max_wait_ms"),
        ({"gpus": ()}, "at least one"),
        ({"gpus": ("sm89", "sm89")}, "once"),
        ({"fallback": ("cuda", "cuda")}, "one thing twice"),
        ({"backend": "cuda", "fallback": ("cuda",)}, "the backend itself"),
    ],
)
def test_config_that_makes_no_sense_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        GpuWorker(**keys)


@pytest.mark.parametrize(
    ("config", "needs"),
    [
        (CpuWorker(), ("engine", "aws")),
        (GpuWorker(), ("tensorrt-rtx", "aws")),
        (GpuWorker(runtime="lean", fallback=("cpu",)), ("tensorrt-lean", "engine", "aws")),
        (GpuWorker(fallback=("cuda", "cpu")), ("tensorrt-rtx", "engine-cuda", "aws")),
        (GpuWorker(backend="cuda"), ("engine-cuda", "aws")),
    ],
)
def test_needs_are_those_of_what_may_compute(config: CpuWorker | GpuWorker, needs: tuple[str, ...]) -> None:
    assert worker.needs(config) == needs


def test_settings_name_backend_fallback_and_batches() -> None:
    assert worker.settings(GpuWorker(fallback=("cpu",), max_batch=4)) == {
        "backend": {"kind": "tensorrt", "fallback": ["cpu"]},
        "worker": {"max_batch": 4, "max_wait_ms": 5.0, "port": 8080},
    }
    assert worker.settings(CpuWorker())["backend"] == {"kind": "cpu", "fallback": []}


def test_refusals_each_have_a_reason() -> None:
    assert all(row.why for row in worker.FORBIDDEN)
