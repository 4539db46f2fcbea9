"""Packages as they ship, from the real wheels: reproducible, accepted by other people's tools, and they come up and answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import word_tokenizer, words
from tests.support.small_packages import ANSWER, HERE, model_dir, packed
from tests_slow.conftest import MakeRuntime, program, run

from mlpack.core import digest
from mlpack.errors import PackError
from mlpack.oci import layout
from mlpack.oci.base import Base
from mlpack.pipeline.packing import pack
from mlpack.targets import LambdaImage, LambdaZip, lambda_image
from mlpack.targets.limits import ZIP_UNZIPPED
from mlpack.targets.shipped import boot

ZIPS = [LambdaZip(arch=HERE), LambdaZip(arch=HERE, layer=True), LambdaZip(arch=HERE, python="3.12")]
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]
ELF_MACHINE = {"x86_64": 0x3E, "arm64": 0xB7}


def outputs(answer: dict[str, Any]) -> list[float]:
    assert answer["statusCode"] == 200
    return list(json.loads(answer["body"])["outputs"][0]["data"])


def event_of(artifact: Path) -> bytes:
    return (artifact / "event.json").read_bytes()


@pytest.mark.parametrize("config", ZIPS, ids=["function", "layer", "python3.12"])
def test_zip_boots_under_stub_and_emulator(config: LambdaZip, make_runtime: MakeRuntime, rie: Path, tmp_path: Path) -> None:
    artifact, _ = packed(tmp_path, config, make_runtime(config, config.python), python=config.python)
    stubbed = boot(artifact, event_of(artifact))
    emulated = boot(artifact, event_of(artifact), rie=rie)
    assert outputs(stubbed.answer) == outputs(emulated.answer) == ANSWER
    assert "under the Lambda emulator" in emulated.how
    assert emulated.init_ms > 0


def test_zip_for_the_other_processor_holds_its_library(make_runtime: MakeRuntime, tmp_path: Path) -> None:
    config = LambdaZip(arch=OTHER)  # type: ignore[arg-type]
    artifact, made = packed(tmp_path, config, make_runtime(config, config.python), python=config.python)
    assert made.size_bytes < ZIP_UNZIPPED.value
    root = pack.unpack(artifact, tmp_path / "unpacked")
    header = (root / "lib/libonnxruntime.so").read_bytes()[:20]
    assert int.from_bytes(header[18:20], "little") == ELF_MACHINE[OTHER]
    with pytest.raises(PackError, match="boot it on a machine of that kind"):
        boot(artifact, event_of(artifact))


def test_text_package_tokenises_inside(make_runtime: MakeRuntime, tmp_path: Path) -> None:
    model = model_dir(tmp_path / "words")
    words(model / "model.onnx")
    word_tokenizer(model / "tokenizer.json")
    axes = ["batch", "sequence"]
    ports = {
        "inputs": [{"name": name, "dtype": "int64", "shape": axes} for name in ("input_ids", "attention_mask")],
        "outputs": [{"name": "embedding", "dtype": "float32", "shape": ["batch", 5]}],
    }
    (model / "signature.json").write_text(json.dumps(ports))
    config = LambdaZip(arch=HERE)
    runtime = make_runtime(config, config.python, text=True)
    sample = {"text": "the cats sat on the mat"}
    artifact, _ = packed(tmp_path, config, runtime, python=config.python, model_dir=model, sample=sample)
    assert len(outputs(boot(artifact, event_of(artifact)).answer)) == 5


def test_runtime_twice_is_the_same_tree(make_runtime: MakeRuntime, tmp_path: Path, test_cache: Path) -> None:
    from tests.support.small_packages import target

    from mlpack.pipeline.packing import wheels

    config = LambdaZip(arch=HERE)
    first = make_runtime(config, config.python)
    pins = wheels.read_lock(test_cache / "slow.lock").wheels[wheels.platform_key(config.python, HERE)]
    again = tmp_path / "somewhere/else"
    again.mkdir(parents=True)
    pack.runtime_tree(pack.runtime_request(target(config), config.python, False, pins), again)
    assert digest.of_tree(again) == digest.of_tree(first)


def test_image_is_reproducible_and_taken_by_other_tools(
    make_runtime: MakeRuntime, base: Base, test_cache: Path, tmp_path: Path
) -> None:
    config = LambdaImage(arch=HERE)
    runtime = make_runtime(config, "3.11")
    given = {"python": "3.11", "base": base, "cache_dir": test_cache / "oci"}
    artifact, made = packed(tmp_path / "one", config, runtime, **given)
    _, again = packed(tmp_path / "quite/another/place", config, runtime, **given)
    assert (made.digest, made.tree) == (again.digest, again.tree)
    assert lambda_image.check_lambda_image(layout.read(artifact / "image"), HERE) == ()
    inspected = json.loads(run(program("skopeo"), "inspect", f"oci:{artifact / 'image'}:latest"))
    assert inspected["Digest"] == str(made.digest)
    run(program("umoci"), "unpack", "--rootless", "--image", f"{artifact / 'image'}:latest", tmp_path / "bundle")
    task = tmp_path / "bundle/rootfs/var/task"
    for path in (task / "bootstrap.py", task / "lib/libonnxruntime.so", task / "model/model.onnx"):
        assert path.stat().st_mode & 0o444 == 0o444
    assert digest.of_tree(task) == digest.of_tree(pack.unpack(artifact, tmp_path / "unpacked"))


@pytest.fixture(scope="module")
def writing_image(make_runtime: MakeRuntime, base: Base, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose hook answers only where it cannot write beside itself."""
    config = LambdaImage(arch=HERE)
    hooks = {
        "app.py": "def preprocess(value):\n    try:\n        open('/var/task/x', 'w')\n    except OSError:\n        return value\n"
    }
    given = {"python": "3.11", "base": base, "cache_dir": test_cache / "oci", "sample": {"x": [[1, 2, 3, 4]]}}
    return packed(tmp_path_factory.mktemp("writing"), config, make_runtime(config, "3.11"), hooks=hooks, **given)[0]


@pytest.mark.parametrize("emulated", [False, True], ids=["stub", "emulator"])
def test_image_boots_under_podman_read_only(emulated: bool, writing_image: Path, rie: Path) -> None:
    artifact = writing_image
    podman = program("podman")
    booted = boot(artifact, event_of(artifact), rie=rie if emulated else None, podman=podman)
    assert outputs(booted.answer) == ANSWER
    assert "in podman, read-only" in booted.how
    own = digest.of_bytes(layout.read(artifact / "image").config_bytes)
    assert str(own).removeprefix("sha256:") not in run(podman, "images", "--all", "--quiet", "--no-trunc")  # others' come and go


def test_image_that_fails_under_podman_leaves_no_container(
    make_runtime: MakeRuntime, base: Base, test_cache: Path, tmp_path: Path
) -> None:
    config = LambdaImage(arch=HERE)
    hooks = {"app.py": "import time\ndef preprocess(value):\n    time.sleep(60)\n"}
    given = {"python": "3.11", "base": base, "cache_dir": test_cache / "oci", "sample": {"x": 1}}
    artifact, _ = packed(tmp_path, config, make_runtime(config, "3.11"), hooks=hooks, **given)
    podman = program("podman")
    before = run(podman, "ps", "--all", "--quiet")
    with pytest.raises(PackError, match="did not answer within 5 s"):
        boot(artifact, event_of(artifact), podman=podman, timeout_s=5)
    assert run(podman, "ps", "--all", "--quiet") == before
