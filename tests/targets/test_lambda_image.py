"""Lambda as an image: parts in layers of their own over a base, held to what Lambda takes."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE

from mlpack.errors import LimitError, PackError
from mlpack.oci import blobs, image, layout, media
from mlpack.oci.base import Base
from mlpack.oci.image import Image, Layer
from mlpack.targets import Contents, LambdaImage, lambda_image
from mlpack.targets.format import layering
from mlpack.targets.limits import IMAGE_LAYERS

OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]


def contents(root: Path, base: Base | None) -> Contents:
    files = {
        "runtime/lib/libonnxruntime.so": b"engine" * 20_000,
        "runtime/bootstrap.py": b"import sys\n",
        "model/model/model.onnx": bytes(range(256)) * 10,
        "model/model/model.onnx.data": b"",
        "code/model/model.json": b"{}",
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    labels = {"org.opencontainers.image.title": "tiny"}
    return Contents(
        runtime=root / "runtime", model=root / "model", code=root / "code", labels=labels, base=base, cache_dir=root / "cache"
    )


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return small_packages.base(tmp_path / "rootfs", tmp_path / "cache")


def write(given: Contents, out: Path) -> Image:
    out.mkdir(parents=True)
    lambda_image.write(given, LambdaImage(arch=HERE), out)
    return layout.read(out / "image")


def test_write_lays_runtime_model_and_code_over_the_base(base: Base, tmp_path: Path) -> None:
    made = write(contents(tmp_path / "in", base), tmp_path / "out")
    assert [line["created_by"] for line in image.config(made)["history"]][-3:] == [
        "mlpack: runtime",
        "mlpack: model",
        "mlpack: code",
    ]
    assert made.layers[0].digest == base.image.layers[0].digest
    settings = image.config(made)["config"]
    python = f"/usr/bin/python{small_packages.PYTHON}"
    assert settings["Entrypoint"] == [python, "-I", "-S", "/var/task/bootstrap.py"]
    assert settings["WorkingDir"] == "/var/task"
    assert "HOME=/tmp" in settings["Env"]
    assert settings["Labels"]["org.opencontainers.image.base.digest"] == str(base.manifest_digest)
    assert str(tmp_path) not in made.config_bytes.decode()
    assert image.validate(made) == []


def test_labels_and_a_date_are_the_images_and_never_its_layers(base: Base, tmp_path: Path) -> None:
    plain = write(contents(tmp_path / "in", base), tmp_path / "plain")
    given = contents(tmp_path / "in", base)
    labels = {**given.labels, "org.opencontainers.image.source": "https://example.org/models"}
    said = write(dataclasses.replace(given, labels=labels, created_s=1_764_374_400), tmp_path / "said")
    assert said.layers == plain.layers
    assert image.digest(said) != image.digest(plain)
    assert image.config(plain)["created"] == "1970-01-01T00:00:00Z"
    assert image.config(said)["created"] == "2025-11-29T00:00:00Z"
    assert image.config(said)["config"]["Labels"]["org.opencontainers.image.source"] == "https://example.org/models"
    assert image.validate(said) == []


def test_write_in_another_place_gives_the_same_image(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "two/three"):
        base = small_packages.base(tmp_path / name / "rootfs", tmp_path / name / "cache")
        found.add(image.digest(write(contents(tmp_path / name / "in", base), tmp_path / name / "out")))
    assert len(found) == 1


def test_write_model_layer_stays_when_code_changes(base: Base, tmp_path: Path) -> None:
    first = contents(tmp_path / "one", base)
    second = contents(tmp_path / "two", base)
    (second.code / "model/model.json").write_text('{"memory_mb": 1024}')
    a, b = write(first, tmp_path / "out1"), write(second, tmp_path / "out2")
    assert [x.digest == y.digest for x, y in zip(a.layers, b.layers, strict=True)] == [True, True, True, False]


def test_write_dense_weights_are_stored_in_gzip(base: Base, tmp_path: Path) -> None:
    given = contents(tmp_path / "in", base)
    (given.model / "model/model.onnx.data").write_bytes(os.urandom(1 << 20))
    layer = write(given, tmp_path / "out").layers[-2]
    assert layer.media_type == media.OCI.gzip
    assert layer.size_bytes > 1 << 20


def test_write_without_a_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="needs a base"):
        lambda_image.write(contents(tmp_path / "in", None), LambdaImage(), tmp_path)


def test_write_base_without_the_cpp_library_is_refused(tmp_path: Path) -> None:
    root = small_packages.rootfs(tmp_path / "rootfs")
    (root / "usr/lib/libstdc++.so.6").unlink()
    base = small_packages.resolve_base(str(root), HERE, tmp_path / "cache")
    with pytest.raises(PackError, match=r"libstdc\+\+"):
        write(contents(tmp_path / "in", base), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_write_too_large_is_refused_before_anything_is_written(base: Base, tmp_path: Path) -> None:
    large = replace(base.image, layers=(replace(base.image.layers[0], uncompressed_bytes=10 << 30),))
    with pytest.raises(LimitError, match=r"layer 0 of the base"):
        write(contents(tmp_path / "in", replace(base, image=large)), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def hand_made_layer(root: Path, *entries: tarfile.TarInfo, gzipped: bool = True) -> Layer:
    import gzip

    from mlpack.core import digest

    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"\0" * entry.size))
    data = gzip.compress(plain.getvalue()) if gzipped else plain.getvalue()
    named = blobs.put(root, data)
    return Layer(
        digest=named,
        diff_id=digest.of_bytes(plain.getvalue()),
        size_bytes=len(data),
        media_type=media.OCI.gzip if gzipped else media.OCI.tar,
        open=lambda: blobs.path_of(root, named).open("rb"),
    )


def entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode, made.type = mode, kind
    return made


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (entry("var/task/a", 0o600), "cannot be read by everybody"),
        (entry("var/task", 0o700, tarfile.DIRTYPE), "cannot be entered by everybody"),
        (entry("usr/lib/.wh.libc.so", 0o644), "hides something of the base"),
    ],
)
def test_check_finds_what_lambda_could_not_use(listed: tarfile.TarInfo, problem: str, base: Base, tmp_path: Path) -> None:
    layer = hand_made_layer(tmp_path / "blobs", listed)
    made = image.with_config(image.append(base.image, layer, "test"), entrypoint=["/usr/bin/python3"])
    (found,) = lambda_image.check_lambda_image(made, HERE, (layer.digest,))
    assert problem in found


def test_check_finds_wrong_platform_encoding_and_entrypoint(base: Base, tmp_path: Path) -> None:
    layer = hand_made_layer(tmp_path / "blobs", entry("var/task/a", 0o644), gzipped=False)
    made = image.append(base.image, layer, "test")
    problems = "\n".join(lambda_image.check_lambda_image(made, OTHER, (layer.digest,)))
    assert "made for linux/" in problems
    assert "anything but gzip" in problems
    assert "entrypoint" in problems


@pytest.mark.parametrize(
    ("listed", "problems"),
    [
        (entry("var/task/a", 0o444), []),
        (entry("var/task", 0o755, tarfile.DIRTYPE), []),
        (entry("var/task", 0o705, tarfile.DIRTYPE), []),
        (entry("var/task", 0o751, tarfile.DIRTYPE), ["/var/task/ cannot be entered by everybody (mode 751)"]),
        (entry("var/task", 0o774, tarfile.DIRTYPE), ["/var/task/ cannot be entered by everybody (mode 774)"]),
        (entry("var/task/a", 0o773), ["/var/task/a cannot be read by everybody (mode 773)"]),
        (entry("var/.wh.a/b", 0o644), []),
    ],
)
def test_modes_of_a_layer_to_the_bit(listed: tarfile.TarInfo, problems: list[str], base: Base, tmp_path: Path) -> None:
    layer = hand_made_layer(tmp_path / "blobs", listed)
    made = image.with_config(image.append(base.image, layer, "test"), entrypoint=["/usr/bin/python3"])
    wanted = tuple(f"layer 1: {each}: it runs as a user of its own" for each in problems)
    assert layering.problems(made, HERE, (layer.digest,)) == wanted
    assert layering.problems(made, HERE) == ()  # a base's private files are its own business


def test_a_layer_of_a_thousand_faults_shows_some(base: Base, tmp_path: Path) -> None:
    layer = hand_made_layer(tmp_path / "blobs", *(entry(f"var/task/{number:03}", 0o600) for number in range(1000)))
    made = image.with_config(image.append(base.image, layer, "test"), entrypoint=["/usr/bin/python3"])
    problems = layering.problems(made, HERE, (layer.digest,))
    assert len(problems) == 20
    assert "/var/task/019" in problems[-1]


@pytest.mark.parametrize(("entrypoint", "fits"), [(["/usr/bin/python3", "-I"], True), (["python3"], False), ([], False)])
def test_the_first_word_of_an_image_is_an_absolute_path(entrypoint: list[str], fits: bool, base: Base) -> None:
    problems = layering.problems(image.with_config(base.image, entrypoint=entrypoint), HERE)
    assert problems == (() if fits else (f"the entrypoint is {entrypoint!r}: a command by its absolute path is needed",))


@pytest.mark.parametrize(("beyond", "problems"), [(0, ()), (1, ("128 layers, more than 127",))])
def test_as_many_layers_as_engines_take(beyond: int, problems: tuple[str, ...], base: Base) -> None:
    made = image.with_config(base.image, entrypoint=["/usr/bin/python3"])
    many = replace(made, layers=made.layers * (IMAGE_LAYERS.value + beyond))
    assert layering.problems(many, HERE) == problems


def test_written_says_what_is_in_the_image(base: Base, tmp_path: Path) -> None:
    given = contents(tmp_path / "in", base)
    (tmp_path / "out").mkdir()
    written = lambda_image.write(given, LambdaImage(arch=HERE), tmp_path / "out")
    made = layout.read(tmp_path / "out/image")
    own = dict(zip(("runtime", "model", "code"), made.layers[-3:], strict=True))
    assert (written.kind, written.digest) == ("image", image.digest(made))
    assert written.layers == {part: layer.digest for part, layer in own.items()}
    assert written.compressed_bytes == sum(layer.size_bytes for layer in own.values())
    parts = {part.name: part.size_bytes for part in written.parts}
    assert written.size_bytes == sum(size for name, size in parts.items() if name != "base") == 120_000 + 11 + 2560 + 2
    assert parts["base"] == layering.open_base(given).image.layers[0].uncompressed_bytes
    assert sorted(each.path for each in written.files) == [
        "bootstrap.py", "lib/libonnxruntime.so", "model/model.json", "model/model.onnx", "model/model.onnx.data",
    ]  # fmt: skip


def test_only_dense_weights_are_stored_and_all_else_deflated(base: Base, tmp_path: Path) -> None:
    given = contents(tmp_path / "in", base)
    (given.runtime / "lib/dense.so").write_bytes(os.urandom(1 << 20))
    (given.runtime / "lib/zeros.so").write_bytes(bytes(1 << 20))
    (given.model / "model/zeros.data").write_bytes(bytes(1 << 20))
    runtime, model, _ = write(given, tmp_path / "out").layers[-3:]
    assert runtime.size_bytes < 1.5 * (1 << 20)
    assert model.size_bytes < 1 << 19


@pytest.mark.parametrize(("kind", "name"), [("registry", "docker.io/library/python:3.13-slim"), ("directory", None)])
def test_only_a_registrys_base_is_named_in_the_image(kind: Any, name: str | None, base: Base, tmp_path: Path) -> None:
    known = replace(base, kind=kind, name=name or str(tmp_path))
    labels = image.config(write(contents(tmp_path / "in", known), tmp_path / "out"))["config"]["Labels"]
    assert labels.get("org.opencontainers.image.base.name") == name
    assert labels["org.opencontainers.image.base.digest"] == str(base.manifest_digest)
    assert labels["org.opencontainers.image.title"] == "tiny"


def test_a_base_is_read_once_for_all_packages(base: Base, tmp_path: Path) -> None:
    """What is in its layers is remembered in the cache, so that a second target need not inflate a base again."""
    given = contents(tmp_path / "in", base)
    first = layering.open_base(given)

    def gone() -> Any:
        raise AssertionError("the layer is read again")

    unread = replace(base.image, layers=tuple(replace(layer, open=gone, uncompressed_bytes=None) for layer in base.image.layers))
    second = layering.open_base(replace(given, base=replace(base, image=unread)))
    assert list(second.paths.walk()) == list(first.paths.walk())
    assert layering.layer_sizes(second) == layering.layer_sizes(first) != [("layer 0 of the base", 0)]


def test_each_library_that_lacks_is_named(base: Base, tmp_path: Path) -> None:
    paths = layering.open_base(contents(tmp_path / "in", base)).paths
    layering.check_libraries(paths)
    with pytest.raises(PackError) as caught:
        layering.check_libraries(paths, ("libstdc++.so.6", "libcublas.so.13"))
    assert str(caught.value) == "the base image has no libcublas.so.13, which the engine needs: add it, or take another base"
