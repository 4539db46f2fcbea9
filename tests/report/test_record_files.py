"""Reading records that somebody else wrote."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.outcomes import as_json, typed, typical

from mlpack.errors import RecipeError
from mlpack.report.record import files


@pytest.fixture
def record() -> dict[str, Any]:
    return as_json(typical())


def test_every_wrong_key_is_listed_with_its_path(record: dict[str, Any]) -> None:
    del record["machine"]["cpu"]
    record["candidates"][1]["latency_ms"]["samples"][3] = "fast"
    record["chosen"] = 5
    record["candidates"][0]["package"] = None
    with pytest.raises(RecipeError) as caught:
        files.decode(json.dumps(record).encode())
    assert caught.value.problems == (
        "build.json: machine.cpu: missing",
        "build.json: candidates[0].package: expected an object, found null",
        "build.json: candidates[1].latency_ms.samples[3]: expected a number, found text",
        "build.json: chosen: expected text, found a whole number",
    )


def test_more_keys_than_known_are_accepted(record: dict[str, Any]) -> None:
    known = typed(record)
    record["later"] = record["candidates"][0]["later"] = record["candidates"][0]["latency_ms"]["later"] = {"more": True}
    assert files.decode(json.dumps(record).encode()) == known


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b'{"schema": 2}', "schema 2"),
        (b'{"schema": NaN}', "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        files.decode(data)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="not JSON"):
        files.decode(b"[" * 200_000)


def test_a_missing_record_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"No such file.*mlpack build --out"):
        files.read(tmp_path)


def test_a_record_is_read_from_its_directory(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "build.json").write_bytes(files.encode(typed(record)))
    assert files.read(tmp_path) == files.read(tmp_path / "build.json") == typed(record)


def test_nan_cannot_be_written(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.encode(dataclasses.replace(typed(record), seconds=float("nan")))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_is_refused_in_words_or_read(value: Any) -> None:
    given = {"schema": 1, "mlpack_version": value, "candidates": value, "recipe": value}
    with pytest.raises(RecipeError):
        files.decode(json.dumps(given).encode())
