"""What every pass promises, checked on any row, ours or a plug-in's: one function. It needs nothing but mlpack, so that a plug-in's
tests can have a copy of this file (docs/extending.md).

Input untouched; output non-empty and of the promised format; twice gives one digest; the config survives JSON; outputs agree with
the input's within the row's tolerance, where it has one.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.passes import PASSES, Pass
from mlpack.passes.export import huggingface, torch_model

FILES = {
    "onnx": ("model.onnx", "signature.json", "notes.json"),
    "torch": ("torch.json", "code", "weights.safetensors"),
    "huggingface": ("config.json", "model.safetensors"),
    "sklearn": ("estimator.json", "code", "signature.json"),
}


def format_of(folder: Path) -> str:
    """Which of the formats a directory is in, by the files that format demands."""
    found = [name for name, files in FILES.items() if all((folder / file).exists() for file in files)]
    assert len(found) == 1, f"{sorted(p.name for p in folder.iterdir())} is {found}"
    return found[0]


def hold(row: Pass, model_dir: Path, config: Any, scratch: Path) -> Path:
    """Runs the pass of this row twice, in folders of `scratch`, and checks the contract; returns what it made."""
    _round_trip(row, config)
    before = digest.of_tree(model_dir)
    given = format_of(model_dir)
    assert given in row.takes
    outputs = [scratch / turn for turn in ("first", "second")]
    for out_dir in outputs:
        out_dir.mkdir(parents=True)
        row.run(model_dir, config, out_dir)
    assert digest.of_tree(model_dir) == before, "the input was changed"
    promised = given if row.gives == "same" else row.gives
    assert format_of(outputs[0]) == promised
    json.loads((outputs[0] / "notes.json").read_text())
    if row.repeatable:
        assert digest.of_tree(outputs[0]) == digest.of_tree(outputs[1]), "not repeatable"
    if promised == "onnx":
        _sound(outputs[0], model_dir)
    if row.tolerance is not None:
        assert _gap(model_dir, outputs[0]) <= row.tolerance
    return outputs[0]


def refusal(name: str, model_dir: Path, config: Any, out_dir: Path) -> str:
    """The message with which the pass refuses this input. Fails when it does not, or with another exception."""
    out_dir.mkdir(parents=True)
    try:
        PASSES[name].run(model_dir, config, out_dir)
    except PassError as error:
        return str(error)
    raise AssertionError(f"{name} took it")


def _round_trip(row: Pass, config: Any) -> None:
    from pydantic import TypeAdapter

    assert dataclasses.is_dataclass(config)
    assert type(config) is row.config
    plain = json.loads(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()}))
    assert TypeAdapter(row.config).validate_python(plain) == config


def _sound(out_dir: Path, model_dir: Path) -> None:
    """The engine takes the graph, its signature is the graph's own, nothing names a path, the tokenizer came along."""
    loaded = files.load(out_dir)
    assert files.signature_of(loaded) == files.read_signature(out_dir)
    check.session(out_dir)
    assert str(model_dir).encode() not in (out_dir / "model.onnx").read_bytes()
    assert (out_dir / "tokenizer.json").exists() == (model_dir / "tokenizer.json").exists()
    assert all(item.is_file() or item.name == "engines" for item in out_dir.iterdir())


def _gap(model_dir: Path, out_dir: Path) -> float:
    """The largest difference of the output model from the input model, on inputs that the pass itself did not use."""
    signature, model = files.read_signature(out_dir), files.load(out_dir)
    feeds = check.feeds(signature, check.limits(model), seed=99)
    opened = check.session(out_dir)
    got = [check.run(opened, feed) for feed in feeds]
    form = format_of(model_dir)
    if form == "onnx":
        original = check.session(model_dir)
        wanted = [check.run(original, feed) for feed in feeds]
    elif form == "huggingface":
        eager = huggingface.load(model_dir, None)
        wanted = [list(huggingface.eager(eager, feed).values()) for feed in feeds]
    elif form == "sklearn":
        from mlpack.passes.convert import sources

        with sources.opened(model_dir) as estimator:
            wanted = [[estimator.methods["predict"](feed).reshape(-1, 1)] for feed in feeds]
    else:
        import torch

        with torch_model.opened(model_dir) as (module, described), torch.inference_mode():
            wanted = [[module(*(torch.from_numpy(feed[s.name]) for s in described.inputs)).numpy()] for feed in feeds]
    return max(check.difference(a, b) for a, b in zip(got, wanted, strict=True))
