"""From what ships back to /var/task: everything as listed, and nothing hostile."""

from __future__ import annotations

import gzip
import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from tests.support.images.layouts import LAYER, Maker
from tests.support.images.raw_tars import header, pax

from mlpack.core import digest
from mlpack.errors import PackError
from mlpack.targets.format.unpacking import describe
from mlpack.targets.shipped import unpack


def artifact(
    root: Path, files: dict[str, bytes], listed: dict[str, bytes] | None = None, layer: dict[str, bytes] | None = None
) -> Path:
    """A zip artifact made by hand; `listed`: what package.json says, by default the truth."""
    root.mkdir(parents=True)
    for name, members in (("function.zip", files), ("layer.zip", layer)):
        if members is not None:
            with zipfile.ZipFile(root / name, "w") as archive:
                for path, data in members.items():
                    info = zipfile.ZipInfo(path)
                    info.external_attr = 0o100644 << 16
                    archive.writestr(info, data)
    rows = files if listed is None else listed
    described = {
        "schema": 1,
        "kind": "zip",
        "files": [{"path": path, "size_bytes": len(data), "digest": str(digest.of_bytes(data))} for path, data in rows.items()],
    }
    (root / "package.json").write_text(json.dumps(described))
    return root


def test_unpack_gives_read_only_files(tmp_path: Path) -> None:
    out = unpack(artifact(tmp_path / "a", {"bootstrap.py": b"x", "model/model.json": b"{}"}), tmp_path / "out")
    assert (out / "model/model.json").read_bytes() == b"{}"
    assert stat.S_IMODE((out / "bootstrap.py").stat().st_mode) == 0o444


def test_unpack_lays_the_layer_over_the_function(tmp_path: Path) -> None:
    files, layer = {"model/model.json": b"{}"}, {"python/bootstrap.py": b"x"}
    given = artifact(tmp_path / "a", files, {**files, "bootstrap.py": b"x"}, layer)
    assert sorted(path.name for path in unpack(given, tmp_path / "out").iterdir()) == ["bootstrap.py", "model"]


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "a//b", "./a", "a\\..\\evil"])
def test_unpack_path_that_leaves_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"malformed|not a plain file"):
        unpack(artifact(tmp_path / "a", {path: b"evil"}), tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("files", "listed", "said"),
    [
        ({"a": b"1", "b": b"2"}, {"a": b"1"}, "does not list"),
        ({"a": b"1"}, {"a": b"1", "b": b"2"}, "lacks b"),
        ({"a": b"1"}, {"a": b"2"}, "is not the file"),
        ({"a": b"1" * 100_000}, {"a": b"1"}, "is not the file"),
    ],
)
def test_unpack_other_than_listed_is_refused(files: dict[str, bytes], listed: dict[str, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=said):
        unpack(artifact(tmp_path / "a", files, listed), tmp_path / "out")


def test_unpack_link_in_the_zip_is_refused(tmp_path: Path) -> None:
    given = artifact(tmp_path / "a", {"a": b"/etc/passwd"})
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(given / "function.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(PackError, match="not a plain file"):
        unpack(given, tmp_path / "out")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"not a zip"])
def test_unpack_damaged_zip_is_refused(damage: bytes, tmp_path: Path) -> None:
    given = artifact(tmp_path / "a", {"a": b"1"})
    (given / "function.zip").write_bytes(damage)
    with pytest.raises(PackError, match="damaged"):
        unpack(given, tmp_path / "out")


def test_unpack_flipped_byte_is_refused(tmp_path: Path) -> None:
    given = artifact(tmp_path / "a", {"a": b"weights" * 100})
    data = bytearray((given / "function.zip").read_bytes())
    data[60] ^= 1
    (given / "function.zip").write_bytes(data)
    with pytest.raises(PackError, match=r"damaged|is not the file"):
        unpack(given, tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "files": [{"path": "a"}]}', '{"schema": 1, "files": 3}']
)
def test_unpack_damaged_description_is_refused(text: str, tmp_path: Path) -> None:
    given = artifact(tmp_path / "a", {"a": b"1"})
    (given / "package.json").write_text(text)
    with pytest.raises(PackError, match=r"package\.json"):
        unpack(given, tmp_path / "out")


def test_describe_what_is_no_package_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="is no package"):
        describe(tmp_path)


ONE = {"path": "a", "size_bytes": 1, "digest": str(digest.of_bytes(b"x"))}
LISTS = {
    "a size of text": [ONE | {"size_bytes": "1"}],
    "a size below 0": [ONE | {"size_bytes": -1}],
    "a size that is true": [ONE | {"size_bytes": True}],
    "a size of half a byte": [ONE | {"size_bytes": 1.5}],
    "a path of a number": [ONE | {"path": 7}],
    "a path of null": [ONE | {"path": None}],
    "a name of 300 letters": [ONE | {"path": "a" * 300}],
    "a name of 90 wide letters": [ONE | {"path": "\u00e9" * 200}],
    "a path of 5,000 letters": [ONE | {"path": "a/" * 2500 + "x"}],
    "half a surrogate": [ONE | {"path": "\ud800"}],
    "a file that is a folder": [ONE, ONE | {"path": "a/b"}],
    "a file that is a folder, deeper": [ONE | {"path": "a/b/c"}, ONE | {"path": "a"}],
    "a path twice": [ONE, ONE],
    "a digest of another kind": [ONE | {"digest": 7}],
    "no digest": [{"path": "a", "size_bytes": 1}],
    "no object": ["a"],
    "no list": 7,
}


@pytest.mark.parametrize("files", LISTS.values(), ids=LISTS)
def test_list_of_files_that_no_directory_could_hold_is_damaged(tmp_path: Path, files: object) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"schema": 1, "kind": "zip", "files": files}))
    with zipfile.ZipFile(tmp_path / "function.zip", "w") as archive:
        archive.writestr("a", "x")
    with pytest.raises(PackError, match="is damaged") as caught:
        unpack(tmp_path, tmp_path / "out")
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": ' + "9" * 5000 + "}", '{"schema": [' + "1," * 5000 + "1]}", "null"])
def test_a_list_that_is_none_is_said_shortly(tmp_path: Path, text: str) -> None:
    (tmp_path / "package.json").write_text(text)
    with pytest.raises(PackError) as caught:
        unpack(tmp_path, tmp_path / "out")
    assert len(str(caught.value)) < 600


def test_unpack_a_directory_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    given = artifact(tmp_path / "a", {"a": b"1"})
    with (given / "function.zip").open("wb") as file:
        file.truncate(2 << 30)
        file.seek(2 << 30)
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 2 << 30, 0, 0))
    with pytest.raises(PackError, match="more than the 16,777,216 bytes"):
        unpack(given, tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pax(path=b"a/" * 60_000) + header(b"f"), "more than 4096 bytes"),
        (header(b"p", b"x", 1 << 40), "an extension header of"),
        (header(b"var/task/f", b"S"), "sparse"),
        (header(b"var/task/f", b"2", link=b"/etc/passwd"), "not a plain file"),
        (header(b"var/task/f", b"1", link=b"/etc/passwd"), "not a plain file"),
        (header(b"var/task/../../evil"), "not list|leaves"),
        (header(b"var/task/f", size=1 << 40), "ends too early|is not the file"),
    ],
)
def test_unpack_a_hostile_layer_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    layer = data + bytes(1024)
    maker = Maker(tmp_path / "a/image")
    line = maker.image(layers=[{"mediaType": LAYER, **maker.blob(gzip.compress(layer, mtime=0))}])
    (tmp_path / "a/image/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [line]}))
    ours = {"model": json.loads((maker.path / "blobs/sha256" / line["digest"][7:]).read_text())["layers"][0]["digest"]}
    row = {"path": "f", "size_bytes": 1, "digest": str(digest.of_bytes(b"1"))}
    (tmp_path / "a/package.json").write_text(json.dumps({"schema": 1, "kind": "image", "files": [row], "layers": ours}))
    with pytest.raises(PackError, match=said):
        unpack(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "evil").exists()
