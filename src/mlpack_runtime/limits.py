"""How much one request may ask for: every bound in one place, read once, the same for Lambda, worker and front door.

What is not set by its environment variable follows from the package: its memory, its ports, and under `limits` in model.json what
the build found out about the graph. docs/interface.md has the table.

Promises: a bound is a number that was compared before anything was computed from what a stranger sent; each refusal names the
bound, its value and its variable; a stranger's value is quoted by `quoted` alone, which is short whatever it is given. A package
without `limits` gets defaults. Will not: read the environment by itself, or know requests.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MIB = 1 << 20
DEFAULT_MEMORY_MB = 1769
QUOTED = 100
"""Characters of a stranger's value in a message; their escapes may be more of them."""
MESSAGE = 2_000
"""Characters of a whole message, in answers and in the log."""
TRACEBACK = 8_000
REQUEST_ID = 200
"""Characters of a request id in the log; what is longer is cut there."""
TEXT_RANK = 4
"""Axes that the shape of texts may have."""
UNBACKED = 4096
"""What the free axes of an input without values may come to, other than its rows: heads and sizes of an empty cache, no more."""
LAMBDA_BYTES = 8 * MIB
"""More than Lambda hands over (6 MB; larger only in base64, which it counts): no default refuses what Lambda lets through."""
_TOKEN_BYTES = 128 * 1024
"""Of the engine, for a token of a model whose model.json does not say it (`limits.token_bytes`). MiniLM's shape (hidden size 384,
12 heads) takes 55 KB at 512 tokens in float32, measured; BERT-base some 130."""
_CHAR_BYTES = 4096
"""Of the tokenizer, for a character before truncation: measured up to 700 bytes for ideographs, 2,700 for what is normalized to
many letters."""
_PIXEL_BYTES = 40
"""Of memory, for a pixel of a picture that is read: Pillow holds four bytes for it, a progressive JPEG's coefficients are six more,
turning and converting it take another four each, and the rest is for the model."""
_SAMPLE_BYTES = 24
"""Of memory, for a sample of a sound: as float32 while it is mixed down, padded, put into blocks with its neighbours, resampled."""
ENVELOPE_BYTES = 2048
"""Room for the keys and headers around an answer's body."""
_LEAST, _MOST = 1, 1 << 50


class SettingsError(ValueError):
    """A setting is not what it has to be. The message names it."""


def number(environment: "Mapping[str, str]", name: str, default: float, least: float, most: float) -> float:
    """A setting as a number within its bounds. Raises SettingsError, which names it."""
    text = environment.get(name)
    try:
        value = float(default if text is None or text == "" else text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsError(f"{name} is {quoted(text)}: a number from {least:g} to {most:g} is needed")
    return value


class RequestError(Exception):
    """A request that is refused: `status` as in HTTP, `kind` a stable word for programs, the message for people, cut where it is
    long. `wait_s`: after how long it is worth to try again, for `Retry-After`."""

    stage = ""
    """Whose it is, where that is not plain: `authorize`, or a hook's name."""

    def __init__(self, message: str, status: int = 400, kind: str = "InvalidRequest", wait_s: "float | None" = None) -> None:
        super().__init__(cut(message))
        self.status = status
        self.kind = kind
        self.headers = {} if wait_s is None else {"retry-after": str(max(1, int(wait_s + 0.999)))}


def fits(size: int, limit: int) -> None:
    """Raise RequestError when a body of `size` bytes, with what is put around it, is more than `limit`."""
    if size + ENVELOPE_BYTES > limit:
        message = (
            f"the answer has {size} bytes or more; {limit} are passed on. Send fewer samples a call, ask for fewer outputs,"
            ' or over HTTP for binary ones ("parameters": {"binary_data_output": true})'
        )
        raise RequestError(message, 413, "PayloadTooLarge")


class Limits:
    """What one request may have. `settings` is model.json. Raises SettingsError for a variable that is no number in bounds.

    Beside these a shape has the rank of its port, and each named input and output is there once.

    `body_bytes`: the body, whatever its form. `json_bytes`: its JSON part, which takes up to 30 times as much memory once it is
    read. `rows`: samples. `text_chars`: of one text, before it is cut to the model's tokens. `id_chars`: of the request's `id`.
    `image_pixels`: of one picture, as it is sent and as it is resized. `sound_samples`: of all sounds and their channels
    together. `engine_tokens`: rows x longest that the engine is asked for at a time. `waiting_bytes`: tensors that may wait for a
    worker's engine, together.
    """

    __slots__ = (
        "_row_axes", "body_bytes", "engine_tokens", "id_chars", "image_pixels", "json_bytes", "rows", "sound_samples",
        "text_chars", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, environment: "Mapping[str, str]", settings: "Mapping[str, Any]") -> None:
        memory = memory_mb(environment, settings) * MIB
        known = settings.get("limits") or {}

        def limit(name: str, default: float) -> int:
            default = known.get(name, default)
            return int(number(environment, variable(name), max(_LEAST, int(default)), _LEAST, _MOST))

        self.body_bytes = limit("body_bytes", min(256 * MIB, max(LAMBDA_BYTES, memory / 8)))
        self.json_bytes = limit("json_bytes", min(self.body_bytes, max(LAMBDA_BYTES, memory / 32)))
        self._row_axes = _row_axes(settings)
        self.rows = limit("rows", min(4_194_304, max(16, memory / 2 / _row_bytes(settings))))
        self.text_chars = limit("text_chars", max(32_768, memory / _CHAR_BYTES))
        self.id_chars = limit("id_chars", 1024)
        longest = (settings.get("tokenizer") or {}).get("max_length") or 0
        self.image_pixels = limit("image_pixels", max(1 << 20, memory / _PIXEL_BYTES))
        self.sound_samples = limit("sound_samples", max(1 << 20, memory / 2 / _SAMPLE_BYTES))
        self.engine_tokens = limit("engine_tokens", max(1024, longest, memory / 2 / (known.get("token_bytes") or _TOKEN_BYTES)))
        self.waiting_bytes = limit("waiting_bytes", memory / 4)

    def counts_rows(self, axes: "tuple[int | str, ...]") -> bool:
        """Whether the first of a port's axes counts samples. One axis alone may be a signal's: it does where outputs follow it."""
        return bool(axes) and type(axes[0]) is not int and (len(axes) > 1 or axes[0] in self._row_axes)


NAMES = tuple(sorted(name for name in Limits.__slots__ if not name.startswith("_")))


def variable(name: str) -> str:
    """The environment variable of a limit."""
    return f"MLPACK_LIMIT_{name.upper()}"


def exceeded(name: str, what: str, given: int, limit: int) -> str:
    """The message of a refusal: what was given, the limit, and how it is raised."""
    return f"{what} {quoted(given)}; at most {limit} are taken here ({variable(name)})"


def too_large(name: str, what: str, given: int, limits: Limits) -> RequestError:
    """The refusal of what is above the limit of that name."""
    return RequestError(exceeded(name, what, given, getattr(limits, name)), 413, "PayloadTooLarge")


def too_many_tokens(limits: Limits, why: str) -> RequestError:
    """The refusal of a call that is too much for one run of the engine, of a graph that takes no portions for that reason."""
    return RequestError(
        f"the call's rows x longest are more than the {limits.engine_tokens} tokens that the engine is asked for at a time"
        f" ({variable('engine_tokens')}), and it cannot be run in portions: {why}. Send fewer or shorter rows a call",
        413,
        "PayloadTooLarge",
    )


def memory_mb(environment: "Mapping[str, str]", settings: "Mapping[str, Any]") -> float:
    """What the package has: a Lambda function's own memory, else what it was built for. A front door's own memory says nothing of
    the workers behind it, whose limits it holds."""
    told = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") if str(settings.get("target", "")).startswith("lambda") else None
    try:
        return max(64.0, float(told or settings.get("memory_mb") or DEFAULT_MEMORY_MB))
    except (TypeError, ValueError):
        return DEFAULT_MEMORY_MB


def _axes(settings: "Mapping[str, Any]", key: str) -> "list[tuple[Any, ...]]":
    return [tuple(port.get("shape") or ()) for port in settings.get(key) or ()]


def _row_axes(settings: "Mapping[str, Any]") -> "frozenset[object]":
    """Names of the axes that count samples: the first one of an input and, before others, of an output."""
    given = {shape[0] for shape in _axes(settings, "inputs") if shape}
    return frozenset(
        shape[0] for shape in _axes(settings, "outputs") if len(shape) > 1 and type(shape[0]) is str and shape[0] in given
    )


def _row_bytes(settings: "Mapping[str, Any]") -> int:
    """What a sample costs beside the bytes that it came in: its outputs as Python's numbers (32 bytes each), and the objects around
    it, which are many for a text."""
    axes, values = _row_axes(settings), 0
    for first, *others in filter(None, _axes(settings, "outputs")):
        size = 1 if first in axes else 0
        for axis in others:
            size *= axis if type(axis) is int else 1
        values += size
    return 32 * values + (16_384 if settings.get("tokenizer") else 64)


def quoted(value: object) -> str:
    """A stranger's value as a message may hold it: what it is, never more than some `QUOTED` characters, in time that does not
    depend on its size."""
    kind = type(value)
    if kind is str:
        assert isinstance(value, str)
        return _cut(repr(value)) if len(value) <= QUOTED else f"{_cut(repr(value[:QUOTED]))}... ({len(value)} characters)"
    if kind is int:
        assert isinstance(value, int)
        return repr(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
    if value is None or kind in (bool, float):
        return repr(value)
    if kind in (list, tuple):
        assert isinstance(value, (list, tuple))
        if len(value) <= 16 and all(type(item) in (int, float, bool, str, type(None)) for item in value):
            return _cut(f"[{', '.join(map(quoted, value))}]", 2 * QUOTED)
        return f"a list of {len(value)}"
    if kind is dict:
        assert isinstance(value, dict)
        return f"an object of {len(value)} keys"
    return f"a {kind.__name__}"


def named(text: str) -> str:
    """A stranger's path or method without quotes, where it is short and plain; else as `quoted`."""
    return text if len(text) <= QUOTED and text.isprintable() else quoted(text)


def cut(text: str, most: int = MESSAGE) -> str:
    """A text of at most about `most` characters: its beginning and its end, where it is longer."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half} characters left out) ... {text[-half:]}"


def _cut(text: str, most: int = 2 * QUOTED) -> str:
    return text if len(text) <= most else text[:most] + "..."


def keys_of(made: "Mapping[str, object]") -> str:
    """Which keys an object has, in words; of many the first."""
    first = [quoted(key) for key, _ in zip(made, range(5), strict=False)]
    return ", ".join(first) + (f" and {len(made) - 5} more" if len(made) > 5 else "") if made else "no keys"


def kind_of(value: object) -> str:
    """What a JSON value that is no object is, in words."""
    return {list: "list", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
