"""Workers as container images: one writer for those on a processor (`cpu-worker`) and those on a GPU (`gpu-worker`).

Promises:
- Everything that `layering` promises of an image; a user that is a number other than 0, a port, a stop signal and an environment.
- Before anything is written, our layers and the base are searched for files that no worker needs (`FORBIDDEN`), and everything
  beside the model is held to `limits.WORKER_IMAGE`.
- Engines have a layer of their own: they change with TensorRT and the list of GPUs while the weights stay.

Will not: build engines, start anything or push.

We have run no image of this kind on a GPU: docs/gpu-worker.md says how far they were tried.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mlpack.errors import LimitError, PackError, RecipeError
from mlpack.targets import chains, licenses, limits
from mlpack.targets.chains import Auto, Chain, Unfit
from mlpack.targets.format import layering
from mlpack.targets.format.contents import Contents, Written, listed, sizes
from mlpack.targets.format.layering import HEALTH, LAYOUT, Process
from mlpack.targets.licenses import License

if TYPE_CHECKING:
    from mlpack.targets.boot.process import Boot, Means

BASE = "docker.io/library/python:3.13-slim"
PORT = 8080
USER = "65532:65532"
"""`nonroot` of distroless images: a number, so that an orchestrator can see that it is not root."""
ARGUMENTS = ("worker",)

Gpu = Literal["sm75", "sm80", "sm86", "sm89", "sm120"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForbiddenFiles:
    """Files that no worker may hold, by a pattern of their name (with a slash: of their path), and why."""

    pattern: str
    why: str
    unless: str = ""
    """Paths of this pattern are allowed all the same."""


_BUILDS = "builds engines, which is done before an image is: 2 GB and more"
_CUDA = "a library of the CUDA toolkit, which engines do not need: some hundred MB each"
_DEVELOPS = "of a toolkit to develop with"
_CUDA_MATH = tuple(
    ForbiddenFiles(pattern=f"{name}*.so*", why=_CUDA)
    for name in ("libcublas", "libcudnn", "libcufft", "libcurand", "libcusolver", "libcusparse", "libnccl", "libnpp", "libnvrtc")
)
FORBIDDEN: tuple[ForbiddenFiles, ...] = (
    ForbiddenFiles(pattern="libnvinfer_builder_resource*", why=_BUILDS),
    ForbiddenFiles(pattern="libnvinfer.so*", why=_BUILDS),
    ForbiddenFiles(pattern="libnvinfer_plugin.so*", why="plugins of the full TensorRT: mlpack's graphs have none"),
    ForbiddenFiles(pattern="libnvonnxparser*.so*", why="reads graphs to build engines of them"),
    *_CUDA_MATH,
    ForbiddenFiles(pattern="libtorch*.so*", why="a framework: models were converted before"),
    ForbiddenFiles(pattern="libc10*.so*", why="a framework: models were converted before"),
    ForbiddenFiles(pattern="*/torch/__init__.py", why="a framework: models were converted before"),
    ForbiddenFiles(pattern="*/tensorflow/__init__.py", why="a framework: models were converted before"),
    # Python's own wheels are in every official image of it: `python -m venv` installs pip from there.
    ForbiddenFiles(pattern="*.whl", why="an archive that has been unpacked, or never will be", unless="*/ensurepip/_bundled/*"),
    ForbiddenFiles(pattern="nvcc", why=_DEVELOPS),
    ForbiddenFiles(pattern="libcudart_static.a", why=_DEVELOPS),
    ForbiddenFiles(pattern="libcudadevrt.a", why=_DEVELOPS),
    ForbiddenFiles(pattern="cuda_runtime_api.h", why=_DEVELOPS),
)
CUDA_NEEDS = ("libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13", "libcurand.so.10")
"""The libraries that onnxruntime's CUDA provider (1.31.1) is linked with. The base has to bring them, since no wheel of ours does.
Convolutions also open cuDNN 9, Fourier transforms cuFFT."""
FRONT_DOOR = "frontdoor.zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWorker:
    """A worker that takes requests from a queue or over HTTP, on a CPU: ECS, Fargate, Kubernetes."""

    RANGES: ClassVar[limits.Ranges] = limits.WORKER_RANGES

    arch: Literal["x86_64", "arm64"] = "x86_64"
    """The processor."""
    memory_mb: int = 2048
    """The container's memory. The engine has one thread for each 1,769 MB."""
    base: str = BASE
    """The image underneath, in any form that lambda-image takes, with Python 3.11 or later, glibc 2.28 or later and the C++
    library."""
    max_batch: int = 8
    """The largest number of requests that one call of the engine answers."""
    max_wait_ms: float = 5.0
    """How long the first request of a batch waits for others."""
    port: int = PORT
    """The port for health and the Open Inference Protocol."""
    user: str = USER
    """The user that the process runs as: `number` or `number:number`, not root."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWorker:
    """A worker on an NVIDIA GPU: ECS on EC2, Kubernetes. Needs `accept_licenses`; we have never executed one on a GPU."""

    RANGES: ClassVar[limits.Ranges] = limits.WORKER_RANGES

    arch: Literal["x86_64"] = "x86_64"
    """The processor beside the GPU."""
    gpus: tuple[Gpu, ...] = ("sm75", "sm86", "sm89")
    """Compute capabilities that get an engine each: sm75 T4 (g4dn), sm80 A100, sm86 A10G (g5), sm89 L4 (g6) and L40S (g6e), sm120
    RTX PRO 6000."""
    backend: Literal["tensorrt", "cuda"] = "tensorrt"
    """The engine: TensorRT, or onnxruntime's CUDA provider, which needs a base with cuBLAS 13,
    cuRAND 10, the CUDA 13 runtime, and for convolutions cuDNN 9."""
    runtime: Literal["rtx", "lean"] = "rtx"
    """Which TensorRT: `rtx` builds engines on machines without a GPU, and brings what deferred builds need; `lean` only runs
    version-compatible engines of the full TensorRT, in half the bytes."""
    fallback: tuple[Literal["cuda", "cpu"], ...] = ()
    """What may compute instead when the backend cannot, in this order. By default nothing."""
    memory_mb: int = 4096
    """The container's memory, without the GPU's."""
    base: str = BASE
    """The image underneath, as for cpu-worker; the driver comes from the host."""
    max_batch: int = 8
    """The largest number of requests that one call of the engine answers."""
    max_wait_ms: float = 5.0
    """How long the first request of a batch waits for others."""
    port: int = PORT
    """The port for health and the Open Inference Protocol."""
    user: str = USER
    """The user that the process runs as: `number` or `number:number`, not root."""

    def __post_init__(self) -> None:
        _check(self)
        if not self.gpus or len(set(self.gpus)) != len(self.gpus):
            raise RecipeError(f"gpus: {list(self.gpus)}: name each kind of GPU once, and at least one")
        if self.backend in self.fallback or len(set(self.fallback)) != len(self.fallback):
            raise RecipeError(f"fallback: {list(self.fallback)} names the backend itself, or one thing twice")

    @property
    def uses_cuda(self) -> bool:
        """Whether onnxruntime's CUDA provider computes, or may."""
        return "cuda" in (self.backend, *self.fallback)


LIMITS = (limits.WORKER_IMAGE, limits.IMAGE_LAYERS)


def needs(config: CpuWorker | GpuWorker) -> tuple[str, ...]:
    """Names in `wheel_rules.NEEDS` beside a tokenizer."""
    if isinstance(config, CpuWorker):
        return ("engine", "aws")
    engines = [f"tensorrt-{config.runtime}"] if config.backend == "tensorrt" else []
    if config.uses_cuda:
        engines.append("engine-cuda")
    elif "cpu" in config.fallback:
        engines.append("engine")
    return (*engines, "aws")


def agreements(config: CpuWorker | GpuWorker) -> tuple[License, ...]:
    """The licences that a recipe has to accept for this worker."""
    return licenses.for_needs(needs(config))


def boot(package: Path, event: bytes, means: Means) -> Boot:
    """See `boot.worker.boot`."""
    from mlpack.targets.boot import worker  # `plan` reads this module, and starts nothing

    return worker.boot(package, event, means)


def settings(config: CpuWorker | GpuWorker) -> dict[str, object]:
    """More keys of model.json: the backend, and how requests are batched."""
    kind, fallback = (config.backend, config.fallback) if isinstance(config, GpuWorker) else ("cpu", ())
    return {
        "backend": {"kind": kind, "fallback": list(fallback)},
        "worker": {"max_batch": config.max_batch, "max_wait_ms": config.max_wait_ms, "port": config.port},
    }


_PROCESSOR_FORM = "is a form for processors: for TensorRT, `precision: int8` writes int8 as it takes it"
_TENSORRT_UNFIT = (
    Unfit(step="quantize", why=_PROCESSOR_FORM),
    Unfit(step="optimize", why="bakes in the operators of onnxruntime, which TensorRT does not know"),
)
_CUDA_UNFIT = (
    Unfit(step="quantize", why="leaves operators that the CUDA provider has no kernels for: they would run on the processor"),
    Unfit(step="precision", field="type", values=("int8", "bf16", "mixed"), why="is a form for TensorRT"),
    chains.NO_DEVICE,
)
_AUTO = (
    Auto(name="fp32", why="the baseline of every comparison"),
    Auto(
        name="fp16",
        step="precision",
        config={"type": "fp16"},
        why="half the bytes, and the type that a GPU's kernels are made for",
        suits=("convolutions", "products", "recurrent", "tables"),
        otherwise="there are no weights to halve",
    ),
    Auto(
        name="int8",
        step="precision",
        config={"type": "int8"},
        calibrated=True,
        why="a quarter of the bytes, and twice the operations a second, where TensorRT has kernels for it",
        suits=("convolutions", "products"),
        otherwise="there is no convolution or product with weights, which is what TensorRT computes in 8 bits",
        unless=chains.QUANTIZED,
    ),
)


def chain(config: GpuWorker) -> Chain:
    """The chain for a GPU: it ends with engines, over standard operators only; for the CUDA provider with the unchanged graph."""
    if config.backend == "cuda":
        return Chain(ends=(), binds={"arch": config.arch}, unfit=_CUDA_UNFIT, auto=_AUTO[:2])
    return Chain(
        ends=("tensorrt",),
        configs={"simplify": {"operators": "portable"}},
        binds={"arch": config.arch, "gpus": config.gpus, "flavour": config.runtime, "max_batch": config.max_batch},
        unfit=_TENSORRT_UNFIT,
        auto=_AUTO,
    )


def write(contents: Contents, config: CpuWorker | GpuWorker, out_dir: Path) -> Written:
    """Write the image as an OCI layout into `out_dir/image`, and its front door's zip beside it. LimitError or PackError before it
    writes; PackError when the image does not conform."""
    cuda = isinstance(config, GpuWorker) and config.uses_cuda
    result = write_image(contents, config.arch, _process(config), out_dir, cuda=cuda)
    if (contents.runtime / "mlpack_runtime").is_dir() and not (contents.code / "models").is_dir():  # a front door is one model's
        from mlpack.targets.format import frontdoor

        frontdoor.write_zip(contents, out_dir / FRONT_DOOR)
    return result


def write_image(contents: Contents, arch: str, process: Process, out_dir: Path, *, cuda: bool = False) -> Written:
    """Write an image that runs this process, for workers and containers alike. `cuda`: the recipe asks for CUDA's mathematics.
    LimitError or PackError before it writes; PackError when the image does not conform."""
    from mlpack.oci import layout

    base = layering.open_base(contents)
    inside = sizes(contents)
    _check_forbidden((path for path, _ in inside), "the package", cuda=cuda)
    _check_forbidden((path for path, _, _ in base.paths.walk()), "the base image", cuda=cuda)
    limits.check_count(limits.IMAGE_LAYERS, len(base.image.layers) + len(contents.parts))
    files = listed(contents)
    other_files = [(each.path, each.size_bytes) for each in files if each.part in {"runtime", "code"}]
    entry_sizes = [*layering.layer_sizes(base), *layering.tar_sizes(other_files)]
    if not cuda:  # cuBLAS and cuDNN alone exceed the limit, and the recipe asks for them
        limits.check_size(limits.WORKER_IMAGE, entry_sizes)
    layering.check_libraries(base.paths, ("libstdc++.so.6", *(CUDA_NEEDS if cuda else ())))
    result = layering.write(contents, base, files, process, out_dir)
    image = layout.read(out_dir / LAYOUT)
    if problems := layering.problems(image, arch, tuple(result.layers.values())):
        raise PackError("the image could not be run:\n" + "\n".join(f"  {each}" for each in problems))
    total = sum(size for _, size in entry_sizes)
    note = f"{total / 1e6:,.0f} MB beside the model, uncompressed; at most {limits.WORKER_IMAGE.value / 1e6:,.0f} are aimed at"
    return dataclasses.replace(result, notes=(*result.notes, note))


def _process(config: CpuWorker | GpuWorker) -> Process:
    env = {"MLPACK_PORT": str(config.port), "PYTHONUNBUFFERED": "1"}
    if isinstance(config, GpuWorker):
        env |= {
            "CUDA_MODULE_LOADING": "LAZY",
            # Read by NVIDIA's container toolkit: every GPU of the task, the driver's libraries and nvidia-smi.
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "NVIDIA_VISIBLE_DEVICES": "all",
        }
    labels = health_labels(config.port)
    if isinstance(config, GpuWorker):
        labels["io.mlpack.gpus"] = ",".join(config.gpus)
    return Process(arguments=ARGUMENTS, env=env, labels=labels, user=config.user, ports=(config.port,), stop_signal="SIGTERM")


def health_labels(port: int) -> dict[str, str]:
    """Labels that say where an image is asked for its health."""
    return {f"io.mlpack.health.{name}": f"http://:{port}{path}" for name, path in HEALTH.items()}


def _check_forbidden(paths: Iterable[str], where: str, *, cuda: bool) -> None:
    """LimitError for files that no worker may hold. `cuda`: the recipe asks for CUDA's mathematics."""
    rows = tuple(row for row in FORBIDDEN if not (cuda and row in _CUDA_MATH))
    matches = [(path, row) for path in paths for row in rows if _matches(path, row.pattern) and not _matches(path, row.unless)]
    if matches:
        examples = "\n".join(f"  {path}: {row.why}" for path, row in sorted(matches, key=lambda each: each[0])[:10])
        raise LimitError(
            f"{where} holds {len(matches)} files that a worker must not carry:\n{examples}\n"
            "Take a slim base (it needs Python, glibc and the C++ library, nothing of CUDA), or leave the files out"
        )


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(f"/{path}" if "/" in pattern else path.rpartition("/")[2], pattern)


def _check(config: CpuWorker | GpuWorker) -> None:
    if problems := process_problems(config.max_batch, config.max_wait_ms, config.port, config.user):
        raise RecipeError("; ".join(problems))


def process_problems(max_batch: int, max_wait_ms: float, port: int, user: str) -> list[str]:
    """Messages about these fields of a config; empty when they are right."""
    problems = []
    if not 1 <= max_batch <= 1024:
        problems.append(f"max_batch: {max_batch} is not between 1 and 1,024")
    if not 0 <= max_wait_ms <= 10_000:
        problems.append(f"max_wait_ms: {max_wait_ms} is not between 0 and 10,000 (milliseconds)")
    if not 1024 <= port <= 65_535:
        problems.append(f"port: {port} is not between 1,024 and 65,535: a user that is not root listens on no lower one")
    if not re.fullmatch(r"[1-9][0-9]{0,9}(:[0-9]{1,10})?", user):
        problems.append(f"user: {user!r} is not a number (or number:number) other than 0: root and names are refused")
    return problems
