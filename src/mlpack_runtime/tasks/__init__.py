"""What a model's own task makes of plain requests and of outputs: labels, entities, answers, vectors, orders.

A package has one task at most: model.json's `task`, an object with its `name` and its settings. It does what hooks would do, and
hooks go before it. Protocol requests are answered as if there were none.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.tasks.requests import Task

NAMES = ("text-classification", "token-classification", "question-answering", "embeddings", "rerank", "image-classification",
         "object-detection", "audio-classification", "automatic-speech-recognition")  # fmt: skip
"""Each is a module here, with `_` for `-` and its class as `TASK`; a package carries its own task's alone."""


def open_task(model: "Described", settings: "Mapping[str, Any]") -> "Task":
    """The task of a package. Raises ModelError for one that this runtime does not know, or whose settings are not the model's."""
    from mlpack_runtime.model import ModelError

    name = settings.get("name")
    if name not in NAMES:
        raise ModelError(f"model.json has the task {name!r}; this runtime knows {', '.join(NAMES)}: rebuild the package")
    module = f"mlpack_runtime.tasks.{str(name).replace('-', '_')}"
    __import__(module)
    task: Task = sys.modules[module].TASK(model, settings)
    return task
