"""Builds that are interrupted, run out of space, or cannot reach what they need: what is left is whole, and can be gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.project import HERE, Project, candidate
from tests.support.services.real_registry import Registry
from tests_slow.conftest import run

from mlpack.core import digest
from mlpack.core.machine import arch
from mlpack.oci import image, layout
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.distribution import remote
from mlpack.store.local import Store

MakeProject = Callable[..., Project]

FIRST_MB, LAST_MB = 16, 400
QUICK = ("--effort", "quick", "--only", "fp32@*")


def processes_of(store: Path) -> list[int]:
    """Every process that works with this store, by its environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MLPACK_STORE={store}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended while we looked
    return found


def assert_sound(store: Path) -> None:
    """Nothing half-made, and every tree is what its name says."""
    Store(store)
    assert list((store / "temporary").iterdir()) == []
    for tree in (store / "trees").iterdir():
        assert digest.of_tree(tree).hex == tree.name


MOMENTS = [(signal.SIGINT, 1), (signal.SIGTERM, 4), (signal.SIGINT, 8)]


@pytest.mark.parametrize(("number", "after_s"), MOMENTS, ids=["ctrl-c", "terminated", "ctrl-c later"])
def test_interrupted_build_leaves_a_sound_store(number: signal.Signals, after_s: int, make_project: MakeProject) -> None:
    """Interrupted while torch exports, wherever it is in that by then: its exporters swallow an interrupt at some moments."""
    project = make_project("fashion")
    command = [*project.command, "build", "recipes/fashion.yaml", "--only", "int8@*"]
    with subprocess.Popen(
        command, cwd=project.root, env=project.environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while "export" not in (line := process.stderr.readline()):
            assert line, "it ended before it exported"
        time.sleep(after_s)
        os.killpg(process.pid, number)  # as a terminal does: to everything in the foreground
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert processes_of(project.store) == []
    assert not project.out("fashion").exists()
    assert_sound(project.store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small to begin with."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount the small file system that this needs")
    place = tmp_path / "disk"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={FIRST_MB}m", "tmpfs", place)
    yield place
    run("umount", "--lazy", place)


def test_full_disk_ends_the_build_and_more_space_finishes_it(small_disk: Path, make_project: MakeProject) -> None:
    """Store, result and temporary files share a disk that grows until the build ends well: it is full at ever later moments."""
    (small_disk / "tmp").mkdir()
    made = make_project("tabular", store=small_disk / "store")
    extra = {"TMPDIR": str(small_disk / "tmp")}
    project = Project(root=made.root, store=made.store, rie=made.rie, python_dir=made.python_dir, extra=extra)
    out = small_disk / "out"
    assert fails_until_it_fits(project, out, range(FIRST_MB, LAST_MB, 40)) >= 2
    # Again with another package, now that the runtime is in the store: what the earlier build left must stay until it is replaced.
    project.edit("tabular", lambda text: text.replace("memory_mb: 1769", "memory_mb: 1024"))
    used_mb = shutil.disk_usage(small_disk).used >> 20
    assert fails_until_it_fits(project, out, range(used_mb + 4, LAST_MB, 20)) >= 2
    assert candidate(json.loads((out / "build.json").read_bytes()), f"fp32@lambda-zip-{HERE}")["status"] == "ok"
    assert_sound(project.store)


def fails_until_it_fits(project: Project, out: Path, sizes_mb: range) -> int:
    """Build on a disk of each size in turn; every failure must say why and leave all as it was. How many there were."""
    disk, before = out.parent, digest.of_tree(out) if out.exists() else None
    for failures, size_mb in enumerate(sizes_mb):
        run("mount", "-o", f"remount,size={size_mb}m", disk)
        command = [*project.command, "build", "recipes/tabular.yaml", *QUICK, "--out", str(out)]
        done = subprocess.run(command, cwd=project.root, env=project.environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return failures
        assert done.returncode == 3, f"{size_mb} MB: {done.returncode}\n{done.stderr}"
        assert "mlpack: no space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in disk.iterdir() if "out" in path.name] == (["out"] if before else [])
        assert before is None or digest.of_tree(out) == before
        assert list((disk / "tmp").iterdir()) == []
        assert_sound(project.store)
    raise AssertionError(f"not even on {sizes_mb[-1]} MB:\n{done.stderr}")


def test_base_by_reference_is_pinned_and_its_loss_harms_nothing(
    registry: Registry, base: Base, make_project: MakeProject, tmp_path: Path
) -> None:
    reference = f"{registry.host}/team/debian:stable"
    layout.write(base.image, tmp_path / "debian")
    first, second = make_project("tabular"), make_project("tabular")
    first.mlpack("image", "push", tmp_path / "debian", reference)
    for project in (first, second):
        project.edit(
            "tabular",
            lambda text: text.replace(f"lambda-zip: {{arch: {HERE}", f"lambda-image: {{base: '{reference}', arch: {HERE}"),
        )
    id_, only = f"fp32@lambda-image-{HERE}", ("--only", "fp32@*")
    before = candidate(first.build("tabular", *only), id_)
    lock = (first.root / "recipes/mlpack.lock").read_text()
    assert f'"{reference} {HERE}": "{image.digest(base.image)}"' in lock

    remote.push(image.with_config(base.image, labels={"io.example.moved": "yes"}), reference)
    assert image.digest(resolve_base(reference, arch(), tmp_path / "cache").image) != image.digest(base.image)
    fresh = Project(root=first.root, store=tmp_path / "store", rie=first.rie, python_dir=first.python_dir)
    after = candidate(fresh.build("tabular", *only), id_)
    assert after["package"]["digest"] == before["package"]["digest"]
    assert (first.root / "recipes/mlpack.lock").read_text() == lock

    registry.kill()
    unpinned = (second.root / "recipes/mlpack.lock").read_text()
    failed = second.mlpack("build", "recipes/tabular.yaml", *only, expect=4)
    assert registry.host in failed.stderr
    assert not (second.root / "out").exists()
    assert (second.root / "recipes/mlpack.lock").read_text() == unpinned
    assert_sound(second.store)
