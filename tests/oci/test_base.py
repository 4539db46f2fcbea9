"""A base image, wherever it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.support.images.fake_registry import FakeRegistry
from tests.support.images.layouts import Maker, archived, buildx, called

from mlpack.core.digest import Digest
from mlpack.errors import NamingError, PackError, ServiceError
from mlpack.oci import base, image, layout
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.distribution import remote
from mlpack.oci.distribution.remote import TransportOptions
from mlpack.oci.layers import paths

if TYPE_CHECKING:
    from pathlib import Path

ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00"


def test_rootfs_becomes_an_image_of_one_layer(base: Base) -> None:
    assert base.kind == "rootfs"
    assert base.digest == base.manifest_digest == image.digest(base.image)
    assert image.validate(base.image) == []
    assert image.platform(base.image) == ("linux", "amd64", "")
    assert image.env(base.image)["PATH"].endswith("/bin")
    assert paths.find_python(paths.base_paths(base.image)) == ("usr/bin/python3.11", "3.11")


def test_rootfs_is_packed_once(rootfs: Path, base: Base, tmp_path: Path) -> None:
    blob = next((tmp_path / "cache/blobs/sha256").glob("[0-9a-f]*"))
    before = blob.stat().st_mtime_ns
    assert resolve_base(str(rootfs), "amd64", tmp_path / "cache") == base
    assert blob.stat().st_mtime_ns == before
    blob.unlink()
    assert resolve_base(str(rootfs), "amd64", tmp_path / "cache") == base
    for memory in (tmp_path / "cache/rootfs").iterdir():
        memory.write_bytes(b"[]")
    assert resolve_base(str(rootfs), "amd64", tmp_path / "cache") == base


def test_changed_rootfs_is_another_base(rootfs: Path, base: Base, tmp_path: Path) -> None:
    (rootfs / "etc/passwd").write_text("other")
    changed = resolve_base(str(rootfs), "amd64", tmp_path / "cache")
    assert changed.digest != base.digest
    with pytest.raises(PackError, match="pinned"):
        resolve_base(str(rootfs), "amd64", tmp_path / "cache", base.digest)


@pytest.mark.parametrize(
    "change", [lambda p: p.write_text("longer"), lambda p: p.chmod(0o600), lambda p: os.utime(p, ns=(1, 1)), lambda p: p.unlink()]
)
def test_fingerprint_changes_with_any_file(rootfs: Path, change) -> None:
    before = base.fingerprint(rootfs)
    assert base.fingerprint(rootfs) == before
    change(rootfs / "etc/passwd")
    assert base.fingerprint(rootfs) != before


def test_rootfs_for_another_processor_is_refused(rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="linux/amd64, not for linux/arm64"):
        resolve_base(str(rootfs), "arm64", tmp_path / "cache")
    (rootfs / "usr/bin/true").write_bytes(ELF_ARM64)
    assert image.platform(resolve_base(str(rootfs), "arm64", tmp_path / "cache").image)[1] == "arm64"
    (rootfs / "usr/bin/true").write_bytes(ELF_ARM64[:18] + b"\x16\x00")
    with pytest.raises(PackError, match="machine 22"):
        resolve_base(str(rootfs), "arm64", tmp_path / "cache")


def test_machine_is_read_through_links_that_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "opt/busybox").write_bytes(ELF_ARM64)
    (root / "bin").mkdir()
    (root / "bin/sh").symlink_to("/opt/busybox")
    (root / "bin/true").symlink_to("../../../../../../../../bin/true")
    assert base.machine_of(root) == "arm64"


def test_rootfs_without_programs_says_so(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    found = resolve_base(str(tmp_path / "root"), "arm64", tmp_path / "cache")
    assert any("taken to be linux/arm64" in note for note in found.notes)


def test_left_out_paths_are_named(rootfs: Path, tmp_path: Path) -> None:
    os.mkfifo(rootfs / "etc/initctl")
    found = resolve_base(str(rootfs), "amd64", tmp_path / "cache")
    assert found.notes == ("left out of the image: etc/initctl (a pipe)",)
    assert "etc/initctl" in image.config(found.image)["history"][0]["comment"]
    assert resolve_base(str(rootfs), "amd64", tmp_path / "cache") == found


def test_many_left_out_nodes_are_counted_in_one_note(rootfs: Path, tmp_path: Path) -> None:
    for number in range(12):
        os.mkfifo(rootfs / f"etc/pipe{number:02}")
    (rootfs / "var/lib/apt/lists").mkdir(parents=True)
    (rootfs / "var/lib/apt/lists/deb_Packages").write_bytes(bytes(10))
    found = resolve_base(str(rootfs), "amd64", tmp_path / "cache")
    assert found.notes == (
        "left out of the image: 12 device nodes, pipes and sockets, such as etc/pipe00 (a pipe)",
        "left out of the image: what apt downloaded (10 bytes, which `apt-get clean` would remove)",
    )


def test_apts_downloads_are_left_out_and_named(rootfs: Path, tmp_path: Path) -> None:
    without = resolve_base(str(rootfs), "amd64", tmp_path / "cache").image.layers[0].uncompressed_bytes or 0
    for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists"):
        (rootfs / folder).mkdir(parents=True)
    (rootfs / "var/cache/apt/archives/python3.deb").write_bytes(bytes(100_000))
    (rootfs / "var/lib/apt/lists/deb_Packages").write_bytes(bytes(10_000))
    found = resolve_base(str(rootfs), "amd64", tmp_path / "cache")
    assert found.notes == ("left out of the image: what apt downloaded (110000 bytes, which `apt-get clean` would remove)",)
    assert (found.image.layers[0].uncompressed_bytes or 0) - without < 10_000
    assert paths.base_paths(found.image).names("var/cache/apt/archives") == ("partial",)


def test_what_packing_remembers_is_what_reading_finds(base: Base, tmp_path: Path) -> None:
    only = base.image.layers[0]
    assert (tmp_path / "cache/paths" / f"{only.digest.hex}.json").is_file()
    assert paths.index(only, tmp_path / "cache") == paths.index(only)


def test_layout_and_archive_are_told_from_a_rootfs(base: Base, tmp_path: Path) -> None:
    layout.write(base.image, tmp_path / "layout")
    layout.write_archive(base.image, tmp_path / "archive.tar")
    for name, kind in (("layout", "layout"), ("archive.tar", "archive")):
        found = resolve_base(str(tmp_path / name), "x86_64", tmp_path / "cache", base.digest)
        assert (found.kind, found.image) == (kind, base.image)
        with pytest.raises(PackError, match="not for linux/arm64"):
            resolve_base(str(tmp_path / name), "arm64", tmp_path / "cache")


def test_of_a_layout_with_two_images_one_must_be_named(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "two:tags")
    lines = [called(maker.image(mark=name), name) for name in ("v1", "v2")]
    out = maker.done(*lines, called(maker.image("arm64"), "v1"))
    with pytest.raises(NamingError, match=f"2 images for linux/amd64.*{out}:v1 or {out}@sha256"):
        resolve_base(str(out), "amd64", tmp_path / "cache")
    for ref in (f"{out}:v2", f"oci:{out}:v2", f"{out}@{lines[1]['digest']}"):
        assert str(resolve_base(ref, "amd64", tmp_path / "cache").digest) == lines[1]["digest"]
    assert resolve_base(f"{out}:v1", "arm64", tmp_path / "cache").kind == "layout"
    with pytest.raises(PackError, match="is not an OCI layout"):
        resolve_base(f"{tmp_path}:v1", "amd64", tmp_path / "cache")


def test_an_attestation_is_no_base(tmp_path: Path) -> None:
    out = buildx(tmp_path / "buildx")
    for text in (out, archived(out, tmp_path / "buildx.tar")):
        assert image.platform(resolve_base(str(text), "amd64", tmp_path / "cache").image) == ("linux", "amd64", "")
        with pytest.raises(PackError, match="not for linux/arm64"):
            resolve_base(str(text), "arm64", tmp_path / "cache")


@pytest.mark.parametrize("ref", ["oci:none", "oci-archive:none.tar", "/no/such/base", "./none", "../none", "~/none"])
def test_missing_path_is_said(ref: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no base image at"):
        resolve_base(ref, "amd64", tmp_path / "cache")


def test_registry_base_is_pinned_and_needs_no_registry_then(base: Base, tmp_path: Path) -> None:
    cache = tmp_path / "other"
    with FakeRegistry() as registry:
        ref = f"{registry.host}/base:v1"
        remote.push(base.image, ref)
        found = resolve_base(ref, "amd64", cache)
        assert (found.kind, found.image, found.name) == ("registry", base.image, ref)
        with pytest.raises(PackError, match="change one of them"):
            resolve_base(f"{registry.host}/base@{base.digest}", "amd64", cache, Digest("sha256:" + "0" * 64))
    assert resolve_base(ref, "amd64", cache, found.digest) == found


def test_unreachable_registry_names_the_way_out(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        gone = registry.host
    pauses: list[float] = []
    with pytest.raises(ServiceError, match=r"cannot be reached.*--base") as caught:
        resolve_base(f"{gone}/base", "amd64", tmp_path / "cache", None, None, TransportOptions(sleep=pauses.append))
    assert caught.value.retryable
    assert len(pauses) == 2
