"""Where a service comes from: directories and releases, with every package's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.deployments import CACHE, FEATURES, build_directory

from mlpack.deploy.service import Service
from mlpack.deploy.sources import Source, opened
from mlpack.errors import MlpackError, RecipeError
from mlpack.registry.library.registry import open_registry

ASKED: dict[str, Any] = {
    "deploy": {"traffic": {"peak_rps": 50}},
    "tags": {"service": "a", "team": "b", "env": "prod"},
}
MODEL = {
    "around": {"features": FEATURES, "cache": CACHE, "log": {"to": "s3://bucket-log/x", "sample": 0.1}},
    "authorize": {"api_keys": {"header": "x-api-key", "env": "KEYS"}},
}


def read(name: Path | str, **more: Any) -> Service:
    with opened(Source(name=str(name), **more)) as service:
        return service


def test_a_zip_says_all_of_its_package(tmp_path: Path) -> None:
    service = read(build_directory(tmp_path / "out", model=MODEL, **ASKED))
    package = service.package
    assert (service.name, service.environment, service.stack) == ("tiny", "prod", "tiny-prod")
    assert (package.kind, package.runtime, package.memory_mb) == ("lambda-zip", "python3.13", 1769)
    assert (package.features, package.cache, package.environment) == (FEATURES, CACHE, ("KEYS",))
    assert package.log == {"to": "s3://bucket-log/x", "sample": 0.1}
    assert service.release.version == 0
    assert service.measured.p95_ms is not None
    assert 10 <= package.timeout_s <= 28
    assert package.document["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("target", "kind"),
    [("lambda-image", "lambda-image"), ("container", "container"), ("cpu-worker", "worker"), ("gpu-worker", "worker")],
)
def test_an_image_says_all_of_its_package(tmp_path: Path, target: str, kind: str) -> None:
    service = read(build_directory(tmp_path / "out", target, model=MODEL, **ASKED))
    assert service.package.kind == kind
    assert service.package.features == FEATURES
    assert service.package.gpu == (target == "gpu-worker")
    assert (service.package.door is not None) == (kind == "worker")
    assert service.package.max_batch == (1 if kind == "lambda-image" else 8)


@pytest.mark.parametrize("target", ["lambda-zip", "cpu-worker"])
def test_a_release_says_what_its_build_says(tmp_path: Path, target: str) -> None:
    build = build_directory(tmp_path / "out", target, model=MODEL, **ASKED)
    registry = open_registry(tmp_path / "registry", environ={})
    registry.publish(build)
    before, service = read(build), read("tiny@1", registry=str(tmp_path / "registry"), environ={})
    assert (service.release.reference, service.release.version) == ("tiny@1", 1)
    assert service.package.features == FEATURES
    assert service.package.sha256 == before.package.sha256
    assert service.measured == before.measured
    assert service.deploy == before.deploy


def test_tags_of_a_recipe_come_before_recorded_ones(tmp_path: Path) -> None:
    build = build_directory(tmp_path / "out", **ASKED)
    (tmp_path / "recipe.yaml").write_text("tags: {env: dev}\nsource: {onnx: nowhere.onnx}\n")
    service = read(build, recipe=tmp_path / "recipe.yaml")
    assert service.tags == {"env": "dev", "service": "a", "team": "b"}
    assert service.deploy.traffic.peak_rps == 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "build.json").write_text("{}"), "schema"),
        (lambda folder: (folder / "build.json").unlink(), "No such file"),
        (lambda folder: (folder / "artifacts/int8@lambda-zip-x86_64/package.json").write_text("[1]"), "package.json"),
        (lambda folder: (folder / "artifacts/int8@lambda-zip-x86_64/package.json").unlink(), "package.json"),
        (lambda folder: (folder / "artifacts/int8@lambda-zip-x86_64/function.zip").write_bytes(b"no zip"), "is damaged"),
        (lambda folder: (folder / "artifacts/int8@lambda-zip-x86_64/function.zip").unlink(), "function.zip"),
        (lambda folder: (folder / "artifacts/int8@lambda-zip-x86_64/openapi.json").write_text("nothing"), "openapi.json"),
    ],
)
def test_a_damaged_build_is_told(tmp_path: Path, change: Any, reason: str) -> None:
    build = build_directory(tmp_path / "out", **ASKED)
    change(build)
    with pytest.raises(MlpackError, match=reason):
        read(build)


@pytest.mark.parametrize("key", ["digest", "size_bytes", "python", "arch", "memory_mb", "worker", "layers", "compressed_bytes"])
@pytest.mark.parametrize("value", [None, "x", [], -1])
def test_a_strange_package_json_is_told(tmp_path: Path, key: str, value: Any) -> None:
    build = build_directory(tmp_path / "out", **ASKED)
    path = build / "artifacts/int8@lambda-zip-x86_64/package.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, key: value}))
    try:
        assert isinstance(read(build), Service)
    except MlpackError as error:
        assert "package.json" in str(error)  # noqa: PT017


def test_a_build_that_chose_nothing_is_told(tmp_path: Path) -> None:
    build = build_directory(tmp_path / "out", **ASKED)
    record = json.loads((build / "build.json").read_text())
    (build / "build.json").write_text(json.dumps({**record, "chosen": None}))
    with pytest.raises(RecipeError, match="chose nothing"):
        read(build)


def test_a_plugins_target_is_refused(tmp_path: Path) -> None:
    build = build_directory(tmp_path / "out", **ASKED)
    text = (build / "build.json").read_text().replace('"target": "lambda-zip"', '"target": "edge-box"')
    (build / "build.json").write_text(text)
    with pytest.raises(RecipeError, match="not of edge-box"):
        read(build)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("service", "x<y>", "is no tag that AWS takes"),
        ("owner", "a\nb", "is no tag that AWS takes"),
        ("owner", "x" * 257, "is no tag that AWS takes"),
        ("aws:x", "1", "begins with aws:"),
    ],
)
def test_a_tag_that_aws_refuses_is_refused(tmp_path: Path, name: str, value: str, reason: str) -> None:
    build = build_directory(tmp_path / "out", deploy=ASKED["deploy"], tags=ASKED["tags"] | {name: value})
    with pytest.raises(RecipeError, match=reason), opened(Source(name=str(build))):
        pass


def test_tags_in_any_letters_are_taken_up_to_fifty(tmp_path: Path) -> None:
    many = ASKED["tags"] | {f"k{number}": "Überfluß 团队/a+b@c:d=e" for number in range(47)}
    with opened(Source(name=str(build_directory(tmp_path / "fifty", deploy=ASKED["deploy"], tags=many)))) as service:
        assert len(service.tags) == 50
    build = build_directory(tmp_path / "more", deploy=ASKED["deploy"], tags=many | {"one": "more"})
    with pytest.raises(RecipeError, match="are 51"), opened(Source(name=str(build))):
        pass
