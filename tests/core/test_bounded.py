"""Reading a stranger's bytes: up to a limit, or refused by name."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from mlpack.core.files import bounded
from mlpack.errors import PackError, RecipeError


@pytest.fixture(autouse=True)
def _no_settings() -> None:
    bounded.configure({})


@pytest.mark.parametrize("depth", [bounded.DEPTH + 1, 500, 1200, 5_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ('[1,"x",', "]")])
def test_deep_json_is_a_named_error_at_every_depth(depth: int, opened: str, closed: str) -> None:
    text = opened * depth + "0" + closed * depth
    with pytest.raises(bounded.SizeLimitError, match=f"nested more than {bounded.DEPTH} deep"):
        bounded.load_json(text)


def test_json_as_deep_as_the_limit_is_read() -> None:
    deepest = "[" * bounded.DEPTH + "]" * bounded.DEPTH
    assert bounded.load_json(deepest) == json.loads(deepest)
    wide = json.dumps([[number] for number in range(20_000)])
    assert len(bounded.load_json(wide)) == 20_000


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{", b"[1" + b"0" * 5000 + b"]", b"nul", b'"\\ud8'])
def test_whatever_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        bounded.load_json(data)


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path: Path) -> None:
    asked: list[int] = []

    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            asked.append(size)
            return b"x" * size

    with pytest.raises(bounded.SizeLimitError, match="more than the 10 bytes"):
        bounded.read(Endless(), 10)
    assert asked == [11]
    sparse = tmp_path / "sparse.json"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(bounded.SizeLimitError, match="more than the 1,000 bytes"):
        bounded.load_json(sparse, 1000)
    sparse.write_bytes(b'{"a": 1}')
    assert bounded.load_json(sparse, 8) == {"a": 1}


def test_memory_is_what_the_setting_says() -> None:
    bounded.configure({"MLPACK_MAX_DATA_MB": "3"})
    assert bounded.memory_bytes() == 3 << 20
    bounded.fits_in_memory(3 << 20, "it", PackError)
    with pytest.raises(PackError, match=r"it would take 4 MB of memory and 3 MB may be used \(MLPACK_MAX_DATA_MB"):
        bounded.fits_in_memory((3 << 20) + 1, "it", PackError)


def test_memory_without_a_setting_is_what_this_machine_has_free() -> None:
    assert 0 < bounded.memory_bytes() < 1 << 40
    with pytest.raises(RecipeError, match="memory that is free"):
        bounded.fits_in_memory(1 << 50, "it", RecipeError)


@pytest.mark.parametrize("text", ["-1", "0", "1.5", "²", "1e3", "9" * 5000, "lots", " 5"])
def test_a_limit_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="MLPACK_MAX_LAYER_MB"):
        bounded.configure({"MLPACK_MAX_LAYER_MB": text})


@pytest.mark.parametrize("text", ["[],", "{},", "1,", '"",', '{"a":1},'])
def test_small_marks_become_much_memory_and_are_counted(text: str) -> None:
    document = "[" + text * (5_000_000 // len(text)) + "1]"
    bounded.configure({"MLPACK_MAX_DATA_MB": "40"})
    try:
        for data in (document, document.encode()):
            with pytest.raises(bounded.SizeLimitError, match=r"MB of memory and 41 MB may be used \(MLPACK_MAX_DATA_MB"):
                bounded.load_json(data)
    finally:
        bounded.configure({})


@pytest.mark.parametrize("text", ["[],", "{},", "1,", '"",', '{"a":1},', "[[1]],", '"😀😀😀",', '"😀",', "1234567890123456789,"])
def test_what_a_document_takes_is_not_more_than_was_counted(text: str) -> None:
    document = "[" + text * (150_000 // len(text)) + "1]"
    tracemalloc.start()
    try:
        json.loads(document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bounded._parsed_bytes(document) <= 20 * peak


def test_what_was_freed_is_given_back() -> None:
    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    held = [bytes(100_000) for _ in range(1000)]  # below the size from which glibc maps each by itself
    kept = [bytes(64) for _ in range(1000)]
    before = anonymous()
    del held
    bounded.give_back()
    assert before - anonymous() > 50_000  # KiB
    assert len(kept) == 1000
