"""The child process of `apart`: it reads a line of JSON and arrays, and answers with a line of JSON and arrays.

It is started as a file, imports nothing of mlpack, and ends when its input ends. An error of onnxruntime is an answer; a crash
is seen by the parent. It knows no models.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from typing import Any

Header = dict[str, Any]


def read(stream: Any) -> tuple[Header, list[Any]] | None:
    """Read a message and its values; None at the end."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    try:
        return header, [_receive(row, stream) for row in header.pop("values")]
    except EOFError:
        return None


def _receive(row: Header, stream: Any) -> Any:
    import numpy as np

    if "plain" in row:
        return row["plain"]
    if "list" in row:
        return [_receive(each, stream) for each in row["list"]]
    if "map" in row:
        return {key: _receive(each, stream) for key, each in row["map"]}
    if "strings" in row:
        return np.array(row["strings"], dtype=object).reshape(row["shape"])
    array = np.empty(row["shape"], np.dtype(row["dtype"]))
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    while view:
        count = stream.readinto(view)
        if not count:
            raise EOFError
        view = view[count:]
    return array


def write(stream: Any, header: Header, values: list[Any]) -> None:
    """Write a message: arrays, and what the engine makes of sequences and maps. `values` is empty afterwards, and each array is
    released as soon as it is written."""
    import numpy as np

    blocks: list[Any] = []
    rows = [_row(value, blocks) for value in values]
    values.clear()
    stream.write(json.dumps({**header, "values": rows}).encode() + b"\n")
    for place, array in enumerate(blocks):
        if array.size:
            stream.write(array.reshape(-1).view(np.uint8).data)
        blocks[place] = None
        del array
    stream.flush()


def _row(value: Any, blocks: list[Any]) -> Header:
    import numpy as np

    if isinstance(value, list | tuple):
        return {"list": [_row(each, blocks) for each in value]}
    if isinstance(value, dict):
        return {"map": [[key, _row(each, blocks)] for key, each in value.items()]}
    if value is None or type(value) in (bool, int, float, str):  # numpy's own numbers are such, and are arrays
        return {"plain": value}
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        return {"strings": [_text(each) for each in array.reshape(-1)], "shape": array.shape}
    blocks.append(np.ascontiguousarray(array).reshape(array.shape))
    return {"dtype": array.dtype.str, "shape": array.shape}


def _text(value: Any) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


class _Sessions:
    """The open sessions, by number."""

    def __init__(self) -> None:
        self._opened: dict[int, Any] = {}
        self._next = 0

    def open(self, request: Header, arrays: list[Any]) -> tuple[Header, list[Any]]:
        import onnxruntime

        source = arrays[0].tobytes() if arrays else request["path"]
        del arrays[:]
        options = _options(request)
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # In the file's order. By default what reads no input comes first: every DequantizeLinear of a weight, and with it all
        # weights as float at once, twice over as the engine's arena grows (2.2 bytes a byte of a quantized model's float).
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], **_left_out(request))
        self._next += 1
        self._opened[self._next] = session
        ports = {
            kind: [[port.name, port.type, port.shape] for port in port_list]
            for kind, port_list in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
        }
        return {"session": self._next, **ports}, []

    def run(self, request: Header, arrays: list[Any]) -> tuple[Header, list[Any]]:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        watch = threading.Timer(request["limit"], setattr, (options, "terminate", True))
        watch.daemon = True
        watch.start()
        try:
            feed = dict(zip(request["feed"], arrays, strict=True))
            return {}, list(self._opened[request["session"]].run(request["names"], feed, options))
        except Exception as error:  # noqa: BLE001 - the engine's binding has no common base class
            return {"error": str(error), "terminated": bool(options.terminate)}, []
        finally:
            watch.cancel()

    def save(self, request: Header, _arrays: list[Any]) -> tuple[Header, list[Any]]:
        import onnxruntime

        options = _options(request)
        options.optimized_model_filepath = request["target"]
        onnxruntime.InferenceSession(request["path"], options, providers=["CPUExecutionProvider"], **_left_out(request))
        return {}, []

    def close(self, sessions: list[int]) -> None:
        for number in sessions:
            self._opened.pop(number, None)
        if sessions:
            _give_back()


def _give_back() -> None:
    """Return the memory of closed sessions to the system, of which the C library keeps some: a fifth of two passes over 150 MB."""
    from ctypes import CDLL

    with suppress(OSError, AttributeError):  # another C library keeps less
        CDLL(None).malloc_trim(0)


def _left_out(request: Header) -> dict[str, Any]:
    return {"disabled_optimizers": request["leave_out"]} if request["leave_out"] else {}


def _options(request: Header) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, request["level"])
    for key, value in request["entries"].items():
        options.add_session_config_entry(key, value)
    return options


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)  # what the engine prints is no answer
    asked_of = sys.stdin.buffer
    engine = _Sessions()
    while (message := read(asked_of)) is not None:
        request, arrays = message
        engine.close(request["closed"])
        try:
            answer, reply = getattr(engine, request["op"])(request, arrays)
        except MemoryError:
            answer, reply = {"memory": True}, []
        except Exception as error:  # noqa: BLE001 - the engine's binding has no common base class
            answer, reply = {"error": str(error)}, []
        write(answers, answer, reply)
        del arrays, reply, message


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    main()
