"""A directory becomes a layer: canonical, over the base's links, and refusing what a layer must not hold."""

from __future__ import annotations

import gzip
import io
import os
import py_compile
import shutil
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpack.core.digest import of_bytes
from mlpack.errors import PackError
from mlpack.oci import media
from mlpack.oci.compression import InflatedTar
from mlpack.oci.layers import layer, paths, scan, tar
from mlpack.oci.layers.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpack.oci.base import Base
    from mlpack.oci.image import Layer


def members(made: Layer) -> dict[str, tarfile.TarInfo]:
    """What Python's own tar reader finds in the layer."""
    with made.open() as stored, tarfile.open(fileobj=stored, mode="r:gz") as archive:
        return {member.name: member for member in archive.getmembers()}


def test_layer_is_canonical(tree: Path, tmp_path: Path) -> None:
    found = members(layer.layer_from_tree(tree, "var/task", None, tmp_path / "blobs"))
    assert list(found) == ["var", "var/task", "var/task/app.py", "var/task/lib", "var/task/lib/new.so", "var/task/run"]
    for member in found.values():
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
        assert member.pax_headers == {}
    modes = {name: member.mode for name, member in found.items()}
    assert modes["var/task/run"] == modes["var/task"] == 0o755
    assert modes["var/task/app.py"] == 0o644


def test_layer_does_not_depend_on_times_owners_or_order(tree: Path, tmp_path: Path) -> None:
    one = layer.layer_from_tree(tree, "x", None, tmp_path / "one")
    other = tmp_path / "other"
    for path in sorted(tree.rglob("*"), reverse=True):
        target = other / path.relative_to(tree)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o711 if path.stat().st_mode & 0o100 else 0o600)
            os.utime(target, (1, 1))
    assert layer.layer_from_tree(other, "x", None, tmp_path / "two") == one


def test_stored_and_deflated_layers_hold_the_same_tar(tree: Path, tmp_path: Path) -> None:
    stored = layer.layer_from_tree(tree, "x", None, tmp_path / "blobs", "stored")
    deflated = layer.layer_from_tree(tree, "x", None, tmp_path / "blobs", "deflate")
    assert stored.diff_id == deflated.diff_id
    assert stored.digest != deflated.digest
    assert stored.uncompressed_bytes == deflated.uncompressed_bytes
    assert stored.size_bytes > deflated.size_bytes


def test_golden_layer(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "ä").mkdir(parents=True)
    (tree / "ä" / ("long" * 60)).write_bytes(b"1")
    (tree / "b").write_bytes(b"2" * 513)
    (tree / "c").symlink_to("b")
    made = layer.layer_from_tree(tree, "opt", None, tmp_path / "blobs", "stored")
    assert made.diff_id.short == "3e3c5c6d272a"
    assert made.digest.short == "eea872a944db"


def test_base_directories_are_not_emitted_links_are_followed(base: Base, tmp_path: Path) -> None:
    tree = tmp_path / "over"
    (tree / "lib/sub").mkdir(parents=True)
    (tree / "lib/new.so").write_bytes(b"1")
    (tree / "lib/sub/x").write_bytes(b"2")
    (tree / "etc").mkdir()
    (tree / "etc/app.conf").write_bytes(b"3")
    found = members(layer.layer_from_tree(tree, "", paths.base_paths(base.image), tmp_path / "blobs"))
    assert sorted(found) == ["etc/app.conf", "usr/lib/new.so", "usr/lib/sub", "usr/lib/sub/x"]


def test_prefix_is_followed_through_the_bases_links(tree: Path, tmp_path: Path) -> None:
    below = Paths({"var": {"task": "/opt/task"}, "opt": {}})
    found = members(layer.layer_from_tree(tree, "/var/task/", below, tmp_path / "blobs"))
    assert sorted(found) == ["opt/task", "opt/task/app.py", "opt/task/lib", "opt/task/lib/new.so", "opt/task/run"]


def test_two_ways_to_one_path_are_refused(tmp_path: Path) -> None:
    tree = tmp_path / "over"
    for folder in ("lib", "usr/lib"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "x").write_bytes(b"1")
    with pytest.raises(PackError, match="two files would lie at /usr/lib/x"):
        layer.layer_from_tree(tree, "", Paths({"lib": "usr/lib", "usr": {"lib": {}}}), tmp_path / "blobs")
    assert not [each for each in (tmp_path / "blobs").rglob("*") if each.is_file()]


@pytest.mark.parametrize(
    ("below", "says"),
    [
        ({"app.py": {}}, "is a directory in the base"),
        ({"lib": None}, "is a file in the base"),
        ({"lib": "other", "other": None}, "a file in the base"),
        ({"lib": "lib"}, "a loop"),
    ],
)
def test_what_contradicts_the_base_is_refused(tree: Path, tmp_path: Path, below: dict[str, paths.Node], says: str) -> None:
    with pytest.raises(PackError, match=says):
        layer.layer_from_tree(tree, "", Paths(below), tmp_path / "blobs")


def _link(target: str) -> Callable[[Path], object]:
    return lambda tree: (tree / "evil").symlink_to(target)


def _chain(tree: Path) -> None:
    (tree / "lib/up").symlink_to("..")
    (tree / "evil").symlink_to("lib/up/../../secret")


def _setuid(tree: Path) -> None:
    (tree / "evil").write_bytes(b"")
    (tree / "evil").chmod(0o4755)


def _socket(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tree / "s"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_link("/etc/passwd"), "outside"),
        (_link("../secret"), "outside"),
        (_link("lib/../../secret"), "outside"),
        (_chain, "outside"),
        (_setuid, "set-user-id"),
        (_socket, "a socket"),
        (lambda tree: os.mkfifo(tree / "evil"), "a pipe"),
        (lambda tree: (tree / ".wh.passwd").write_bytes(b""), "begins with '.wh.'"),
        (lambda tree: (tree / "lib/.wh..wh..opq").mkdir(), "begins with '.wh.'"),
        (lambda tree: (tree / "a\nb").write_bytes(b""), "control characters"),
        (lambda tree: Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_bytes(b""), "not UTF-8"),
    ],
)
def test_what_a_layer_may_not_hold_is_refused(tree: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(tree)
    with pytest.raises(PackError, match=says):
        layer.layer_from_tree(tree, "x", None, tmp_path / "blobs")
    assert not [each for each in (tmp_path / "blobs").rglob("*") if each.is_file()]


def test_link_inside_the_tree_is_kept(tree: Path, tmp_path: Path) -> None:
    (tree / "lib/again").symlink_to("../app.py")
    found = members(layer.layer_from_tree(tree, "x", None, tmp_path / "blobs"))
    assert found["x/lib/again"].linkname == "../app.py"


def test_everything_in_a_layer_has_the_time_that_is_asked_for(tree: Path, tmp_path: Path) -> None:
    (tree / "lib/again").symlink_to("../app.py")
    found = members(layer.layer_from_tree(tree, "x", None, tmp_path / "blobs", epoch_s=1_700_000_000))
    assert {name: member.mtime for name, member in found.items()} == dict.fromkeys(found, 1_700_000_000)
    assert {"x", "x/app.py", "x/lib", "x/lib/again"} <= set(found)


@pytest.mark.parametrize("prefix", ["../up", "a/../../b", "a\nb"])
def test_prefix_that_leaves_the_image_is_refused(tree: Path, tmp_path: Path, prefix: str) -> None:
    with pytest.raises(PackError):
        layer.layer_from_tree(tree, prefix, None, tmp_path / "blobs")


def test_missing_tree_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="not a directory"):
        layer.layer_from_tree(tmp_path / "none", "x", None, tmp_path / "blobs")


def test_file_that_changes_while_it_is_packed_is_an_error() -> None:
    for size in (3, 5):
        entry = tar.TarEntry(path="x", kind="file", mode=0o644, size_bytes=size, source=lambda: io.BytesIO(b"1234"))
        with pytest.raises(PackError, match="while it was packed"):
            list(tar.chunks([entry]))


def test_entry_above_8_gib_gets_a_pax_header() -> None:
    header = next(iter(tar.chunks([tar.TarEntry(path="x", kind="file", mode=0o644, size_bytes=9 << 30)])))
    assert tarfile.TarInfo.frombuf(header[1024:1536], "utf-8", "strict").name == "x"
    assert b"size=9663676416\n" in header


def test_rootfs_keeps_links_modes_and_hard_links(rootfs: Path, tmp_path: Path) -> None:
    os.link(rootfs / "usr/bin/true", rootfs / "usr/bin/false")
    (rootfs / "etc/shadow").write_text("x")
    (rootfs / "etc/shadow").chmod(0o640)
    (rootfs / "usr/bin/su").write_text("x")
    (rootfs / "usr/bin/su").chmod(0o6755)
    os.mkfifo(rootfs / "usr/pipe")
    made, left_out = layer.layer_from_rootfs(rootfs, tmp_path / "blobs")
    found = members(made)
    assert left_out == ("usr/pipe (a pipe)",)
    assert (found["lib"].type, found["lib"].linkname) == (tarfile.SYMTYPE, "usr/lib")
    assert (found["usr/bin/true"].type, found["usr/bin/true"].linkname) == (tarfile.LNKTYPE, "usr/bin/false")
    assert found["tmp"].mode == 0o1777
    assert found["etc/shadow"].mode == 0o640
    assert found["usr/bin/su"].mode == 0o755


def test_source_of_timestamped_bytecode_keeps_the_time_it_names(rootfs: Path, tmp_path: Path) -> None:
    source = rootfs / "usr/lib/mod.py"
    source.write_text("x = 1\n")
    os.utime(source, (1_600_000_000, 1_600_000_000))
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    os.utime(source, (5, 5))
    made, _ = layer.layer_from_rootfs(rootfs, tmp_path / "blobs")
    found = members(made)
    assert found["usr/lib/mod.py"].mtime == 1_600_000_000
    assert {member.mtime for name, member in found.items() if name != "usr/lib/mod.py"} == {0}


def test_source_that_its_bytecode_was_not_made_of_has_no_time(rootfs: Path, tmp_path: Path) -> None:
    """Of another size, so that Python would compile it anew whatever its time."""
    source = rootfs / "usr/lib/mod.py"
    source.write_text("x = 1\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    source.write_text("x = 1000\n")
    made, _ = layer.layer_from_rootfs(rootfs, tmp_path / "blobs")
    assert members(made)["usr/lib/mod.py"].mtime == 0


def test_source_of_hash_checked_bytecode_has_no_time(rootfs: Path, tmp_path: Path) -> None:
    source = rootfs / "usr/lib/mod.py"
    source.write_text("x = 1\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    made, _ = layer.layer_from_rootfs(rootfs, tmp_path / "blobs")
    assert members(made)["usr/lib/mod.py"].mtime == 0


NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.") and len(name.encode()) <= 250
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 2)
@given(files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=2000), max_size=8))
def test_tar_round_trip(files: dict[str, bytes]) -> None:
    entries = [
        tar.TarEntry(path=path, kind="file", mode=0o644, size_bytes=len(data), source=lambda data=data: io.BytesIO(data))
        for path, data in files.items()
    ]
    written = b"".join(tar.chunks(reversed(entries)))
    assert written == b"".join(tar.chunks(entries))
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        again = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert again == files
    index = scan.read(InflatedTar(io.BytesIO(gzip.compress(written)), media.OCI.gzip))
    assert sorted(path for path, _, _ in index.entries) == sorted(paths.scan.clean_path(path) for path in files)
    assert index.diff_id == of_bytes(written)
