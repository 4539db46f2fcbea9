"""Text classification: labels and scores of texts, or of pairs of texts, such as a premise and its hypothesis.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names.
"""

from mlpack_runtime.tasks.requests import Asked, Task, choice, ignored, number, several, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, activated, best, rounded, rows
from mlpack_runtime.texts import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

TOP_K = 5
"""Labels that an answer has, where nobody says it."""
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
        masked = asked.parameters["activation"] != "none"
        results = [self.labelled(values, asked) for values in rows(*self.output(outputs), masked=masked)]
        if asked.form == INPUTS:
            return results
        objects = [{**(labels[0] if labels else {"label": None, "score": None}), "labels": labels} for labels in results]
        return {"results": objects} if asked.form == SEVERAL else objects[0]

    def output(self, outputs: "Mapping[str, Tensor]") -> "tuple[Tensor, str]":
        """The output that has a number for each label, and its name."""
        name = self.settings["output"]
        return outputs[name], name

    def labelled(self, values: "list[float]", asked: Asked) -> "list[dict[str, Any]]":
        """Labels with their scores, the best first."""
        taken, labels = asked.parameters, self.settings["labels"]
        scores = activated(values, taken["activation"])
        places = best(scores, taken.get("top_k", TOP_K), taken.get("threshold"))
        return [{"label": name_of(at, labels), "score": rounded(scores[at])} for at in places]


def name_of(place: int, labels: "Sequence[str]") -> str:
    """A label's name; transformers' own for one that has none."""
    return labels[place] if place < len(labels) else f"LABEL_{place}"


TASK = TextClassification
