"""Lines and rows to requests: every form, and what a table's columns mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.runtime.batches_of_items import described

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.items import Item, Opener
from mlpack_runtime.batch.mapped import Mapped
from mlpack_runtime.batch.orders import Order, columns_of, is_manifest, is_order, is_piece, order_of
from mlpack_runtime.batch.places import Places
from mlpack_runtime.batch.reading.records import Record
from mlpack_runtime.limits import Limits
from mlpack_runtime.ort import Port
from mlpack_runtime.protocol import RequestError

OIP = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "id": "mine"}
X = Port("x", "FP32", ("rows", 3))
IDS = Port("ids", "INT64", ("rows",))


def line(value: object, model: Any = None) -> Item:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Opener(model or described(), None, {}).item(Record(0, 1, data))


def row(columns: list[str], cells: list[Any], mapping: dict[str, Any] | None = None, **settings: Any) -> Item:
    return Opener(described(**settings), columns, mapping or {}).item(Record(0, 2, cells))


@pytest.mark.parametrize(
    ("value", "identifier", "request_"),
    [
        ({"id": "a", "request": {"text": "t"}}, "a", {"text": "t"}),
        ({"request": {"id": 1, "text": "t"}}, None, {"id": 1, "text": "t"}),
        ({"id": 7, "text": "t"}, 7, {"text": "t"}),
        ({"text": "t"}, None, {"text": "t"}),
        ({"text": "t", "request": 1}, None, {"text": "t", "request": 1}),
        (OIP, "mine", OIP),
        ({"custom_id": "c", "method": "POST", "url": "/v1/embeddings", "body": {"input": "t"}}, "c", {"input": "t"}),
        ({"recordId": "r", "modelInput": {"text": "t"}}, "r", {"text": "t"}),
        ("text", None, "text"),
    ],
)
def test_a_line_is_a_request_in_any_of_these_forms(value: Any, identifier: Any, request_: Any) -> None:
    item = line(value)
    assert item.problem is None
    assert (item.identifier, json.loads(item.body)) == (identifier, request_)


def test_a_line_may_point_at_an_object() -> None:
    item = line({"id": "a", "object": "s3://b/k"})
    assert (item.identifier, item.place, item.body) == ("a", "s3://b/k", b"")
    assert line({"object": {"text": "t"}}).place == ""  # a request that has such a key


@pytest.mark.parametrize(
    ("value", "identifier", "expected"),
    [
        ({"id": "7"}, "7", {"id": "7"}),
        ({"id": 7, "amount": 12}, 7, {"id": 7, "amount": 12}),
        ({"id": ["7", "8"]}, None, {"id": ["7", "8"]}),
        ({"id": "n", "request": {"id": "7"}}, "n", {"id": "7"}),
        ({"custom_id": "n", "body": {"id": "7"}}, "n", {"id": "7"}),
        ({"amount": 12}, None, {"amount": 12}),
    ],
)
def test_an_id_that_finds_features_stays_in_the_request(value: Any, identifier: Any, expected: Any) -> None:
    """DynamoDB's keys are called `id` as often as items are."""
    model = described(around={"features": {"key": ["id"]}}, ports=(X,))
    item = Opener(model, None, {}).item(Record(0, 1, json.dumps(value).encode()))
    assert item.problem is None
    assert (item.identifier, json.loads(item.body)) == (identifier, expected)
    assert Mapped(model, None).request(value) == expected


def test_a_column_that_finds_features_stays_in_the_request() -> None:
    found: dict[str, Any] = {"around": {"features": {"key": ["id"]}}, "ports": (X,)}
    for columns, mapping in (
        (["id", "a", "b"], {}),  # as many columns as the input has numbers
        (["id", "a", "b"], {"a": "a", "b": "b"}),
        (["n", "a", "b"], {"id": "n"}),
        (["n", "p", "q"], {"id": "n", "a": "p", "b": "q"}),
    ):
        item = row(columns, ["7", "1", "2"], mapping, **found)
        assert (item.identifier, json.loads(item.body)) == ("7", {"id": "7", "a": "1", "b": "2"})
    numbers = row(["id"], ["7"], ports=(Port("id", "INT64", ("n",)),))
    assert (numbers.identifier, json.loads(numbers.body)) == ("7", {"inputs": {"id": [7]}})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b'{"object": ""}', "the object is an empty text"),
        (b'{"id": 1, "object": ""}', "the object is an empty text"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"id": [1], "text": "t"}', "the id is [1]"),
        (b'{"id": "' + b"x" * 2000 + b'", "text": "t"}', "the id is"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"id": 99999999999999999999999}', "the id is"),
    ],
)
def test_a_wrong_line_is_that_items_problem(value: bytes, told: str) -> None:
    item = line(value)
    assert item.problem is not None
    assert told in str(item.problem)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one))
)
def test_any_json_is_a_request_or_a_problem(value: Any) -> None:
    item = line(value)
    assert item.problem is not None or item.place or item.body


def test_columns_mean_what_their_names_say() -> None:
    assert json.loads(row(["id", "text"], ["a", "t"]).body) == {"text": "t"}
    assert row(["id", "text"], ["a", "t"]).identifier == "a"
    assert json.loads(row(["x", "ids", "more"], ["[1, 2, 3]", "4.0", "?"], ports=(X, IDS)).body) == {
        "inputs": {"x": [[1, 2, 3]], "ids": [4]}
    }  # fmt: skip
    assert json.loads(row(["id", "a", "b", "c"], ["n", "1", ".5", " -2 "], ports=(X,)).body) == {"inputs": {"x": [[1, 0.5, -2]]}}
    assert json.loads(row(["a", "b"], ["1", "2"], ports=(X,)).body) == {"a": "1", "b": "2"}
    # What a hook takes, it takes as it is.
    assert json.loads(row(["x"], ["1"], ports=(X,), preprocess="m:f").body) == {"x": "1"}
    assert json.loads(row(["request", "more"], ['{"text": "t"}', "?"]).body) == {"text": "t"}
    assert row(["object"], ["k"]).place == "k"


def test_a_mapping_names_the_columns() -> None:
    mapping = {"id": "n", "text": "review"}
    item = row(["n", "review", "stars"], ["a", "t", "5"], mapping)
    assert (item.identifier, json.loads(item.body)) == ("a", {"text": "t"})
    item = row(["p", "q", "r"], ["1", "2", "3"], {"x": ["p", "q", "r"]}, ports=(X,))
    assert json.loads(item.body) == {"inputs": {"x": [[1, 2, 3]]}}
    assert row(["file"], ["k"], {"object": "file"}).place == "k"


@pytest.mark.parametrize(
    ("columns", "mapping", "ports", "told"),
    [
        (["a"], {"text": "b"}, (), "the column 'b'; there are ['a']"),
        (["a", "b"], {"x": "a", "text": "b"}, (X,), "in part"),
        (None, {"text": "a"}, (), "JSON Lines, which has no columns"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_at_once(columns: Any, mapping: Any, ports: Any, told: str) -> None:
    with pytest.raises(BatchError) as caught:
        Opener(described(ports=ports), columns, mapping)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "told"),
    [("", "the cell is empty"), ("x", "'x' is no number"), ("nan", "no number"), ("1,5", "decimals have a point"), ("1e999", "")],
)
def test_a_cell_that_is_no_number_is_its_rows_problem(cell: str, told: str) -> None:
    item = row(["id", "a", "b", "c"], ["n", cell, "1", "2"], ports=(X,))
    assert item.problem is not None
    assert item.identifier == "n"
    assert told in str(item.problem)


def test_values_of_a_typed_table_become_json() -> None:
    from datetime import date
    from decimal import Decimal

    item = row(["image", "day", "price", "tags", "gone"], [b"\x00\xff", date(2026, 1, 2), Decimal("1.50"), [1, None], None])
    assert json.loads(item.body) == {"image": "AP8=", "day": "2026-01-02", "price": "1.50", "tags": [1, None], "gone": None}
    assert row(["a"], [float("nan")]).problem is not None


def test_orders_are_told_from_requests_and_are_handed_on() -> None:
    told = {"manifest": "s3://b/m.csv", "columns": {"text": "review", "x": ["a", "b"]}}
    assert is_order({"batch": told})
    order = order_of({"batch": {**told, "state": "running", "items": 9}, "done": False})
    assert (order.manifest, order.columns, order.results, order.format) == ("s3://b/m.csv", told["columns"], "", "")
    for other in ({"batch": [1]}, {"batch": {}}, {"batch": told, "text": "t"}, [], None):
        assert not is_order(other)
    for wrong in ({"manifest": 1}, {"manifest": "m", "results": 2}, {"manifest": "m", "columns": ["a"]}, {"manifest": "m", "x": 1}):
        with pytest.raises(BatchError):
            order_of({"batch": wrong})
    with pytest.raises(BatchError):
        columns_of({"a": []})
    assert Order("m").columns == {}


def test_manifests_are_told_by_their_names_and_results_are_none() -> None:
    assert all(map(is_manifest, ("in/m.jsonl", "m.NDJSON.gz", "a.csv", "a.tsv", "x/y.parquet")))
    assert not any(map(is_manifest, ("m.json", "m.jpg", "m", "m.gz", "m.jsonl.results/0/results/part-00000-000.jsonl")))
    assert is_piece("errors/part-00000-012.jsonl")


def test_files_are_read_below_the_manifests_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "in/link.json").symlink_to(tmp_path / "b.json")
    limits = Limits({"MLPACK_LIMIT_BODY_BYTES": "9"}, {})
    sizes: list[int] = []
    places = Places(str(tmp_path / "in/m.jsonl"), lambda: None, limits, files=True)
    assert places.fetch("a.json", sizes.append) == (b"{}", {"content-type": "application/json"})
    for outside in ("../b.json", str(tmp_path / "b.json"), "link.json", "https://host/a", "s3://", "s3://b"):
        with pytest.raises(RequestError):
            places.fetch(outside, sizes.append)
    (tmp_path / "in/large.json").write_text(" " * 10)
    with pytest.raises(RequestError, match="MLPACK_LIMIT_BODY_BYTES"):
        places.fetch("large.json", sizes.append)
    with pytest.raises(RequestError):
        Places("/m.jsonl", lambda: None, limits, files=False).fetch("a.json", sizes.append)
    assert sizes == [2]
