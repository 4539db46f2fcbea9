"""Writes down the inputs of a Hugging Face directory before it is exported, so that the recipe's data can be read against them.

Promises:
- signature.json has the inputs that the export will have, except that picture sizes may be fixed later, where no exporter
  leaves them free. The tokenizer is the package's own.
- It needs no data of the recipe's and makes no graph.
"""

from __future__ import annotations

from pathlib import Path

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import files, quiet
from mlpack.passes.export import huggingface, tasks


def describe(model_dir: Path, task: str | None, out_dir: Path) -> None:
    """Write signature.json, with only the names of outputs, and tokenizer.json where texts can become the inputs."""
    with quiet.exporters():
        loaded, missing = huggingface.opened(model_dir, task)
        try:
            outputs = huggingface.with_outputs(loaded, missing).outputs
        except PassError:
            # Only the export refuses, since it has the recipe's own calls as well. Heads give logits; vectors have none.
            outputs = () if loaded.task.removesuffix(tasks.WITH_PAST) == tasks.FEATURES else ("logits",)
        huggingface.write_tokenizer(model_dir, out_dir, loaded)
    specs = tuple(TensorSpec(name=name, dtype="float32", shape=()) for name in outputs)
    files.write_signature(Signature(inputs=loaded.inputs, outputs=specs), out_dir)
