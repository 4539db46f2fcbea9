"""An image as files: written and read again, byte for byte; damaged and hostile layouts."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from mlpack.digest import of_bytes, of_tree
from mlpack.errors import PackError
from mlpack.oci import image, layout, media

if TYPE_CHECKING:
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


def test_archive_by_another_tar_is_read(made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "out")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(tmp_path / "out", ".")
    assert layout.read(tmp_path / "other.tar") == made
