from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core import digest
from mlpack.core.digest import Digest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 65]
)
def test_digest_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        Digest(text)


def test_bytes_file_and_stream_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert str(digest.of_bytes(b"abc")) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest.of_file(tmp_path / "a") == digest.of_bytes(b"abc")


@given(json_values)
def test_canonical_json_does_not_depend_on_key_order(value: object) -> None:
    def turned(item: object) -> object:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(list(item))}
        return [turned(x) for x in item] if isinstance(item, list) else item

    assert digest.of_json(value) == digest.of_json(turned(value))


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest.canonical_json({"x": float("nan")})


def test_tree_has_one_name_wherever_and_whenever_it_lies(tmp_path: Path) -> None:
    files = {"b/c": b"1", "a": b"2", "b.txt": b"3"}
    one, two = tree(tmp_path / "one", files), tree(tmp_path / "two", dict(reversed(files.items())))
    os.utime(two / "a", (1, 1))
    (two / "a").chmod(0o600)
    assert digest.of_tree(one) == digest.of_tree(two)


@pytest.mark.parametrize("change", ["content", "name", "mode", "empty dir", "link"])
def test_tree_digest_changes_with_what_counts(tmp_path: Path, change: str) -> None:
    root = tree(tmp_path, {"x/a": b"1"})
    before = digest.of_tree(root)
    match change:
        case "content":
            (root / "x/a").write_bytes(b"2")
        case "name":
            (root / "x/a").rename(root / "x/b")
        case "mode":
            (root / "x/a").chmod(0o755)
        case "empty dir":
            (root / "y").mkdir()
        case _:
            (root / "z").symlink_to("x/a")
    assert digest.of_tree(root) != before


def test_tree_with_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe"):
        digest.of_tree(tmp_path)


def test_size_counts_files_once_and_links_not(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": b"12345", "d/b": b"67"})
    (root / "l").symlink_to("a")
    assert digest.size_of_tree(root) == 7
