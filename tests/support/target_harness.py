"""What every target promises beside its boot, checked on any row, ours or a plug-in's: one function. It needs nothing but mlpack,
so that a plug-in's tests can have a copy of this file (docs/extending.md).

Equal contents from two directories give equal bytes; what was written gives every file back; what was changed afterwards is told or
gives the same files; what the row says of a config can be read by those who read it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.errors import MlpackError
from mlpack.passes import PASSES
from mlpack.pipeline.packing.wheel_rules import NEEDS
from mlpack.recipe import schema
from mlpack.targets import Contents, TargetKind, Written
from mlpack.targets.format.contents import listed
from mlpack.targets.format.unpacking import extract

FILES = {
    "runtime/lib/libonnxruntime.so": b"\x7fELF" + b"engine" * 2_000,
    "runtime/bootstrap.py": b"import sys\n",
    "model/model/model.onnx": b"graph" * 100,
    "code/model/model.json": b"{}",
    "code/app/app.py": b"def preprocess(value): ...\n",
}
PLACES = 40
"""How many single bytes of what ships are changed."""


def contents(root: Path, **more: Any) -> Contents:
    """The trees of a small package, in `root`. `more`: the other fields, of an image its `base`."""
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Contents(runtime=root / "runtime", model=root / "model", code=root / "code", labels={}, **more)


def hold(row: TargetKind, config: Any, scratch: Path, **more: Any) -> Path:
    """Writes the package twice, in folders of `scratch`, and checks what every target promises; returns where one lies."""
    assert type(config) is row.config
    _says(row, config)
    made = {}
    for turn in ("first", "second"):
        out = scratch / turn / "out"
        out.mkdir(parents=True)
        made[turn] = row.write(contents(scratch / turn / "in", **more), config, out)
    first, second = made["first"], made["second"]
    assert (first.digest, first.files) == (second.digest, second.files), "not the same from another directory"
    package = scratch / "first/out"
    assert digest.of_tree(package) == digest.of_tree(scratch / "second/out"), "not the same from another directory"
    assert first.files == listed(contents(scratch / "first/in", **more))
    assert first.size_bytes == sum(map(len, FILES.values()))
    whole = digest.of_tree(extract(package, _described(first), row.unpack, scratch / "unpacked"))
    for name, data in FILES.items():
        assert (scratch / "unpacked" / name.partition("/")[2]).read_bytes() == data
    for place in range(PLACES):
        _change(row, first, package, scratch, place / PLACES, whole)
    return package


def _says(row: TargetKind, config: Any) -> None:
    assert row.limits
    assert all(limit.source and limit.value > 0 for limit in row.limits)
    chain = row.chain(config)
    named = {*chain.ends, *chain.configs, *(each.step for each in chain.unfit), *(each.step for each in chain.auto if each.step)}
    assert named <= set(PASSES)
    assert set(row.needs(config)) <= set(NEEDS)
    json.dumps(row.settings(config))
    assert all(each.name and each.summary and each.files for each in row.licenses(config))
    price = row.price(config, 10.0, 100.0)
    assert price is None or price > 0
    keys = schema.keys_of(row.config, (), documented=True)
    assert all(field.description for field in keys.model_fields.values()), "a key without its meaning: a string after the field"
    assert row.config(**{field.name: getattr(config, field.name) for field in dataclasses.fields(config)}) == config


def _described(written: Written) -> dict[str, Any]:
    return {
        "kind": written.kind,
        "layers": {part: str(each) for part, each in written.layers.items()},
        "files": [each.as_json() for each in written.files],
    }


def _change(row: TargetKind, written: Written, package: Path, scratch: Path, share: float, whole: digest.Digest) -> None:
    """One byte of what ships, at this share of it: nobody is given other files."""
    shutil.rmtree(scratch / "changed", ignore_errors=True)
    shutil.rmtree(scratch / "from-changed", ignore_errors=True)
    shutil.copytree(package, scratch / "changed")
    largest = max((path for path in (scratch / "changed").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[int(share * len(data))] ^= 0x15
    largest.chmod(0o644)
    largest.write_bytes(data)
    try:
        extract(scratch / "changed", _described(written), row.unpack, scratch / "from-changed")
    except MlpackError:
        return
    assert digest.of_tree(scratch / "from-changed") == whole, "a changed package gives other files"
