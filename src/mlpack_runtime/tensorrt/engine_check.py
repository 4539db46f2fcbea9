"""An engine of this machine's GPU, held against the package's check calls in a process of its own: what the build starts.

Promises: one JSON answer in a file, whatever the engine does; exit code 0 whenever there is one.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import json

from mlpack_runtime.backend import BackendError
from mlpack_runtime.tensor import TensorError
from mlpack_runtime.tensorrt import engine_verify
from mlpack_runtime.tensorrt.engine_opening import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(arguments: "list[str]") -> int:
    """MODEL_DIR ANSWER.json: runs the engine of that directory on this machine's GPU, and writes {"ok", "words" or "reason"}."""
    directory, answer_path = arguments
    try:
        opened = load(directory, {})
        try:
            found = engine_verify.verify(directory, opened.run)
        finally:
            opened.close()
        answer: dict[str, Any] = {"ok": True, "words": engine_verify.words(found), **found}
    except (BackendError, engine_verify.VerifyError, TensorError) as error:
        answer = {"ok": False, "reason": str(error)}
    with open(answer_path, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    return 0
