"""What the tasks that read sounds share: the sounds of a request, which the model hears one by one."""

from mlpack_runtime.limits import RequestError
from mlpack_runtime.sounds.listening import Listener
from mlpack_runtime.tasks import series
from mlpack_runtime.tasks.files import FileTask, forms_of
from mlpack_runtime.tasks.requests import Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tensor import Tensor

    Ask = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class Heard:
    """The sounds of a request, at the model's rate, and what was made of each."""

    __slots__ = ("results", "sounds")

    def __init__(self, sounds: "list[memoryview]") -> None:
        self.sounds = sounds
        self.results: list[Any] = []


class SoundTask(FileTask):
    """A task that reads sounds. What it heard is a request's `asked.rest`."""

    forms = forms_of("audio", "base64 or a data: URL of a WAV file")
    media = "audio"
    part = noun = "sound"

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output, or the package no graphs for sounds."""
        super().__init__(model, settings)
        self.listener = Listener(model, self.reading)
        self.window = int(settings["window_s"] * self.listener.rate)

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Sounds, at the model's rate."""
        files, names = self.files(value, asked)
        if len(files) > 1 and self.model.settings.get("postprocess"):
            raise RequestError("this package's postprocess hook is given the outputs for one sound: send sounds one by one")
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
