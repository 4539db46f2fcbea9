"""A zip whose bytes follow from names and contents alone."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.core import digest
from mlpack.errors import PackError
from mlpack.targets.format import ziparchive
from mlpack.targets.format.ziparchive import Member

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12).filter(
    lambda name: name.strip(". ") == name
)


def members(root: Path, files: dict[str, bytes]) -> list[Member]:
    found = []
    for number, (name, data) in enumerate(files.items()):
        source = root / str(number)
        source.write_bytes(data)
        found.append(Member(name=name, source=source, digest=digest.of_bytes(data)))
    return found


@settings(deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6))
def test_write_is_read_back_by_zipfile(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("zip")
    named = ziparchive.write(members(root, files), root / "out.zip")
    assert digest.of_file(root / "out.zip") == named
    with zipfile.ZipFile(root / "out.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.namelist() == sorted(files, key=str.encode)


def test_write_twice_gives_equal_bytes_for_any_order_and_time(tmp_path: Path) -> None:
    files = {"b/model.onnx": b"\0" * 70_000, "a.py": b"print(1)\n" * 50, "ü": b"x"}
    written = []
    for turn, names in enumerate((list(files), list(reversed(files)))):
        root = tmp_path / str(turn)
        root.mkdir()
        made = members(root, {name: files[name] for name in names})
        for member in made:
            os.utime(member.source, (turn, turn))
            member.source.chmod(0o600 if turn else 0o755)
        written.append(ziparchive.write(made, root / "out.zip"))
    assert written[0] == written[1]


def test_write_every_member_is_world_readable_unix_of_1980(tmp_path: Path) -> None:
    ziparchive.write(members(tmp_path, {"a": b"1", "b/c": b"2" * 100}), tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert (info.create_system, info.external_attr >> 16, info.extra, info.comment) == (3, 0o100644, b"", b"")


def test_write_dense_files_are_stored_and_others_deflated(tmp_path: Path) -> None:
    dense, sparse = os.urandom(300_000), b"weights" * 40_000
    ziparchive.write(members(tmp_path, {"dense": dense, "sparse": sparse, "empty": b""}), tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {info.filename: info.compress_type for info in archive.infolist()} == {
            "dense": zipfile.ZIP_STORED,
            "empty": zipfile.ZIP_STORED,
            "sparse": zipfile.ZIP_DEFLATED,
        }


def test_is_dense_looks_across_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(100_000) + bytes(3_000_000))
    assert not ziparchive.is_dense(path)
    path.write_bytes(bytes(100_000) + os.urandom(3_000_000))
    assert ziparchive.is_dense(path)


def test_write_source_that_changed_is_refused_and_nothing_kept(tmp_path: Path) -> None:
    (made,) = members(tmp_path, {"a": b"before"})
    made.source.write_bytes(b"after!")
    with pytest.raises(PackError, match="changed while it was packed"):
        ziparchive.write([made], tmp_path / "out.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]


def test_write_is_what_the_standard_library_calls_a_zip(tmp_path: Path) -> None:
    ziparchive.write([], tmp_path / "out.zip")
    assert zipfile.is_zipfile(io.BytesIO((tmp_path / "out.zip").read_bytes()))
