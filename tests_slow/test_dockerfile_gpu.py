"""Dockerfile.gpu: built without a daemon over a plain Debian, then used as the base of a worker's image that boots."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.small_packages import ANSWER, HERE, packed
from tests_slow.conftest import MakeRuntime, program, run

from mlpack.oci import image, layout
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.layers import paths
from mlpack.targets import CpuWorker
from mlpack.targets.shipped import boot

DOCKERFILE = Path(__file__).parent.parent / "Dockerfile.gpu"


def test_dockerfile_makes_a_base_whose_worker_boots(
    trixie: Path, make_runtime: MakeRuntime, test_cache: Path, tmp_path: Path
) -> None:
    debian: Base = resolve_base(str(trixie), HERE, test_cache / "oci")
    layout.write(debian.image, tmp_path / "debian")
    buildah, name = program("buildah"), "localhost/mlpack-test-worker-base:latest"
    options = ("--runtime", program("runc"), "--isolation", "chroot", "--quiet", "--tag", name)
    before = set(run(buildah, "images", "--all", "--quiet").split())
    try:
        run(buildah, "bud", *options, "--build-arg", f"BASE=oci:{tmp_path / 'debian'}:latest", "--file", DOCKERFILE, tmp_path)
        run(buildah, "push", "--quiet", name, f"oci:{tmp_path / 'base'}:latest")
    finally:
        left = set(run(buildah, "images", "--all", "--quiet").split()) - before
        if left:
            run(buildah, "rmi", "--force", *sorted(left))
    made = resolve_base(str(tmp_path / "base"), HERE, tmp_path / "cache")
    assert paths.find_python(paths.base_paths(made.image))[1] == "3.13"
    assert image.config(made.image)["config"]["User"] == "65532:65532"
    config = CpuWorker(arch=HERE, base=str(tmp_path / "base"))
    artifact, _ = packed(
        tmp_path / "work", config, make_runtime(config, "3.13"), base=made, python="3.13", cache_dir=test_cache / "oci"
    )
    booted = boot(artifact, (artifact / "event.json").read_bytes(), podman=program("podman"))
    assert json.loads(booted.answer["body"])["outputs"][0]["data"] == ANSWER


def test_dockerfile_holds_nothing_of_cuda_and_defaults_to_slim() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    (default,) = [line for line in lines if line.startswith("ARG")]
    assert re.fullmatch(r"ARG BASE=docker\.io/library/debian:trixie-slim@sha256:[0-9a-f]{64}", default)
    commands = " ".join(line for line in lines if not line.startswith("#"))
    assert not any(word in commands.lower() for word in ("cuda", "cudnn", "nvidia", "torch"))
