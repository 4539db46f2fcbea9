"""ONNX Runtime through its C library and ctypes: open a model file, run it, nothing else.

Promises: every status is checked and released, every value released, sizes checked before the engine sees a pointer, and whatever
the engine says about a bad file becomes an `OrtError` with its own words. A session may be run from several threads at once.
Will not: handle sequences, maps or sparse tensors (an `OrtError` says so when the model is opened), or import numpy.

Source of the numbers: `OrtApi` in onnxruntime_c_api.h is a table of function pointers that only ever grows at its end.
"""

import os
from ctypes import (
    CDLL,
    CFUNCTYPE,
    addressof,
    byref,
    c_char,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
    create_string_buffer,
    string_at,
)

from mlpack_runtime.tensor import DATATYPES, Tensor, TensorError, count, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.tensor import Buffer

API_VERSION = 17  # all that is used here existed by onnxruntime 1.17; a newer library still answers to this number
LOG_NOTHING = 4
"""Only what ends the process. What the engine logs as an error it returns too, in the same words, and callers could have it log as
often as they like, in coloured lines on stderr that are no JSON."""
INVALID_ARGUMENT = 2
SAID: "list[str]" = []
"""What the engine's libraries had to say on stderr while they were loaded, ten lines at most: whoever writes the log takes them."""
_NAMES = {row[0]: name for name, row in DATATYPES.items()}
_POINTER = 8


class OrtError(RuntimeError):
    """The engine refused. `code` is its OrtErrorCode, 0 where the refusal is ours."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def is_refusal(message: str, code: int) -> bool:
    """Whether the engine refused what it was given: by its arguments, or by a node that failed on it while it ran, which on a
    processor is for what it was given too, except for memory."""
    if any(word in message for word in ("allocate memory", "bad_alloc")):
        return False
    return code == INVALID_ARGUMENT or "while running" in message


class Port:
    """An input or output of a model: `shape` holds sizes, and names (or "?") for axes that may vary."""

    __slots__ = ("datatype", "name", "shape")

    def __init__(self, name: str, datatype: str, shape: "tuple[int | str, ...]") -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape


def function(table: int, index: int, result: "Any", *arguments: "Any") -> "Callable[..., Any]":
    """A function of the OrtApi `table` by its place there. Raises OrtError where there is none."""
    address = c_void_p.from_address(table + index * _POINTER).value
    if not address:
        raise OrtError(f"the engine's C library has no function {index}: it is older than onnxruntime 1.17")
    return CFUNCTYPE(result, *arguments)(address)


class Engine:
    """The C library and its one environment. Raises OrtError when the file is missing, is not ONNX Runtime, or is too old.

    It lives as long as the process: the library does not survive being loaded twice, and nothing is gained by unloading it.
    """

    def __init__(self, library: str) -> None:
        # Linux builds from 1.31 on keep a SQLite database of usage in the home directory, start a thread and send it to Microsoft
        # unless this is set before the library is loaded. A package reports to nobody; this also saves some 20 ms and two fsyncs.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with _Overheard():
            self._load(library)

    def _load(self, library: str) -> None:
        try:
            base_function = CDLL(library).OrtGetApiBase
        except (OSError, AttributeError) as error:
            raise OrtError(f"cannot load ONNX Runtime from {library}: {error}. Is it built for this machine?") from None
        base_function.restype = c_void_p
        base = base_function()
        get_api = CFUNCTYPE(c_void_p, c_uint32)(c_void_p.from_address(base).value or 0)
        version = CFUNCTYPE(c_char_p)(c_void_p.from_address(base + _POINTER).value or 0)()
        self.version = version.decode() if version else "?"
        table = get_api(API_VERSION)
        if not table:
            raise OrtError(f"{library} is onnxruntime {self.version}; 1.{API_VERSION} or newer is needed")
        self.table: int = table
        self._bind(table)
        self._environment = c_void_p()
        self.check(self._create_environment(LOG_NOTHING, b"mlpack", byref(self._environment)))
        self.memory = c_void_p()
        self.check(function(table, 69, c_void_p, c_int, c_int, c_void_p)(0, 0, byref(self.memory)))

    def _bind(self, table: int) -> None:
        pointer, void = c_void_p, None
        self._error_code = function(table, 1, c_int, pointer)
        self._error_message = function(table, 2, c_char_p, pointer)
        self._release_status = function(table, 93, void, pointer)
        self._create_environment = function(table, 3, pointer, c_int, c_char_p, pointer)
        self.create_session = function(table, 7, pointer, pointer, c_char_p, pointer, pointer)
        self.run = function(table, 9, pointer, *([pointer] * 4), c_size_t, pointer, c_size_t, pointer)
        self.create_options = function(table, 10, pointer, pointer)
        self.set_log_severity = function(table, 22, pointer, pointer, c_int)
        self.set_optimization = function(table, 23, pointer, pointer, c_int)
        self.set_intra_threads = function(table, 24, pointer, pointer, c_int)
        self.set_inter_threads = function(table, 25, pointer, pointer, c_int)
        self.add_config = function(table, 130, pointer, pointer, c_char_p, c_char_p)
        counted = (pointer, pointer, pointer)
        self.count_of = {True: function(table, 30, *counted), False: function(table, 31, *counted)}
        typed = (pointer, pointer, c_size_t, pointer)
        self.type_of = {True: function(table, 33, *typed), False: function(table, 34, *typed)}
        named = (pointer, pointer, c_size_t, pointer, pointer)
        self.name_of = {True: function(table, 36, *named), False: function(table, 37, *named)}
        self.create_strings = function(table, 48, pointer, pointer, pointer, c_size_t, c_int, pointer)
        self.fill_strings = function(table, 52, pointer, pointer, pointer, c_size_t)
        self.strings_length = function(table, 53, pointer, pointer, pointer)
        self.strings_content = function(table, 54, pointer, pointer, pointer, c_size_t, pointer, c_size_t)
        self.create_tensor = function(table, 49, pointer, pointer, pointer, c_size_t, pointer, c_size_t, c_int, pointer)
        self.tensor_data = function(table, 51, pointer, pointer, pointer)
        self.as_tensor_info = function(table, 55, pointer, pointer, pointer)
        self.kind_of = function(table, 56, pointer, pointer, pointer)
        self.element_type = function(table, 60, pointer, pointer, pointer)
        self.rank_of = function(table, 61, pointer, pointer, pointer)
        self.sizes_of = function(table, 62, pointer, pointer, pointer, c_size_t)
        self.axis_names = function(table, 63, pointer, pointer, pointer, c_size_t)
        self.value_info = function(table, 65, pointer, pointer, pointer)
        self.free = function(table, 76, pointer, pointer, pointer)
        self._default_allocator = function(table, 78, pointer, pointer)
        self.release_session = function(table, 95, void, pointer)
        self.release_value = function(table, 96, void, pointer)
        self.release_type = function(table, 98, void, pointer)
        self.release_info = function(table, 99, void, pointer)
        self.release_options = function(table, 100, void, pointer)

    def check(self, status: "int | None") -> None:
        """Raise OrtError for a failed status, and release it."""
        if status:
            code, text = self._error_code(status), self._error_message(status) or b""
            self._release_status(status)
            raise OrtError(text.decode("utf-8", "replace").strip(), code)

    def allocator(self) -> c_void_p:
        """The engine's default allocator, which owns the names it hands out."""
        found = c_void_p()
        self.check(self._default_allocator(byref(found)))
        return found

    def element(self, info: c_void_p) -> "tuple[int, tuple[int, ...]]":
        """Element type and sizes of a tensor description; an axis that may vary is -1."""
        kind, rank = c_int(), c_size_t()
        self.check(self.element_type(info, byref(kind)))
        self.check(self.rank_of(info, byref(rank)))
        sizes = (c_int64 * rank.value)()
        self.check(self.sizes_of(info, sizes, rank.value))
        return kind.value, tuple(sizes)


class _Overheard:
    """What is written to stderr meanwhile becomes `SAID`. The engine's library and the one that it asks for the processor write
    there while they are loaded, before there is a logger: a machine without /sys gets eight lines at each start.

    Where that cannot be had (no memory file, no stderr) they stay as they are.
    """

    def __enter__(self) -> None:
        self._kept = self._file = -1
        try:
            self._kept = os.dup(2)
            self._file = os.memfd_create("said")
            os.dup2(self._file, 2)
        except (OSError, AttributeError):
            self._close()

    def __exit__(self, *_: object) -> None:
        if self._file < 0:
            return
        os.dup2(self._kept, 2)
        SAID.extend(line for line in os.pread(self._file, 4096, 0).decode("utf-8", "replace").splitlines()[:10] if line.strip())
        del SAID[10:]
        self._close()

    def _close(self) -> None:
        for number in (self._kept, self._file):
            if number >= 0:
                os.close(number)
        self._kept = self._file = -1


class Session:
    """A model, ready to run. `inputs` and `outputs` are tuples of Port, as the file says."""

    def __init__(
        self,
        engine: Engine,
        path: str,
        *,
        threads: int = 1,
        level: int = 99,
        config: "Mapping[str, str] | None" = None,
        provider: "Callable[[Engine, c_void_p], None] | None" = None,
    ) -> None:
        """Open the model at `path` (external data beside it is memory-mapped).

        `threads` per call; `level` 0, 1, 2 or 99 as the engine numbers its graph optimisations; `config` are its session entries;
        `provider` adds what computes, before the processor, to the session's options.
        Raises OrtError with the engine's own message for a file that is missing, damaged or not supported.
        """
        self.engine = engine
        self.threads = threads
        self._handle = c_void_p()
        options = c_void_p()
        engine.check(engine.create_options(byref(options)))
        try:
            engine.check(engine.set_log_severity(options, LOG_NOTHING))
            engine.check(engine.set_optimization(options, level))
            engine.check(engine.set_intra_threads(options, threads))
            engine.check(engine.set_inter_threads(options, 1))
            # A thread that spins burns the CPU share that the others need: about 2x on fractional quotas.
            for key, value in {"session.intra_op.allow_spinning": "0", **(config or {})}.items():
                engine.check(engine.add_config(options, key.encode(), str(value).encode()))
            if provider is not None:
                provider(engine, options)
            engine.check(engine.create_session(engine._environment, path.encode(), options, byref(self._handle)))
        finally:
            engine.release_options(options)
        try:
            self.inputs = self._ports(is_input=True)
            self.outputs = self._ports(is_input=False)
        except OrtError:
            self.close()
            raise
        self._input_names = (c_char_p * len(self.inputs))(*[port.name.encode() for port in self.inputs])
        self._output_names = (c_char_p * len(self.outputs))(*[port.name.encode() for port in self.outputs])

    def close(self) -> None:
        """Release the model. Running it afterwards is an OrtError."""
        handle, self._handle = self._handle, c_void_p()
        if handle:
            self.engine.release_session(handle)

    def run(self, feeds: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Every output for these inputs. Raises OrtError: a name or datatype is wrong, or the engine refuses the call."""
        if not self._handle:
            raise OrtError("the session is closed")
        engine, outputs = self.engine, (c_void_p * len(self.outputs))()
        values = (c_void_p * len(self.inputs))()
        kept: list[object] = []  # the engine reads the caller's memory until run returns
        try:
            for index, port in enumerate(self.inputs):
                values[index] = self._value(port, feeds.get(port.name), kept)
            engine.check(
                engine.run(self._handle, None, self._input_names, values, len(values), self._output_names, len(outputs), outputs)
            )
            return {port.name: self._result(port, outputs[index]) for index, port in enumerate(self.outputs)}
        finally:
            for value in (*values, *outputs):
                if value:
                    engine.release_value(value)

    def _value(self, port: Port, tensor: "Tensor | None", kept: "list[object]") -> "int | None":
        if tensor is None:
            raise OrtError(f"input {port.name!r} is missing", INVALID_ARGUMENT)
        if tensor.datatype != port.datatype:
            raise OrtError(f"input {port.name!r} is {port.datatype}, not {tensor.datatype}", INVALID_ARGUMENT)
        shape = (c_int64 * len(tensor.shape))(*tensor.shape)
        number, value = DATATYPES[tensor.datatype][0], c_void_p()
        engine = self.engine
        if tensor.starts is not None:
            return self._strings(port, tensor, shape)
        owner, address, size_bytes = _address(tensor.data)
        kept.append(owner)
        engine.check(engine.create_tensor(engine.memory, address, size_bytes, shape, len(shape), number, byref(value)))
        return value.value

    def _strings(self, port: Port, tensor: Tensor, shape: "Any") -> "int | None":
        """A value that the engine owns, with copies of the strings: it takes them as C has them, up to the first NUL."""
        engine, value = self.engine, c_void_p()
        texts = [bytes(text) for text in tensor.strings()]
        if any(b"\0" in text for text in texts):
            raise OrtError(f"input {port.name!r}: a string holds a NUL, where the engine would cut it off", INVALID_ARGUMENT)
        engine.check(engine.create_strings(engine.allocator(), shape, len(shape), DATATYPES["BYTES"][0], byref(value)))
        try:
            if texts:
                engine.check(engine.fill_strings(value, (c_char_p * len(texts))(*texts), len(texts)))
        except OrtError:
            engine.release_value(value)
            raise
        return value.value

    def _read_strings(self, value: int, number: int) -> bytes:
        engine, length = self.engine, c_size_t()
        engine.check(engine.strings_length(value, byref(length)))
        text, starts = create_string_buffer(length.value + 1), (c_size_t * (number + 1))()
        engine.check(engine.strings_content(value, text, length.value, starts, number))
        starts[number] = length.value
        whole = text.raw
        return packed([whole[starts[at] : starts[at + 1]] for at in range(number)])

    def _result(self, port: Port, value: "int | None") -> Tensor:
        if not value:
            raise OrtError(f"output {port.name!r} was not produced")
        engine, info, data = self.engine, c_void_p(), c_void_p()
        engine.check(engine.value_info(value, byref(info)))
        try:
            kind, shape = engine.element(info)
        finally:
            engine.release_info(info)
        datatype = _NAMES[kind]
        if datatype == "BYTES":
            return Tensor(datatype, shape, self._read_strings(value, count(shape)) if count(shape) else b"")
        size_bytes = DATATYPES[datatype][1]
        for size in shape:
            size_bytes *= size
        engine.check(engine.tensor_data(value, byref(data)))
        return Tensor(datatype, shape, string_at(data, size_bytes) if size_bytes else b"")

    def _ports(self, *, is_input: bool) -> "tuple[Port, ...]":
        engine, number = self.engine, c_size_t()
        engine.check(engine.count_of[is_input](self._handle, byref(number)))
        return tuple(self._port(index, is_input=is_input) for index in range(number.value))

    def _port(self, index: int, *, is_input: bool) -> Port:
        engine, text, description = self.engine, c_void_p(), c_void_p()
        allocator = engine.allocator()
        engine.check(engine.name_of[is_input](self._handle, index, allocator, byref(text)))
        name = string_at(text).decode()
        engine.check(engine.free(allocator, text))
        engine.check(engine.type_of[is_input](self._handle, index, byref(description)))
        try:
            return _described(engine, name, description, "input" if is_input else "output")
        finally:
            engine.release_type(description)


def _described(engine: Engine, name: str, description: c_void_p, side: str) -> Port:
    kind, info = c_int(), c_void_p()
    engine.check(engine.kind_of(description, byref(kind)))
    if kind.value != 1:
        raise OrtError(f"{side} {name!r} is not a tensor; sequences, maps, optionals and sparse tensors are not served")
    engine.check(engine.as_tensor_info(description, byref(info)))  # owned by `description`
    element, sizes = engine.element(info)
    if element not in _NAMES:
        raise OrtError(f"{side} {name!r} has ONNX element type {element}, which is not served")
    names = (c_char_p * len(sizes))()
    engine.check(engine.axis_names(info, names, len(sizes)))
    shape = (size if size >= 0 else (axis or b"?").decode() for size, axis in zip(sizes, names, strict=True))
    return Port(name, _NAMES[element], tuple(shape))


def _address(data: "Buffer") -> "tuple[object, Any, int]":
    """(what must stay alive, something ctypes passes as a pointer, bytes). Copies only what is read-only and not `bytes`."""
    if type(data) is bytes:
        return data, data, len(data)
    view = memoryview(data)
    if view.readonly or not view.contiguous or not view.nbytes:
        copied = view.tobytes()
        return copied, copied, len(copied)
    first = c_char.from_buffer(view.cast("B"))
    return first, addressof(first), view.nbytes


__all__ = ["INVALID_ARGUMENT", "Engine", "OrtError", "Port", "Session", "TensorError"]
