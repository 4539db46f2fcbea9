"""Rows of objects: JSON Lines and CSV against a schema, and objects that are no tables."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_jobs.rows import ObjectError, rows

COLUMNS = {"id": "string", "age": "number", "vip": "boolean"}


def read(key: str, body: bytes | str) -> list[tuple[dict[str, Any], str]]:
    data = body.encode() if isinstance(body, str) else body
    return [(row.values, row.problem) for row in rows(key, data, COLUMNS)]


def test_both_forms_have_the_same_rows_packed_or_not() -> None:
    lines = '\ufeff{"id": "7", "age": 41.5, "vip": true, "more": 1}\r\n\n{"id": "8", "age": null}\n'
    table = "\ufeffid,age,more,vip\r\n7, 41.5 ,1,TRUE\r\n8,,,\r\n"
    right = [({"id": "7", "age": 41.5, "vip": True}, ""), ({"id": "8"}, "")]
    for key, text in (("a.jsonl", lines), ("a.csv", table), ("a.tsv", table.replace(",", "\t"))):
        assert read(key, text) == right
        assert read(key + ".gz", gzip.compress(text.encode())) == right


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[1]", "is no object"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"age": "41"}', "'age', which is of the type number"),
        ('{"age": true}', "number"),
        ('{"age": Infinity}', "number"),
        ('{"age": 1e200}', "number"),
        ('{"age": ' + "9" * 5000 + "}", "is no JSON"),
        ('{"vip": 1}', "boolean"),
        ('{"id": 7}', "string"),
        ('{"id": {"a": 1}}', "string"),
    ],
)
def test_a_row_that_is_wrong_says_why(line: str, problem: str) -> None:
    (values, told), right = read("a.jsonl", f'{line}\n{{"id": "8", "age": NaN}}\n')
    assert values == {}
    assert problem in told
    assert right == ({"id": "8"}, "")


@pytest.mark.parametrize("row", ["7,1", "7,1,true,4", "7,x,true", "7,1,maybe", "7,1e999,true"])
def test_a_row_of_csv_that_is_wrong_says_why(row: str) -> None:
    assert [bool(problem) for _, problem in read("a.csv", f"id,age,vip\n{row}\n8,1,false\n")] == [True, False]


@pytest.mark.parametrize(
    ("key", "body", "why"),
    [
        ("a.parquet", b"PAR1", "ends neither"),
        ("a", b"", "ends neither"),
        ("a.jsonl", b"\xff\xfe", "UTF-8"),
        ("a.jsonl.gz", b"{}", "gzip"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 100, mtime=0)[:-9], "too early"),
        ("a.csv", b"id,age\n", "lacks the columns vip"),
        ("a.csv", b"", "lacks the columns id, age, vip"),
        ("a.csv", b'id,age,vip\n"7', "no CSV"),
    ],
)
def test_an_object_that_is_no_table_says_why(key: str, body: bytes, why: str) -> None:
    with pytest.raises(ObjectError, match=why):
        read(key, body)


@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.jsonl", "a.csv.gz", "a.tsv"]))
def test_any_bytes_are_rows_or_a_refusal(body: bytes, key: str) -> None:
    try:
        read(key, body)
    except ObjectError:
        pass
