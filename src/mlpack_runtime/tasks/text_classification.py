"""Text classification: labels and scores of texts, or of pairs of texts, such as a premise and its hypothesis.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names.
"""

from mlpack_runtime.tasks.requests import Asked, Task, choice, ignored, number, several, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, classified, with_best
from mlpack_runtime.texts import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

ONE, PAIR, SEVERAL, INPUTS = frozenset({"text"}), frozenset({"text", "text_pair"}), frozenset({"texts"}), frozenset({"inputs"})
_PREMISE = frozenset({"premise", "hypothesis"})
FORMS = {
    ONE: '{"text": "..."}',
    SEVERAL: '{"texts": ["..."]}',
    PAIR: '{"text": "...", "text_pair": "..."}',
    _PREMISE: '{"premise": "...", "hypothesis": "..."}',
    INPUTS: '{"inputs": "..." or ["..."]}',
}
PARAMETERS = {
    "top_k": top,
    "threshold": number,
    "activation": choice(*ACTIVATIONS),
    "truncation": ignored,  # what is too long is cut here whatever it says
}
SYNONYMS = {"function_to_apply": "activation"}


class TextClassification(Task):
    """Texts to labels."""

    forms = FORMS
    parameters = PARAMETERS
    synonyms = SYNONYMS

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Texts, one by one or in pairs."""
        limits = self.model.limits
        if asked.form == _PREMISE:
            value = {"text": value["premise"], "text_pair": value["hypothesis"]}
        if asked.form == INPUTS:
            inputs = value["inputs"]
            call.texts = several(inputs if type(inputs) is list else [inputs], limits, "inputs")
        elif asked.form == SEVERAL:
            call.texts = several(value["texts"], limits)
        else:
            call.texts = plain(value, limits)

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"label", "score", "labels"}` of one text, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        asked: Asked = call.asked
        results = classified(*self.output(outputs), self.settings["labels"], asked.parameters)
        if asked.form == INPUTS:
            return results
        objects = [with_best(labels) for labels in results]
        return {"results": objects} if asked.form == SEVERAL else objects[0]

    def output(self, outputs: "Mapping[str, Tensor]") -> "tuple[Tensor, str]":
        """The output that has a number for each label, and its name."""
        name = self.settings["output"]
        return outputs[name], name


TASK = TextClassification
