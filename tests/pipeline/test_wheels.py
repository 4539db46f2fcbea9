"""Wheels for another platform: resolved and unpacked by the real uv from an index on loopback, pinned, slimmed."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import wheel_index

from mlpack.core.digest import Digest, of_bytes
from mlpack.errors import PackError, RecipeError, ServiceError
from mlpack.passes import tensorrt
from mlpack.pipeline.packing import wheel_rules, wheels
from mlpack.pipeline.packing.wheels import Lock, Pin

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
PINS = st.builds(
    Pin,
    name=st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
    version=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}", fullmatch=True),
    sha256s=st.lists(HEX, min_size=1, max_size=3, unique=True).map(lambda each: tuple(sorted(each))),
)
LOCKS = st.builds(
    Lock,
    wheels=st.dictionaries(
        st.sampled_from(["3.12-x86_64", "3.13-arm64"]), st.lists(PINS, max_size=3, unique_by=lambda p: p.name).map(tuple)
    ),
    bases=st.dictionaries(st.text(max_size=20), HEX.map(lambda text: Digest(f"sha256:{text}")), max_size=2),
)


def make_wheel(folder: Path, tag: str = "py3-none-any", body: bytes = b"raise SystemExit('a wheel was run')\n") -> Path:
    """demo 1.0, whose code must never run."""
    files = {
        "demo/__init__.py": body,
        "demo-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
        "demo-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    path = folder / f"demo-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.writestr(zipfile.ZipInfo("demo-1.0.dist-info/RECORD"), "\n".join([*rows, "demo-1.0.dist-info/RECORD,,"]) + "\n")
    return path


@pytest.fixture
def simple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the project `demo` in a package index on loopback, which uv is told to use."""
    with wheel_index.serving(tmp_path, monkeypatch) as index:
        folder = index.folder / "demo"
        folder.mkdir()
        yield folder


def publish(folder: Path, *made: Path) -> None:
    links = (f'<a href="{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>' for path in made)
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


def test_resolve_and_install_give_pinned_files_unexecuted(simple: Path, tmp_path: Path) -> None:
    made = make_wheel(simple)
    publish(simple, made)
    pins = wheels.resolve(("demo",), "3.13", "arm64")
    assert pins == (Pin(name="demo", version="1.0", sha256s=(hashlib.sha256(made.read_bytes()).hexdigest(),)),)
    wheels.install(pins, "3.13", "arm64", tmp_path / "out")
    assert (tmp_path / "out/demo/__init__.py").read_bytes().startswith(b"raise SystemExit")
    assert not list((tmp_path / "out").rglob("*.pyc"))


def test_install_other_bytes_than_pinned_is_refused(simple: Path, tmp_path: Path) -> None:
    publish(simple, make_wheel(simple))
    pins = wheels.resolve(("demo",), "3.13", "x86_64")
    publish(simple, make_wheel(simple, body=b"evil = 1\n"))
    with pytest.raises(PackError, match=r"other bytes than mlpack\.lock pins"):
        wheels.install(pins, "3.13", "x86_64", tmp_path / "out")
    assert not (tmp_path / "out/demo").exists()


def test_resolve_no_wheel_for_the_platform_is_a_pack_error(simple: Path) -> None:
    publish(simple, make_wheel(simple, "cp313-cp313-manylinux_2_28_x86_64"))
    assert wheels.resolve(("demo",), "3.13", "x86_64")
    with pytest.raises(PackError, match=r"no suitable wheels for Python 3\.13 on arm64"):
        wheels.resolve(("demo",), "3.13", "arm64")


def test_resolve_unreachable_index_is_a_service_error(simple: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del simple
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match="could not be reached") as caught:
        wheels.resolve(("demo",), "3.13", "x86_64")
    assert caught.value.retryable


def test_pinned_with_a_lock_asks_nobody(simple: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(simple, make_wheel(simple))
    lock = wheels.with_pins(Lock(), "3.13", "x86_64", ("demo==1.0",))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    assert wheels.with_pins(lock, "3.13", "x86_64", ("demo==1.0",)) is lock
    with pytest.raises(ServiceError):
        wheels.with_pins(lock, "3.13", "arm64", ("demo==1.0",))


@pytest.mark.slow
@settings(deadline=None)
@given(lock=LOCKS)
def test_lock_is_read_back_as_written(lock: Lock, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lock") / wheels.LOCK_NAME
    wheels.write_lock(path, lock)
    found = wheels.read_lock(path)
    assert found.bases == lock.bases
    assert {key: set(pins) for key, pins in found.wheels.items()} == {key: set(pins) for key, pins in lock.wheels.items()}
    before = path.read_bytes()
    wheels.write_lock(path, found)
    assert path.read_bytes() == before


def test_lock_missing_is_empty_and_equal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / wheels.LOCK_NAME
    assert wheels.read_lock(path) == Lock()
    lock = Lock(bases={"registry.example/python:3.13 x86_64": of_bytes(b"index")})
    wheels.write_lock(path, lock)
    inode = path.stat().st_ino
    wheels.write_lock(path, lock)
    assert path.stat().st_ino == inode
    assert [each.name for each in tmp_path.iterdir()] == [wheels.LOCK_NAME]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": 1}',
        '{"schema": 2, "wheels": {}, "bases": {}}',
        '{"schema": 1, "wheels": [], "bases": {}}',
        '{"schema": 1, "wheels": {}, "bases": {"x": "latest"}}',
        json.dumps({"schema": 1, "bases": {}, "wheels": {"k": [{"name": "a", "version": "1", "sha256": []}]}}),
        json.dumps(
            {"schema": 1, "bases": {}, "wheels": {"k": [{"name": "a --index-url x", "version": "1", "sha256": ["0" * 64]}]}}
        ),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"k": [{"name": "a", "version": "1\n-e evil", "sha256": ["0" * 64]}]}}),
    ],
)
def test_lock_damaged_or_hostile_is_a_recipe_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / wheels.LOCK_NAME
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"mlpack\.lock"):
        wheels.read_lock(path)


def lay(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
        (root / path).chmod(0o700)
    return root


def test_slim_keeps_the_engine_and_licences_only(tmp_path: Path) -> None:
    source = lay(
        tmp_path / "in",
        "onnxruntime/capi/libonnxruntime.so.1.31.1",
        "onnxruntime/capi/libonnxruntime_providers_shared.so",
        "onnxruntime/capi/onnxruntime_pybind11_state.cpython-313-x86_64-linux-gnu.so",
        "onnxruntime/LICENSE",
        "onnxruntime/tools/deep/file.py",
        "onnxruntime-1.31.1.dist-info/METADATA",
        "onnxruntime-1.31.1.dist-info/RECORD",
        "tokenizers/tokenizers.abi3.so",
        "tokenizers/__init__.py",
        "tokenizers-0.22.2.dist-info/METADATA",
        "bin/onnxruntime_test",
    )
    assert wheels.slim(source, tmp_path / "out") == (
        "lib/libonnxruntime.so",
        "licenses/onnxruntime/LICENSE",
        "licenses/onnxruntime/METADATA",
        "licenses/tokenizers/METADATA",
        "site/tokenizers/tokenizers.abi3.so",
    )
    assert (tmp_path / "out/lib/libonnxruntime.so").stat().st_mode & 0o777 == 0o644


def test_slim_what_no_rule_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"telemetry/send\.py"):
        wheels.slim(lay(tmp_path / "in", "telemetry/send.py"), tmp_path / "out")


def test_slim_link_is_refused(tmp_path: Path) -> None:
    source = lay(tmp_path / "in", "onnxruntime/x")
    (source / "onnxruntime/LICENSE").symlink_to("/etc/passwd")
    with pytest.raises(PackError, match="LICENSE"):
        wheels.slim(source, tmp_path / "out")


def test_slim_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    source = lay(tmp_path / "in", "onnxruntime/capi/libonnxruntime.so.1", "onnxruntime/capi/libonnxruntime.so.2")
    with pytest.raises(PackError, match="would both become"):
        wheels.slim(source, tmp_path / "out")


def test_rules_each_have_a_reason() -> None:
    assert all(rule.reason for rule in wheels.RULES)


def test_engines_are_built_by_the_tensorrt_that_workers_carry() -> None:
    for flavour, wanted in wheel_rules.TENSORRT.items():
        version, cuda = tensorrt.VERSIONS[flavour]
        assert {each.partition("==")[2] for each in wanted} == {version}
        assert all(f"-cu{cuda}-" in each for each in wanted)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"wheels":' * 100_000,
        '{"schema": 1, "bases": {}, "wheels": ' + "[" * 900 + "]" * 900 + "}",
        '{"schema": 1, "wheels": {}, "bases": {"\\ud800": "sha256:%s"}}' % ("a" * 64),
        '{"schema": 1%s, "wheels": {}, "bases": {}}' % ("0" * 5000),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"x": [{"name": "x", "version": "1", "sha256": ["a" * 64] * 1001}]}}),
        '{"schema": "%s"}' % ("x" * 100_000),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"x": [{"name": "x" * 201, "version": "1", "sha256": ["a" * 64]}]}}),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"x": [{"name": "x", "version": "1" * 10**6, "sha256": ["a" * 64]}]}}),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"x": [{"name": "x", "version": "1", "sha256": {"a" * 64: 1}}]}}),
        json.dumps({"schema": 1, "bases": {}, "wheels": {"x" * 10**6: []}}),
    ],
    ids=["lists", "objects", "inside", "surrogate", "digits", "hashes", "long", "name", "version", "object of hashes", "key"],
)
def test_a_lock_that_is_made_to_break_readers_is_a_recipe_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / wheels.LOCK_NAME
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        wheels.read_lock(path)
    assert len(str(caught.value)) < 1000


def test_a_lock_that_cannot_be_read_is_a_recipe_error(tmp_path: Path) -> None:
    path = tmp_path / wheels.LOCK_NAME
    path.mkdir()
    with pytest.raises(RecipeError, match="cannot be read"):
        wheels.read_lock(path)
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecipeError, match="16,777,216 bytes"):
        wheels.read_lock(path)
