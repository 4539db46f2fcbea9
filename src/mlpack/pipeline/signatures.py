"""The inputs of a source, read before any of its steps runs. A recipe's data are read against them.

Promises:
- Inputs that only loading tells (of a Hugging Face directory) are read once and kept in the store, so a later `plan` needs no
  framework.
"""

from __future__ import annotations

from pathlib import Path

from mlpack.core.distribution import version_of
from mlpack.core.files import bounded
from mlpack.core.records import Candidate, Model, Recipe, Signature, Step
from mlpack.graphs import files
from mlpack.passes import PASSES
from mlpack.pipeline import transform
from mlpack.pipeline.transform import Observe
from mlpack.store.local import Action, Store

_VERSION = 1
"""Raised when the same directory would get another description."""


def source_signature(candidate: Candidate, source: Model, recipe: Recipe, store: Store, observe: Observe) -> tuple[Signature, Path]:
    """The source's inputs, and a directory with them and its tokenizer, if it has one. PassError as of its export."""
    folder = store.path(source.tree)
    if source.format == "torch":
        return Signature(inputs=recipe.inputs, outputs=()), folder
    if source.format != "huggingface":
        return files.read_signature(folder), folder
    step = _export(candidate)
    action = _action(step, source)
    if store.find(action) is None:
        observe(f"{candidate.variant}: inputs")
    with store.entry(action) as entry:
        if not entry.hit:
            from mlpack.passes.export import described

            with transform.explain_errors(step, source.format):
                described.describe(folder, step.config.task, entry.dir)
            bounded.give_back()
    return files.read_signature(entry.dir), entry.dir


def is_cached(candidate: Candidate, source: Model, store: Store) -> bool:
    """Whether `source_signature` needs to load no framework."""
    return source.format != "huggingface" or store.find(_action(_export(candidate), source)) is not None


def _export(candidate: Candidate) -> Step:
    return next(step for step in candidate.steps if PASSES[step.name].gives == "onnx")


def _action(step: Step, source: Model) -> Action:
    return {
        "kind": "source/signature",
        "version": _VERSION,
        "model": str(source.tree),
        "task": step.config.task,
        "tools": {name: version_of(name) for name in ("torch", "transformers", "tokenizers", "optimum-onnx")},
    }
