"""Image classification: labels and scores of pictures.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names.
"""

from mlpack_runtime.tasks.pictures import INPUTS, SEVERAL, PictureTask
from mlpack_runtime.tasks.requests import Asked, choice, number, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, activated, best, rounded, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

TOP_K = 5
"""Labels that an answer has, where nobody says it."""
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
        masked = asked.parameters["activation"] != "none"
        results = [self._labelled(values, asked.parameters) for values in rows(outputs[name], name, masked=masked)]
        if asked.form == INPUTS:
            return results if asked.many else results[0]
        objects = [{**(labels[0] if labels else {"label": None, "score": None}), "labels": labels} for labels in results]
        return {"results": objects} if asked.form == SEVERAL else objects[0]

    def _labelled(self, values: "list[float]", taken: "Mapping[str, Any]") -> "list[dict[str, Any]]":
        scores, labels = activated(values, taken["activation"]), self.settings["labels"]
        places = best(scores, taken.get("top_k", TOP_K), taken.get("threshold"))
        return [{"label": labels[at] if at < len(labels) else f"LABEL_{at}", "score": rounded(scores[at])} for at in places]


TASK = ImageClassification
