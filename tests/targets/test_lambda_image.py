"""Lambda as an image: parts in layers of their own over a base, held to what Lambda takes."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support.small_packages import HERE

from mlpack.errors import LimitError, PackError
from mlpack.oci import blobs, image, layout, media
from mlpack.oci.base import Base
from mlpack.oci.image import Image, Layer
from mlpack.targets import Contents, LambdaImage, lambda_image

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
