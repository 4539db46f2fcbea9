"""What the tasks that read pictures share: their forms, and pictures of a request as the model's input.

Promises: `{"image"}`, `{"images"}` and Hugging Face's `{"inputs"}` hold files as bytes, base64 or data: URLs, and mean the same.
"""

from mlpack_runtime import media
from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.model import ModelError
from mlpack_runtime.pictures.shaping import Shaper
from mlpack_runtime.tasks.requests import Asked, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call

ONE, SEVERAL, INPUTS = frozenset({"image"}), frozenset({"images"}), frozenset({"inputs"})
FORMS = {
    ONE: '{"image": "base64 or a data: URL"} (or the file itself, or a form with it)',
    SEVERAL: '{"images": ["..."]}',
    INPUTS: '{"inputs": "..." or ["..."]}',
}


class PictureTask(Task):
    """A task that reads pictures. `shaper` makes the model's input of them; the frames of a request are its `asked.rest`."""

    forms = FORMS
    media = "image"

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output."""
        super().__init__(model, settings)
        image = settings.get("image") or {}
        port = next((port for port in model.inputs if port.name == image.get("input")), None)
        if port is None:
            names = [each.name for each in model.inputs]
            raise ModelError(
                f"the task {settings['name']!r} gives {image.get('input')!r}, the model's inputs are {names}: build anew"
            )
        self.shaper = Shaper(port, image, model.limits)

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Pictures as the model's input."""
        (key,) = asked.form
        given = value[key]
        asked.many = type(given) is list
        if asked.form == ONE and asked.many:
            raise RequestError(f"'image' is {quoted(given)}; several pictures are 'images'")
        if asked.form == SEVERAL and not asked.many:
            raise RequestError(f"'images' is {quoted(given)}; a list is needed")
        files = given if asked.many else [given]
        if not files:
            raise RequestError(f"{key!r} is an empty list")
        most = self.shaper.port.shape[0] if self.shaper.port.shape else None
        if type(most) is int and len(files) != most:
            raise RequestError(f"the model takes {most} picture a call, not {len(files)}: send them one by one")
        if len(files) > self.model.limits.rows:
            raise too_large("rows", "pictures:", len(files), self.model.limits)
        names = [f"{key}[{at}]" for at in range(len(files))] if asked.many else [key]
        contents = [media.content(each, name, self.model.limits) for each, name in zip(files, names, strict=True)]
        call.inputs, asked.rest = self.shaper.inputs(contents, names)
