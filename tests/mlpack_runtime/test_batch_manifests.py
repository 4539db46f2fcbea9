"""Manifests to records: the same ones however they are cut into chunks and parts, and what is wrong told item by item."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.runtime.batches_of_items import cut, manifest

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.reading import manifests, plans, sources
from mlpack_runtime.batch.reading.lines import lines
from mlpack_runtime.batch.reading.manifests import open_manifest
from mlpack_runtime.batch.reading.plans import Planner, parts
from mlpack_runtime.batch.reading.records import Record
from mlpack_runtime.batch.reading.sources import FileSource
from mlpack_runtime.batch.reading.unzipped import unzipped


def gzipped(data: bytes) -> bytes:
    """Without the time in it: names of tests hold it, and have to be the same in each process that collects them."""
    return gzip.compress(data, mtime=0)


if TYPE_CHECKING:
    from mlpack_runtime.batch.reading.manifests import Manifest

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


def told(found: Manifest, items: int = 3) -> list[Record]:
    """All records, part by part, from the last part to the first: none depends on what was read before."""
    rows = [list(found.records(part)) for part in reversed(cut(found, items))]
    return [record for part in reversed(rows) for record in part]


@given(st.lists(st.binary(max_size=9)), st.integers(1, 5), st.integers(1, 8))
def test_lines_are_the_same_however_the_text_is_cut(chunks: list[bytes], size: int, most: int) -> None:
    text = b"".join(chunks)
    cut_up = [text[at : at + size] for at in range(0, len(text), size)]
    rows = list(lines(cut_up, 7, most))
    assert rows == list(lines([text], 7, most))
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    plain = [row.removesuffix(b"\r") for row in expected]
    assert [row for row, _, _ in rows] == [row if len(row) <= most else None for row in plain]
    assert [end for _, _, end in rows[:-1]] == [begin for _, begin, _ in rows[1:]]
    assert not rows or (rows[0][1], rows[-1][2]) == (7, 7 + len(text))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2)), st.integers(1, 4), st.sampled_from(["\n", "\r\n"]))
def test_csv_has_the_rows_that_were_written(rows: list[list[str]], items: int, end: str) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    data = stream.getvalue().encode()
    with tempfile.TemporaryDirectory() as folder:
        found = told(manifest(Path(folder) / "m.csv", data), items)
        packed = told(manifest(Path(folder) / "m.csv.gz", gzipped(data)), items)
    # Lone carriage returns are line ends to Python's reader, and CR LF in a cell may come back as LF.
    plain = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in rows]
    for one in (found, packed):
        assert [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in record.value or ()] for record in one] == plain
        assert [record.number for record in one] == list(range(len(rows)))


@given(st.lists(st.one_of(st.just(b""), st.just(b"\xff"), st.binary(max_size=9)), max_size=12), st.integers(1, 4))
def test_any_bytes_are_items_or_empty_lines(rows: list[bytes], items: int) -> None:
    data = b"{}\n" + b"\n".join(rows)
    with tempfile.TemporaryDirectory() as folder:
        found = told(manifest(Path(folder) / "m.jsonl", data), items)
        table = manifest(Path(folder) / "m.csv", b"a\n" + b"\n".join(row for row in rows if b'"' not in row))
        assert all(record.value is not None or record.problem for record in told(table, items))
    expected = [(at, row) for at, row in enumerate(data.split(b"\n"), 1) if row.strip()]
    assert [record.line for record in found] == [at for at, _ in expected]
    assert [record.value for record in found] == [row.removesuffix(b"\r") for _, row in expected]


def test_marks_and_line_ends_of_other_programs_change_nothing(tmp_path: Path) -> None:
    text = '{"a":1}\r\n\r\n{"a":2}'
    for data in (
        text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        gzipped(text.encode()[:9]) + gzipped(text.encode()[9:]),
    ):
        found = told(manifest(tmp_path / "m", data))
        assert [(record.number, record.line, record.value) for record in found] == [(0, 1, b'{"a":1}'), (1, 3, b'{"a":2}')]
    table = manifest(tmp_path / "m.csv", '\ufeffid;text\r\n1;"a;b\nc"\r\n\r\n2;ü\r\n')
    assert [(record.line, record.value) for record in told(table, 1)] == [(2, ["1", "a;b\nc"]), (5, ["2", "ü"])]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("m.jsonl", b'{"a":"' + b"x" * 20_000 + b'"}\n{}', ["more than 10000 bytes", ""]),
        ("m.csv", b"a,b\n1\n1,2\n1,2,3\n", ["1 cells, the first line 2", "", "3 cells"]),
        ("m.csv", b"a\n\xff\nb\n", ["not UTF-8", ""]),
        ("m.csv", b'a\n"never closed\n' + b"line\n" * 3000 + b"x\n", ["is a quote not closed?"]),
        ("m.csv", b"a\n5\" pipe\n\"x\"y\n", ["", ""]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_record_is_told_of_it(tmp_path: Path, name: str, data: bytes, problem: list[str]) -> None:
    found = told(manifest(tmp_path / name, data))
    for record, expected in zip(found, problem, strict=False):
        assert (expected in record.problem) if expected else not record.problem
    assert len(found) >= len(problem)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("m.jsonl", b'[{"a": 1}]', "a JSON array"),
        ("m.csv", "a,b\n1,2".encode("utf-16"), "UTF-16"),
        ("m.txt", b"hello", "say its format"),
        ("m.csv", b"a,a\n1,2\n", "two columns 'a'"),
        ("m.jsonl.gz", gzipped(b'{"a":1}\n' * 500)[:-9], "ends in the middle"),
        ("m.jsonl.gz", b"\x1f\x8b\x08" + b"x" * 90, "damaged gzip"),
        ("m.parquet", b"PAR1 but no more", "no Parquet"),
        ("m.csv", b"PK\x03\x04" + b"x" * 90, "files of Excel"),
        ("m.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"x" * 90, "zstd"),
        ("m.json", b'{\n  "text": "a"\n}', "over several lines"),
        ("m.csv", b"text\ra\rb\r", "CR alone"),
        ("m.csv", b'"text" , "id"\n"a",1\n', "a space before a quote"),
        ("m.parquet.gz", gzipped(b"PAR1"), "Parquet in gzip"),
    ],
)
def test_what_is_no_manifest_is_refused_as_a_whole(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    with pytest.raises(BatchError, match=told):
        cut(manifest(tmp_path / name, data))


def test_nothing_is_a_manifest_without_items(tmp_path: Path) -> None:
    for name, data in (
        ("m.jsonl", b""),
        ("m.csv", b""),
        ("m.csv", b"a,b\n"),
        ("m.jsonl", b"\n\r\n"),
        ("m.jsonl.gz", gzipped(b"")),
    ):
        assert cut(manifest(tmp_path / name, data)) == []


def test_manifest_that_changes_is_noticed(tmp_path: Path) -> None:
    found = manifest(tmp_path / "m.jsonl", b"{}\n" * 9)
    first, *_ = cut(found)
    (tmp_path / "m.jsonl").write_bytes(b"{}\n" * 8)
    with pytest.raises(BatchError, match="has changed since this batch began"):
        list(found.records(first))


def test_a_plan_is_short_however_long_a_manifest_is() -> None:
    planner, size = Planner(1), 5000
    for at in range(size):
        planner.add(at * 10, at * 10 + 10, at)
    rows = planner.parts()
    assert len(rows) < plans.MOST
    assert sum(row[3] for row in rows) == size
    assert [row[2] for row in rows] == [sum(before[3] for before in rows[:at]) for at in range(len(rows))]
    assert [row[0] for row in rows[1:]] == [row[1] for row in rows[:-1]]
    even = plans.even(10_000_000)
    assert len(even) <= plans.MOST
    assert even[-1][1] == 10_000_000


_JSONL = b"\xef\xbb\xbf" + b"".join(b'{"a":%d}\n' % at + b"\r\n" * (at % 3) for at in range(60)) + b"x" * 90 + b"\n{}"
_CSV = b"text;n\r\n" + b"".join(b'"t%d\n\n""q""";%d\r\n' % (at, at) + b"\n" * (at % 2) for at in range(60)) + b"a;b;c\n"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "data"), [("m.jsonl", _JSONL), ("m.csv", _CSV)], ids=["lines", "table"])
@pytest.mark.parametrize("most_parts", [8, 2048])
def test_a_plan_of_several_goes_is_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, packed: bool, most_parts: int
) -> None:
    monkeypatch.setattr(manifests, "_LOOK", 5)
    monkeypatch.setattr(plans, "MOST", most_parts)
    place = tmp_path / (f"{name}.gz" if packed else name)
    whole = manifest(place, gzipped(data) if packed else data, most=80).plan(Planner(3, 60), lambda: True)
    assert whole is not None
    for stops in (1, 2, 5):
        planner, rows, goes = Planner(3, 60), None, 0
        while rows is None:
            looks = iter([True] * (stops - 1))
            rows = open_manifest(FileSource(str(place)), "", 80).plan(planner, lambda looks=looks: next(looks, False))
            if rows is None:
                planner = Planner.of(json.loads(json.dumps(planner.state())))
                goes += 1
        assert goes > 1
        assert rows == whole
    lines_ = [record.line for part in parts(whole) for record in manifest(place, place.read_bytes(), most=80).records(part)]
    assert lines_ == sorted(lines_)


@pytest.mark.parametrize(
    "state", [{}, {"items": 1}, {"rows": [[1]], "open": None, "items": 1, "size": 1, "begin": [0, 0]}, {"rows": 3}]
)
def test_what_is_no_beginning_of_a_plan_is_refused(state: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Planner.of(state)


def test_a_bomb_is_read_a_chunk_at_a_time() -> None:
    bomb = gzipped(b"x" * (64 << 20))
    assert max(map(len, unzipped([bomb], "m"))) <= 1 << 20


def test_parts_one_after_the_other_read_the_manifest_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = manifest(tmp_path / "m.jsonl.gz", gzipped(b"{}\n\n" * 30))
    opened: list[int] = []
    read = FileSource.chunks
    monkeypatch.setattr(FileSource, "chunks", lambda self, offset: opened.append(offset) or read(self, offset))
    assert sum(len(list(found.records(part))) for part in cut(found)) == 30
    assert opened == [0, 0]  # for the plan, and for all of its parts


def test_parquet_has_the_same_parts_from_anywhere(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows: dict[str, Any] = {"id": list(range(10)), "text": [f"t{at}" for at in range(10)]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "m.parquet", row_group_size=4)
    found = open_manifest(FileSource(str(tmp_path / "m.parquet")), "", 100)
    assert found.columns == ["id", "text"]
    assert [record.value for record in told(found)] == [[at, f"t{at}"] for at in range(10)]
    assert [record.value for part in cut(found) for record in found.records(part)] == [[at, f"t{at}"] for at in range(10)]
    found.close()


def test_chunks_do_not_change_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = "\n".join(json.dumps({"text": "ü" * at}) for at in range(40)).encode()
    whole = [record.value for record in told(manifest(tmp_path / "m.jsonl", data))]
    monkeypatch.setattr(sources, "CHUNK_BYTES", 7)
    assert [record.value for record in told(manifest(tmp_path / "m.jsonl", data))] == whole
    assert parts([[0, 1, 0, 1, 0]])[0].name == "part-00000"


class BreakingStore:
    """S3 whose every answer breaks after `each` bytes, or ends early without a word where `quietly`."""

    def __init__(self, data: bytes, each: int, *, quietly: bool) -> None:
        self.data, self.each, self.quietly, self.requests = data, each, quietly, 0

    def head_object(self, **_: Any) -> dict[str, Any]:
        return {"ETag": '"1"', "ContentLength": len(self.data)}

    def get_object(self, *, Range: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - botocore's name
        self.requests += 1
        begin = int(Range.removeprefix("bytes=").partition("-")[0])
        return {
            "Body": BreakingBody(self.data[begin : begin + self.each], quietly=self.quietly or begin + self.each >= len(self.data))
        }


class BreakingBody(io.BytesIO):
    def __init__(self, data: bytes, *, quietly: bool) -> None:
        super().__init__(data)
        self.quietly = quietly

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data and not self.quietly:
            raise ConnectionResetError("reset by peer")
        return data


@pytest.mark.parametrize("quietly", [True, False])
def test_a_connection_that_breaks_is_opened_where_it_broke(monkeypatch: pytest.MonkeyPatch, quietly: bool) -> None:
    monkeypatch.setattr(sources, "_PAUSE_S", 0)
    store = BreakingStore(b"0123456789" * 10, 7, quietly=quietly)
    source = sources.S3Source(store, "b", "k")
    assert b"".join(source.chunks(0)) == store.data
    assert b"".join(source.chunks(42)) == store.data[42:]
    assert store.requests == 15 + 9
    with source.opened() as stream:
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == store.data[-5:]
    store.each = 0
    with pytest.raises(BatchError, match="cannot be read at byte 0"), source.opened() as stream:
        stream.read(9)
    with pytest.raises(BatchError, match="cannot be read from byte 3 on") as caught:
        list(source.chunks(3))
    assert caught.value.status == 4


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("timestamp[ns]", 1, "1970-01-01 00:00:00.000000001"),
        ("timestamp[us]", 10**18, None),
        ("timestamp[s]", -(10**12), "-29719-04-05 22:13:20.000"),
        ("date32[day]", 10**7, None),
        ("time64[ns]", 1, "00:00:00.000000001"),
        ("duration[ns]", 1, "1"),
        ("zone", 1, None),
    ],
)
def test_a_cell_without_a_value_of_pythons_ends_no_batch(tmp_path: Path, kind: str, value: int, expected: str | None) -> None:
    import pyarrow
    from pyarrow import parquet

    type_ = pyarrow.timestamp("us", tz="Mars/Olympus") if kind == "zone" else pyarrow.type_for_alias(kind.partition("[date")[0])
    whole = pyarrow.table({"text": ["a", "b", "c"], "odd": pyarrow.array([None, value, None], type_)})
    parquet.write_table(whole, tmp_path / "m.parquet")
    found = open_manifest(FileSource(str(tmp_path / "m.parquet")), "", 100)
    first, odd, last = (record for part in parts(found.plan(Planner(2), lambda: True)) for record in found.records(part))
    assert (first.value, last.value) == (["a", None], ["c", None])
    if odd.problem:
        assert expected is None
        assert "the column 'odd' holds a" in odd.problem
    else:
        assert odd.value == ["b", expected if expected is not None else odd.value[1]]
        assert isinstance(odd.value[1], str)
    found.close()
