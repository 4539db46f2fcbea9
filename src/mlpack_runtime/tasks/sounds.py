"""What the tasks that read sounds share: their forms, and the sounds of a request, which the model hears one by one.

Promises: `{"audio"}`, `{"audios"}` and Hugging Face's `{"inputs"}` hold files as bytes, base64 or data: URLs, and mean the same.
"""

from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.sounds.listening import Listener
from mlpack_runtime.tasks import series
from mlpack_runtime.tasks.requests import Asked, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

    Ask = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

ONE, SEVERAL, INPUTS = frozenset({"audio"}), frozenset({"audios"}), frozenset({"inputs"})
FORMS = {
    ONE: '{"audio": "base64 or a data: URL of a WAV file"} (or the file itself, or a form with it)',
    SEVERAL: '{"audios": ["..."]}',
    INPUTS: '{"inputs": "..." or ["..."]}',
}


class Heard:
    """The sounds of a request, at the model's rate, and what was made of each."""

    __slots__ = ("results", "sounds")

    def __init__(self, sounds: "list[memoryview]") -> None:
        self.sounds = sounds
        self.results: list[Any] = []


class SoundTask(Task):
    """A task that reads sounds. What it heard is a request's `asked.rest`."""

    forms = FORMS
    media = "audio"

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output, or the package no graphs for sounds."""
        super().__init__(model, settings)
        self.listener = Listener(model, settings.get("sound") or {})
        self.window = int(settings["window_s"] * self.listener.rate)

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Sounds, at the model's rate."""
        (key,) = asked.form
        given = value[key]
        asked.many = type(given) is list
        if asked.form == ONE and asked.many:
            raise RequestError(f"'audio' is {quoted(given)}; several sounds are 'audios'")
        if asked.form == SEVERAL and not asked.many:
            raise RequestError(f"'audios' is {quoted(given)}; a list is needed")
        files = given if asked.many else [given]
        if not files:
            raise RequestError(f"{key!r} is an empty list")
        if len(files) > self.model.limits.rows:
            raise too_large("rows", "sounds:", len(files), self.model.limits)
        if len(files) > 1 and self.model.settings.get("postprocess"):
            raise RequestError("this package's postprocess hook is given the outputs for one sound: send sounds one by one")
        names = [f"{key}[{at}]" for at in range(len(files))] if asked.many else [key]
        heard = asked.rest = Heard(self.listener.hear(files, names))
        call.series = lambda predict, record: series.run(lambda ask: self._all(heard, asked, ask), predict, record)

    def one(self, samples: memoryview, asked: Asked, ask: "Ask") -> "tuple[Any, Mapping[str, Tensor]]":
        """What the model makes of one sound, and the outputs that it gave last. Raises RequestError."""
        raise NotImplementedError

    def _all(self, heard: Heard, asked: Asked, ask: "Ask") -> "Mapping[str, Tensor]":
        outputs: Mapping[str, Tensor] = {}
        for samples in heard.sounds:
            result, outputs = self.one(samples, asked, ask)
            heard.results.append(result)
        return outputs
