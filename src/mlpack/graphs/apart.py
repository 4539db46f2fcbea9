"""onnxruntime in a child process, so that a graph which crashes it costs an error with a reason and not the build.

onnxruntime is native code, and mlpack gives it graphs that it has changed or that a stranger made. A signal, an abort or too
little memory would end the process in which onnxruntime runs. One child serves a whole process. It starts at the first request,
and again after it died; sessions of a file are then opened again, sessions of a graph in memory are lost.

Promises:
- Errors of onnxruntime are `OnnxRuntimeError` with its message. The end of the child is `EngineEndedError` with the signal's
  name.
- The child ends with the process that started it.
- Starting it takes about 0.4 s, and a kilobyte in or out about a microsecond.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.graphs import apart_child

RUN_S = 900.0
"""The time limit of one call: the largest models need a minute, an endless Loop needs for ever."""
_SLACK_S = 60.0
"""How long after its own limit a run may still take before the child is killed: kernels check the limit between nodes."""
_WORDS_BYTES = 600
_PIPE_BYTES = 1 << 20
"""The largest pipe that Linux allows: each time it is full, the processes have to switch."""


class OnnxRuntimeError(RuntimeError):
    """The engine's error about a graph, or about inputs. `terminated`: the call was ended because it took too long."""

    def __init__(self, message: str, *, terminated: bool = False) -> None:
        super().__init__(message)
        self.terminated = terminated


class EngineEndedError(OnnxRuntimeError):
    """The engine's process ended during a request."""


@dataclass(frozen=True, slots=True)
class PortSpec:
    """An input or an output, in the form of the engine's own API."""

    name: str
    type: str
    shape: list[int | str | None]


class _Child:
    """The process, and the communication with it. Not for two threads at once."""

    def __init__(self) -> None:
        # A file, not a pipe, which would fill up.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-I", apart_child.__file__, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # the build handles interrupts, and ends the child
            pipesize=_PIPE_BYTES,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, header: Mapping[str, Any], arrays: list[Any], limit_s: float | None) -> tuple[dict[str, Any], list[Any]]:
        """Send a request and return the answer. EngineEndedError when there is none."""
        watch = threading.Timer(limit_s + _SLACK_S, self._process.kill) if limit_s is not None else None
        if watch is not None:
            watch.daemon = True
            watch.start()
        try:
            with suppress(BrokenPipeError):
                apart_child.write(self._process.stdin, dict(header), arrays)
            answer = apart_child.read(self._process.stdout)
        finally:
            if watch is not None:
                watch.cancel()
        if answer is None:
            raise EngineEndedError(self._how_it_ended())
        return answer

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"the engine's process ended with exit code {code}{self._last_words()}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        short = ", as where memory does not suffice" if -code == signal.SIGKILL else ""
        return f"the engine ended with signal {-code} ({name}{short}){self._last_words()}"

    def _last_words(self) -> str:
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _WORDS_BYTES))
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._words):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


@dataclass
class _EngineProcess:
    """The child of this process, if there is one. `generation` counts children: the sessions of earlier children are lost."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    child: _Child | None = None
    generation: int = 0
    closed: list[tuple[int, int]] = field(default_factory=list)
    owner: int = field(default_factory=os.getpid)

    def ask(self, arrays: list[Any], limit_s: float | None = None, **header: Any) -> tuple[dict[str, Any], list[Any]]:
        with self.lock:
            if self.child is None or self.owner != os.getpid():  # a forked process does not use its parent's child
                self.child, self.owner = _Child(), os.getpid()
                self.generation += 1
            closed_sessions = self.closed[:]
            del self.closed[: len(closed_sessions)]  # the same list, because open sessions add themselves to it
            header["closed"] = [number for generation, number in closed_sessions if generation == self.generation]
            try:
                answer, reply = self.child.ask(header, arrays, limit_s)
            except BaseException:  # after an interrupt in the middle of an answer, its rest would be taken for the next answer
                self.stop()
                raise
        if answer.get("memory"):
            raise MemoryError
        if "error" in answer:
            raise OnnxRuntimeError(answer["error"], terminated=answer.get("terminated", False))
        return answer, reply

    def stop(self) -> None:
        child, self.child = self.child, None
        if child is not None and self.owner == os.getpid():
            child.end()


_ENGINE = _EngineProcess()
atexit.register(_ENGINE.stop)


class IsolatedSession:
    """A graph that the engine has opened. `source`: a file, or a serialised graph; `leave_out`: optimisers by name."""

    def __init__(self, source: str | bytes, level: str, entries: Mapping[str, str], leave_out: Sequence[str] = ()) -> None:
        self._path = os.path.abspath(source) if isinstance(source, str) else None
        self._how: dict[str, Any] = {"level": level, "entries": dict(entries), "leave_out": list(leave_out)}
        self._generation, self._number = 0, 0
        self._open(source)

    def _open(self, source: str | bytes) -> None:
        import numpy as np

        arrays = [np.frombuffer(source, np.uint8)] if isinstance(source, bytes) else []
        with _ENGINE.lock:
            answer, _ = _ENGINE.ask(arrays, op="open", path=self._path, **self._how)
            self._generation, self._number = _ENGINE.generation, answer["session"]
        self._inputs, self._outputs = ([PortSpec(*row) for row in answer[kind]] for kind in ("inputs", "outputs"))
        weakref.finalize(self, _ENGINE.closed.append, (self._generation, self._number)).atexit = False

    def get_inputs(self) -> list[PortSpec]:
        """The inputs, in order."""
        return self._inputs

    def get_outputs(self) -> list[PortSpec]:
        """The outputs, in order."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any], limit_s: float = RUN_S) -> list[Any]:
        """Run the graph. Returns the outputs of these names, or all, in order."""
        with _ENGINE.lock:
            if self._generation != _ENGINE.generation or _ENGINE.child is None:
                if self._path is None:
                    raise EngineEndedError("the engine had ended before, and with it this graph, which was in memory alone")
                self._open(self._path)
            output_names = None if names is None else list(names)
            arrays = list(feed.values())
            return _ENGINE.ask(arrays, limit_s, op="run", session=self._number, names=output_names, feed=list(feed), limit=limit_s)[
                1
            ]


def save_optimised(source: Path, target: Path, level: str, entries: Mapping[str, str], leave_out: Sequence[str]) -> None:
    """Write the graph at `source`, as the engine optimises it, to `target`."""
    request: dict[str, Any] = {"level": level, "entries": dict(entries), "leave_out": list(leave_out)}
    _ENGINE.ask([], op="save", path=str(source.absolute()), target=str(target.absolute()), **request)


def pid() -> int | None:
    """The child's process, for tests that end it; None where there is none."""
    return _ENGINE.child.pid if _ENGINE.child is not None else None
