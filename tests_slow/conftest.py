"""What the slow tests need of the machine: found, made once and kept in a cache, or a failure that says what to install.

MLPACK_TEST_CACHE (default: ~/.cache/mlpack-tests) keeps what takes long to make. Nothing is installed on the machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import uv

from mlpack import wheels
from mlpack.oci.base import Base, resolve_base
from mlpack.pack import RuntimeRequest, runtime_request, runtime_tree
from mlpack.records import Target
from mlpack.targets import LambdaImage, LambdaZip
from mlpack.wheels import Lock

DEBIAN = "debootstrap podman runc buildah skopeo umoci docker-registry qemu-user-static binfmt-support"
RIE_WHEEL = "aws-sam-cli==1.170.0"
SUITE = "bookworm"

MakeRuntime = Callable[..., Path]


def program(name: str) -> Path:
    """Where a program is. The test fails, and says which Debian package has it, when it is nowhere."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is missing. On Debian, as root: apt-get install --no-install-recommends {DEBIAN}")
    return Path(found)


def run(*command: str | Path) -> str:
    """The standard output of a program that must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """Where slow things are kept between runs."""
    path = Path(os.environ.get("MLPACK_TEST_CACHE") or Path.home() / ".cache/mlpack-tests")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def rie(test_cache: Path) -> Path:
    """Lambda's runtime interface emulator, out of the wheel of aws-sam-cli, which carries it."""
    suffix = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    kept = test_cache / f"aws-lambda-rie-{suffix}"
    if not kept.exists():
        unpacked = test_cache / "aws-sam-cli.partial"
        shutil.rmtree(unpacked, ignore_errors=True)
        run(uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", unpacked, RIE_WHEEL)
        found = unpacked / "samcli/local/rapid" / kept.name
        found.chmod(0o755)
        found.replace(kept)
        shutil.rmtree(unpacked)
    return kept


@pytest.fixture(scope="session")
def base_rootfs(test_cache: Path) -> Path:
    """A small Debian with Python 3.11, as debootstrap makes it."""
    kept = test_cache / "base-rootfs"
    if not kept.exists():
        if os.geteuid() != 0:
            pytest.fail(f"{kept} is missing, and debootstrap needs root to make it: run the slow tests once as root")
        partial = test_cache / f"base-rootfs.{os.getpid()}.partial"
        run(program("debootstrap"), "--variant=minbase", "--include=python3,ca-certificates", SUITE, partial)
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
            for path in partial.glob(pattern):
                path.unlink()
        partial.rename(kept)
    return kept


@pytest.fixture(scope="session")
def base(base_rootfs: Path, test_cache: Path) -> Base:
    """It as a base image for this machine."""
    return resolve_base(str(base_rootfs), LambdaZip().arch if platform.machine() == "x86_64" else "arm64", test_cache / "oci")


@pytest.fixture(scope="session")
def make_runtime(test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeRuntime:
    """The runtime part for a config's target and a Python, from the real index, each made once. Read only."""
    made: dict[tuple[object, ...], Path] = {}
    path = test_cache / "slow.lock"

    def make(config: LambdaZip | LambdaImage, python: str, *, text: bool = False) -> Path:
        key = (config.arch, python, text, getattr(config, "layer", False))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("runtime")
            runtime_tree(request_for(config, python, text=text), made[key])
        return made[key]

    def request_for(config: LambdaZip | LambdaImage, python: str, *, text: bool) -> RuntimeRequest:
        lock = pinned(python, config.arch)
        kind = "lambda-zip" if isinstance(config, LambdaZip) else "lambda-image"
        target = Target(kind=kind, arch=config.arch, config=config)
        return runtime_request(target, python, text, lock.wheels[wheels.platform_key(python, config.arch)])

    def pinned(python: str, arch: str) -> Lock:
        lock = wheels.pinned(wheels.read_lock(path), python, arch)
        wheels.write_lock(path, lock)
        return lock

    return make
