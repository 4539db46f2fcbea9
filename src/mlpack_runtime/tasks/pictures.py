"""What the tasks that read pictures share: pictures of a request as the model's input."""

from mlpack_runtime import media
from mlpack_runtime.pictures.shaping import Shaper
from mlpack_runtime.tasks.files import FileTask, forms_of
from mlpack_runtime.tasks.requests import Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call


class PictureTask(FileTask):
    """A task that reads pictures. `shaper` makes the model's input of them; the frames of a request are its `asked.rest`."""

    forms = forms_of("image", "base64 or a data: URL")
    media = part = "image"
    noun = "picture"

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output."""
        super().__init__(model, settings)
        self.shaper = Shaper(self.port, self.reading, model.limits)
        first = self.port.shape[0] if self.port.shape else None
        self.at_once = 1 if self.reading.get("single") else first if type(first) is int else None

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Pictures as the model's input."""
        files, names = self.files(value, asked)
        contents = [media.content(each, name, self.model.limits) for each, name in zip(files, names, strict=True)]
        call.inputs, asked.rest = self.shaper.inputs(contents, names)
