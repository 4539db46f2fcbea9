from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import workshop as workshop_
from tests.support.services.aws_server import REGION, AwsServer, Fault
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.errors import ExitCode, PassError, RecipeError
from mlpack.store import shared_cache
from mlpack.store.local import Entry, Store
from mlpack.store.shared_cache import HEADER_BYTES, CacheSettings, Header, SharedCache
from mlpack.store.shared_objects import Bucket, Folder, Objects, OpenObject

KEY = b"k" * 32
ACTION = {"kind": "step/test", "version": 1, "input": "x"}
OTHER = {"kind": "step/test", "version": 1, "input": "y"}


@dataclass
class Told:
    """A console that remembers."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Watched:
    """Objects, and what was asked of them."""

    def __init__(self, inner: Objects) -> None:
        self.inner = inner
        self.asked: list[str] = []

    @contextmanager
    def open(self, name: str) -> Iterator[OpenObject | None]:
        self.asked.append("open")
        with self.inner.open(name) as found:
            yield found

    def write(self, name: str, source: Path, version: str | None, until: float) -> bool:
        self.asked.append("write" if version is None else "replace")
        return self.inner.write(name, source, version, until)

    def uri(self, name: str) -> str:
        return self.inner.uri(name)


@dataclass
class Machine:
    """A store of its own and the cache it shares with others."""

    store: Store
    cache: SharedCache
    told: Told
    objects: Watched

    def make(self, action: dict[str, object] = ACTION, fill: Callable[[Path], None] | None = None) -> Entry:
        """Do it, unless it was done."""
        with self.store.entry(action) as entry:
            if not entry.hit:
                (fill or contents)(entry.dir)
        return entry


def contents(folder: Path) -> None:
    """A tree with everything that a tree may have."""
    deep = folder / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    (folder / "empty").mkdir()
    (deep / "weights").write_bytes(bytes(range(256)) * 20)
    (folder / "größe μ").write_text("ü")
    (folder / "nothing").touch()
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)


def machine(root: Path, objects: Objects, key: bytes = KEY, **options: Any) -> Machine:
    told, watched = Told(), Watched(objects)
    verify = options.pop("verify", False)
    cache = SharedCache(watched, CacheSettings(key=key, **options), shared_cache.shared, told)
    return Machine(store=Store(root, verify=verify, tier=cache), cache=cache, told=told, objects=watched)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "shared")


@pytest.fixture
def bucket(aws: AwsServer) -> Bucket:
    client = aws.client("s3")
    client.create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.close()
    aws.clear_log()
    return Bucket("shared", "team", answer_s=0.5)


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest) -> Objects:
    found: Objects = request.getfixturevalue(request.param)
    return found


def path_of(folder: Folder, action: dict[str, object] = ACTION) -> Path:
    return Path(folder.uri(f"cache/v1/{digest.of_json(action).hex}"))


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_what_one_machine_made_another_takes(objects: Objects, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", objects), machine(tmp_path / "2", objects)
    made = one.make(fill=lambda folder: (contents(folder), time.sleep(0.02))[0])
    taken = two.make(fill=lambda _: pytest.fail("made again"))
    assert taken.digest == made.digest == digest.of_tree(taken.dir)
    assert (made.shared, taken.shared) == (False, True)
    assert taken.seconds == round(made.seconds, 3) > 0
    assert all(not each.stat(follow_symlinks=False).st_mode & 0o222 for _, each in digest.entries(taken.dir))
    assert os.access(taken.dir / "tool", os.X_OK)
    assert not list((two.store.root / "temporary").iterdir())
    assert not one.told.warnings + two.told.warnings
    one.cache.tell()
    two.cache.tell()
    assert one.told.notes == ["1 result put into the shared cache"]
    assert two.told.notes == [f"1 result came from the shared cache; making took {taken.seconds:.1f} s elsewhere"]


def test_what_was_taken_is_known_without_asking_again(folder: Folder, tmp_path: Path) -> None:
    machine(tmp_path / "1", folder).make()
    first = machine(tmp_path / "2", folder).make()
    later = machine(tmp_path / "2", folder)
    again = later.store.find(ACTION)
    assert again is not None
    assert (again.shared, again.seconds, again.digest) == (True, first.seconds, first.digest)
    assert later.objects.asked == []


def test_an_entry_has_the_same_bytes_from_every_machine(tmp_path: Path) -> None:
    """But for the seconds, which differ."""
    archives = []
    for name in ("1", "2"):
        place = Folder(tmp_path / name)
        machine(tmp_path / f"store{name}", place).make()
        archives.append(path_of(place).read_bytes()[HEADER_BYTES:])
    assert archives[0] == archives[1]


def test_what_is_missing_is_asked_once_and_offered_once(folder: Folder, tmp_path: Path) -> None:
    one = machine(tmp_path / "1", folder)
    assert one.store.find(ACTION) is None
    one.make()
    one.make()
    assert one.objects.asked == ["open", "write"]


@pytest.mark.parametrize("kind", ["measurement", "boot", "data", "source/onnx", "source/onnx-files", "directory", "packages"])
def test_what_belongs_to_a_machine_stays_there(folder: Folder, tmp_path: Path, kind: str) -> None:
    one = machine(tmp_path / "1", folder)
    one.make({"kind": kind})
    assert one.objects.asked == []


@pytest.mark.parametrize("kind", ["step/export", "step/quantize", "runtime", "package"])
def test_what_is_worth_sharing_is_shared(folder: Folder, tmp_path: Path, kind: str) -> None:
    machine(tmp_path / "1", folder).make({"kind": kind})
    assert machine(tmp_path / "2", folder).make({"kind": kind}).shared


def test_of_two_that_make_the_same_at_once_the_first_is_kept(objects: Objects, tmp_path: Path) -> None:
    machines = [machine(tmp_path / str(number), objects) for number in range(4)]
    start = threading.Barrier(4)

    def one(each: Machine, number: int) -> None:
        with each.store.entry(ACTION) as entry:
            (entry.dir / "out").write_text(str(number))
            start.wait()

    threads = [threading.Thread(target=one, args=(each, number)) for number, each in enumerate(machines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in machines:
        assert each.store.find(ACTION) is not None
        assert not each.told.warnings
        each.cache.tell()
    assert sum(len(each.told.notes) for each in machines) == 1
    assert machine(tmp_path / "late", objects).make(fill=lambda _: pytest.fail("made again")).shared


def test_verify_compares_with_what_others_made(folder: Folder, tmp_path: Path) -> None:
    machine(tmp_path / "1", folder).make()
    machine(tmp_path / "2", folder, verify=True).make()
    with pytest.raises(PassError, match="not repeatable"):
        machine(tmp_path / "3", folder, verify=True).make(fill=lambda each: (each / "other").touch())


def test_large_results_are_neither_given_nor_taken(folder: Folder, tmp_path: Path) -> None:
    small = machine(tmp_path / "1", folder, max_bytes=4000)
    small.make()
    assert small.objects.asked == ["open"]
    assert "MLPACK_CACHE_MAX_MB" in small.told.notes[0]
    machine(tmp_path / "2", folder).make()
    other = machine(tmp_path / "3", folder, max_bytes=4000)
    assert not other.make().shared
    assert other.objects.asked == ["open"]  # it is not damaged: there is nothing to replace
    assert "MLPACK_CACHE_MAX_MB" in other.told.notes[0]
    assert not small.told.warnings + other.told.warnings


def test_trees_with_links_stay_where_they_are(folder: Folder, tmp_path: Path) -> None:
    def linked(tree: Path) -> None:
        (tree / "file").touch()
        (tree / "link").symlink_to("file")

    one = machine(tmp_path / "1", folder)
    one.make(fill=linked)
    assert one.objects.asked == ["open"]
    assert "link is a symbolic link" in one.told.notes[0]


# --- poison and damage ------------------------------------------------------------------------------------------------


def check_unused(folder: Folder, root: Path, key: bytes = KEY) -> None:
    """The entry of ACTION is a miss, told by its URI, leaves nothing anywhere, and is replaced by who makes the result anew."""
    victim = machine(root / "victim", folder, key)
    outside = sorted(root.rglob("*"))
    assert victim.store.find(ACTION) is None
    assert sorted(root.rglob("*")) == outside
    assert len(victim.told.warnings) == 1
    assert str(path_of(folder)) in victim.told.warnings[0]
    assert "poisoned or damaged" in victim.told.warnings[0]
    assert not list((victim.store.root / "trees").iterdir())
    made = victim.make()
    assert victim.objects.asked == ["open", "replace"]
    again = machine(root / "again", folder, key)
    assert again.make(fill=lambda _: pytest.fail("made again")).digest == made.digest
    assert not again.told.warnings


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a whole entry."""
    root = tmp_path_factory.mktemp("sound")
    place = Folder(root / "shared")
    machine(root / "store", place).make()
    return path_of(place).read_bytes()


def plant(folder: Folder, data: bytes) -> None:
    path_of(folder).parent.mkdir(parents=True, exist_ok=True)
    path_of(folder).write_bytes(data)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bit_of_an_entry_may_differ(sound: bytes, data: st.DataObject) -> None:
    header = st.integers(0, HEADER_BYTES - 1)
    position = data.draw(header | st.integers(HEADER_BYTES, len(sound) - 1))
    changed = bytearray(sound)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(Path(root, "shared"))
        plant(folder, bytes(changed))
        check_unused(folder, Path(root))


@pytest.mark.parametrize("length", [0, 1, 100, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 5000, -1024, -1])
def test_entries_cut_short(folder: Folder, tmp_path: Path, sound: bytes, length: int) -> None:
    plant(folder, sound[:length])
    check_unused(folder, tmp_path)


@pytest.mark.parametrize("more", [b"\0", b"x" * 10_000])
def test_entries_that_go_on(folder: Folder, tmp_path: Path, sound: bytes, more: bytes) -> None:
    plant(folder, sound + more)
    check_unused(folder, tmp_path)


def test_an_entry_under_another_secret(folder: Folder, tmp_path: Path, sound: bytes) -> None:
    plant(folder, sound)
    check_unused(folder, tmp_path, b"another secret, as long as it must be")


def test_the_entry_of_another_action(folder: Folder, tmp_path: Path) -> None:
    machine(tmp_path / "1", folder).make(OTHER)
    plant(folder, path_of(folder, OTHER).read_bytes())
    check_unused(folder, tmp_path)


def test_the_header_of_one_entry_and_the_archive_of_another(folder: Folder, tmp_path: Path, sound: bytes) -> None:
    machine(tmp_path / "1", folder).make(OTHER, fill=lambda each: (each / "other").touch())
    plant(folder, sound[:HEADER_BYTES] + path_of(folder, OTHER).read_bytes()[HEADER_BYTES:])
    check_unused(folder, tmp_path)


def forged(archive: bytes, size: int, tree: digest.Digest | None = None, **facts: Any) -> bytes:
    """What somebody with the secret could write."""
    header = Header(
        action=digest.of_json(ACTION),
        tree=tree or digest.of_bytes(b"a tree"),
        archive=digest.of_bytes(archive),
        archive_bytes=len(archive),
        content_bytes=size,
        seconds=1.0,
    )
    return dataclasses.replace(header, **facts).sealed(KEY) + archive


def tarred(*members: tuple[str, bytes, bytes], **fields: Any) -> bytes:
    """An archive of (name, type, content) as tarfile writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


FILE, DIR = tarfile.REGTYPE, tarfile.DIRTYPE
HOSTILE = {
    "above": tarred(("../../../escaped", FILE, b"x")),
    "far above": tarred(("a", DIR, b""), ("a/../../../../escaped", FILE, b"x")),
    "absolute": tarred(("/tmp/mlpack-escaped", FILE, b"x")),
    "directory above": tarred(("..", DIR, b""), ("../escaped", DIR, b"")),
    "above, by its other name": tarred(("@LongLink", b"L", b"../../../escaped\0"))[:1024]
    + tarred(("fine", FILE, b"x"), pax_headers={"path": "fine"}),
    "above, by everybody's name": tarred(("@", b"g", b"25 path=../../../escaped\n"))[:1024] + tarred(("fine", FILE, b"x")),
    "here": tarred((".", FILE, b"x")),
    "empty part": tarred(("a", DIR, b""), ("a//b", FILE, b"x")),
    "dot part": tarred(("a", DIR, b""), ("a/./b", FILE, b"x")),
    "link": tarred(("link", tarfile.SYMTYPE, b""), linkname="/etc"),
    "through a link": tarred(("link", tarfile.SYMTYPE, b""), linkname="/tmp") + tarred(("link/escaped", FILE, b"x")),
    "hard link": tarred(("link", tarfile.LNKTYPE, b""), linkname="/etc/passwd"),
    "character device": tarred(("zero", tarfile.CHRTYPE, b""), devmajor=1, devminor=5),
    "block device": tarred(("disk", tarfile.BLKTYPE, b"")),
    "pipe": tarred(("pipe", tarfile.FIFOTYPE, b"")),
    "sparse": tarred(("holes", tarfile.GNUTYPE_SPARSE, b"x")),
    "sparse by pax": tarred(("holes", FILE, b"x"), pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 15}),
    "twice": tarred(("a", FILE, b"x"), ("a", FILE, b"y")),
    "directory twice": tarred(("a", DIR, b""), ("a", DIR, b"")),
    "file as directory": tarred(("a", FILE, b"x"), ("a/b", FILE, b"x")),
    "no directory": tarred(("a/b", FILE, b"x")),
    "name too long": tarred(("a" * 300, FILE, b"x")),
    "extension header": tarred(("a", FILE, b"x"), pax_headers={"comment": "c" * (300 << 10)}),
    "no archive": b"no archive at all" * 100,
    "nothing": b"",
    "zeros": bytes(10240),
    "cut": tarred(("a", FILE, b"x" * 5000))[:3000],
    "gzip": b"\x1f\x8b\x08\x00" + bytes(600),
    "more after its end": tarred(("a", FILE, b"x")) + b"x" * 512,
    "another tree": tarred(("a", FILE, b"x")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_archives_that_a_holder_of_the_secret_might_forge(folder: Folder, tmp_path: Path, name: str) -> None:
    plant(folder, forged(HOSTILE[name], 1_000_000 if name not in ("another tree", "nothing", "zeros") else 0))
    check_unused(folder, tmp_path)
    assert not Path("/tmp/mlpack-escaped").exists()


def test_archive_that_writes_through_a_link_to_the_right_tree(folder: Folder, tmp_path: Path) -> None:
    """Even links that `digest.of_tree` would accept are refused."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("nowhere")
    plant(folder, forged(tarred(("link", tarfile.SYMTYPE, b""), linkname="nowhere"), 0, digest.of_tree(tmp_path / "tree")))
    check_unused(folder, tmp_path)


PIECES = [b"../", b"/", b"\0", b"\x80\xff", b"777777", b"x", b"2", b"3", b"5", b"S", b"L", b"size=9", b"path=/"]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_holder_of_secret_signs_is_the_tree_or_a_miss(sound: bytes, data: st.DataObject) -> None:
    header, archive = Header.opened(sound[:HEADER_BYTES], KEY), bytearray(sound[HEADER_BYTES:])
    headers = [start for start in range(0, len(archive), 512) if archive[start + 257 : start + 262] == b"ustar"]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 1023))
        new = data.draw(st.sampled_from(PIECES) | st.binary(max_size=12))
        archive[start : start + data.draw(st.sampled_from([len(new), len(new), 0, 512]))] = new
    if data.draw(st.booleans()):
        for start in headers:  # checksums that hold, so that what they guard is read
            block = archive[start : start + 148] + b" " * 8 + archive[start + 156 : start + 512]
            archive[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    changed = dataclasses.replace(header, archive=digest.of_bytes(archive), archive_bytes=len(archive))
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(Path(root, "shared"))
        plant(folder, changed.sealed(KEY) + archive)
        one = machine(Path(root, "store"), folder)
        found = one.store.find(ACTION)
        assert {path.name for path in Path(root).iterdir()} == {"shared", "store"}
        assert ["poisoned" in each for each in one.told.warnings] == ([True] if found is None else [])
        assert found is None or digest.of_tree(found.dir) == header.tree
        assert not list((one.store.root / "temporary").iterdir())


def test_the_right_tree_in_an_archive_of_the_wrong_form(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(b"x")
    archive = tarred(("a", FILE, b"x"), pax_headers={"comment": "c" * (300 << 10)})
    plant(folder, forged(archive, 1, digest.of_tree(tmp_path / "tree")))
    check_unused(folder, tmp_path)


@pytest.mark.parametrize("said", [0, 9, 11, 10_000])
def test_files_of_another_size_than_signed(folder: Folder, tmp_path: Path, said: int) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(b"x" * 10)
    plant(folder, forged(tarred(("a", FILE, b"x" * 10)), said, digest.of_tree(tmp_path / "tree")))
    check_unused(folder, tmp_path)


@pytest.mark.parametrize(
    "facts", [{"archive_bytes": -1}, {"content_bytes": -5}, {"seconds": -1.0}, {"archive_bytes": 10}, {"archive_bytes": 10**6}]
)
def test_headers_that_make_no_sense(folder: Folder, tmp_path: Path, facts: dict[str, Any]) -> None:
    plant(folder, forged(HOSTILE["another tree"], 1, **facts))
    check_unused(folder, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts | {"format": 2},
        lambda facts: facts | {"more": 1},
        lambda facts: facts | {"tree": "md5:0"},
        lambda facts: facts | {"seconds": "x"},
        lambda facts: facts | {"archive_bytes": None},
        lambda facts: {key: value for key, value in facts.items() if key != "tree"},
        lambda facts: [facts],
    ],
)
def test_signed_headers_of_other_forms(folder: Folder, tmp_path: Path, sound: bytes, change: Callable[[Any], Any]) -> None:
    facts = json.loads(sound[: HEADER_BYTES - 64])
    body = json.dumps(change(facts)).encode().ljust(HEADER_BYTES - 64)
    plant(folder, body + shared_cache._mac(KEY, body) + sound[HEADER_BYTES:])
    check_unused(folder, tmp_path)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_signed_numbers_that_are_none(folder: Folder, tmp_path: Path, sound: bytes, constant: str) -> None:
    facts = json.loads(sound[: HEADER_BYTES - 64]) | {"seconds": 0.125}
    body = json.dumps(facts).replace("0.125", constant).encode().ljust(HEADER_BYTES - 64)
    plant(folder, body + shared_cache._mac(KEY, body) + sound[HEADER_BYTES:])
    check_unused(folder, tmp_path)


def test_a_signature_is_for_caches_alone(sound: bytes) -> None:
    """The same secret may sign other things: no signature of theirs opens a header."""
    import hmac

    body = sound[: HEADER_BYTES - 64]
    with pytest.raises(shared_cache.DamagedEntryError, match="signature"):
        Header.opened(body + hmac.new(KEY, body, "sha256").hexdigest().encode(), KEY)


def test_a_damaged_object_of_a_bucket_is_replaced_too(bucket: Bucket, tmp_path: Path, aws: AwsServer) -> None:
    client = aws.client("s3")
    client.put_object(Bucket="shared", Key=f"team/cache/v1/{digest.of_json(ACTION).hex}", Body=b"poison")
    client.close()
    victim = machine(tmp_path / "1", bucket)
    victim.make()
    assert f"s3://shared/team/cache/v1/{digest.of_json(ACTION).hex}" in victim.told.warnings[0]
    assert machine(tmp_path / "2", bucket).make().shared


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("action", ["error", "close", "hang"])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_cache_that_goes_down_midway_is_told_once_and_left(
    bucket: Bucket, aws: AwsServer, tmp_path: Path, action: str, number: int
) -> None:
    machine(tmp_path / "0", bucket).make({"kind": "step/test", "n": 0})
    aws.plan(Fault(action, number=number, onward=True))
    one = machine(tmp_path / "1", bucket)
    for each in range(4):
        one.make({"kind": "step/test", "n": each})
        assert one.store.find({"kind": "step/test", "n": each}) is not None
    assert len(one.told.warnings) == 1
    assert "left alone" in one.told.warnings[0]
    aws.plan()
    asked = len(aws.log())
    assert not one.make({"kind": "step/test", "n": 99}).shared
    assert len(aws.log()) == asked


def test_a_cache_that_may_only_be_read_is_read(bucket: Bucket, aws: AwsServer, tmp_path: Path) -> None:
    for each in (1, 3):
        machine(tmp_path / "0", bucket).make({"kind": "step/test", "n": each})
    aws.plan(Fault("error", operation="PutObject", status=403, code="AccessDenied", onward=True))
    one = machine(tmp_path / "1", bucket)
    assert [one.make({"kind": "step/test", "n": each}).shared for each in range(5)] == [False, True, False, True, False]
    assert len(one.told.warnings) == 1
    assert "only reads" in one.told.warnings[0]
    assert one.objects.asked.count("write") == 1


def test_a_cache_that_is_too_slow_is_left_alone(folder: Folder, tmp_path: Path) -> None:
    for each in range(3):
        machine(tmp_path / "0", folder).make({"kind": "step/test", "n": each})
    path = path_of(folder, {"kind": "step/test", "n": 0})
    header = Header.opened(path.read_bytes()[:HEADER_BYTES], KEY)
    path.write_bytes(dataclasses.replace(header, seconds=0.0).sealed(KEY) + path.read_bytes()[HEADER_BYTES:])
    one = machine(tmp_path / "1", folder, patience_s=0.0)
    assert not any(one.make({"kind": "step/test", "n": each}).shared for each in range(3))
    assert len(one.told.warnings) == 1
    assert "too slowly" in one.told.warnings[0]


def test_an_upload_that_is_too_slow_leaves_the_reading(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path / "0", folder).make(OTHER)
    one = machine(tmp_path / "1", folder)
    # Patience is never shorter than the step itself took: on a machine that pauses in it, any upload would be in time.
    monkeypatch.setattr(SharedCache, "_until", lambda _self, _seconds: 0.0)
    with one.store.entry(ACTION) as entry:
        (entry.dir / "x").touch()
    assert "only reads" in one.told.warnings[0]
    assert len(one.told.warnings) == 1


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = machine(tmp_path / "1", Folder(tmp_path / "file"))
    one.make()
    one.make(OTHER)
    assert len(one.told.warnings) == 1


# --- a real build -----------------------------------------------------------------------------------------------------


def project(root: Path, objects: Objects) -> tuple[Workshop, Machine]:
    made = workshop_.make(root / "project")
    here = machine(made.store.root, objects)
    return dataclasses.replace(made, store=here.store), here


def cached(record: dict[str, Any]) -> list[bool]:
    return [step["cached"] for one in record["candidates"] for step in one["steps"]]


@pytest.mark.slow
def test_the_second_machine_runs_no_pass(objects: Objects, tmp_path: Path) -> None:
    first, _ = project(tmp_path / "one", objects)
    record, _ = first.build(keep_all=True)
    assert not all(cached(record))
    second, here = project(tmp_path / "two", objects)
    again, _ = second.build(keep_all=True)
    assert cached(again)
    assert all(cached(again))
    packages = [{one["id"]: one["package"]["digest"] for one in each["candidates"]} for each in (record, again)]
    assert packages[0] == packages[1]
    kinds: dict[str, set[bool]] = {}
    for path in (second.store.root / "actions").iterdir():
        known = json.loads(path.read_bytes())
        kinds.setdefault(known["action"]["kind"].partition("/")[0], set()).add(known["shared"])
    assert kinds["step"] == kinds["package"] == {True}
    assert kinds["measurement"] == kinds["boot"] == kinds["source"] == kinds["data"] == {False}
    assert not here.told.warnings
    here.cache.tell()
    assert "came from the shared cache" in here.told.notes[0]


@pytest.mark.slow
def test_a_rebuild_neither_asks_nor_imports_what_would(built: Workshop) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
import json
from pathlib import Path
from mlpack.store import shared_cache
from mlpack.cli.console import Console
from mlpack.pipeline.verbs import Options, build
from mlpack.store.local import Store
from tests.support import workshop
environ = {{"MLPACK_CACHE": "s3://nowhere/team", "MLPACK_CACHE_KEY": "k" * 32}}
root, console = Path({str(built.root)!r}), Console(quiet=True)
store = Store(Path({str(built.store.root)!r}), tier=shared_cache.configured(environ, console))
build(root / "recipe.yaml", store, (root,), Options(out=root / "once more", effort=workshop.QUICK), console)
print(json.dumps(sorted({{"boto3", "botocore", "urllib3", "onnx", "numpy"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


@pytest.mark.slow
def test_the_command_line_takes_it_from_the_environment(tmp_path: Path) -> None:
    """With packages for another processor, which are not measured: that would take most of the time."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 32 + "\n")
    told = []
    for name in ("one", "two"):
        made = workshop_.make(tmp_path / name / "project")
        workshop_.seed_runtime(made.root, made.store, arch="arm64")
        made.edit(lambda text: text.replace("x86_64", "arm64"))
        environ = {
            "MLPACK_STORE": str(made.store.root),
            "MLPACK_CACHE": str(tmp_path / "shared"),
            "MLPACK_CACHE_KEY_FILE": str(secret),
            "PYTHONPATH": str(Path(shared_cache.__file__).parent.parent.parent),
        }
        command = [sys.executable, "-m", "mlpack.cli", "build", "recipe.yaml", "--only", "int8@*"]
        done = subprocess.run(command, env=os.environ | environ, cwd=made.root, capture_output=True, text=True, check=False)
        assert done.returncode in (ExitCode.OK, ExitCode.OVER_BUDGET), done.stderr
        told.append(done.stderr)
    assert "put into the shared cache" in told[0]
    assert "came from the shared cache" in told[1]
    assert "put into" not in told[1]
    assert "s" * 32 not in "".join(told)


# --- what the user may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MLPACK_CACHE": "s3://"}, "s3://BUCKET/PREFIX"),
        ({"MLPACK_CACHE": "s3:bucket/x"}, "s3://BUCKET/PREFIX"),
        ({"MLPACK_CACHE": "s3://Bucket/x"}, "s3://BUCKET/PREFIX"),
        ({"MLPACK_CACHE": "s3://bucket/x?table=t"}, "s3://BUCKET/PREFIX"),
        ({"MLPACK_CACHE": "https://bucket.s3.amazonaws.com/"}, "s3://BUCKET/PREFIX"),
        ({"MLPACK_CACHE": __file__}, "not a directory"),
        ({"MLPACK_CACHE": "here", "MLPACK_CACHE_KEY": "short"}, "at least 32"),
        ({"MLPACK_CACHE": "here", "MLPACK_CACHE_KEY_FILE": "/nowhere"}, "cannot be read"),
        ({"MLPACK_CACHE": "here", "MLPACK_CACHE_KEY_FILE": "/dev/null"}, "at least 32"),
        ({"MLPACK_CACHE": "here", "MLPACK_CACHE_KEY": "k" * 32, "MLPACK_CACHE_KEY_FILE": "x"}, "both set"),
        *(
            ({"MLPACK_CACHE": "here", "MLPACK_CACHE_MAX_MB": each}, "MAX_MB")
            for each in ("0", "-1", "x", "1.5", "5001", "٣", "")[:-1]
        ),
    ],
)
def test_settings_that_make_no_sense(environ: dict[str, str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        shared_cache.configured(environ, Told())


def test_without_boto3_a_bucket_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(RecipeError, match=r"mlpack-build\[aws\]"):
        shared_cache.configured({"MLPACK_CACHE": "s3://bucket"}, Told())


@pytest.mark.parametrize("environ", [{}, {"MLPACK_CACHE": ""}, {"MLPACK_CACHE_KEY": "k" * 32}])
def test_no_cache_is_no_cache(environ: dict[str, str]) -> None:
    told = Told()
    assert shared_cache.configured(environ, told) is None
    assert not told.notes + told.warnings


@pytest.mark.parametrize("environ", [{}, {"MLPACK_CACHE_KEY": ""}, {"MLPACK_CACHE_KEY_FILE": ""}])
def test_without_the_secret_the_cache_is_not_used(environ: dict[str, str], tmp_path: Path) -> None:
    """Builds of strangers' changes get empty secrets: no mistake."""
    told = Told()
    assert shared_cache.configured({"MLPACK_CACHE": str(tmp_path), **environ}, told) is None
    assert "MLPACK_CACHE_KEY" in told.notes[0]


@pytest.mark.parametrize(
    ("where", "uri"),
    [
        ("s3://bucket", "s3://bucket/n"),
        ("s3://bucket/", "s3://bucket/n"),
        ("s3://bucket/a/b/", "s3://bucket/a/b/n"),
        ("s3://my.bucket-1/a", "s3://my.bucket-1/a/n"),
        ("/a/dir", "/a/dir/n"),
    ],
)
def test_places(where: str, uri: str) -> None:
    assert shared_cache._place_of(where).uri("n") == uri


def test_a_secret_is_never_shown() -> None:
    assert "secret" not in repr(CacheSettings(key=b"secret" * 8))
