"""What the tasks that read files share, pictures or sounds: their forms, the files of a request, and answers in its form.

Promises: `{"image"}`, `{"images"}` and Hugging Face's `{"inputs"}` hold files as bytes, base64 or data: URLs, and mean the same, as
do `{"audio"}` and `{"audios"}`. Will not: look into a file.
"""

from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.media import KINDS
from mlpack_runtime.model import ModelError
from mlpack_runtime.tasks.requests import Asked, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described

_INPUTS = frozenset({"inputs"})


def forms_of(kind: str, what: str) -> "dict[frozenset[str], str]":
    """The forms of a task that reads files of one of `KINDS`. `what`: how a file is written in JSON, for people."""
    return {
        frozenset({kind}): f'{{"{kind}": "{what}"}} (or the file itself, or a form with it)',
        frozenset({KINDS[kind]}): f'{{"{KINDS[kind]}": ["..."]}}',
        _INPUTS: '{"inputs": "..." or ["..."]}',
    }


class FileTask(Task):
    """A task that reads files of one of `KINDS`, its `media`. `reading`: the settings that say how the model's input is made."""

    media: str
    part: str
    """The key of those settings in model.json's `task`."""
    noun: str
    """What a file holds, for people."""
    at_once: "int | None" = None
    """How many files the model takes a call, where that is fixed."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output."""
        super().__init__(model, settings)
        self.reading: Mapping[str, Any] = settings.get(self.part) or {}
        name = self.reading.get("input")
        port = next((port for port in model.inputs if port.name == name), None)
        if port is None:
            names = [each.name for each in model.inputs]
            raise ModelError(f"the task {settings['name']!r} gives {name!r}, the model's inputs are {names}: build anew")
        self.port = port

    def files(self, value: "dict[str, Any]", asked: Asked) -> "tuple[list[Any], list[str]]":
        """The files of a request, unread, and how each is called in it. Raises RequestError."""
        (key,) = asked.form
        given, several = value[key], KINDS[self.media]
        asked.many = type(given) is list
        if key == self.media and asked.many:
            raise RequestError(f"{key!r} is {quoted(given)}; several {self.noun}s are {several!r}")
        if key == several and not asked.many:
            raise RequestError(f"{key!r} is {quoted(given)}; a list is needed")
        files = given if asked.many else [given]
        if not files:
            raise RequestError(f"{key!r} is an empty list")
        if self.at_once is not None and len(files) != self.at_once:
            raise RequestError(f"the model takes {self.at_once} {self.noun} a call, not {len(files)}: send them one by one")
        if len(files) > self.model.limits.rows:
            raise too_large("rows", f"{self.noun}s:", len(files), self.model.limits)
        return files, [f"{key}[{at}]" for at in range(len(files))] if asked.many else [key]

    def answered(self, results: "list[Any]", asked: Asked) -> "Any":
        """One result for each file in the form of the request: as Hugging Face has them for `inputs`, else as objects."""
        if asked.form == _INPUTS:
            return results if asked.many else results[0]
        objects = [self.described(result) for result in results]
        return {"results": objects} if asked.many else objects[0]

    def described(self, result: "Any") -> "dict[str, Any]":
        """A result as an object."""
        return result  # type: ignore[no-any-return]
