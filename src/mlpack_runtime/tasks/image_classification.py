"""Image classification: labels and scores of pictures.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names.
"""

from mlpack_runtime.tasks.pictures import PictureTask
from mlpack_runtime.tasks.requests import Asked, choice, number, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, classified, with_best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

_PARAMETERS = {"top_k": top, "threshold": number, "activation": choice(*ACTIVATIONS)}
_SYNONYMS = {"function_to_apply": "activation"}


class ImageClassification(PictureTask):
    """Pictures to labels."""

    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"label", "score", "labels"}` of one picture, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        asked: Asked = call.asked
        name = self.settings["output"]
        results = classified(outputs[name], name, self.settings["labels"], asked.parameters)
        return self.answered(results, asked)

    def described(self, result: "Any") -> "dict[str, Any]":
        """As `with_best` has it."""
        return with_best(result)


TASK = ImageClassification
