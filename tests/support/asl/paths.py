"""Paths and intrinsic functions of the States Language, in the parts that our machines use; anything else is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\[(?P<number>-?\d+)\]|\['(?P<quoted>[^']+)'\]|(?P<all>\[\*\])")
_CALL = re.compile(r"(States\.[A-Za-z0-9]+)\(")
_WORD = re.compile(r"\s*(?:'((?:\\.|[^'\\])*)'|(-?\d+(?:\.\d+)?)|(true|false|null)|(\$[^,()\s]*))\s*")


class StatesError(Exception):
    """An error of the language, by its name."""

    def __init__(self, name: str, cause: str = "") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


def look(path: str, data: Any, context: Mapping[str, Any]) -> Any:
    """What a path leads to. Raises StatesError."""
    if path.startswith("$$"):
        path, data = path[1:], context
    values, many, at = [data], False, 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise StatesError("States.Runtime", f"{path!r} is no path that is known here")
        at = step.end()
        if step["all"]:
            values, many = [each for value in values for each in value], True
            continue
        key: Any = int(step["number"]) if step["number"] is not None else step["name"] or step["quoted"]
        try:
            values = [value[key] for value in values]
        except (KeyError, IndexError, TypeError):
            raise StatesError("States.ParameterPathFailure", f"{path} leads nowhere in {json.dumps(data)[:200]}") from None
    return values if many else values[0]


def put(path: str | None, data: Any, result: Any) -> Any:
    """`data` with a result at a path: the whole at `$`, nothing at None."""
    if path is None:
        return data
    if path == "$":
        return result
    *folders, last = path[2:].split(".")
    copy = at = dict(data) if isinstance(data, dict) else {}
    for name in folders:
        at[name] = dict(at[name]) if isinstance(at.get(name), dict) else {}
        at = at[name]
    at[last] = result
    return copy


def fill(template: Any, data: Any, context: Mapping[str, Any]) -> Any:
    """A template with its paths and intrinsic functions evaluated. Raises StatesError."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): evaluate(value, data, context) if key.endswith(".$") else fill(value, data, context)
            for key, value in template.items()
        }
    return [fill(value, data, context) for value in template] if isinstance(template, list) else template


def evaluate(text: str, data: Any, context: Mapping[str, Any]) -> Any:
    """A path, or an intrinsic function. Raises StatesError."""
    if text.startswith("$"):
        return look(text, data, context)
    value, rest = _call(text, data, context)
    if rest.strip():
        raise StatesError("States.Runtime", f"{rest!r} after an intrinsic function")
    return value


def _call(text: str, data: Any, context: Mapping[str, Any]) -> tuple[Any, str]:
    call = _CALL.match(text)
    if call is None or call[1] not in _FUNCTIONS:
        raise StatesError("States.Runtime", f"{text!r} is no function that is known here")
    given, rest = [], text[call.end() :]
    while not rest.startswith(")"):
        rest = rest.removeprefix(",").lstrip()
        if _CALL.match(rest):
            value, rest = _call(rest, data, context)
        else:
            word = _WORD.match(rest)
            if word is None:
                raise StatesError("States.Runtime", f"{rest!r} is no argument")
            quoted, number, literal, path = word.groups()
            value = json.loads(number or literal) if number or literal else None
            value = look(path, data, context) if path else re.sub(r"\\(['\\])", r"\1", quoted) if quoted is not None else value
            rest = rest[word.end() :]
        given.append(value)
    try:
        return _FUNCTIONS[call[1]](*given), rest[1:]
    except (TypeError, ValueError, IndexError) as error:
        raise StatesError("States.IntrinsicFailure", str(error)) from None


def _format(template: str, *values: Any) -> str:
    parts = re.split(r"(?<!\\)\{\}", template)
    if len(parts) != len(values) + 1:
        raise ValueError("as many values as {} are needed")
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(part + text for part, text in zip(parts, [*texts, ""], strict=True)).replace("\\{", "{").replace("\\}", "}")


_FUNCTIONS: dict[str, Any] = {
    "States.Format": _format,
    "States.StringToJson": json.loads,
    "States.JsonToString": lambda value: json.dumps(value, separators=(",", ":")),
    "States.ArrayRange": lambda first, last, step: list(range(first, last + (1 if step > 0 else -1), step)),
    "States.ArrayGetItem": lambda array, at: array[at],
    "States.ArrayLength": len,
    "States.MathAdd": lambda one, other: one + other,
}
