"""Packing: equal requests give equal bytes, what ships is what was given, and every refusal says why."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE, PYTHON, packed

from mlpack.core import digest
from mlpack.errors import LimitError, PackError
from mlpack.pipeline.packing import pack, runtime_part, wheels
from mlpack.pipeline.packing.pack import RuntimeRequest
from mlpack.targets import GpuWorker, LambdaImage, LambdaZip


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime part. Read only."""
    return small_packages.runtime(tmp_path_factory.mktemp("runtime") / "tree")


def settings(artifact: Path, to: Path) -> dict[str, Any]:
    return dict(json.loads((pack.unpack(artifact, to) / "model/model.json").read_bytes()))


def test_pack_zip_unpacks_to_what_was_given(runtime: Path, tmp_path: Path) -> None:
    out, made = packed(tmp_path, LambdaZip(arch=HERE), runtime)
    assert made.files == ("event.json", "function.zip", "openapi.json", "package.json")
    assert made.digest == digest.of_file(out / "function.zip")
    assert made.tree == digest.of_tree(out)
    assert made.size_bytes == sum(part.size_bytes for part in made.parts)
    root = pack.unpack(out, tmp_path / "unpacked")
    for path, entry in digest.entries(runtime):
        if entry.is_file():
            assert (root / path).read_bytes() == Path(entry.path).read_bytes()
    assert (root / "model/model.onnx").read_bytes() == (tmp_path / "model/model.onnx").read_bytes()
    assert digest.size_of_tree(root) == made.size_bytes


def test_pack_image_unpacks_to_the_same_files_as_the_zip(runtime: Path, tmp_path: Path) -> None:
    zipped, _ = packed(tmp_path / "zip", LambdaZip(arch=HERE), runtime)
    base = small_packages.base(tmp_path / "rootfs", tmp_path / "cache")
    out, made = packed(tmp_path / "image", LambdaImage(arch=HERE), runtime, base=base)
    assert [part.name for part in made.parts] == ["runtime", "model", "code", "base"]
    assert made.size_bytes == sum(part.size_bytes for part in made.parts[:3])
    one, other = pack.unpack(zipped, tmp_path / "one"), pack.unpack(out, tmp_path / "other")
    for root in (one, other):
        (root / "model/model.json").unlink()  # names its target
    assert digest.of_tree(one) == digest.of_tree(other)


@pytest.mark.parametrize(
    "config", [LambdaZip(arch=HERE), LambdaZip(arch=HERE, layer=True), LambdaImage(arch=HERE)], ids=["zip", "layer", "image"]
)
def test_pack_twice_in_different_places_gives_equal_digests(config: LambdaZip | LambdaImage, tmp_path: Path) -> None:
    found = []
    hooks = {"app.py": "KNOWN = {'b', 'a'}\ndef preprocess(value):\n    return value in {'x', 'y'}\n"}
    for name in ("one", "quite/another/place"):
        work = tmp_path / name
        runtime = small_packages.runtime(work / "runtime", "/opt/python" if getattr(config, "layer", False) else "/var/task")
        more = {"base": small_packages.base(work / "rootfs", work / "cache")} if isinstance(config, LambdaImage) else {}
        _, made = packed(work, config, runtime, hooks=dict(hooks), **more)
        found.append((made.digest, made.tree))
    assert found[0] == found[1]


def test_pack_model_json_holds_what_the_runtime_reads(runtime: Path, tmp_path: Path) -> None:
    hooks = {"app.py": "def preprocess(value):\n    return value\n", "other.py": "X = 1\n"}
    out, _ = packed(tmp_path, LambdaZip(arch=HERE, memory_mb=512), runtime, hooks=hooks)
    found = settings(out, tmp_path / "unpacked")
    assert found == {
        "schema": 1,
        "name": "tiny",
        "version": "abcdef012345",
        "variant": "fp32",
        "target": "lambda-zip",
        "graph": "model.onnx",
        "graph_optimization_level": 1,
        "memory_mb": 512,
        "session": {},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        "tokenizer": None,
        "preprocess": "app:preprocess",
        "postprocess": None,
    }
    names = sorted(path.name for path in (tmp_path / "unpacked/app").rglob("*") if path.is_file())
    tag = f"cpython-{PYTHON.replace('.', '')}"
    assert names == [f"app.{tag}.pyc", "app.py", f"other.{tag}.pyc", "other.py"]


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        ({}, None, 512),
        ({"sentence_bert_config": {"max_seq_length": 256}, "tokenizer_config": {"model_max_length": 128}}, None, 256),
        ({"tokenizer_config": {"model_max_length": 128}}, None, 128),
        ({"tokenizer_config": {"model_max_length": 1e30}}, None, 512),
        ({"sentence_bert_config": {"max_seq_length": 256}}, 64, 64),
        ({"tokenizer": {"model": {"type": "BPE"}, "truncation": {"max_length": 48}}}, None, 48),
        ({"tokenizer": {"model": {"type": "BPE"}, "truncation": None}, "tokenizer_config": {"model_max_length": 32}}, None, 32),
    ],
)
def test_pack_max_length_is_the_nearest_word(
    files: dict[str, Any], given: int | None, expected: int, runtime: Path, tmp_path: Path
) -> None:
    model = small_packages.model_dir(tmp_path / "text", **{"tokenizer": {"model": {"type": "BPE"}}, **files})
    out, _ = packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model, max_length=given)
    assert settings(out, tmp_path / "unpacked")["tokenizer"] == {"file": "tokenizer.json", "max_length": expected}


@pytest.mark.parametrize("said", ["<pad>", {"content": "<pad>", "lstrip": False}])
def test_pack_padding_token_is_carried(said: Any, runtime: Path, tmp_path: Path) -> None:
    model = small_packages.model_dir(tmp_path / "text", tokenizer={"model": {"type": "BPE"}}, tokenizer_config={"pad_token": said})
    out, _ = packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model)
    assert settings(out, tmp_path / "unpacked")["tokenizer"]["pad_token"] == "<pad>"


def test_pack_every_file_is_world_readable_in_the_archive(runtime: Path, tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "m").mkdir()
    os.umask(0o077)
    try:
        out, _ = packed(tmp_path / "m", LambdaZip(arch=HERE), runtime)
    finally:
        os.umask(0o022)
    with zipfile.ZipFile(out / "function.zip") as archive:
        assert {stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()} == {0o644}


def test_pack_leaves_the_model_untouched(runtime: Path, tmp_path: Path) -> None:
    model = small_packages.model_dir(tmp_path / "model-in")
    before = digest.of_tree(model), (model / "model.onnx").stat().st_mode
    packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model)
    assert (digest.of_tree(model), (model / "model.onnx").stat().st_mode) == before


def test_pack_too_large_leaves_nothing(runtime: Path, tmp_path: Path) -> None:
    model = small_packages.model_dir(tmp_path / "large")
    with (model / "model.onnx.data").open("wb") as file:
        file.truncate(262_144_000)
    with pytest.raises(LimitError, match=r"model/model\.onnx\.data"):
        packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"hooks": {"app.py": "def preprocess(:\n"}}, r"not valid for Python"),
        ({"tokenizer": Path("nowhere/tokenizer.json")}, "no tokenizer at"),
    ],
)
def test_pack_contradiction_is_a_pack_error(other: dict[str, Any], said: str, runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=said):
        packed(tmp_path, LambdaZip(arch=HERE), runtime, **other)


@pytest.mark.parametrize("missing", ["model.onnx", "signature.json"])
def test_pack_incomplete_model_is_a_pack_error(missing: str, runtime: Path, tmp_path: Path) -> None:
    model = small_packages.model_dir(tmp_path / "model-in")
    (model / missing).unlink()
    with pytest.raises(PackError, match=missing):
        packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model)


def test_pack_base_only_where_one_belongs(runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="needs a base"):
        packed(tmp_path / "a", LambdaImage(arch=HERE), runtime)
    base = small_packages.base(tmp_path / "rootfs", tmp_path / "cache")
    with pytest.raises(PackError, match="has no base"):
        packed(tmp_path / "b", LambdaZip(arch=HERE), runtime, base=base)


@pytest.mark.parametrize("kind", [OSError, shutil.Error])
def test_pack_full_disk_is_no_fault_of_package_and_says_where(kind: type[OSError], tmp_path: Path) -> None:
    with pytest.raises(OSError, match=tmp_path.name) as raised, runtime_part.explain_full_disk(tmp_path):
        raise kind([("from", "to", f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}")])
    assert raised.value.errno == errno.ENOSPC


def test_assemble_runtime_for_another_processor_is_refused(tmp_path: Path) -> None:
    other = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]
    request = RuntimeRequest(python=PYTHON, arch=other, text=False, pins=(small_packages.PIN,))
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match=f"not built for {other}"):
        pack.assemble_runtime(small_packages.installed(tmp_path / "in"), request, tmp_path / "out")


def test_assemble_runtime_without_a_compiler_says_so(tmp_path: Path) -> None:
    request = RuntimeRequest(python="3.13", arch=HERE, text=False, pins=(small_packages.PIN,))
    (tmp_path / "out").mkdir()
    (note,) = pack.assemble_runtime(small_packages.installed(tmp_path / "in"), request, tmp_path / "out")
    assert "3x longer" in note
    assert not list((tmp_path / "out").rglob("*.pyc"))


def test_runtime_tree_holds_what_the_layout_says(runtime: Path) -> None:
    assert sorted(path.name for path in runtime.iterdir()) == ["bootstrap.py", "lib", "licenses", "mlpack_runtime"]
    assert [path.name for path in (runtime / "lib").iterdir()] == ["libonnxruntime.so"]
    assert not (runtime / "mlpack_runtime/bootstrap.py").exists()
    sources = {path.stem for path in (runtime / "mlpack_runtime").glob("*.py")}
    assert {path.name.partition(".")[0] for path in (runtime / "mlpack_runtime/__pycache__").iterdir()} == sources


def test_runtime_request_takes_the_tokenizer_for_text_only() -> None:
    pins = (small_packages.PIN, small_packages.TOKENIZER_PIN)
    target = small_packages.target(LambdaZip(arch=HERE, layer=True))
    assert pack.runtime_request(target, PYTHON, False, pins).pins == pins[:1]
    text = pack.runtime_request(target, PYTHON, True, pins)
    assert (text.pins, text.prefix) == (pins, "/opt/python")
    with pytest.raises(PackError, match=wheels.LOCK_NAME):
        pack.runtime_request(target, PYTHON, True, pins[:1])


def test_runtime_key_tells_everything_that_decides_apart() -> None:
    given = {"python": "3.13", "arch": "arm64", "text": False, "pins": (small_packages.PIN,)}
    changes: list[dict[str, Any]] = [{}, {"python": "3.12"}, {"arch": "x86_64"}, {"text": True}, {"pins": ()}]
    changes += [{"prefix": "/opt/python"}, {"interpreter": small_packages.running()}]
    keys = {digest.of_json(pack.runtime_key(RuntimeRequest(**{**given, **change}))) for change in changes}
    assert len(keys) == len(changes)


def with_engines(path: Path, **files: bytes) -> Path:
    """The tiny model as the `tensorrt` step leaves it, with an engine whose bytes nobody runs."""
    made = small_packages.model_dir(path)
    (made / "engines").mkdir()
    (made / "engines/sm89.engine").write_bytes(b"plan")
    row = {"sm": "sm89", "file": "engines/sm89.engine", "digest": str(digest.of_bytes(b"plan"))}
    (made / "tensorrt.json").write_text(json.dumps({"schema": 1, "engines": [row]}))
    (made / "tensorrt-check.json").write_text("{}")
    for name, data in files.items():
        (made / name).write_bytes(data)
    return made


def gpu_package(work: Path, config: GpuWorker, model: Path) -> tuple[Path, dict[str, Any]]:
    base = small_packages.base(work / "rootfs", work / "cache")
    (work / "bare").mkdir()
    (work / "bare/bootstrap.py").write_text("")
    artifact, _ = packed(work, config, work / "bare", base=base, model_dir=model)
    root = pack.unpack(artifact, work / "unpacked")
    return root, json.loads((root / "model/model.json").read_bytes())


@pytest.mark.skipif(HERE != "x86_64", reason="GPU workers are for x86_64, and the tests' base is of this machine")
def test_pack_gpu_worker_holds_engines_settings_and_the_licence(tmp_path: Path) -> None:
    model = with_engines(tmp_path / "model", **{"cpu.onnx": b"twin"})
    root, settings = gpu_package(tmp_path, GpuWorker(gpus=("sm89",), max_batch=4), model)
    assert (root / "model/engines/sm89.engine").read_bytes() == b"plan"
    assert (root / "model/tensorrt-check.json").is_file()
    assert not (root / "model/cpu.onnx").exists()  # nothing here falls back to the processor
    assert settings["backend"] == {"kind": "tensorrt", "fallback": []}
    assert settings["worker"]["max_batch"] == 4
    assert (settings["graph"], "cpu_graph" in settings) == ("model.onnx", False)
    described = pack.describe(tmp_path / "out")
    assert [row["name"] for row in described["licenses"]] == ["nvidia-tensorrt-rtx"]
    assert described["backend"] == settings["backend"]
    assert {row["part"] for row in described["files"]} == {"runtime", "model", "engines", "code"}


@pytest.mark.skipif(HERE != "x86_64", reason="GPU workers are for x86_64, and the tests' base is of this machine")
def test_pack_gpu_worker_that_may_fall_back_adds_the_cpu_graph(tmp_path: Path) -> None:
    model = with_engines(tmp_path / "model", **{"cpu.onnx": b"twin", "cpu.onnx.data": b"weights"})
    root, settings = gpu_package(tmp_path, GpuWorker(fallback=("cpu",)), model)
    assert (root / "model/cpu.onnx.data").read_bytes() == b"weights"
    assert (settings["graph"], settings["cpu_graph"]) == ("model.onnx", "cpu.onnx")


@pytest.mark.skipif(HERE != "x86_64", reason="GPU workers are for x86_64, and the tests' base is of this machine")
def test_pack_engine_that_is_not_the_listed_one_is_refused(tmp_path: Path) -> None:
    model = with_engines(tmp_path / "model")
    (model / "engines/sm89.engine").write_bytes(b"other")
    with pytest.raises(PackError, match=r"is not the engine that tensorrt\.json lists"):
        gpu_package(tmp_path, GpuWorker(), model)


def test_pack_for_a_processor_takes_the_twin_and_no_engines(runtime: Path, tmp_path: Path) -> None:
    model = with_engines(tmp_path / "model", **{"cpu.onnx": b"twin"})
    artifact, _ = packed(tmp_path, LambdaZip(arch=HERE), runtime, model_dir=model)
    root = pack.unpack(artifact, tmp_path / "unpacked")
    settings = json.loads((root / "model/model.json").read_bytes())
    assert settings["graph"] == "cpu.onnx"
    assert sorted(path.name for path in (root / "model").iterdir()) == ["cpu.onnx", "model.json"]
    assert "backend" not in settings
