"""Small real build directories, as `mlpack build` leaves them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.outcomes import IMAGE, ZIP, outcome, recipe, result

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.records import Artifact, Budgets
from mlpack.oci import image, layout
from mlpack.oci.layers import layer
from mlpack.report import report
from mlpack.report.record import files
from mlpack.report.recording import build_record


def build(folder: Path, kind: str = "zip", *, name: str = "minilm", content: bytes = b"function", fits: bool = True) -> Path:
    """A build of one candidate whose package holds `content`; digests and record agree with the files."""
    target = IMAGE if kind == "image" else ZIP
    one = result("int8", target)
    inside = folder / "artifacts" / one.candidate.id
    inside.mkdir(parents=True)
    named = _image(inside / "image", content) if kind == "image" else _zips(inside, content, layer=kind == "layer-zip")
    (inside / "event.json").write_text('{"inputs": []}\n')
    size = sum(e.stat().st_size for _, e in digest.entries(inside) if e.is_file())
    made = Artifact(
        kind=kind, digest=named, tree=digest.of_tree(inside), files=(), size_bytes=size, compressed_bytes=size, parts=()
    )
    written = {
        path.relative_to(folder).as_posix(): (digest.of_file(path), path.stat().st_size)
        for path in inside.rglob("*")
        if path.is_file()
    }
    done = outcome((replace(one, artifact=made),), Budgets() if fits else Budgets(package_size_bytes=1), files=written)
    done = replace(done, plan=replace(done.plan, recipe=recipe(Budgets(), name=name)))
    record = build_record(done)
    (folder / "build.json").write_bytes(files.encode(record))
    (folder / "report.md").write_text(report.markdown(record))
    (folder / "report.html").write_text("<!doctype html>\n")
    return folder


def _zips(folder: Path, content: bytes, *, layer: bool) -> Digest:
    (folder / "function.zip").write_bytes(content)
    if not layer:
        return digest.of_bytes(content)
    (folder / "layer.zip").write_bytes(b"layer of " + content)
    return digest.of_json({name: str(digest.of_file(folder / name)) for name in ("function.zip", "layer.zip")})


def _image(folder: Path, content: bytes) -> Digest:
    """A layout of one image, of one layer, of one file."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        (tree / "function").write_bytes(content)
        made = layer.layer_from_tree(tree, "var/task", None, Path(scratch) / "blobs", "stored")
        packed = image.append(image.empty("amd64"), made, "function")
        layout.write(packed, folder)
    return image.digest(packed)


def edit(folder: Path, change: Any) -> None:
    """Change a record on disk."""
    path = folder / "build.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))
