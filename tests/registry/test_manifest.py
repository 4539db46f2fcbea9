"""What a build directory must be to become a release, and what a manifest may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build, edit

from mlpack.core import digest
from mlpack.errors import RecipeError
from mlpack.registry.local.directory import open_registry
from mlpack.registry.rows.manifest import decode_manifest

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return build(tmp_path / "out")


def test_every_missing_and_added_file_is_named(root: Path, made: Path) -> None:
    folder = (made / FUNCTION).parent
    (folder / "event.json").unlink()
    (folder / "extra").write_text("x")
    with pytest.raises(RecipeError) as caught:
        open_registry(root).publish(made)
    assert any("event.json: missing" in problem for problem in caught.value.problems)
    assert any("extra: not made by the build" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("kind", "break_it", "said"),
    [
        ("zip", lambda f: (f / "function.zip").write_bytes(b"other"), "function.zip: digest"),
        ("zip", lambda f: (f / "function.zip").unlink(), "function.zip: missing"),
        ("layer-zip", lambda f: (f / "layer.zip").write_bytes(b"other"), "layer.zip: digest"),
        ("image", lambda f: (f / "image" / "index.json").unlink(), "index.json: missing"),
        ("image", lambda f: [p.write_bytes(b"x") for p in (f / "image/blobs/sha256").iterdir()], "its bytes have the digest"),
        ("image", lambda f: [p.unlink() for p in (f / "image/blobs/sha256").iterdir()], "is not in the layout"),
    ],
)
def test_record_without_list_of_files_still_binds_the_artifact(
    root: Path, tmp_path: Path, kind: str, break_it: Any, said: str
) -> None:
    made = build(tmp_path / "out", kind)
    edit(made, lambda record: record["files"].clear())
    break_it(next((made / "artifacts").iterdir()))
    with pytest.raises(RecipeError, match=said):
        open_registry(root).publish(made)


@pytest.mark.parametrize("path", ["../../etc", "/etc/passwd", "artifacts/other/function.zip", "artifacts", "artifacts/../x", ""])
def test_a_record_cannot_name_files_elsewhere(root: Path, made: Path, path: str) -> None:
    edit(made, lambda record: record["artifact"].update(path=path))
    with pytest.raises(RecipeError, match="not below artifacts"):
        open_registry(root).publish(made)


def test_a_chosen_id_cannot_lead_elsewhere(root: Path, made: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["chosen"] = ".."
        record["artifact"]["path"] = "artifacts/../secrets"

    edit(made, change)
    with pytest.raises(RecipeError, match="not below artifacts"):
        open_registry(root).publish(made)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a\n"])
def test_a_name_that_is_none_is_refused(root: Path, made: Path, name: str) -> None:
    edit(made, lambda record: record["recipe"].update(name=name))
    with pytest.raises(RecipeError, match="is not a name"):
        open_registry(root).publish(made)


def test_links_are_not_followed(root: Path, made: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    ((made / FUNCTION).parent / "link").symlink_to(secret)
    with pytest.raises(RecipeError, match="not a file"):
        open_registry(root).publish(made)


def test_a_directory_that_is_no_build_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"build\.json"):
        open_registry(root).publish(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "", "a\\b", "c:x", "a\nb", "a/" * 2500 + "x", "x" * 300])
def test_a_manifest_cannot_name_files_elsewhere(path: str) -> None:
    data = {"name": "a", "artifact": {}, "tags": {}, "files": {path: str(digest.of_bytes(b""))}}
    with pytest.raises(ValueError, match="outside of the release"):
        decode_manifest(json.dumps(data).encode())


def test_a_manifest_cannot_put_a_file_below_a_file() -> None:
    named = str(digest.of_bytes(b""))
    with pytest.raises(ValueError, match="below another"):
        decode_manifest(json.dumps({"name": "a", "artifact": {}, "tags": {}, "files": {"a": named, "a/b": named}}).encode())
