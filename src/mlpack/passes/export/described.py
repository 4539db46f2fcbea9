"""What a Hugging Face directory takes, written down before it is exported: the recipe's data are read against it.

Promises: signature.json has the inputs that its export will have, but for sizes of pictures that no exporter leaves free; the
tokenizer is the package's own. The recipe's data are not needed, and no graph is made.
"""

from __future__ import annotations

from pathlib import Path

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import files, quiet
from mlpack.passes.export import huggingface, tasks


def describe(model_dir: Path, task: str | None, out_dir: Path) -> None:
    """Writes signature.json, with the names alone of outputs, and tokenizer.json where texts can become the inputs."""
    with quiet.exporters():
        loaded, missing = huggingface.opened(model_dir, task)
        try:
            outputs = huggingface.with_outputs(loaded, missing).outputs
        except PassError:
            # To refuse it is the export's, which has the recipe's own calls as well. Heads give logits, and vectors have none.
            outputs = () if loaded.task.removesuffix(tasks.WITH_PAST) == tasks.FEATURES else ("logits",)
        huggingface.write_tokenizer(model_dir, out_dir, loaded)
    specs = tuple(TensorSpec(name=name, dtype="float32", shape=()) for name in outputs)
    files.write_signature(Signature(inputs=loaded.inputs, outputs=specs), out_dir)
