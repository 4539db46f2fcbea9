"""Audio classification: labels and scores of sounds.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names. A
sound that is longer than the model hears at a time is refused, unless its features are cut to a length, as in training.
"""

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks.requests import Asked, choice, number, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, activated, best, rounded, rows
from mlpack_runtime.tasks.sounds import INPUTS, SEVERAL, SoundTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.sounds import Ask
    from mlpack_runtime.tensor import Tensor

TOP_K = 5
"""Labels that an answer has, where nobody says it."""
_FLOAT_BYTES = 4


class AudioClassification(SoundTask):
    """Sounds to labels."""

    parameters = {"top_k": top, "threshold": number, "activation": choice(*ACTIVATIONS)}  # noqa: RUF012  (as every task has it)
    synonyms = {"function_to_apply": "activation"}  # noqa: RUF012

    def one(self, samples: memoryview, asked: Asked, ask: "Ask") -> "tuple[Any, Mapping[str, Tensor]]":
        """Labels of one sound."""
        frames = len(samples) // _FLOAT_BYTES
        if frames > self.window and self.settings["sound"]["kind"] == "waveform":
            raise RequestError(
                f"the sound has {frames / self.listener.rate:.4g} s; at most {self.settings['window_s']:g} s are classified at a"
                " time (serve.sound.window in the recipe): send a part of it",
                413,
                "PayloadTooLarge",
            )
        outputs, name = ask(self.listener.inputs(samples)), self.settings["output"]
        masked = asked.parameters["activation"] != "none"
        return self._labelled(next(rows(outputs[name], name, masked=masked)), asked.parameters), outputs

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"label", "score", "labels"}` of one sound, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        del outputs  # what was made of each is kept
        asked: Asked = call.asked
        results = asked.rest.results
        if asked.form == INPUTS:
            return results if asked.many else results[0]
        objects = [{**(labels[0] if labels else {"label": None, "score": None}), "labels": labels} for labels in results]
        return {"results": objects} if asked.form == SEVERAL else objects[0]

    def _labelled(self, values: "list[float]", taken: "Mapping[str, Any]") -> "list[dict[str, Any]]":
        scores, labels = activated(values, taken["activation"]), self.settings["labels"]
        places = best(scores, taken.get("top_k", TOP_K), taken.get("threshold"))
        return [{"label": labels[at] if at < len(labels) else f"LABEL_{at}", "score": rounded(scores[at])} for at in places]


TASK = AudioClassification
