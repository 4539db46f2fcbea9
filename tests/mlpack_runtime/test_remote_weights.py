"""Weights outside the package: what is read, fetched, verified, cached and evicted, and every place where a start may be killed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.weight_servers import WeightServer, outside, rows_of

from mlpack_runtime.remote import download, manifest, places, sources, start
from mlpack_runtime.remote.manifest import Weights, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = random.Random(5).randbytes(100)
PART = 16


class Memory:
    """A source in this process. `wrong`: what it gives instead, by the first byte, one for each time it is asked."""

    where = "memory://weights"

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.asked: list[int] = []
        self.wrong: dict[int, list[bytes | Exception]] = {}

    def close(self) -> None:
        """Nothing."""

    def read(self, first: int, size: int, landing: Any) -> None:
        landing(self.got(first, size))

    def got(self, first: int, size: int) -> bytes:
        self.asked.append(first)
        others = self.wrong.get(first)
        if others:
            other = others.pop(0)
            if isinstance(other, BaseException):
                raise other
            return other
        return self.data[first : first + size]


def weights_of(data: bytes = DATA, environment: dict[str, str] | None = None, **more: Any) -> Weights:
    return Weights(rows_of(data, PART, **more), environment or {})


def obtained(weights: Weights, source: Any = None) -> tuple[bytes, str, int]:
    held = download.obtain(weights, source or Memory())
    try:
        return bytes(held.mapping), held.origin, held.fetched_parts
    finally:
        held.close()


def files(directory: Path) -> list[str]:
    folder = directory / places.FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses between two attempts."""
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)


@pytest.fixture
def server() -> Iterator[WeightServer]:
    one = WeightServer({f"/w/{hashlib.sha256(DATA).hexdigest()}": DATA})
    yield one
    one.close()


# --- weights.json ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"parts": []}, "0 parts of 16 bytes"),
        ({"digest": "x" * 64}, "64 hexadecimal digits"),
        ({"size_bytes": True}, "no positive numbers"),
        ({"size_bytes": 0}, "no positive numbers"),
        ({"name": "../model.onnx.data"}, "no name of a file"),
        ({"name": ".."}, "no name of a file"),
        ({"schema": 2}, "schema 2"),
        ({"parts": None}, "damaged"),
        ({"cache": ["tmp"]}, "no absolute path"),
    ],
)
def test_a_damaged_weights_json_is_told(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    (tmp_path / manifest.FILE).write_text(json.dumps({**rows_of(DATA, PART), **change}))
    with pytest.raises(WeightsError, match=told):
        manifest.read(str(tmp_path), {})


def test_weights_in_the_package_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / manifest.FILE).write_text(json.dumps(rows_of(DATA, PART)))
    assert manifest.read(str(tmp_path), {}) is not None
    (tmp_path / "model.onnx.data").write_bytes(DATA)
    assert manifest.read(str(tmp_path), {}) is None
    assert manifest.read(str(tmp_path / "nothing"), {}) is None


def test_the_environment_comes_before_the_file() -> None:
    told = {"MLPACK_WEIGHTS": "https://elsewhere/x", "MLPACK_WEIGHTS_CACHE": "/a:/b:memory", "MLPACK_WEIGHTS_CACHE_MB": "3"}
    weights = weights_of(environment=told)
    assert (weights.source, weights.cache, weights.limit_bytes) == ("https://elsewhere/x", ["/a", "/b", "memory"], 3 << 20)
    with pytest.raises(WeightsError, match="MLPACK_WEIGHTS_CONNECTIONS is 'many'"):
        weights_of(environment={"MLPACK_WEIGHTS_CONNECTIONS": "many"})


# --- the layers --------------------------------------------------------------------------------------------------------


def test_fetched_once_then_from_the_cache(tmp_path: Path) -> None:
    weights, source = weights_of(cache=[str(tmp_path)]), Memory()
    assert obtained(weights, source) == (DATA, source.where, 7)
    assert obtained(weights, source) == (DATA, str(tmp_path), 0)
    assert sorted(source.asked) == list(range(0, 100, PART))
    assert files(tmp_path) == [weights.digest]


def test_every_directory_is_looked_in_before_the_source(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
    obtained(weights_of(cache=[str(second)]))
    source = Memory()
    assert obtained(weights_of(cache=[str(first), str(second)]), source) == (DATA, str(second), 0)
    assert not source.asked
    assert files(first) == []


def test_what_cannot_be_written_to_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    weights = weights_of(cache=[str(tmp_path / "file"), str(tmp_path)])
    assert obtained(weights)[0] == DATA
    assert weights.digest in files(tmp_path)


def test_memory_where_no_directory_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_free", lambda _: 50)
    assert obtained(weights_of(cache=[str(tmp_path), "memory"])) == (DATA, Memory.where, 7)
    with pytest.raises(WeightsError, match=r"weights have 100 bytes.*has 50 bytes free.*ephemeral storage"):
        obtained(weights_of(cache=[str(tmp_path)]))


def test_a_disk_that_fills_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        if offset >= 3 * PART:
            raise OSError(28, "No space left on device")
        return written(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(WeightsError, match=r"cannot be written to \(No space left on device\)"):
        obtained(weights_of(cache=[str(tmp_path)]))
    assert files(tmp_path) == []
    assert obtained(weights_of(cache=[str(tmp_path), "memory"]))[0] == DATA


# --- what is damaged ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    wrong=st.dictionaries(
        st.integers(0, 6).map(lambda index: index * PART),
        st.lists(st.sampled_from(["flip", "short", "long", "break"]), min_size=1, max_size=download.DAMAGED_ATTEMPTS - 1),
    ),
    flips=st.sets(st.integers(0, 99)),
)
def test_only_damaged_parts_are_fetched_again(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[int, list[str]], flips: set[int]
) -> None:
    """Whatever the source gives, and whatever the disk has become, what the engine sees is what was built."""
    place, source = tmp_path_factory.mktemp("cache"), Memory()
    right = {first: DATA[first : first + PART] for first in range(0, 100, PART)}
    kinds = {
        "flip": lambda body: bytes([body[0] ^ 1, *body[1:]]),
        "short": lambda body: body[:-1],
        "long": lambda body: body + b"!",
        "break": lambda _: WeightsError("the connection broke", passing=True),
    }
    source.wrong = {first: [kinds[kind](right[first]) for kind in each] for first, each in wrong.items()}
    weights = weights_of(cache=[str(place)])
    assert obtained(weights, source)[0] == DATA
    assert {first: source.asked.count(first) for first in right} == {first: 1 + len(wrong.get(first, ())) for first in right}
    path = place / places.FOLDER / weights.digest
    spoiled = bytearray(DATA)
    for at in flips:
        spoiled[at] ^= 0x80
    path.write_bytes(spoiled)
    source = Memory()
    assert obtained(weights, source)[0] == DATA
    assert sorted(source.asked) == sorted({at // PART * PART for at in flips})
    assert path.read_bytes() == DATA
    assert files(place) == [weights.digest]


def test_a_source_that_stays_wrong_is_told(tmp_path: Path) -> None:
    source = Memory(DATA[:16] + bytes(16) + DATA[32:])
    weights = weights_of(environment={"MLPACK_WEIGHTS_CONNECTIONS": "1"}, cache=[str(tmp_path)])
    with pytest.raises(WeightsError, match=r"part 2 of 7 \(bytes 16 to 31\) has the SHA-256.*not what was built.*tried 3 times"):
        obtained(weights, source)
    assert all(name.endswith(".part") for name in files(tmp_path))
    # What came right is kept: the next start asks for the rest.
    mended = Memory()
    assert obtained(weights, mended)[0] == DATA
    assert mended.asked == list(range(16, 100, PART))


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("s3://b/p/", "with `aws s3 cp weights/DIGEST s3://b/p/DIGEST`"),
        ("s3://b/{digest:2}/{digest}", "with `aws s3 cp weights/DIGEST s3://b/DI/DIGEST`"),
        ("s3://b/DIGEST", "with `aws s3 cp weights/DIGEST s3://b/DIGEST`"),
        ("https://host/p", "the build's file weights/DIGEST there"),
        ("https://host/p?signature=secret", "the build's file weights/DIGEST there"),
    ],
)
def test_a_hint_names_the_file_by_its_digest(source: str, place: str) -> None:
    digest = weights_of().digest
    told = weights_of(environment={"MLPACK_WEIGHTS": source.replace("DIGEST", digest)}).hint
    assert told.endswith(place.replace("DIGEST", digest).replace("/DI/", f"/{digest[:2]}/"))
    assert "secret" not in told


def test_a_source_that_is_away_is_asked_for_some_seconds(tmp_path: Path) -> None:
    source = Memory()
    source.wrong = {0: [WeightsError("it is away", passing=True) for _ in range(50)]}
    with pytest.raises(WeightsError, match=r"it is away \(tried 7 times"):
        obtained(weights_of(cache=[str(tmp_path)]), source)
    final = Memory()
    final.wrong = {0: [WeightsError("nothing is there")]}
    with pytest.raises(WeightsError, match=r"^nothing is there$"):
        obtained(weights_of(cache=[str(tmp_path)]), final)
    assert final.asked.count(0) == 1


def test_a_start_that_will_be_ended_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_INIT_S", -1.0)
    said: list[str] = []
    download.obtain(weights_of(cache=[str(tmp_path / "none"), "memory"]), Memory(), said.append).close()
    assert said == []  # nobody ends the start of a container
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")
    download.obtain(weights_of(cache=[str(tmp_path / "none"), "memory"]), Memory(), said.append).close()
    assert said == []  # it has 15 minutes
    monkeypatch.delenv("AWS_LAMBDA_INITIALIZATION_TYPE")
    download.obtain(weights_of(cache=[str(tmp_path)]), Memory(), said.append).close()
    assert len(said) == 1
    assert "of 7 parts of the weights are here after 0 s; Lambda ends a start after 10 s" in said[0]


def test_a_mount_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"efs cannot be written to \(No such file or directory\)"):
        obtained(weights_of(cache=[str(tmp_path / "efs")]))
    assert not (tmp_path / "efs").exists()


# --- killed, and several at once ---------------------------------------------------------------------------------------

_KILLED = """
import os, sys
sys.path[:0] = {paths!r}
calls, last = 0, int(sys.argv[1])
def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == last:
            os._exit(9)  # as kill -9: nothing is put right
        return function(*arguments, **options)
    return call
from mlpack_runtime.remote import download, places, manifest
for name in ("open", "truncate", "pwrite", "link", "replace", "remove", "utime", "makedirs"):
    setattr(os, name, counted(getattr(os, name)))
class Source:
    where = "x"
    def read(self, first, size, landing):
        landing(bytes.fromhex(sys.argv[3])[first:first + size])
    def close(self):
        pass
weights = manifest.Weights(eval(sys.argv[2]), {{"MLPACK_WEIGHTS_CONNECTIONS": "1"}})
held = download.obtain(weights, Source())
assert bytes(held.mapping) == bytes.fromhex(sys.argv[3])
print(calls)
"""


def test_killed_at_every_call_that_writes(tmp_path: Path) -> None:
    """After a kill at any of them the next start has the weights, and what is under their name is whole."""
    script = _KILLED.format(paths=[path for path in sys.path if path])
    row = rows_of(DATA, PART, cache=[str(tmp_path)])
    arguments = [repr(row), DATA.hex()]
    whole = subprocess.run([sys.executable, "-c", script, "0", *arguments], capture_output=True, text=True, check=True)
    for last in range(1, int(whole.stdout) + 1):
        directory = tmp_path / str(last)
        directory.mkdir()
        arguments[0] = repr({**row, "cache": [str(directory)]})
        ended = subprocess.run([sys.executable, "-c", script, str(last), *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 9, ended.stderr
        path = directory / places.FOLDER / row["digest"]
        assert not path.exists() or path.read_bytes() == DATA
        source = Memory()
        assert obtained(weights_of(cache=[str(directory)]), source)[0] == DATA
        assert path.read_bytes() == DATA
        left = [name for name in files(directory) if name.endswith(".part")]
        assert not left or path.stat().st_nlink > 1, "a part that nobody will take on"


def test_several_processes_at_once(tmp_path: Path, server: WeightServer) -> None:
    script = (
        "import sys; sys.path[:0] = %r\n"
        "from mlpack_runtime.remote import download, manifest\n"
        "held = download.obtain(manifest.Weights(eval(sys.argv[1]), {}))\n"
        "print(bytes(held.mapping).hex())"
    ) % [path for path in sys.path if path]
    row = rows_of(DATA, PART, cache=[str(tmp_path)]) | {"from": f"{server.address}/w"}
    running = [subprocess.Popen([sys.executable, "-c", script, repr(row)], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [DATA.hex()] * 4
    assert files(tmp_path) == [row["digest"]]


def test_a_part_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    weights = weights_of(cache=[str(tmp_path)])
    folder = tmp_path / places.FOLDER
    folder.mkdir()
    other = folder / f"{weights.digest}.0123.part"
    other.write_bytes(DATA[:50])
    with other.open("rb") as file:
        flock(file, LOCK_EX)
        assert obtained(weights)[0] == DATA
        assert other.read_bytes() == DATA[:50]
        assert files(tmp_path) == [weights.digest, other.name]


# --- eviction ----------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_is_evicted(tmp_path: Path) -> None:
    blobs = [bytes([number]) * (1 << 20) for number in range(4)]

    def have(number: int, limit_mb: int = 2) -> None:
        weights = Weights(rows_of(blobs[number], 1 << 20, cache=[str(tmp_path)], cache_mb=limit_mb), {})
        obtained(weights, Memory(blobs[number]))
        os.utime(tmp_path / places.FOLDER / weights.digest, (next(clock), next(clock)))

    clock = iter(range(1_000_000, 2_000_000))
    names = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    have(0)
    have(1)
    have(0)  # used again: now 1 is the oldest
    have(2)
    assert files(tmp_path) == sorted([names[0], names[2]])
    with (tmp_path / places.FOLDER / names[0]).open("rb") as used:
        flock(used, LOCK_SH)
        have(3)
        assert files(tmp_path) == sorted([names[0], names[3]])  # 0 is older, and in use
        with pytest.raises(WeightsError, match="may hold 1,048,576 bytes of weights"):
            have(1, limit_mb=1)


def test_what_killed_processes_left_of_others_goes_first(tmp_path: Path) -> None:
    folder = tmp_path / places.FOLDER
    folder.mkdir()
    (folder / f"{'a' * 64}.77.part").write_bytes(bytes(1 << 20))
    blob = bytes(1 << 20)
    obtained(Weights(rows_of(blob, 1 << 20, cache=[str(tmp_path)], cache_mb=1), {}), Memory(blob))
    assert files(tmp_path) == [hashlib.sha256(blob).hexdigest()]


# --- over HTTP ---------------------------------------------------------------------------------------------------------


class Heap:
    """A landing that keeps what comes, and how large its pieces were."""

    def __init__(self) -> None:
        self.data = b""
        self.sizes: list[int] = []

    @property
    def received(self) -> int:
        return len(self.data)

    def __call__(self, piece: bytes | memoryview) -> None:
        self.sizes.append(len(piece))
        self.data += piece


def read(source: Any, first: int, size: int) -> bytes:
    heap = Heap()
    source.read(first, size, heap)
    return heap.data


def source_at(address: str) -> Any:
    return sources.open_source(weights_of(environment={"MLPACK_WEIGHTS": address}))


def test_an_address_with_a_query_is_the_object_itself(server: WeightServer) -> None:
    server.objects["/signed/object"] = DATA
    exact = source_at(f"{server.address}/w/{hashlib.sha256(DATA).hexdigest()}")
    assert read(exact, 0, 100) == DATA
    exact.close()
    server.objects[f"/{weights_of().digest[:2]}/{weights_of().digest}"] = DATA
    template = source_at(f"{server.address}/{{digest:2}}/{{digest}}")
    assert read(template, 0, 100) == DATA
    template.close()
    plain, signed = source_at(f"{server.address}/w"), source_at(f"{server.address}/signed/object?X-Amz-Signature=secret")
    assert read(plain, 16, 16) == DATA[16:32]
    assert read(signed, 0, 100) == DATA
    assert "secret" not in signed.where
    plain.close()
    signed.close()


@pytest.mark.parametrize(
    ("answer", "told", "passing"),
    [
        ((503, b"slow down"), "status 503", True),
        ((429, b""), "status 429", True),
        ((404, b""), "nothing is there under the weights' digest", False),
        ((403, b""), "s3:GetObject", False),
        ((416, b""), "shorter than the weights", False),
        ((206, b"short"), "gave 5 of 16 bytes", True),
        ((0, b"short"), "cannot be reached", True),
        ((200, b"x" * 17), "does not take ranges", False),
    ],
)
def test_what_a_server_may_answer(server: WeightServer, answer: tuple[int, bytes], told: str, passing: bool) -> None:
    server.instead = lambda _first, _size: answer
    one = source_at(f"{server.address}/w")
    with pytest.raises(WeightsError, match=told) as caught:
        read(one, 16, 16)
    one.close()
    assert caught.value.passing is passing


def test_a_part_is_never_in_memory_as_a_whole(server: WeightServer, tmp_path: Path) -> None:
    """Eight connections with parts of 4 MB each had 100 MB in their buffers."""
    whole = random.Random(6).randbytes(3_000_001)
    server.objects[f"/w/{hashlib.sha256(whole).hexdigest()}"] = whole
    weights = weights_of(whole, {"MLPACK_WEIGHTS": f"{server.address}/w"}, cache=[str(tmp_path)])
    source, heap = sources.open_source(weights), Heap()
    source.read(0, len(whole), heap)
    source.close()
    assert heap.data == whole
    assert max(heap.sizes) <= 1 << 18
    large = Weights(rows_of(whole, 1 << 20, cache=[str(tmp_path)]), {"MLPACK_WEIGHTS": f"{server.address}/w"})
    assert obtained(large, sources.open_source(large)) == (whole, f"{server.address}/w/{large.digest}", 3)


def test_a_disk_that_is_full_is_no_broken_connection(server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def pwrite(_fd: int, _data: object, offset: int) -> int:
        calls.append(offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    weights = weights_of(
        environment={"MLPACK_WEIGHTS": f"{server.address}/w", "MLPACK_WEIGHTS_CONNECTIONS": "1"}, cache=[str(tmp_path)]
    )
    with pytest.raises(WeightsError, match="cannot be written to"):
        download.obtain(weights)
    assert calls == [0]  # not tried again
    again = weights_of(environment={"MLPACK_WEIGHTS": f"{server.address}/w"}, cache=[str(tmp_path), "memory"])
    assert obtained(again, sources.open_source(again))[0] == DATA


def test_a_source_that_gives_too_much_is_told(tmp_path: Path) -> None:
    source = Memory()
    source.wrong = {0: [bytes(PART + 1)] * 50}
    with pytest.raises(WeightsError, match=r"more came than was asked for: .* \(tried 7 times"):
        obtained(weights_of(cache=[str(tmp_path)]), source)


def test_a_server_without_ranges_is_told_at_once(server: WeightServer) -> None:
    server.ignores_ranges = True
    server.objects["/w/" + hashlib.sha256(DATA).hexdigest()] = bytes(100_000)
    one = source_at(f"{server.address}/w")
    with pytest.raises(WeightsError, match="does not take ranges") as caught:
        read(one, 0, 16)
    one.close()
    assert not caught.value.passing


@pytest.mark.parametrize(
    "address",
    [
        "ftp://x/y",
        "bucket/prefix",
        "https://",
        "s3://",
        "http://user@host/x",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine",
    ],
)
def test_an_address_that_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(WeightsError, match="address"):
        source_at(address)


# --- the engine --------------------------------------------------------------------------------------------------------

_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime.remote import start
start.begin(sys.argv[1])
import mlpack_runtime.model as model
from mlpack_runtime.tensor import tensor
loaded = model.load()
inputs = {"pixels": tensor([1.0, 2.0, 3.0, 4.0], "FP32", (1, 4)), "marks": tensor([1], "INT64", (1,))}
print(loaded.predict(inputs)["scores"].data.hex(), "weights" in loaded.stages_ms)
"""


def test_the_engine_computes_with_the_mapped_weights(tmp_path: Path, server: WeightServer) -> None:
    inside, root = package(tmp_path / "inside", affine), package(tmp_path / "outside", affine)
    data = outside(root, cache=[str(tmp_path)])
    server.objects["/w/" + hashlib.sha256(data).hexdigest()] = data

    def answer(place: Path, **more: str) -> str:
        command = [sys.executable, "-I", "-S", "-c", _ASK, str(place)]
        ended = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=False)
        return ended.stdout.strip() or ended.stderr.strip().splitlines()[-1]

    told = answer(inside).replace("False", "True")
    assert answer(root, MLPACK_WEIGHTS=f"{server.address}/w") == told
    assert answer(root, MLPACK_WEIGHTS="http://127.0.0.1:9/w") == told  # out of the cache: nobody is asked
    assert answer(root, MLPACK_WEIGHTS=f"{server.address}/w", MLPACK_WEIGHTS_CACHE="memory") == told
    refused = answer(root, MLPACK_WEIGHTS=f"{server.address}/nothing", MLPACK_WEIGHTS_CACHE=str(tmp_path / "inside"))
    assert refused.startswith("mlpack_runtime.model.ModelError: ")
    assert "nothing is there under the weights' digest" in refused


def test_pages_of_a_file_go_while_its_session_opens(tmp_path: Path) -> None:
    """The engine makes its own form of most weights: with the file's pages in memory too, that is twice their bytes."""
    whole = random.Random(7).randbytes(4 << 20)
    for cache in ([str(tmp_path)], ["memory"]):
        begun = start._Begun(str(tmp_path))  # a directory without weights.json
        assert begun.wait() is None
        begun.forget_beside()  # nothing to forget
        begun.held = held = download.obtain(Weights(rows_of(whole, 1 << 20, cache=cache), {}), Memory(whole))
        forgotten = threading.Event()
        forget = held.forget_pages
        held.forget_pages = lambda forget=forget, told=forgotten: (forget(), told.set())  # type: ignore[method-assign, misc]
        begun.forget_beside()
        assert forgotten.wait(0.2 if cache == ["memory"] else 10) == (cache != ["memory"])  # where they are nowhere else, they stay
        begun.is_settled = True
        assert bytes(held.mapping) == whole
        held.close()
