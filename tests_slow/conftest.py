"""What the slow tests need of the machine: found, made once and kept in a cache (`tools.parts`), or a failure that says what to
install. Nothing is installed on the machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import workshop
from tests.support.project import Project, copy_of_samples
from tests.support.services.aws_server import aws, aws_server
from tests.support.services.real_registry import Registry
from tests.support.small_packages import Config, target
from tools import parts
from xdist.scheduler.loadscope import LoadScopeScheduling

from mlpack.core.machine import arch
from mlpack.core.records import Target
from mlpack.oci.base import Base, resolve_base
from mlpack.pipeline.packing import wheels
from mlpack.pipeline.packing.pack import RuntimeRequest, runtime_request, runtime_tree
from mlpack.pipeline.packing.runtime_part import requirements
from mlpack.pipeline.packing.wheels import Lock
from mlpack.store.local import Store
from mlpack.targets import TARGETS, LambdaZip

MakeRuntime = Callable[..., Path]

__all__ = ["aws", "aws_server"]

KEPT = "shared"
"""How the temporary directories begin that files share."""


# podman, buildah and the sizes that a cgroup may have are one of each on a machine.
_ONE_AFTER_THE_OTHER = {
    "test_dockerfile_cpu", "test_dockerfile_gpu", "test_oci_registry", "test_packages_boot", "test_recipes", "test_recipes_faults",
    "test_registry_images", "test_runtime_emulator", "test_worker_images",
}  # fmt: skip


_LONG = (
    "test_foreign_models", "test_precision_real_models", "test_passes_real_models", "test_worker_soak", "test_proof_emulated",
    "test_hf_zoo", "test_hf_cases", "test_zoo", "test_onnx_suite", "test_overflow_kernels", "test_action", "test_pages",
    "test_distribution_installed", "test_calibration_held_out", "test_registry_faults", "test_registry_races",
    "test_plugin_distribution",
)  # fmt: skip
"""Files that take long, however few their tests are. They come first, after those of containers: else a process would begin one of
them when the other has nothing left to do."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Two processes share the tests: a file stays in one, and all that boot containers in the same. Files come in their order."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # by their number of tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "containers" if Path(file).stem in _ONE_AFTER_THE_OTHER else file


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is slow. Long files come first."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("slow")
    ranks = {**dict.fromkeys(_ONE_AFTER_THE_OTHER, -1), **{name: rank for rank, name in enumerate(_LONG)}}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(_LONG)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """See `ByFile`."""
    return ByFile(config, log)


def program(name: str) -> Path:
    """Where a program is. The test fails, and says which Debian package has it, when it is nowhere."""
    try:
        return parts.program(name)
    except parts.MissingError as error:
        pytest.fail(str(error))


def run(*command: str | Path) -> str:
    """The standard output of a program that must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """Where slow things are kept between runs."""
    return parts.cache()


@pytest.fixture(scope="session")
def rie() -> Path:
    """Lambda's runtime interface emulator."""
    return parts.rie()


@pytest.fixture(scope="session")
def bookworm() -> Path:
    """A small Debian with Python 3.11: not the Python of any default, so what depends on it shows."""
    return parts.rootfs("bookworm")


@pytest.fixture(scope="session")
def trixie() -> Path:
    """A small Debian with Python 3.13, the default of zips and of Lambda's own base image."""
    return parts.rootfs("trixie")


@pytest.fixture(scope="session")
def base(bookworm: Path, test_cache: Path) -> Base:
    """The older one as a base image for this machine."""
    return resolve_base(str(bookworm), arch(), test_cache / "oci")


@pytest.fixture(scope="module", autouse=True)
def _tidy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests of a file left in temporary directories goes at the file's end: together they leave tens of gigabytes, which a
    CI machine may not have. What files share stays, and so does all of a file that failed, for whoever looks."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        for path in tmp_path_factory.getbasetemp().iterdir():
            if not path.name.startswith(KEPT):
                shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A running docker-registry on loopback, open to all."""
    root = tmp_path / "registry"
    root.mkdir()
    running = Registry(root)
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def make_project(rie: Path, trixie: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """A user's project of its own: the sample recipes and models copied, an empty store, and the command line to build them."""
    path = parts.python_of(trixie, "3.13")

    def make(*samples: str, store: Path | None = None) -> Project:
        root = tmp_path_factory.mktemp("project")
        copy_of_samples(root, samples)
        return Project(root=root, store=store or root / "store", rie=rie, python_dir=path)

    return make


@pytest.fixture(scope="session")
def warm_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the files that build the sample recipes to look at what comes out: a model is exported once."""
    return tmp_path_factory.mktemp(f"{KEPT}-store")


@pytest.fixture(scope="session")
def make_runtime(test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeRuntime:
    """The runtime part for a config's target and a Python, from the real index, each made once. Read only."""
    made: dict[tuple[object, ...], Path] = {}
    path = test_cache / "slow.lock"

    def make(config: Config, python: str, *, text: bool = False) -> Path:
        row = target(config)
        key = (config.arch, python, text, getattr(config, "layer", False), TARGETS[row.kind].needs(config))
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"{KEPT}-runtime")
            runtime_tree(request_for(config, python, text=text), made[key])
        return made[key]

    def request_for(config: Config, python: str, *, text: bool) -> RuntimeRequest:
        wanted = target(config)
        lock = pinned(path, python, wanted)
        return runtime_request(wanted, python, text, lock.wheels[wheels.platform_key(python, config.arch)])

    return make


@pytest.fixture(scope="module")
def store(test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that has what zips run, made of the engine installed here, which is the wheel's version: packages of some kilobytes
    instead of 30 MB, which take half of the time of a build that measures little."""
    wanted = target(LambdaZip(arch=arch()))
    lock = pinned(test_cache / "slow.lock", wanted.config.python, wanted)
    pins = lock.wheels[wheels.platform_key(wanted.config.python, wanted.arch)]
    made = Store(tmp_path_factory.mktemp("store"))
    workshop.put_runtime(made, runtime_request(wanted, wanted.config.python, False, pins))
    return made


def pinned(path: Path, python: str, wanted: Target) -> Lock:
    """The lock at `path`, with what packages for this target and Python need, resolved once."""
    needs = (*TARGETS[wanted.kind].needs(wanted.config), "tokenizer")
    lock = wheels.with_pins(wheels.read_lock(path), python, wanted.arch, requirements(needs))
    wheels.write_lock(path, lock)
    return lock
