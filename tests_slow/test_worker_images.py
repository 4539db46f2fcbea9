"""Worker images as they ship, from the real wheels: within their size, reproducible, taken by other people's tools, booted.

No GPU is here: what is for one is booted up to the device, and nothing of it is executed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.project import Project
from tests.support.small_packages import ANSWER, HERE, model_dir, packed
from tests_slow.conftest import MakeRuntime, program, run

from mlpack import passes
from mlpack.core import digest
from mlpack.core.records import Artifact
from mlpack.errors import PackError
from mlpack.oci import layout
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.layers import paths
from mlpack.passes.tensorrt import profiles
from mlpack.pipeline.library import images
from mlpack.pipeline.packing import pack
from mlpack.targets import CpuWorker, GpuWorker, licenses, worker
from mlpack.targets.format import layering
from mlpack.targets.limits import WORKER_IMAGE
from mlpack.targets.shipped import boot

Package = tuple[Path, Artifact]
PY = "3.13"
GPU = GpuWorker(gpus=("sm86", "sm89"), max_batch=2)
CPU = CpuWorker(arch=HERE)

pytestmark = pytest.mark.skipif(HERE != "x86_64", reason="NVIDIA's wheels that are tried here are for x86_64")


@pytest.fixture(scope="module")
def slim(trixie: Path, test_cache: Path) -> Base:
    """A small Debian with the Python of the default base."""
    return resolve_base(str(trixie), HERE, test_cache / "oci")


def built(work: Path, **config: Any) -> Path:
    """The tiny model after the pass `tensorrt`."""
    row, given = passes.PASSES["tensorrt"], model_dir(work / "model")
    bounds = {"x": profiles.Bounds(min=(1, 4), opt=(1, 4), max=(2, 4))}
    (work / "built").mkdir()
    row.run(given, row.config(profiles=(bounds,), max_batch=2, **config), work / "built")
    return work / "built"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With engines for two GPUs, built by TensorRT for RTX without one."""
    return built(tmp_path_factory.mktemp("engines"), builder="rtx", gpus=GPU.gpus)


@pytest.fixture(scope="module")
def deferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what the fleet needs to build engines for the lean runtime."""
    return built(tmp_path_factory.mktemp("deferred"), builder="deferred", flavour="lean", gpus=("sm86",))


def event_of(artifact: Path) -> bytes:
    return (artifact / "event.json").read_bytes()


def given(slim: Base, test_cache: Path, **more: Any) -> dict[str, Any]:
    return {"python": PY, "base": slim, "cache_dir": test_cache / "oci", **more}


@pytest.fixture(scope="module")
def gpu(
    make_runtime: MakeRuntime, engines: Path, slim: Base, test_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Package:
    """The image for GPUs, packed once: its runtime of 240 MB takes a quarter of a minute. Read only."""
    work = tmp_path_factory.mktemp("gpu") / "one"
    return packed(work, GPU, make_runtime(GPU, PY), **given(slim, test_cache, model_dir=engines))


@pytest.fixture(scope="module")
def lean(
    make_runtime: MakeRuntime, deferred: Path, slim: Base, test_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Package:
    """The image with the lean runtime. Read only."""
    config = GpuWorker(gpus=("sm86",), runtime="lean", max_batch=2)
    return packed(tmp_path_factory.mktemp("lean"), config, make_runtime(config, PY), **given(slim, test_cache, model_dir=deferred))


@pytest.fixture(scope="module")
def cpu(make_runtime: MakeRuntime, slim: Base, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The image for processors. Read only."""
    return packed(tmp_path_factory.mktemp("cpu"), CPU, make_runtime(CPU, PY), **given(slim, test_cache))


def test_gpu_image_of_real_wheels_is_small_and_reproducible(
    gpu: Package, make_runtime: MakeRuntime, engines: Path, slim: Base, test_cache: Path, tmp_path: Path
) -> None:
    artifact, made = gpu
    more = given(slim, test_cache, model_dir=engines)
    _, again = packed(tmp_path / "quite/another/place", GPU, make_runtime(GPU, PY), **more)
    assert (made.digest, made.tree) == (again.digest, again.tree)
    written = layout.read(artifact / "image")
    assert layering.problems(written, HERE, tuple(layer.digest for layer in written.layers[-4:])) == ()
    assert images.validate(str(artifact / "image")) == []
    sizes = {part.name: part.size_bytes for part in made.parts}
    assert 230_000_000 < sizes["runtime"] < 250_000_000
    assert sizes["base"] + sizes["runtime"] + sizes["code"] < WORKER_IMAGE.value
    assert paths.uncompressed_size(written) - sizes["model"] < WORKER_IMAGE.value
    inspected = json.loads(run(program("skopeo"), "inspect", "--config", f"oci:{artifact / 'image'}:latest"))
    assert inspected["config"]["User"] == "65532:65532"
    assert inspected["config"]["StopSignal"] == "SIGTERM"
    run(program("umoci"), "unpack", "--rootless", "--image", f"{artifact / 'image'}:latest", tmp_path / "bundle")
    task = tmp_path / "bundle/rootfs/var/task"
    assert digest.of_tree(task) == digest.of_tree(pack.unpack(artifact, tmp_path / "unpacked"))
    names = {path.name for path in task.rglob("*")}
    assert {"libtensorrt_rtx.so.1", "tensorrt.json", "sm86.engine", "sm89.engine"} <= names
    assert not {"libonnxruntime.so", "numpy", "boto3"} & names


def test_gpu_image_records_its_licence_with_text_that_was_read(gpu: Package, tmp_path: Path) -> None:
    artifact, _ = gpu
    (row,) = pack.describe(artifact)["licenses"]
    assert row["name"] == "nvidia-tensorrt-rtx"
    root = pack.unpack(artifact, tmp_path / "unpacked")
    for name in row["files"]:
        assert digest.of_file(root / name).hex == licenses.LICENSES[row["name"]].sha256


@pytest.mark.parametrize("contained", [False, True], ids=["files", "podman"])
def test_gpu_image_boots_up_to_the_device(contained: bool, gpu: Package) -> None:
    artifact, _ = gpu
    booted = boot(artifact, event_of(artifact), podman=program("podman") if contained else None)
    assert booted.answer is None
    assert "never executed" in booted.how


def test_gpu_image_whose_engine_was_changed_does_not_boot(
    make_runtime: MakeRuntime, engines: Path, slim: Base, test_cache: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(engines, changed)
    engine = changed / "engines/sm89.engine"
    engine.chmod(0o644)
    engine.write_bytes(engine.read_bytes()[:-1] + b"x")
    with pytest.raises(PackError, match=r"is not the engine that tensorrt\.json lists"):
        packed(tmp_path, GPU, make_runtime(GPU, PY), **given(slim, test_cache, model_dir=changed))


def test_gpu_image_with_processor_to_fall_back_to_answers_by_it(
    make_runtime: MakeRuntime, engines: Path, slim: Base, test_cache: Path, tmp_path: Path
) -> None:
    config = GpuWorker(gpus=GPU.gpus, fallback=("cpu",), max_batch=2)
    artifact, _ = packed(tmp_path, config, make_runtime(config, PY), **given(slim, test_cache, model_dir=engines))
    booted = boot(artifact, event_of(artifact), podman=program("podman"))
    assert json.loads(booted.answer["body"])["outputs"][0]["data"] == ANSWER
    assert "its engines never executed" in booted.how


@pytest.mark.parametrize("contained", [False, True], ids=["files", "podman"])
def test_lean_image_of_real_wheels_boots_up_to_the_device(contained: bool, lean: Package, tmp_path: Path) -> None:
    artifact, made = lean
    sizes = {part.name: part.size_bytes for part in made.parts}
    assert 110_000_000 < sizes["runtime"] < 135_000_000
    names = {path.name for path in pack.unpack(artifact, tmp_path / "unpacked").rglob("*")}
    assert {"libnvinfer_lean.so.11", "tensorrt.json"} <= names
    assert not [name for name in names if "builder" in name or name.startswith(("libnvinfer.so", "libtensorrt_rtx"))]
    booted = boot(artifact, event_of(artifact), podman=program("podman") if contained else None)
    assert booted.answer is None
    assert "never executed" in booted.how


def test_cuda_image_of_real_wheels_boots_or_falls_back(make_runtime: MakeRuntime, test_cache: Path, tmp_path: Path) -> None:
    """Over a base whose CUDA libraries are empty files, as on a machine without a GPU nothing gets to use them."""
    rootfs = small_packages.rootfs(tmp_path / "rootfs")
    for name in worker.CUDA_NEEDS:
        (rootfs / "usr/lib" / name).touch()
    base = resolve_base(str(rootfs), HERE, test_cache / "oci")
    for fallback in ((), ("cpu",)):
        config = GpuWorker(gpus=("sm86",), backend="cuda", fallback=fallback, max_batch=2)
        artifact, made = packed(tmp_path / str(len(fallback)), config, make_runtime(config, PY), **given(base, test_cache))
        assert {part.name: part.size_bytes for part in made.parts}["runtime"] > 280_000_000
        booted = boot(artifact, event_of(artifact), podman=None)
        assert "never executed" in booted.how
        if fallback:
            assert json.loads(booted.answer["body"])["outputs"][0]["data"] == ANSWER
        else:
            assert booted.answer is None


@pytest.mark.parametrize("contained", [False, True], ids=["files", "podman"])
def test_cpu_image_boots_and_ends_when_asked(contained: bool, cpu: Package) -> None:
    artifact, made = cpu
    assert (artifact / "frontdoor.zip").is_file()
    assert "licenses" not in pack.describe(artifact)
    booted = boot(artifact, event_of(artifact), podman=program("podman") if contained else None)
    assert json.loads(booted.answer["body"])["outputs"][0]["data"] == ANSWER
    assert {part.name: part.size_bytes for part in made.parts}["runtime"] < 50_000_000


def test_botocore_as_it_ships_knows_its_services(make_runtime: MakeRuntime) -> None:
    site = make_runtime(CPU, PY) / "site"
    program_ = (
        "import sys; sys.path.insert(0, sys.argv[1]); import botocore.session; s = botocore.session.Session(); "
        "[s.create_client(n, region_name='eu-west-1', aws_access_key_id='a', aws_secret_access_key='b') "
        "for n in ('sqs', 's3', 'dynamodb', 'sts')]; import botocore.httpsession as h; print(h.DEFAULT_CA_BUNDLE)"
    )
    assert Path(run(sys.executable, "-I", "-S", "-B", "-c", program_, site).strip()).is_file()


def test_recipe_without_the_licence_ends_with_2_before_any_work(make_project: Any) -> None:
    project: Project = make_project("minilm")
    project.edit("minilm-gpu", lambda text: "\n".join(each for each in text.splitlines() if not each.startswith("accept_lic")))
    for verb in ("plan", "build"):
        said = project.mlpack(verb, "recipes/minilm-gpu.yaml", expect=2).stderr
        assert "accept_licenses: [nvidia-tensorrt-rtx]" in said
        assert "minilm-gpu.yaml" in said


def test_sample_recipe_weighs_gpu_it_does_not_have_against_zip(make_project: Any, warm_store: Path, trixie: Path) -> None:
    project: Project = make_project("minilm", store=warm_store)
    record = project.build("minilm-gpu", "--base", trixie)
    found = {each["id"]: each for each in record["candidates"]}
    assert record["chosen"] in {"fp32@gpu-worker-x86_64", "fp16@gpu-worker-x86_64"}
    chosen = found[record["chosen"]]
    assert chosen["accuracy"]["drop"] <= 0.01
    assert chosen["latency_ms"]["p50"] is None
    assert chosen["estimates"]
    assert all(each["status"] == "over_budget" for id_, each in found.items() if "lambda-zip" in id_)
