"""Audio classification: labels and scores of sounds.

Promises: the labels and scores of transformers' own pipeline, the best first; LABEL_0, LABEL_1, ... where labels have no names. A
sound that is longer than the model hears at a time is refused, unless its features are cut to a length, as in training.
"""

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks.requests import Asked, choice, number, top
from mlpack_runtime.tasks.scores import ACTIVATIONS, classified, with_best
from mlpack_runtime.tasks.sounds import SoundTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.sounds import Ask
    from mlpack_runtime.tensor import Tensor

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
        return classified(outputs[name], name, self.settings["labels"], asked.parameters)[0], outputs

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"label", "score", "labels"}` of one sound, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        del outputs  # what was made of each is kept
        asked: Asked = call.asked
        return self.answered(asked.rest.results, asked)

    def described(self, result: "Any") -> "dict[str, Any]":
        """As `with_best` has it."""
        return with_best(result)


TASK = AudioClassification
