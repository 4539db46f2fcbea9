"""Services that no build made, for tests of deployments: one of each kind, with any section."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tests.support.golden import GOLDEN

from mlpack.core import digest
from mlpack.deploy.service import DOOR_HANDLER, HANDLER, Door, Measured, Package, ReleaseName, Service
from mlpack.oci import image, layout
from mlpack.oci.layers import layer
from mlpack.recipe.deploy.section import Section, Traffic

FEATURES = {"table": "users", "key": ["user_id"], "columns": {"x": ["age"]}, "defaults": {"age": 0}, "deadline_ms": 40.0}
CACHE = {"memory_bytes": 32_000_000, "ttl_ms": 3_600_000.0, "table": "answers", "deadline_ms": 20.0}
_SHA = {"lambda-zip": "11" * 32, "lambda-image": "22" * 32, "container": "33" * 32, "worker": "44" * 32}


def section(**parts: Any) -> Section:
    """The section with a peak of 50 requests a second, and these parts of it."""
    return Section(**{"traffic": Traffic(peak_rps=50.0, mean_rps=5.0), **parts})


def package(kind: str = "lambda-zip", **changes: Any) -> Package:
    """A package of this kind; `gpu=True` for a worker on one."""
    gpu = bool(changes.get("gpu"))
    target = {"worker": "gpu-worker" if gpu else "cpu-worker"}.get(kind, kind)
    values: dict[str, Any] = {
        "candidate": f"int8@{target}-x86_64",
        "target": target,
        "kind": kind,
        "sha256": _SHA[kind],
        "size_bytes": 64_000_000,
        "compressed_bytes": 30_000_000,
        "runtime": "python3.13",
        "architecture": "x86_64",
        "memory_mb": 2048 if kind in ("container", "worker") else 1769,
        "timeout_s": 10,
        "handler": DOOR_HANDLER if kind == "worker" else HANDLER,
        "max_batch": 8 if kind in ("container", "worker") else 1,
        "door": Door(sha256="55" * 32, size_bytes=220_000, runtime="python3.13") if kind == "worker" else None,
        "document": {"openapi": "3.1.0", "info": {"title": "fashion", "version": "1"}, "paths": {}},
    }
    return Package(**{**values, **changes})


def service(kind: str = "lambda-zip", deploy: Section | None = None, **changes: Any) -> Service:
    """A service of a package of this kind. `changes`: fields of its package."""
    return Service(
        name="fashion",
        environment="prod",
        tags={"service": "catalogue", "team": "vision", "env": "prod"},
        release=ReleaseName(name="fashion", version=8, digest="sha256:" + "ab" * 32, alias="prod"),
        package=package(kind, **changes),
        measured=Measured(
            p50_ms=3.0,
            p95_ms=5.6,
            p99_ms=7.4,
            cold_start_ms=68.0,
            load_ms=44.0,
            peak_mb=84.0,
            throughput_per_s=250.0,
            batch=8 if kind in ("container", "worker") else 1,
            batch_ms=20.0 if kind in ("container", "worker") else 5.6,
        ),
        deploy=deploy or section(),
    )


def with_measures(one: Service, **measures: Any) -> Service:
    """The same service with other measures."""
    return dataclasses.replace(one, measured=dataclasses.replace(one.measured, **measures))


def build_directory(
    folder: Path,
    target: str = "lambda-zip",
    *,
    deploy: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    model: dict[str, Any] | None = None,
) -> Path:
    """What a build leaves, as far as a deployment reads it. `model`: of model.json."""
    id_ = f"int8@{target}-x86_64"
    inside = folder / "artifacts" / id_
    inside.mkdir(parents=True)
    settings = json.dumps({"name": "tiny", **(model or {})})
    kind, layers = "zip", {}
    if target == "lambda-zip":
        with zipfile.ZipFile(inside / "function.zip", "w") as archive:
            archive.writestr("bootstrap.py", "pass\n")
            archive.writestr("model/model.json", settings)
        named, size = digest.of_file(inside / "function.zip"), (inside / "function.zip").stat().st_size
    else:
        kind, size = "image", 1000
        named, layers = _image(inside / "image", settings)
    if target.endswith("worker"):
        (inside / "frontdoor.zip").write_bytes(b"a front door")
    described: dict[str, Any] = {
        "schema": 1, "kind": kind, "digest": str(named), "target": target, "arch": "x86_64", "memory_mb": 1769, "size_bytes": size,
        "compressed_bytes": size, "parts": {}, "layers": layers, "files": [], "python": "3.13", "name": "tiny", "version": "1",
        "variant": "int8",
    }  # fmt: skip
    if kind == "image" and target != "lambda-image":
        described["worker"] = {"port": 8080, "max_batch": 8}
    (inside / "package.json").write_text(json.dumps(described))
    (inside / "openapi.json").write_text('{"openapi": "3.1.0", "info": {"title": "tiny", "version": "1"}, "paths": {}}')
    record = json.loads((GOLDEN / "build.json").read_bytes())
    chosen = next(one for one in record["candidates"] if one["id"] == record["chosen"])
    chosen |= {"id": id_, "target": target}
    recipe = record["recipe"] | {"name": "tiny", "deploy": deploy, "tags": tags or {}}
    record |= {"candidates": [chosen], "chosen": id_, "recipe": recipe}
    record["artifact"] |= {
        "kind": kind,
        "digest": str(named),
        "path": f"artifacts/{id_}{'/function.zip' if kind == 'zip' else '/image'}",
    }
    record["files"] = {
        path.relative_to(folder).as_posix(): {"digest": str(digest.of_file(path)), "size_bytes": path.stat().st_size}
        for path in sorted(inside.rglob("*"))
        if path.is_file()
    }
    (folder / "build.json").write_text(json.dumps(record))
    return folder


def _image(folder: Path, settings: str) -> tuple[digest.Digest, dict[str, str]]:
    """A layout of an image whose one layer is the model's."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree" / "model"
        tree.mkdir(parents=True)
        (tree / "model.json").write_text(settings)
        made = layer.layer_from_tree(tree.parent, "var/task", None, Path(scratch) / "blobs", "stored")
        packed = image.append(image.empty("amd64"), made, "model")
        layout.write(packed, folder)
        return image.digest(packed), {"model": str(made.digest)}
