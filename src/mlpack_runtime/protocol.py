"""The Open Inference Protocol v2 (KServe's "v2 dataplane") between bytes and tensors, with its binary tensor extension.

Promises: whatever a client sends becomes tensors of exactly the model's datatypes and shapes (`values`), or a `RequestError` that
names the input and says what was expected; what a request may ask for is held against `limits` before anything is computed from it,
and a shape without values asks for no more than other inputs have values for (`shapes`); null where the model takes floats is a
missing value; what is answered reads back bit for bit (NaN and infinities, which JSON cannot hold, become null and are counted).
Binary tensors are passed as they are.
Will not: know a model beyond its ports, an event format, or hooks.

Source: https://github.com/kserve/open-inference-protocol and its binary data extension.
"""

from mlpack_runtime import jsontext
from mlpack_runtime.limits import TEXT_RANK, Limits, RequestError, exceeded, quoted, too_large
from mlpack_runtime.shapes import check_backed, match
from mlpack_runtime.tensor import DATATYPES, Tensor, TensorError
from mlpack_runtime.texts import PAIR_INPUT, TEXT_INPUT, paired, texts
from mlpack_runtime.values import FLOATS, check_strings, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from mlpack_runtime.ort import Port
    from mlpack_runtime.texts import Text

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
HEADER_LENGTH = "inference-header-content-length"
LONGEST_DEADLINE_MS = 86_400_000
"""A day: what is longer counts as that, for no clock and no socket takes times without end."""
DEFAULTS = Limits({}, {})


class Call:
    """A decoded request: either `texts` (strings, or pairs of them) or `inputs`, the caller's `id`, and which outputs it wants,
    each JSON or binary. `classes`: of the outputs that are wanted as their best classes, how many. A task may give `texts` as
    tokens (`tasks.windows`); `asked` is what it keeps until its answer. One that asks the model more
    than once gives `series` instead: called with what predicts and the request's record, it returns the last outputs."""

    __slots__ = ("asked", "classes", "id", "inputs", "series", "texts", "wanted")

    def __init__(self) -> None:
        self.asked: Any = None
        self.classes: dict[str, int] = {}
        self.id: str | None = None
        self.inputs: dict[str, Tensor] = {}
        self.series: Callable[[Any, Any], Mapping[str, Tensor]] | None = None
        self.texts: list[Text] | None = None
        self.wanted: list[tuple[str, bool]] = []  # (output, binary)

    @property
    def batch(self) -> int:
        """How many samples: texts, or the first axis of the first input."""
        if self.texts is not None:
            return len(self.texts)
        first = next(iter(self.inputs.values()), None)
        return first.shape[0] if first is not None and first.shape else 1


def split(headers: "Mapping[str, str]", body: bytes, limits: Limits = DEFAULTS) -> "tuple[Any, memoryview]":
    """(the JSON value, the binary tensors after it) of a body without compression. `headers` have lower-case names. Raises
    RequestError."""
    stated, size = headers.get(HEADER_LENGTH), len(body)
    if stated is not None:
        if not is_number(stated) or int(stated) > len(body):
            raise RequestError(f"Inference-Header-Content-Length is {quoted(stated)}, the body has {len(body)} bytes")
        size = int(stated)
    if len(body) > limits.body_bytes:
        raise too_large("body_bytes", "bytes of the body:", len(body), limits)
    if size > limits.json_bytes:
        raise too_large("json_bytes", "bytes of JSON (send tensors as binary):", size, limits)
    view = memoryview(body)
    begin = 3 if view[:3] == _BYTE_ORDER_MARK else 0  # RFC 8259, 8.1: it may be ignored; files saved on Windows begin with it
    try:
        return jsontext.loads(view[begin:size]), view[size:]
    except ValueError as error:
        why = "it begins as gzip does: say Content-Encoding: gzip" if bytes(view[:2]) == b"\x1f\x8b" else error
        raise RequestError(f"the body is not JSON: {why}") from None


def deadline_ms(headers: "Mapping[str, str]") -> "int | None":
    """How many milliseconds the caller had left when it sent its headers, by `x-deadline-ms`; less than 0 when that was over, None
    when it does not say. Raises RequestError for what is no such number."""
    text = headers.get("x-deadline-ms", "").strip()
    if text and not is_number(text.removeprefix("-")):
        raise RequestError(f"x-deadline-ms is {quoted(text)}, not a number of milliseconds")
    return min(int(text), LONGEST_DEADLINE_MS) if text else None


def is_number(text: str) -> bool:
    """Whether a header's text is a whole number of a size that a time may have."""
    return text.isascii() and text.isdigit() and len(text) < 15


def is_inference(value: object) -> bool:
    """Whether a JSON value is meant as an Open Inference Protocol request: an object with a list of named `inputs`."""
    inputs = value.get("inputs") if type(value) is dict else None
    return type(inputs) is list and all(type(row) is dict and "name" in row for row in inputs)


def decode(
    value: "dict[str, Any]",
    binary: memoryview,
    inputs: "tuple[Port, ...]",
    outputs: "tuple[Port, ...]",
    *,
    has_texts: bool,
    limits: Limits = DEFAULTS,
) -> Call:
    """The call in a request. `has_texts`: whether an input named "text" with datatype BYTES stands for the graph's own inputs."""
    call = Call()
    call.id = _optional(value, "id", str)
    if call.id is not None and len(call.id) > limits.id_chars:
        raise RequestError(exceeded("id_chars", "characters of the id:", len(call.id), limits.id_chars))
    call.wanted = _wanted(value, [port.name for port in outputs])
    call.classes = _classes(value, outputs)
    rows = _rows(value, inputs, has_texts=has_texts)
    _give_bytes(rows, binary)
    if has_texts and TEXT_INPUT in rows:
        if len(rows) > 1 and rows.keys() != {TEXT_INPUT, PAIR_INPUT}:
            said = f"input {TEXT_INPUT!r} stands alone, or with {PAIR_INPUT!r} for pairs"
            raise RequestError(f"{said}; {', '.join(map(quoted, rows))} were sent together")
        call.texts = _texts(TEXT_INPUT, rows[TEXT_INPUT], limits)
        if PAIR_INPUT in rows:
            call.texts = paired(call.texts, _texts(PAIR_INPUT, rows[PAIR_INPUT], limits), limits)
        return call
    ranks = {port.name: len(port.shape) for port in inputs}
    call.inputs = tensors({name: _declared(name, row, ranks.get(name, 0), limits) for name, row in rows.items()}, inputs, limits)
    return call


def check_no_bytes(binary: "memoryview | None") -> None:
    """Refuse bytes after a JSON value that is no protocol request: no input says that they are its own."""
    if binary:
        raise RequestError(f"{len(binary)} bytes after the JSON, which is no protocol request: which input do they belong to?")


def _give_bytes(rows: "dict[str, dict[str, Any]]", binary: memoryview) -> None:
    """Each row its binary tensor. RequestError where the sizes are not those of the bytes at hand."""
    at = 0
    for name, row in rows.items():
        if "binary_data_size" in _parameters(row):
            size = _parameters(row)["binary_data_size"]
            if type(size) is not int or not 0 <= size <= len(binary) - at:
                raise RequestError(
                    f"input {name!r}: binary_data_size is {quoted(size)}; {len(binary) - at} bytes are left after the JSON header"
                )
            row["raw"], at = binary[at : at + size], at + size
    if at != len(binary):
        raise RequestError(f"{len(binary) - at} bytes after the last binary tensor: which input do they belong to?")


def tensors(values: "Mapping[str, Any]", ports: "Iterable[Port]", limits: Limits = DEFAULTS) -> "dict[str, Tensor]":
    """Named Tensors or nested lists as the tensors of these ports. Raises RequestError for names, datatypes, shapes or values."""
    ports = tuple(ports)
    sizes: dict[str, tuple[int, str]] = {}
    known = {port.name for port in ports}
    for name in values:
        if name not in known:
            raise RequestError(f"unknown input {quoted(name)}; this model takes {_described(ports)}")
    found: dict[str, Tensor] = {}
    for port in ports:
        if port.name not in values:
            raise RequestError(f"input {port.name!r} is missing; this model takes {_described(ports)}")
        given = values[port.name]
        if not isinstance(given, Tensor) and hasattr(given, "tolist"):  # an array of some library, from a hook
            given = given.tolist()
        made = given if isinstance(given, Tensor) else nested(port.name, given, port.datatype, rank=len(port.shape), limits=limits)
        if made.datatype != port.datatype:
            raise RequestError(f"input {port.name!r} has datatype {made.datatype}; the model takes {port.datatype}")
        match(port, made.shape, sizes)
        found[port.name] = made
    check_backed(ports, found)
    for port in ports:
        if limits.counts_rows(port.shape) and found[port.name].shape[0] > limits.rows:
            raise too_large("rows", f"rows of input {port.name!r}:", found[port.name].shape[0], limits)
    return found


def rewritten(value: object) -> str:
    """A request's JSON, written anew. RequestError for what could be read only: 1e400, or nesting as deep as reading goes."""
    try:
        return jsontext.dumps(value)
    except ValueError as error:
        raise RequestError(f"the request cannot be passed on as JSON: {error}") from None


def encode_json(made: Tensor) -> "tuple[str, int]":
    """(a flat JSON list, how many values were not finite and are null there)."""
    values = made.flat()
    if made.datatype not in FLOATS:
        return jsontext.dumps(values), 0
    # Twice as quick as the JSON encoder, and a third shorter, because nine digits bring every float32 back.
    text = "[" + ",".join([FLOATS[made.datatype][0]] * len(values)) % tuple(values) + "]"
    if "n" not in text:  # of the numbers only "nan" and "inf" have an n
        return text.replace("-0,", "-0.0,").replace("-0]", "-0.0]"), 0  # JSON's -0 is an integer without a sign
    finite = [None if value != value or value in (float("inf"), float("-inf")) else value for value in values]
    return jsontext.dumps(finite), finite.count(None)


def encode(outputs: "Mapping[str, Tensor]", call: Call, *, name: str, version: str, trace_id: str) -> "tuple[bytes, int | None]":
    """(body, length of its JSON header when binary tensors follow, else None). The trace id is the answer's own parameter."""
    rows, parts = [], []
    for output, binary in call.wanted:
        made = outputs[output]
        head: dict[str, Any] = {"name": output, "datatype": made.datatype, "shape": list(made.shape)}
        if binary:
            data = bytes(made.data)
            parts.append(data)
            rows.append(jsontext.dumps({**head, "parameters": {"binary_data_size": len(data)}}))
            continue
        text, lost = encode_json(made)
        if lost:
            head["parameters"] = {"non_finite": lost}
        rows.append(f'{jsontext.dumps(head)[:-1]},"data":{text}}}')
    start: dict[str, Any] = {"model_name": name, "model_version": version}
    if call.id is not None:
        start["id"] = call.id
    start["parameters"] = {"trace_id": trace_id}
    header = f'{jsontext.dumps(start)[:-1]},"outputs":[{",".join(rows)}]}}'.encode()
    return (b"".join([header, *parts]), len(header)) if parts else (header, None)


def error_body(kind: str, message: object, trace_id: str, more: "Mapping[str, Any] | None" = None) -> bytes:
    """The one form of an answer that is an error, of every entrance: see docs/interface.md."""
    return jsontext.dumps({"error": str(message), "error_type": kind, "trace_id": trace_id, **(more or {})}).encode()


def metadata(
    name: str, version: str, inputs: "Iterable[Port]", outputs: "Iterable[Port]", texts: "tuple[str, ...]" = ()
) -> "dict[str, Any]":
    """The protocol's model metadata; an axis that may vary is -1. `texts`: inputs of strings that stand for the graph's own, which
    are told as `token_inputs`."""

    def rows(ports: "Iterable[Port]") -> "list[dict[str, Any]]":
        shapes = ((port, [size if type(size) is int else -1 for size in port.shape]) for port in ports)
        return [{"name": port.name, "datatype": port.datatype, "shape": shape} for port, shape in shapes]

    head = {"name": name, "versions": [version], "platform": "onnxruntime_onnx"}
    if not texts:
        return {**head, "inputs": rows(inputs), "outputs": rows(outputs)}
    asked = [{"name": each, "datatype": "BYTES", "shape": [-1]} for each in texts]
    return {**head, "inputs": asked, "outputs": rows(outputs), "token_inputs": rows(inputs)}


def _rows(value: "dict[str, Any]", ports: "tuple[Port, ...]", *, has_texts: bool) -> "dict[str, dict[str, Any]]":
    """The inputs by name. More than the model has are not looked at."""
    rows: dict[str, dict[str, Any]] = {}
    most = len(ports) + 1 + has_texts  # one more, so that the message can name it
    if len(value["inputs"]) > most:
        raise RequestError(f"{len(value['inputs'])} inputs are there; this model takes {', '.join(port.name for port in ports)}")
    for row in value["inputs"]:
        name = row["name"]
        if type(name) is not str:
            raise RequestError(f"an input's name is {quoted(name)}, not a string")
        if name in rows:
            raise RequestError(f"input {quoted(name)} is there twice")
        rows[name] = dict(row)
        rows[name].pop("raw", None)
    return rows


def _described(ports: "tuple[Port, ...]") -> str:
    return ", ".join(f"{port.name} ({port.datatype} {list(port.shape)})" for port in ports)


def _wanted(value: "dict[str, Any]", known: "list[str]") -> "list[tuple[str, bool]]":
    default = _parameters(value).get("binary_data_output", False) is True
    rows = value.get("outputs")
    if rows is None or rows == []:
        return [(name, default) for name in known]
    if type(rows) is not list or not {*map(type, rows)} <= {dict}:
        raise RequestError("outputs is not a list of objects with a name")
    for at, row in enumerate(rows):
        if row.get("name") not in known:
            raise RequestError(f"unknown output {quoted(row.get('name'))}; this model gives {', '.join(known)}")
        if at >= len(known) or any(row["name"] == before["name"] for before in rows[:at]):
            raise RequestError(f"output {row['name']!r} is asked for twice")
    return [(row["name"], _parameters(row).get("binary_data", default) is True) for row in rows]


def _classes(value: "dict[str, Any]", ports: "tuple[Port, ...]") -> "dict[str, int]":
    """Outputs that are wanted as classes. The protocol gives parameters no meaning but by extensions, and so most are passed over;
    not those that would have the answer elsewhere, or in another form, than their caller looks for it."""
    asked: dict[str, int] = {}
    for row in value.get("outputs") or ():
        parameters = _parameters(row)
        if any(key.startswith("shared_memory") for key in parameters):
            raise RequestError(f"output {row['name']!r}: shared memory is not here; answers come in the body")
        if "classification" in parameters:
            from mlpack_runtime import classification

            port = next(port for port in ports if port.name == row["name"])
            asked[port.name] = classification.check(parameters["classification"], port)
    return asked


def _parameters(row: "dict[str, Any]") -> "dict[str, Any]":
    return _optional(row, "parameters", dict) or {}


def _optional(row: "dict[str, Any]", key: str, kind: type) -> "Any":
    value = row.get(key)
    if value is not None and type(value) is not kind:
        raise RequestError(f"{key} is {quoted(value)}, not a {'string' if kind is str else 'JSON object'}")
    return value


def _shape(name: str, row: "dict[str, Any]", rank: int) -> "tuple[int, ...]":
    shape = row.get("shape")
    if type(shape) is list and len(shape) > max(rank, TEXT_RANK):  # not looked at
        raise RequestError(f"input {name!r} has a shape of {len(shape)} axes; the model takes {rank}")
    if type(shape) is not list or not {*map(type, shape)} <= {int} or (shape and min(shape) < 0):
        raise RequestError(f"input {name!r}: shape is {quoted(shape)}, not a list of sizes")
    return tuple(shape)


def _declared(name: str, row: "dict[str, Any]", rank: int, limits: Limits) -> Tensor:
    shape, datatype = _shape(name, row, rank), row.get("datatype")
    if type(datatype) is not str or datatype not in DATATYPES:
        raise RequestError(f"input {name!r}: datatype {quoted(datatype)} is not one of {', '.join(DATATYPES)}")
    if "raw" not in row:
        if "data" not in row:
            raise RequestError(f"input {name!r} has neither data nor binary_data_size")
        return nested(name, row["data"], datatype, shape, limits=limits)
    if datatype == "BYTES" and len(row["raw"]) > limits.json_bytes:  # an object each, as in JSON
        raise too_large("json_bytes", f"bytes of the strings of input {name!r}:", len(row["raw"]), limits)
    try:
        made = Tensor(datatype, shape, bytes(row["raw"]))
    except TensorError as error:
        raise RequestError(f"input {name!r}: {error}") from None
    if datatype == "BYTES":
        try:
            check_strings(name, [str(text, "utf-8") for text in made.strings()], limits)
        except UnicodeDecodeError as error:
            raise RequestError(f"input {name!r}: a string is not UTF-8: {error}") from None
    return made


def _texts(name: str, row: "dict[str, Any]", limits: Limits) -> "list[Text]":
    shape, datatype = _shape(name, row, 1), row.get("datatype")
    if datatype != "BYTES":
        raise RequestError(f"input {name!r} has datatype {quoted(datatype)}; texts are BYTES")
    if "raw" in row:
        values: Any = _byte_strings(row["raw"], limits)
    else:
        values = row.get("data")
        for _ in shape[1:]:  # no deeper than the shape: each level is a pass over all of them
            if type(values) is list and values and type(values[0]) is list:
                values = [item for part in values for item in (part if type(part) is list else [part])]
    return texts(values, shape, limits, name)


def _byte_strings(raw: memoryview, limits: Limits) -> "list[str]":
    values, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        if at + 4 + size > len(raw):
            raise RequestError(f"input {TEXT_INPUT!r}: a text of {size} bytes starts at byte {at} of {len(raw)}")
        try:
            values.append(str(raw[at + 4 : at + 4 + size], "utf-8"))
        except UnicodeDecodeError as error:
            raise RequestError(f"input {TEXT_INPUT!r}: a text is not UTF-8: {error}") from None
        at += 4 + size
        if len(values) > limits.rows:  # an empty text has four bytes
            raise too_large("rows", "texts, or more:", len(values), limits)
    return values


__all__ = ["Call", "RequestError", "decode", "encode", "texts"]
