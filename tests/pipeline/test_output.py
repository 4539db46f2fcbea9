"""Output: the directory is replaced whole, whatever it is (a link, a volume), and what cannot be written to is told before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.support.workshop import Workshop

from mlpack.errors import RecipeError
from mlpack.pipeline import output


def test_place_that_cannot_be_written_to_is_told_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file/out", Path("/proc/nowhere/out")):
        with pytest.raises(RecipeError, match="cannot be written to"):
            output.check(out)
    output.check(tmp_path / "a/b/c")
    assert not (tmp_path / "a").exists()


def test_a_name_that_cannot_be_used_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for out in (
        tmp_path / ("x" * 256),
        tmp_path / ("é" * 128),
        tmp_path / "a" / ("x" * 5_000),
        tmp_path / "circle/x",
        tmp_path / "circle",
    ):
        with pytest.raises(RecipeError, match="--out"):
            output.check(out)


def test_a_name_of_full_length_is_one(built: Workshop, tmp_path: Path) -> None:
    out = tmp_path / ("é" * 127)
    built.build(out=out)
    built.build(out=out)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_link_to_a_directory_stays_one(built: Workshop, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    for _ in range(2):
        built.build(out=tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real/build.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "out"}


def test_the_working_directory_can_be_replaced(built: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    built.build(out=Path("."))
    assert (tmp_path / "here/build.json").is_file()


def test_a_volume_is_changed_from_within(built: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that a container was given cannot be renamed."""
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "volume")
    identity = volume.stat().st_ino
    built.build(out=volume, keep_all=True)
    assert len(list((volume / "artifacts").iterdir())) == 2
    built.build(out=volume)
    assert len(list((volume / "artifacts").iterdir())) == 1
    assert {path.name for path in volume.iterdir()} == {"build.json", "report.md", "report.html", "artifacts"}
    assert volume.stat().st_ino == identity
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]


def test_the_package_of_a_build_is_the_chosen_one(built: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built.root / "out", out)
    chosen = output.artifact_dir(out)
    assert (chosen / "package.json").is_file()
    assert output.artifact_dir(chosen) == chosen
    shutil.rmtree(out / "artifacts")
    with pytest.raises(RecipeError, match="copy the directory whole"):
        output.artifact_dir(out)


def test_a_build_that_chose_nothing_has_no_package(built: Workshop, tmp_path: Path) -> None:
    record = json.loads((built.root / "out/build.json").read_text())
    (tmp_path / "build.json").write_text(json.dumps({**record, "chosen": None, "artifact": None}))
    with pytest.raises(RecipeError, match="chose nothing"):
        output.artifact_dir(tmp_path)
