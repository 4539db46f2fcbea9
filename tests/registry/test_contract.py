"""What every table and every heap of blobs promises (`mlpack.registry`), in a directory and on AWS."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests.support.registry.places import PLACES, empty_place, overwrite

from mlpack.core.digest import of_bytes
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Key, Place, Put, Row, Table
from mlpack.registry.aws import ranged
from mlpack.registry.places import open_registry

ROW = Key("partition", "sort")
SMALL = b"some bytes"
PART = 64 << 10
"""So that what goes in parts need not be large."""
LARGE_BYTES = 5 * PART + 5


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(ranged, "PART_BYTES", PART)
    with empty_place(request, tmp_path) as made:
        yield made


def sorts(rows: Iterator[Row]) -> list[str]:
    return [row.key.sort for row in rows]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_was_written(place: Place) -> None:
    head = {"text": "für \U0001f916 \"'", "number": 7, "fraction": 0.1, "nothing": None, "yes": True, "deep": {"list": [1, [2]]}}
    place.table.commit(Put(key=ROW, head=head, body=bytes(range(256))))
    assert place.table.get(ROW) == Row(key=ROW, head=head, body=bytes(range(256)), revision=1)
    assert place.table.get(Key("partition", "other")) is None
    assert place.table.get(Key("other", "sort")) is None


def test_a_write_needs_the_revision_that_it_expects(place: Place) -> None:
    table = place.table
    table.commit(Put(key=ROW, head={"n": 1}))
    table.commit(Put(key=ROW, head={"n": 2}, body=b"x", expect=1))
    for wrong in (Put(key=ROW, head={"n": 9}), Put(key=ROW, head={"n": 9}, expect=1), Delete(key=ROW, expect=1)):
        with pytest.raises(ConflictError) as caught:
            table.commit(wrong)
        assert caught.value.key == ROW
        assert caught.value.retryable
    assert table.get(ROW) == Row(key=ROW, head={"n": 2}, body=b"x", revision=2)
    table.commit(Delete(key=ROW, expect=2))
    assert table.get(ROW) is None
    for wrong in (Delete(key=ROW, expect=2), Put(key=ROW, head={}, expect=2)):
        with pytest.raises(ConflictError):
            table.commit(wrong)
    table.commit(Put(key=ROW, head={"n": 3}))
    assert table.get(ROW) == Row(key=ROW, head={"n": 3}, revision=1)


def test_a_commit_is_whole_or_not_at_all(place: Place) -> None:
    table, keys = place.table, [Key("partition", f"{i:02d}") for i in range(20)]
    table.commit(*(Put(key=key, head={"n": 1}, body=key.sort.encode()) for key in keys))
    assert sorts(table.query("partition")) == [key.sort for key in keys]
    with pytest.raises(ConflictError) as caught:
        table.commit(
            Put(key=keys[0], head={"n": 2}, expect=1),
            Put(key=keys[5], head={"n": 2}),
            Delete(key=keys[1], expect=1),
            Put(key=keys[3], head={"n": 2}, expect=7),
        )
    assert caught.value.key == keys[5]
    assert [row.revision for row in table.query("partition")] == [1] * 20
    table.commit(Put(key=keys[0], head={"n": 2}, expect=1), Delete(key=keys[1], expect=1), Put(key=Key("other", "x"), head={}))
    assert table.get(keys[1]) is None
    assert table.get(Key("other", "x")) is not None
    assert table.get(keys[0]) == Row(key=keys[0], head={"n": 2}, revision=2)


def test_rows_of_a_partition_come_in_order(place: Place) -> None:
    table = place.table
    for sort in ("b", "a", "c:1", "c", "B", "ä"):
        table.commit(Put(key=Key("p", sort), head={"sort": sort}, body=sort.encode()))
    for partition in ("p2", "P", "p/", "o"):
        table.commit(Put(key=Key(partition, "b"), head={}))
    whole = ["B", "a", "b", "c", "c:1", "ä"]
    assert sorts(table.query("p")) == whole
    assert sorts(table.query("p", newest_first=True)) == whole[::-1]
    assert sorts(table.query("p", after="b")) == ["c", "c:1", "ä"]
    assert sorts(table.query("p", after="b", newest_first=True)) == ["a", "B"]
    assert sorts(table.query("p", after="bb")) == ["c", "c:1", "ä"]
    assert sorts(table.query("p", after="a", limit=2)) == ["b", "c"]
    assert sorts(table.query("p", limit=100)) == whole
    assert sorts(table.query("nothing")) == []
    assert [(row.head["sort"], row.body) for row in table.query("p", limit=2)] == [("B", b""), ("a", b"")]
    assert [(row.head["sort"], row.body, row.revision) for row in table.query("p", bodies=True, limit=1)] == [("B", b"B", 1)]


def test_many_rows_come_in_pages(place: Place) -> None:
    """More than two pages: of SQLite's 500 rows, of DynamoDB's megabyte."""
    count, each = (80, 30_000) if place.where.startswith("s3:") else (1020, 10)
    for first in range(0, count, 20):
        place.table.commit(*(Put(key=Key("p", f"{i:04d}"), head={"n": i}, body=b"x" * each) for i in range(first, first + 20)))
    assert [row.head["n"] for row in place.table.query("p")] == list(range(count))
    assert [row.head["n"] for row in place.table.query("p", newest_first=True, limit=count - 9)] == list(range(count - 1, 8, -1))
    assert [len(row.body) for row in place.table.query("p", bodies=True, after="0009")] == [each] * (count - 10)


def test_of_many_writers_exactly_one_wins_each_revision(place: Place) -> None:
    won: list[tuple[int, int]] = []

    def work(who: int) -> None:
        for _ in range(10):
            row = place.table.get(ROW)
            expect = row.revision if row else 0
            try:
                place.table.commit(Put(key=ROW, head={"who": who}, expect=expect))
                won.append((expect + 1, who))
            except ConflictError:
                continue

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = place.table.get(ROW)
    assert row is not None
    assert sorted(revision for revision, _ in won) == list(range(1, row.revision + 1))
    assert (row.revision, row.head["who"]) in won


class Rows(RuleBasedStateMachine):
    """Random commits, reads and lists, against a dict."""

    keys = st.builds(Key, st.sampled_from(["p", "q"]), st.sampled_from(["a", "b", "c", "d"]))
    open_table: Callable[[], Table]

    @initialize()
    def begin(self) -> None:
        self.table = type(self).open_table()
        self.model: dict[Key, Row] = {}

    @rule(
        keys=st.lists(keys, min_size=1, max_size=4, unique=True),
        deletes=st.lists(st.booleans(), min_size=4, max_size=4),
        off=st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1]),
        at=st.integers(0, 3),
        body=st.binary(max_size=3),
    )
    def commit(self, keys: list[Key], deletes: list[bool], off: int, at: int, body: bytes) -> None:
        writes: list[Put | Delete] = []
        for index, (key, delete) in enumerate(zip(keys, deletes, strict=False)):
            now = self.model[key].revision if key in self.model else 0
            expect = max(0, now + (off if index == at else 0))
            put = Put(key=key, head={"b": list(body)}, body=body, expect=expect)
            writes.append(Delete(key=key, expect=max(expect, 1)) if delete else put)
        wrong = [w.key for w in writes if w.expect != (self.model[w.key].revision if w.key in self.model else 0)]
        if wrong:
            with pytest.raises(ConflictError) as caught:
                self.table.commit(*writes)
            assert caught.value.key == wrong[0]
            return
        self.table.commit(*writes)
        for write in writes:
            if isinstance(write, Delete):
                del self.model[write.key]
            else:
                self.model[write.key] = Row(key=write.key, head=write.head, body=write.body, revision=write.expect + 1)

    @rule(key=keys)
    def get(self, key: Key) -> None:
        assert self.table.get(key) == self.model.get(key)

    @rule(
        partition=st.sampled_from(["p", "q"]),
        after=st.sampled_from(["", "a", "b", "bb", "d"]),
        newest_first=st.booleans(),
        bodies=st.booleans(),
        limit=st.sampled_from([None, 1, 2, 9]),
    )
    def query(self, partition: str, after: str, newest_first: bool, bodies: bool, limit: int | None) -> None:
        expected = sorted((row for key, row in self.model.items() if key.partition == partition), key=lambda row: row.key)
        if newest_first:
            expected = [row for row in reversed(expected) if not after or row.key.sort < after]
        else:
            expected = [row for row in expected if row.key.sort > after]
        found = list(self.table.query(partition, after=after, newest_first=newest_first, bodies=bodies, limit=limit))
        assert [(row.key, row.head, row.revision) for row in found] == [(r.key, r.head, r.revision) for r in expected[:limit]]
        assert [row.body for row in found] == [row.body if bodies else b"" for row in expected[:limit]]

    def teardown(self) -> None:
        self.table.close()


@pytest.mark.parametrize("kind", PLACES)
def test_a_table_is_a_dict_with_revisions(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    where = request.getfixturevalue("aws").make_place() if kind == "aws" else str(tmp_path)
    path, _, query = where.partition("?")
    count = iter(range(10**6))

    class Here(Rows):
        open_table = staticmethod(lambda: open_registry(f"{path}/{next(count)}?{query}".rstrip("?")).place.table)

    budget = settings(max_examples=12 if kind == "aws" else 50, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(Here, settings=budget)


# --- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, LARGE_BYTES])
@pytest.mark.parametrize("from_file", [True, False])
def test_bytes_come_back_as_they_were(place: Place, tmp_path: Path, size: int, from_file: bool) -> None:
    data, sent, got = os.urandom(size), [0], [0]
    named, blobs = of_bytes(data), place.blobs
    (tmp_path / "source").write_bytes(data)
    assert blobs.size(named) is None
    assert blobs.put(named, tmp_path / "source" if from_file else data, sent.append) is True
    assert blobs.put(named, data) is False
    assert blobs.size(named) == size
    assert blobs.check(named) is None
    assert blobs.read(named) == data
    blobs.fetch(named, tmp_path / "got", got.append)
    assert (tmp_path / "got").read_bytes() == data
    assert sum(got) == sum(sent) == size
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "registry") == ["got", "source"]


def test_what_is_not_there_is_missing(place: Place, tmp_path: Path) -> None:
    named, blobs = of_bytes(SMALL), place.blobs
    assert blobs.size(named) is None
    assert blobs.check(named) == "missing"
    with pytest.raises(ServiceError, match="missing"):
        blobs.read(named)
    with pytest.raises(ServiceError, match="missing"):
        blobs.fetch(named, tmp_path / "got")
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "registry"])
    blobs.delete(named)
    assert list(blobs.list()) == []


@pytest.mark.parametrize("size", [10, LARGE_BYTES])
def test_bytes_that_changed_meanwhile_are_not_kept(place: Place, tmp_path: Path, size: int) -> None:
    (tmp_path / "source").write_bytes(b"x" * size)
    with pytest.raises(RecipeError, match="changed while it was published"):
        place.blobs.put(of_bytes(b"y" * size), tmp_path / "source")
    with pytest.raises(RecipeError, match="these bytes: changed while it was published"):
        place.blobs.put(of_bytes(b"y" * size), b"x" * size)
    assert list(place.blobs.list()) == []


def test_lists_are_in_order_and_say_when(place: Place) -> None:
    began = time.time()
    everything = {of_bytes(bytes([i]) * i): i for i in range(40)}
    for named, i in everything.items():
        place.blobs.put(named, bytes([i]) * i)
    found = list(place.blobs.list())
    assert [one.digest for one in found] == sorted(everything)
    assert [one.size_bytes for one in found] == [everything[named] for named in sorted(everything)]
    assert all(began - 2 <= one.modified <= time.time() + 2 for one in found)  # S3 counts whole seconds


def test_what_is_deleted_is_gone(place: Place) -> None:
    for data in (b"a", b"b"):
        place.blobs.put(of_bytes(data), data)
    place.blobs.delete(of_bytes(b"a"))
    place.blobs.delete(of_bytes(b"a"))
    assert [one.digest for one in place.blobs.list()] == [of_bytes(b"b")]
    assert place.blobs.put(of_bytes(b"a"), b"a") is True


@pytest.mark.parametrize("damage", [b"other byte", b"", b"longer than it was before"])
def test_damage_is_found_and_mended_by_putting_it_again(
    place: Place, request: pytest.FixtureRequest, tmp_path: Path, damage: bytes
) -> None:
    named, blobs = of_bytes(SMALL), place.blobs
    blobs.put(named, SMALL)
    overwrite(place, request, named, damage)
    assert blobs.check(named) == f"damaged: its bytes have the digest {of_bytes(damage)}"
    with pytest.raises(ServiceError, match=f"is damaged .{of_bytes(damage)} instead of {named}") as caught:
        blobs.read(named)
    assert blobs.uri(named) in str(caught.value)
    (tmp_path / "got").write_bytes(b"as it was")
    with pytest.raises(ServiceError, match="is damaged"):
        blobs.fetch(named, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"as it was"
    assert not list(tmp_path.glob(".got*"))
    assert blobs.put(named, SMALL) is True
    assert blobs.check(named) is None


def test_many_put_and_fetch_the_same_at_once(place: Place, tmp_path: Path) -> None:
    data = os.urandom(LARGE_BYTES)
    named, problems = of_bytes(data), []

    def work(index: int) -> None:
        try:
            place.blobs.put(named, data)
            place.blobs.fetch(named, tmp_path / "got")
        except ServiceError as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert (tmp_path / "got").read_bytes() == data
    assert [one.digest for one in place.blobs.list()] == [named]
    assert not list(tmp_path.glob(".got*"))


def test_where_a_blob_is_can_be_said_and_signed(place: Place) -> None:
    named = of_bytes(SMALL)
    place.blobs.put(named, SMALL)
    uri = place.blobs.uri(named)
    if uri.startswith("s3://"):
        assert uri == f"s3://models/team/blobs/sha256/{named.hex[:2]}/{named.hex}"
        with urllib.request.urlopen(place.blobs.presign(named, 60)) as answer:
            assert answer.read() == SMALL
        with pytest.raises(RecipeError, match="seven days"):
            place.blobs.presign(named, 7 * 24 * 3600 + 1)
    else:
        assert Path(uri).is_absolute()
        assert Path(uri).read_bytes() == SMALL
        with pytest.raises(RecipeError, match="no URLs to sign"):
            place.blobs.presign(named, 60)


def test_others_things_are_not_blobs(place: Place, request: pytest.FixtureRequest) -> None:
    named = of_bytes(SMALL)
    place.blobs.put(named, SMALL)
    folder = place.blobs.uri(named).rpartition("/")[0]
    if folder.startswith("s3://"):
        client = request.getfixturevalue("aws").client("s3")
        bucket, _, key = folder.removeprefix("s3://").partition("/")
        for name in ("README", "0" * 64):
            client.put_object(Bucket=bucket, Key=f"{key}/{name}", Body=b"x")
        client.close()
    else:
        (Path(folder) / "README").write_bytes(b"x")
    assert [one.digest for one in place.blobs.list()] == [named]
