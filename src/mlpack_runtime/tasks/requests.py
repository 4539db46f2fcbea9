"""Plain requests of a task: which of its forms one has, and its parameters.

Promises: a form is told by its keys alone; a parameter stands beside them or in `parameters`, null is as if it were left out, and
one of the wrong kind is a RequestError that says what is right. Will not: read what a form holds, or compute anything.
"""

from mlpack_runtime.limits import RequestError, quoted, too_large
from mlpack_runtime.model import ModelError
from mlpack_runtime.protocol import Call
from mlpack_runtime.texts import characters, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from mlpack_runtime.limits import Limits
    from mlpack_runtime.model import Described
    from mlpack_runtime.tensor import Tensor
    from mlpack_runtime.texts import Text

    Check = Callable[[str, Any], Any]

_MOST = 1000
"""How many labels, entities or answers may be asked for by their number."""
ALL = 1 << 40
"""More than there are of anything: what `all` asks for."""
_BESIDE = {"parameters", "options"}
"""Keys that stand beside any form: Hugging Face's `options` say how its own servers queue and cache, which means nothing here."""


class Asked:
    """What a task keeps of a request until its answer: its form, its parameters, whether it has
    several samples, and what only the task knows."""

    __slots__ = ("form", "many", "parameters", "rest")

    def __init__(self, form: "frozenset[str]", parameters: "dict[str, Any]") -> None:
        self.form = form
        self.parameters = parameters
        self.many = False
        self.rest: Any = None


class Task:
    """A task of one package. A subclass says its forms and its parameters, reads a request and makes an answer."""

    forms: "Mapping[frozenset[str], str]"
    """Keys that a plain request has, and how it looks, for people."""
    parameters: "Mapping[str, Check]"
    """What may stand beside them, each with the function that checks a value. Those that the recipe sets are keys of model.json's
    `task`, too."""
    synonyms: "Mapping[str, str]"
    """Other names of parameters."""
    reads: "tuple[str, ...]" = ("output",)
    """Settings that name an output of the model."""
    media: "str | None" = None
    """Of `media.KINDS`, what a request may be beside JSON."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such output."""
        names = [port.name for port in model.outputs]
        for key in self.reads:
            if settings.get(key) not in names:
                raise ModelError(
                    f"the task {settings['name']!r} reads {settings.get(key)!r}, the model's outputs are {names}: build anew"
                )
        self.model = model
        self.settings = settings

    def request(self, value: "dict[str, Any]") -> "Call | None":
        """The call that a plain request means, or None for one that is none of this task's. Raises RequestError."""
        beside_form = {key for key in value if key in self.parameters or key in self.synonyms or key in _BESIDE}
        form = frozenset(value.keys() - beside_form)
        if form not in self.forms or self._is_tensors(value):
            return None
        call = Call()
        asked = call.asked = Asked(form, self._parameters(value, beside_form - _BESIDE))
        self.read(value, call, asked)
        return call

    def read(self, value: "dict[str, Any]", call: Call, asked: Asked) -> None:
        """Put what the engine is to compute into `call`, and what the answer needs into `asked.rest`. Raises RequestError."""
        raise NotImplementedError

    def answer(self, outputs: "Mapping[str, Tensor]", call: Call) -> "Any":
        """The JSON value that answers a call which `request` gave. Raises RequestError where outputs are no numbers."""
        raise NotImplementedError

    def _is_tensors(self, value: "dict[str, Any]") -> bool:
        """Whether `inputs` are the model's own, by their names."""
        inputs = value.get("inputs")
        return type(inputs) is dict and any(port.name in inputs for port in self.model.inputs)

    def _parameters(self, value: "dict[str, Any]", beside_form: "set[str]") -> "dict[str, Any]":
        beside = value.get("parameters")
        if beside is not None and type(beside) is not dict:
            raise RequestError(f"'parameters' is {quoted(beside)}; an object is needed")
        given = {**(beside or {}), **{key: value[key] for key in beside_form}}
        taken = {key: self.settings[key] for key in self.parameters if self.settings.get(key) is not None}
        for written, each in given.items():
            key = self.synonyms.get(written, written)
            if key not in self.parameters:
                raise RequestError(f"there is no parameter {quoted(written)} here; it takes {', '.join(sorted(self.parameters))}")
            if each is not None:
                taken[key] = self.parameters[key](written, each)
            elif self.parameters[key] is top:
                taken[key] = ALL
        return taken


def whole(least: int, most: int = _MOST) -> "Check":
    """A check for whole numbers."""

    def check(name: str, value: "Any") -> int:
        if type(value) is not int or not least <= value <= most:
            raise RequestError(f"{name!r} is {quoted(value)}; a whole number from {least} to {most} is needed")
        return value

    return check


def number(name: str, value: "Any") -> float:
    """A check for finite numbers."""
    if type(value) not in (int, float) or not -1e300 < value < 1e300:
        raise RequestError(f"{name!r} is {quoted(value)}; a number is needed")
    return float(value)


def flag(name: str, value: "Any") -> bool:
    """A check for true and false."""
    if type(value) is not bool:
        raise RequestError(f"{name!r} is {quoted(value)}; true or false is needed")
    return value


def choice(*names: str) -> "Check":
    """A check for one of a few words."""

    def check(name: str, value: "Any") -> str:
        if type(value) is not str or value.lower() not in names:
            raise RequestError(f"{name!r} is {quoted(value)}; one of {', '.join(names)} is needed")
        return value.lower()

    return check


def words(name: str, value: "Any") -> "list[str]":
    """A check for lists of strings."""
    if type(value) is not list or len(value) > _MOST or any(type(each) is not str for each in value):
        raise RequestError(f"{name!r} is {quoted(value)}; a list of at most {_MOST} strings is needed")
    return value


def top(name: str, value: "Any") -> int:
    """A check for how many of the best: a number, or `all`, which null means too."""
    return ALL if value == "all" else whole(1)(name, value)


def ignored(name: str, value: "Any") -> "Any":
    """A check for what other servers take and a package has no use for: any value goes."""
    del name
    return value


def single(value: object, name: str, limits: "Limits") -> str:
    """One text. Raises RequestError."""
    return texts([value], (1,), limits, name)[0]  # type: ignore[return-value]


def several(value: object, limits: "Limits", name: str = "texts") -> "list[Text]":
    """Texts, one or more, each a string, a pair `[first, second]`, or `{"text", "text_pair"}`, none of them mixed. Raises
    RequestError."""
    if type(value) is list and value and all(type(each) is dict for each in value):
        if len(value) > limits.rows:
            raise too_large("rows", "texts:", len(value), limits)
        if all(each.keys() == {"text", "text_pair"} for each in value):
            value = [[each["text"], each["text_pair"]] for each in value]
        elif all(each.keys() == {"text"} for each in value):
            value = [each["text"] for each in value]
    return texts(value, None, limits, name)


def together(all_texts: "Sequence[Text]", limits: "Limits") -> None:
    """Raise RequestError (413) for texts that are too much at a time where all their tokens have to be kept until the answer."""
    total = sum(map(characters, all_texts))
    if total > limits.text_chars:
        raise too_large("text_chars", "characters of all texts together:", total, limits)
