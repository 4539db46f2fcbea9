"""Records of a manifest to requests: which of its forms a line has, and what a row's columns mean.

    {"id": ..., "request": {...}}                   a request under a name
    {"id": ..., "object": "s3://bucket/key"}        an object whose bytes are the request, or a key beside the manifest
    {"custom_id", "body", "method", "url"}          OpenAI's batches
    {"recordId", "modelInput"}                      Bedrock's
    anything else                                   the request itself; a plain one gives up its `id`, which is the item's, unless
                                                    the package finds its features by it

Promises: what is wrong with one record is that item's problem. Will not: judge requests.
"""

from mlpack_runtime import jsontext, protocol
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.limits import quoted
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.batch.reading.records import Record
    from mlpack_runtime.model import Described

    Cells = Callable[[list[Any]], Any]

ID, OBJECT, REQUEST = "id", "object", "request"
_FORMS = (
    (ID, REQUEST, frozenset((ID, REQUEST))),
    ("custom_id", "body", frozenset(("custom_id", "body", "method", "url"))),
    ("recordId", "modelInput", frozenset(("recordId", "modelInput"))),
)
"""Keys of the id and of the request, and all that a line of this form may have."""
_LONGEST_ID = 1024


class Item:
    """One request. `place`: of the object that it is in, "" where `body` is the request; `problem`: why there is none."""

    __slots__ = ("body", "identifier", "line", "number", "place", "problem")

    def __init__(self, number: int, line: int) -> None:
        self.number = number
        self.line = line
        self.identifier: str | int | None = None
        self.body = b""
        self.place = ""
        self.problem: RequestError | None = None


class _Object:
    def __init__(self, place: str) -> None:
        self.place = place


class Opener:
    """Records to items. `columns` of a table are `mapping`'s, or as their names say. Raises BatchError where they make no sense."""

    def __init__(self, model: "Described", columns: "list[str] | None", mapping: "Mapping[str, Any]") -> None:
        self._row: tuple[Cells, Cells] | None = None
        self._keeps_id = _finds_by_id(model)
        if columns is not None:
            self._row = _Table(model, columns).row(mapping)
        elif mapping:
            raise BatchError("the manifest is JSON Lines, which has no columns: leave them out")

    def item(self, record: "Record") -> Item:
        """Of a record; it raises nothing."""
        item = Item(record.number, record.line)
        try:
            if record.problem:
                raise RequestError(record.problem, 413 if "more than" in record.problem else 400)
            if self._row is None:
                _read_line(item, record.value, keeps_id=self._keeps_id)
            else:
                assert isinstance(record.value, list)
                identifier, request = self._row
                item.identifier = _identifier(identifier(record.value))
                _take(item, request(record.value))
        except RequestError as error:
            item.problem = error
        return item


def _finds_by_id(model: "Described") -> bool:
    features = (model.settings.get("around") or {}).get("features") or {}
    return ID in features.get("key", ())


def _read_line(item: Item, text: "Any", *, keeps_id: bool) -> None:
    try:
        value = jsontext.loads(text)
    except UnicodeDecodeError:
        raise RequestError("not UTF-8") from None
    except ValueError as error:
        raise RequestError(f"not JSON: {error}") from None
    identifier, request = opened(value)
    if keeps_id and _is_plain(value, request):
        identifier, request = (None if type(value[ID]) is list else value[ID]), value  # several entities are no one's item
    item.identifier = _identifier(identifier)
    if request is value:  # its bytes are there already
        item.body = bytes(text)
    else:
        _take(item, request)


def opened(value: "Any") -> "tuple[Any, Any]":
    """(id, request) of a line's value; the request is an `_Object` where it lies elsewhere."""
    if type(value) is not dict:
        return None, value
    keys = value.keys()
    for name, request, known in _FORMS:
        if request in keys and keys <= known:
            return value.get(name), value[request]
    if OBJECT in keys and keys <= {ID, OBJECT} and type(value[OBJECT]) is str:
        return value.get(ID), _Object(value[OBJECT])
    if protocol.is_inference(value) or ID not in keys:
        return value.get(ID), value
    return value[ID], {key: one for key, one in value.items() if key != ID}


def _is_plain(value: "Any", request: "Any") -> bool:
    """Whether a line is a plain request that gave up its id."""
    return type(request) is dict and type(value) is dict and ID in value and request.keys() == value.keys() - {ID}


def _take(item: Item, value: object) -> None:
    if isinstance(value, _Object):
        if not value.place:
            raise RequestError("the object is an empty text: s3://bucket/key, or a key beside the manifest, is needed")
        item.place = value.place
        return
    try:
        item.body = jsontext.dumps(value).encode()
    except (ValueError, TypeError) as error:
        raise RequestError(f"the row holds what JSON does not: {error}") from None


def _identifier(value: object) -> "str | int | None":
    if value is None or (type(value) is int and value.bit_length() < 64):
        return value
    if type(value) is str and len(value) <= _LONGEST_ID:
        return value
    raise RequestError(f"the id is {quoted(value)}: a text of at most {_LONGEST_ID} characters, or a number, is needed")


class _Table:
    """What the columns of a table mean for a package."""

    def __init__(self, model: "Described", columns: "list[str]") -> None:
        self._columns = columns
        self._finds_by_id = _finds_by_id(model)
        self._keeps_id = self._finds_by_id or any(port.name == ID for port in model.inputs)
        self._hooked = bool(model.settings.get("preprocess"))
        texts = bool(model.settings.get("tokenizer"))
        self._ports = {} if self._hooked or texts else {port.name: port for port in model.inputs}

    def row(self, mapping: "Mapping[str, Any]") -> "tuple[Cells, Cells]":
        """How a row's cells become its id and its request: a JSON value, or an `_Object`. Raises BatchError."""
        for key, names in mapping.items():
            for name in names if type(names) is list else [names]:
                if name not in self._columns:
                    raise BatchError(f"columns: {key} is to be the column {quoted(name)}; there are {quoted(self._columns)}")
        mapping = dict(mapping)
        given = mapping.pop(ID, ID if ID in self._columns else None)
        if self._keeps_id and given is not None and (mapping or given != ID):
            mapping = {**(mapping or self._named(given)), ID: given}
        identify = self._getter(given) if given is not None else _nothing
        special = next((name for name in (REQUEST, OBJECT) if name in mapping or (not mapping and name in self._columns)), "")
        if special:
            cell = self._getter(mapping.get(special, special))
            make: Any = _parsed if special == REQUEST else _Object
            return identify, lambda cells: make(_text(cell(cells), special))
        return identify, self._request(mapping or self._named(None if self._keeps_id else given))

    def _named(self, identifier: object) -> "dict[str, Any]":
        """What the names say by themselves: a column of an input's name is its row; as many columns as the one input has numbers
        are these; else each is a key of a plain request."""
        rest = [name for name in self._columns if name and name != identifier]
        if self._ports and all(name in rest for name in self._ports):
            return {name: name for name in self._ports}
        shapes = [port.shape for port in self._ports.values()]
        if not self._finds_by_id and len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] == len(rest) > 1:
            return {next(iter(self._ports)): rest}
        return {name: name for name in rest}

    def _request(self, mapping: "Mapping[str, Any]") -> "Cells":
        cells = {key: self._getter(names) for key, names in mapping.items()}
        ports = [self._ports.get(key) for key in mapping]
        if not mapping or None in ports:
            if any(ports):
                raise BatchError(
                    f"columns: {quoted(list(mapping))} are inputs of the model in part; name all of {quoted(list(self._ports))}"
                )
            return lambda row: {key: _plain(get(row), key) for key, get in cells.items()}
        return lambda row: {
            "inputs": {key: [_shaped(get(row), self._ports[key])] for key, get in cells.items()},
        }

    def _getter(self, names: object) -> "Cells":
        if type(names) is list:
            places = [self._columns.index(name) for name in names]
            return lambda cells: [cells[at] for at in places]
        at = self._columns.index(str(names))
        return lambda cells: cells[at]


def _nothing(_: object) -> None:
    return None


def _parsed(text: str) -> "Any":
    try:
        return jsontext.loads(text)
    except ValueError as error:
        raise RequestError(f"the column {REQUEST!r} is not JSON: {error}") from None


def _text(value: object, what: str) -> str:
    if type(value) is not str or not value:
        raise RequestError(f"the column {what!r} is {quoted(value)}, not a text")
    return value


def _shaped(value: "Any", port: "Any") -> "Any":
    """One row of an input."""
    if type(value) is list:
        return [_number(one, port) for one in value]
    made = _number(value, port)
    return [made] if len(port.shape) > 1 and type(made) is not list else made


def _number(value: "Any", port: "Any") -> "Any":
    """A cell as an input has it: CSV's texts are read, and a whole number may have been written with a point."""
    if port.datatype == "BYTES":
        return value
    if type(value) is str:
        text = value.strip()
        try:
            value = jsontext.loads(text.lower() if port.datatype == "BOOL" else text.removeprefix("+"))
        except ValueError:
            value = _spelled(text, port.name)
    if type(value) is float and value.is_integer() and "INT" in port.datatype:
        return int(value)
    return bool(value) if port.datatype == "BOOL" and value in (0, 1) else value


def _spelled(text: str, name: str) -> float:
    """A number that JSON writes in another way: `.5`, `1.`, `007`."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        why = ": the cell is empty" if not text else ": decimals have a point" if "," in text else ""
        raise RequestError(f"{quoted(text)} is no number for the input {quoted(name)}{why}")
    return value


def _plain(value: "Any", key: str) -> "Any":
    """A cell of a plain request: as JSON has it; bytes in base64, times and decimals as text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        from binascii import b2a_base64

        return b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, list):
        return [_plain(one, key) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one, key) for name, one in value.items()}
    return str(value)
