"""An image as files: written and read again, byte for byte; damaged and hostile layouts."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from tests.support.images.raw_tars import header, pax

from mlpack.core.digest import of_bytes, of_tree
from mlpack.errors import NamingError, PackError
from mlpack.oci import image, layout, media, selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlpack.oci.image import Image


def test_directory_round_trip(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out", "v1")
    again = layout.read(tmp_path / "out")
    assert again == made
    assert image.validate(again) == []


def test_archive_round_trip(made: Image, tmp_path: Path) -> None:
    layout.write_archive(made, tmp_path / "deep/out.tar", "team/model:v1")
    again = layout.read(tmp_path / "deep/out.tar")
    assert again == made
    assert image.validate(again) == []
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["out.tar"]


def test_writing_is_repeatable(made: Image, tmp_path: Path) -> None:
    for name in ("one", "two", "two"):
        layout.write(made, tmp_path / name)
        layout.write_archive(made, tmp_path / f"{name}.tar")
    assert of_tree(tmp_path / "one") == of_tree(tmp_path / "two")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_layout_is_what_the_specification_says(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out", "v1")
    assert json.loads((tmp_path / "out/oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads((tmp_path / "out/index.json").read_bytes())["manifests"]
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    assert described["platform"] == {"os": "linux", "architecture": "amd64"}
    assert described["digest"] == str(image.digest(made))
    blobs = sorted((tmp_path / "out/blobs/sha256").iterdir())
    assert len(blobs) == len(made.layers) + 2
    assert all(of_bytes(blob.read_bytes()).hex == blob.name for blob in blobs)


def test_archive_is_one_that_docker_loads(made: Image, tmp_path: Path) -> None:
    layout.write_archive(made, tmp_path / "out.tar", "team/model")
    with tarfile.open(tmp_path / "out.tar") as archive:
        (described,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        names = archive.getnames()
    assert described["RepoTags"] == ["team/model:latest"]
    assert [described["Config"], *described["Layers"]] == [
        each for each in [described["Config"], *described["Layers"]] if each in names
    ]


def test_blob_already_there_is_left_alone(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    blob = tmp_path / "out/blobs/sha256" / made.layers[0].digest.hex
    before = blob.stat()
    layout.write(made, tmp_path / "out")
    after = blob.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_reading_opens_no_layer(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    for layer in made.layers:
        (tmp_path / "out/blobs/sha256" / layer.digest.hex).unlink()
    assert layout.read(tmp_path / "out") == made


def test_damaged_layer_is_not_written_on(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    blob = tmp_path / "out/blobs/sha256" / made.layers[1].digest.hex
    data = blob.read_bytes()
    for damage in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x"):
        blob.write_bytes(damage)
        spoilt = layout.read(tmp_path / "out")
        assert image.validate(spoilt)
        with pytest.raises(PackError):
            layout.write(spoilt, tmp_path / "copy")
        with pytest.raises(PackError):
            layout.write_archive(spoilt, tmp_path / "copy.tar")
        assert not (tmp_path / "copy/index.json").exists()
        assert not list(tmp_path.glob("*copy.tar*"))
        assert not list((tmp_path / "copy").rglob(".incoming*"))
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("lost", ["manifest", "config", "index.json"])
def test_layout_that_lacks_a_document_is_refused(made: Image, tmp_path: Path, lost: str) -> None:
    layout.write(made, tmp_path / "out")
    names = {"manifest": f"blobs/sha256/{image.digest(made).hex}", "config": f"blobs/sha256/{of_bytes(made.config_bytes).hex}"}
    (tmp_path / "out" / names.get(lost, lost)).unlink()
    with pytest.raises(PackError, match="lacks"):
        layout.read(tmp_path / "out")


def test_exchanged_manifest_is_refused(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    path = tmp_path / "out/blobs/sha256" / image.digest(made).hex
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(PackError, match="damaged"):
        layout.read(tmp_path / "out")


def test_oversize_documents_are_refused(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    (tmp_path / "out/index.json").write_bytes(b" " * (media.MAX_JSON_BYTES + 1))
    with pytest.raises(PackError, match="more than"):
        layout.read(tmp_path / "out")


def test_an_oversize_manifest_is_not_called_damaged(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    huge = made.manifest_bytes + b" " * media.MAX_JSON_BYTES
    (tmp_path / f"out/blobs/sha256/{of_bytes(huge).hex}").write_bytes(huge)
    index = json.loads((tmp_path / "out/index.json").read_bytes())
    index["manifests"][0] |= {"digest": str(of_bytes(huge)), "size": len(huge)}
    (tmp_path / "out/index.json").write_text(json.dumps(index))
    with pytest.raises(PackError, match=f"has {len(huge)} bytes: documents of up to {media.MAX_JSON_BYTES} are read"):
        layout.read(tmp_path / "out")


def several(made: Image, out: Path, *platforms: tuple[str, str]) -> Path:
    """A layout whose index names the same image under several platforms."""
    layout.write(made, out)
    index = json.loads((out / "index.json").read_bytes())
    (one,) = index["manifests"]
    index["manifests"] = [{**one, "platform": {"os": name, "architecture": arch}} for name, arch in platforms]
    (out / "index.json").write_text(json.dumps(index))
    return out


def test_layout_of_several_images_needs_a_processor(made: Image, tmp_path: Path) -> None:
    out = several(made, tmp_path / "out", ("linux", "amd64"), ("linux", "arm64"))
    with pytest.raises(PackError, match="2 images"):
        layout.read(out)
    assert layout.read(out, "amd64") == made
    with pytest.raises(PackError, match="not made for"):
        layout.read(several(made, tmp_path / "other", ("linux", "s390x"), ("linux", "arm64")), "amd64")


def test_nested_index_is_followed(made: Image, tmp_path: Path) -> None:
    out = several(made, tmp_path / "out", ("linux", "amd64"), ("unknown", "unknown"))
    inner = (out / "index.json").read_bytes()
    digest = of_bytes(inner)
    (out / "blobs/sha256" / digest.hex).write_bytes(inner)
    outer = {"manifests": [{"mediaType": media.OCI_INDEX, "digest": str(digest), "size": len(inner)}]}
    (out / "index.json").write_text(json.dumps(outer))
    assert layout.read(out, "amd64") == made


def test_what_is_no_layout_is_said(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"x" * 2000)
    with tarfile.open(tmp_path / "docker.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("manifest.json"))
    for name, says in (
        ("dir", "no file 'oci-layout'"),
        ("file", "not an OCI archive"),
        ("none", "nothing of that name"),
        ("docker.tar", "skopeo"),
    ):
        with pytest.raises(PackError, match=says):
            layout.read(tmp_path / name)


def test_archive_with_a_file_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for name in ("oci-layout", "index.json", "index.json"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(PackError, match="twice"):
        layout.read(tmp_path / "twice.tar")


ARCHIVES = {
    "deep path": (pax(path=b"a/" * 60_000 + b"f") + header(b"f"), "more than 4096 bytes"),
    "extension header of 1 GiB": (header(b"p", b"x", 1 << 30), "extension header"),
    "GNU name of 8 GiB": (header(b"p", b"L", (8 << 30) - 1), "extension header"),
    "chain of extension headers": (pax(comment=b"c") * 20 + header(b"f"), "extension headers"),
    "sparse by GNU": (header(b"index.json", b"S"), "sparse"),
    "sparse by pax": (pax(**{"GNU.sparse.map": b"0,1," * 9000}) + header(b"f"), "sparse"),
    "content of 8 GiB that is not there": (header(b"index.json", size=(8 << 30) - 1), "ends too early"),
    "the same path twice, once with ./": (header(b"oci-layout") + header(b"./oci-layout"), "twice"),
    "cut in a header": (header(b"oci-layout") + header(b"index.json")[:300], "cut short"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_is_refused_in_little_memory(kind: str, tmp_path: Path) -> None:
    data, says = ARCHIVES[kind]
    (tmp_path / "hostile.tar").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(PackError, match=says) as refused:
            layout.read(tmp_path / "hostile.tar")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 1000


@pytest.mark.slow
def test_what_no_layout_has_is_not_remembered_of_an_archive(made: Image, tmp_path: Path) -> None:
    layout.write_archive(made, tmp_path / "out.tar")
    more = b"".join(header(b"../x%d" % number, b"2", link=b"/etc/passwd") for number in range(20_000))
    (tmp_path / "more.tar").write_bytes(more + (tmp_path / "out.tar").read_bytes())
    tracemalloc.start()
    try:
        assert layout.read(tmp_path / "more.tar") == made
        assert tracemalloc.get_traced_memory()[1] < 7e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("link", [b"1", b"2"])
def test_a_link_is_no_file_of_an_archive(link: bytes, tmp_path: Path) -> None:
    data = header(b"oci-layout") + header(b"index.json", link, link=b"/etc/passwd") + bytes(1024)
    (tmp_path / "linked.tar").write_bytes(data)
    with pytest.raises(NamingError, match="not an OCI archive"):
        layout.read(tmp_path / "linked.tar")


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_is_said_to_be_one(made: Image, packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    layout.write_archive(made, tmp_path / "out.tar")
    (tmp_path / "out.tar.gz").write_bytes(packed((tmp_path / "out.tar").read_bytes()))
    with pytest.raises(NamingError, match="is compressed"):
        layout.read(tmp_path / "out.tar.gz")
    assert layout.locate("out.tar.gz:tag", tmp_path) == (tmp_path / "out.tar.gz", selection.Selector(tag="tag"))


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_a_pipe_in_a_layout_is_not_waited_for(made: Image, name: str, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    os.mkfifo(tmp_path / "out" / name)
    with pytest.raises(PackError, match=rf"lacks {name}|no file '{name}'"):
        layout.read(tmp_path / "out")


def test_archive_by_another_tar_is_read(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(tmp_path / "out", ".")
    assert layout.read(tmp_path / "other.tar") == made


LONG, ZEROS = "x" * 1_000_000, f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "index",
    [
        f'{{"{LONG}": 1, "{LONG}": 2}}',
        json.dumps({"manifests": [{"mediaType": LONG, "digest": ZEROS, "size": 1}]}),
        json.dumps({"manifests": [{"mediaType": media.OCI_MANIFEST, "digest": LONG, "size": 1}]}),
        json.dumps({"manifests": [{"mediaType": media.OCI_MANIFEST, "digest": ZEROS, "size": LONG}]}),
        json.dumps({"manifests": [{"mediaType": media.OCI_MANIFEST, "digest": ZEROS, "size": 10**4000}]}),
    ],
    ids=["key", "type", "digest", "size", "number"],
)
def test_a_strangers_words_are_cut_in_what_is_said(made: Image, index: str, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    (tmp_path / "out/index.json").write_text(index)
    with pytest.raises(PackError) as refused:
        layout.read(tmp_path / "out")
    assert len(str(refused.value)) < 1000
