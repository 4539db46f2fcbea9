"""JSON to and from text without the imports of the standard `json` package.

`json` imports `re` and with it `enum`: about a tenth of a cold start. Its C core, the module `_json`, needs neither. Where that
core is absent or has another shape (PyPy, some later Python), the `json` package is used and the answers are the same.

Promises: strict JSON. NaN and infinities are refused both ways, as are text after the value and nesting too deep (ValueError).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _refuse_constant(text: str) -> "Any":
    raise ValueError(f"{text} is not JSON; numbers must be finite")


def _refuse_value(value: object) -> "Any":
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


_LARGE = 1 << 18
"""Characters from which on the collector is paused; below, it costs nothing that can be measured."""


class _Grammar:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: "dict[str, str]" = {}  # noqa: RUF012  (read by the pure Python scanner only)


def _core() -> "tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any], str]]":
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner

        encode = make_encoder(None, _refuse_value, encode_basestring_ascii, None, ":", ",", False, False, False)
        scan = make_scanner(_Grammar())  # type: ignore[arg-type]  # typeshed knows only json's own decoder
        if "".join(encode({"a": [1.5, None]}, 0)) == '{"a":[1.5,null]}' and scan('{"a":[1.5,null]}', 0)[1] == 16:
            return scan, lambda value: "".join(encode(value, 0))
    except (ImportError, TypeError, AttributeError):
        pass
    from json import JSONDecoder, JSONEncoder

    encoder = JSONEncoder(allow_nan=False, separators=(",", ":"), default=_refuse_value)
    scan = JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]  # public, not in typeshed
    return scan, encoder.encode


_scan, _encode = _core()


def loads(text: "str | bytes | bytearray | memoryview") -> "Any":
    """The value of one JSON text, in UTF-8 where it is bytes. Raises ValueError (also UnicodeDecodeError, which is one)."""
    if not isinstance(text, str):
        text = str(text, "utf-8")
    text = text.strip(" \t\n\r")
    try:
        value, end = _scanned(text) if len(text) < _LARGE else _scanned_at_once(text)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):  # Python's own words are advice for programmers
            raise ValueError("a number has thousands of digits, which no datatype holds") from None
        raise
    if end != len(text):
        raise ValueError(f"text after the JSON value, at character {end}")
    return value


def _scanned_at_once(text: str) -> "tuple[Any, int]":
    """As `_scanned`, without the collector of cycles, which JSON has none of: 2 million empty lists in 6 MB take 0.24 s so and
    1.13 s with it, and nothing else runs meanwhile. Of several threads the first to pause it is the one that goes on with it."""
    import gc

    if not gc.isenabled():
        return _scanned(text)
    gc.disable()
    try:
        return _scanned(text)
    finally:
        gc.enable()


def _scanned(text: str) -> "tuple[Any, int]":
    try:
        return _scan(text, 0)
    except SystemError:  # up to Python 3.12 the core looks for its error class in a module that nobody has imported yet
        import json.decoder  # noqa: F401

        return _scan(text, 0)


def dumps(value: "Any") -> str:
    """Compact ASCII JSON. Raises ValueError (NaN, infinity, circular) or TypeError (not a JSON value)."""
    try:
        return _encode(value)
    except RecursionError:
        raise ValueError("nested too deeply to be written as JSON") from None


def text_of(value: object, key: str) -> str:
    """The text that an object has under this key; "" where it has none, or is no object."""
    text = value.get(key) if type(value) is dict else None
    return text if type(text) is str else ""
