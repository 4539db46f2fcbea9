"""Measure this very package: commands as JSON lines on stdin, one JSON line of answer each on stdout.

`bootstrap.py bench CALLS`: CALLS holds `calls.json`, a list of {"inputs": {name: {"datatype", "shape", "offset", "size"}}} or
{"texts": [...]}, and `calls.bin`, the bytes that it points into.

    {"op": "load"}                                  {"load_ms", "import_ms", "stages_ms", "engine", "threads"}
    {"op": "first", "call": i}                      {"ns"}
    {"op": "latency", "calls": [i...], "repeat": n} {"samples_ns": [...]}   the calls in order, n times over
    {"op": "throughput", "calls": [...], "seconds"} {"calls", "rows", "seconds"}
    {"op": "predict", "calls": [a, b], "out": P}    {"calls"}               calls a to b-1 into P.json and P.bin
    {"op": "stages", "bodies": [...], "requests": n, "seconds": s}
                                                    {"stages_ms": {stage: [...]}} of n requests in turn, or of what s seconds hold
    {"op": "memory"}                                {"peak_rss_bytes"}
    {"op": "quit"}                                  {}

Promises: what is timed is the model's predict, tokenisation included, and nothing else. Raw samples, no statistics.
Any failure is one line {"error": {"type", "message"}} and exit status 3.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

from time import perf_counter_ns

_BEGAN_NS = perf_counter_ns()

import os  # noqa: E402
import sys  # noqa: E402

from mlpack_runtime import jsontext, model, ort  # noqa: E402
from mlpack_runtime.tensor import Tensor  # noqa: E402
from mlpack_runtime.texts import of_call  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.service import Service

FAILED = 3
_IMPORT_MS = (perf_counter_ns() - _BEGAN_NS) / 1e6


class BenchError(ValueError):
    """The commands or the calls are not what this program reads."""


class Bench:
    """The calls of one directory and, after `load`, the model that answers them."""

    def __init__(self, calls_dir: str) -> None:
        from mmap import ACCESS_READ, mmap

        with open(calls_dir + "/calls.json", "rb") as stream:
            self._calls: list[dict[str, Any]] = jsontext.loads(stream.read())
        with open(calls_dir + "/calls.bin", "rb") as stream:
            stream.seek(0, 2)
            # An empty file cannot be mapped; a list of texts has one.
            self._bytes = memoryview(mmap(stream.fileno(), 0, access=ACCESS_READ) if stream.tell() else b"")
        self._loaded: model.Model | None = None
        self._service: Service | None = None

    @property
    def _model(self) -> model.Model:
        if self._loaded is None:
            raise BenchError('the first command must be {"op": "load"}')
        return self._loaded

    def load(self, _: "dict[str, Any]") -> "dict[str, Any]":
        start = perf_counter_ns()
        self._loaded = model.load()
        if self._loaded.settings.get("preprocess") or self._loaded.settings.get("postprocess"):
            from mlpack_runtime import hooks  # their imports, and what is preloaded, are part of every start

            hooks.both(self._loaded.settings)
        load_ms = (perf_counter_ns() - start) / 1e6
        loaded = self._loaded
        assert isinstance(loaded.session, ort.Session)  # no backend was asked for
        return {
            "load_ms": load_ms,
            "import_ms": _IMPORT_MS,
            "stages_ms": loaded.stages_ms,
            "engine": loaded.session.engine.version,
            "threads": loaded.session.threads,
        }

    def first(self, command: "dict[str, Any]") -> "dict[str, Any]":
        return {"ns": _timed_ns(self._prepared(command["call"]))}

    def latency(self, command: "dict[str, Any]") -> "dict[str, Any]":
        calls = [self._prepared(index) for index in command["calls"]]
        return {"samples_ns": [_timed_ns(call) for _ in range(command.get("repeat", 1)) for call in calls]}

    def throughput(self, command: "dict[str, Any]") -> "dict[str, Any]":
        calls = [(self._prepared(index), self._rows(index)) for index in command["calls"]]
        if not calls:
            raise BenchError("throughput needs at least one call")
        start, done, rows = perf_counter_ns(), 0, 0
        end = start + int(command["seconds"] * 1e9)
        while (now := perf_counter_ns()) < end:
            call, size = calls[done % len(calls)]
            call()
            done += 1
            rows += size
        return {"calls": done, "rows": rows, "seconds": (now - start) / 1e9}

    def predict(self, command: "dict[str, Any]") -> "dict[str, Any]":
        first, last = command["calls"]
        described = []
        with open(command["out"] + ".bin", "wb") as stream:
            for index in range(first, last):
                row = {}
                for name, tensor in self._prepared(index)().items():
                    size = stream.write(tensor.data)
                    place = {"offset": stream.tell() - size, "size": size}
                    row[name] = {"datatype": tensor.datatype, "shape": list(tensor.shape), **place}
                described.append(row)
        with open(command["out"] + ".json", "w", encoding="utf-8") as text:
            text.write(jsontext.dumps(described))
        return {"calls": len(described)}

    def stages(self, command: "dict[str, Any]") -> "dict[str, Any]":
        from mlpack_runtime.service import Service
        from mlpack_runtime.telemetry import Record

        if self._service is None:
            self._service = Service(self._model)
        service, taken, records = self._service, 0, list[Record]()
        service.observe = records.append
        bodies = [body.encode() for body in command["bodies"]]
        stages: dict[str, list[float]] = {}
        log, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # the lines of the log: whoever reads this process's answers does not read them
        try:
            end = perf_counter_ns() + int(command["seconds"] * 1e9)
            while taken < command["requests"] and (taken < len(bodies) or perf_counter_ns() < end):
                if service.around is not None and service.around.cache is not None:
                    service.around.cache.forget()
                reply = service.message({}, bodies[taken % len(bodies)], "", {})
                if reply.status >= 400:
                    raise BenchError(f"a request was answered with status {reply.status}: {bytes(reply.body[:500]).decode()}")
                for stage, spent in records.pop().stages_ms.items():
                    stages.setdefault(stage, []).append(spent)
                taken += 1
        finally:
            os.dup2(log, 1)
            os.close(log)
            os.close(nowhere)
        return {"stages_ms": {stage: spent for stage, spent in stages.items() if not stage.startswith("load_")}}

    def memory(self, _: "dict[str, Any]") -> "dict[str, Any]":
        with open("/proc/self/status", encoding="ascii") as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    return {"peak_rss_bytes": int(line.split()[1]) * 1024}
        raise BenchError("this kernel does not report VmHWM in /proc/self/status")

    def quit(self, _: "dict[str, Any]") -> "dict[str, Any]":
        return {}

    def _call(self, index: int) -> "dict[str, Any]":
        if type(index) is not int or not 0 <= index < len(self._calls):
            raise BenchError(f"call {index!r} is not one of 0..{len(self._calls) - 1}")
        return self._calls[index]

    def _prepared(self, index: int) -> "Callable[[], dict[str, Tensor]]":
        call, loaded = self._call(index), self._model
        if "texts" in call:
            texts = of_call(call["texts"])
            return lambda: loaded.predict_texts(texts)
        tensors = {name: self._tensor(row) for name, row in call["inputs"].items()}
        return lambda: loaded.predict(tensors)

    def _tensor(self, row: "dict[str, Any]") -> Tensor:
        data = self._bytes[row["offset"] : row["offset"] + row["size"]]
        return Tensor(row["datatype"], tuple(row["shape"]), bytes(data))

    def _rows(self, index: int) -> int:
        call = self._call(index)
        if "texts" in call:
            return len(call["texts"])
        shapes = [row["shape"] for row in call["inputs"].values()]
        return shapes[0][0] if shapes and shapes[0] else 1


def _timed_ns(call: "Callable[[], object]") -> int:
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start


OPERATIONS = {
    "load": Bench.load,
    "first": Bench.first,
    "latency": Bench.latency,
    "throughput": Bench.throughput,
    "predict": Bench.predict,
    "stages": Bench.stages,
    "memory": Bench.memory,
    "quit": Bench.quit,
}


def main(arguments: "list[str]") -> int:
    """Serve commands until `quit` or the end of stdin: 0, or 3 after a failure that was reported."""
    try:
        if len(arguments) != 1:
            raise BenchError("usage: bootstrap.py bench CALLS_DIRECTORY")
        bench = Bench(arguments[0])
        for line in sys.stdin:
            command = jsontext.loads(line)
            operation = OPERATIONS.get(command.get("op"))
            if operation is None:
                raise BenchError(f"op {command.get('op')!r} is not one of {', '.join(OPERATIONS)}")
            _answer(operation(bench, command))
            if command["op"] == "quit":
                break
    except Exception as error:  # noqa: BLE001  (the parent process is told whatever happened, in one line)
        _answer({"error": {"type": type(error).__name__, "message": str(error)}})
        return FAILED
    return 0


def _answer(value: "dict[str, Any]") -> None:
    sys.stdout.write(jsontext.dumps(value) + "\n")
    sys.stdout.flush()
