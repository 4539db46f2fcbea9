"""The weights of a package, asked for before anything else is imported, and handed to the engine when its session opens.

    begin()                      at the very start of a process, where the package has a weights.json
    provider(place, other)       for `ort.Session`: waits, and gives the engine the mapping
    settle(place)                once it is open: how long it waited, which is what the fetch cost beyond what went on beside it

Promises: nothing of the weights is copied: the engine computes with the mapped file. A failure is raised where the session opens,
with what happened and what to do.
"""

import os
import sys
from _thread import allocate_lock, start_new_thread
from time import monotonic, perf_counter_ns, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.ort import Engine
    from mlpack_runtime.remote.download import Held

    Provider = Callable[[Engine, Any], None]

_ELSEWHERE = b'{"at":'
_FORGET_EACH_S, _FORGET_S = 0.02, 60.0
"""How often pages are given back, and how long at most, should nobody say that the session is open."""
_ADD_FILES_IN_MEMORY = 279
"""AddExternalInitializersFromFilesInMemory in OrtApi, from onnxruntime 1.18 on."""
_DIRECTLY = b"session.use_external_initializer_file_buffers_directly"
"""Without it the engine copies every weight: twice the memory (onnxruntime 1.31, 201 MB of weights: 448 MB against 256 MB)."""


class _Begun:
    """One fetch in a thread of its own."""

    def __init__(self, place: str) -> None:
        self.held: Held | None = None
        self.waited_ms = 0.0
        self.is_settled = False
        self._place = place
        self._error: BaseException | None = None
        self._done = allocate_lock()
        self._done.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            from mlpack_runtime.remote import download, manifest

            if (weights := manifest.read(self._place)) is not None:
                self.held = download.obtain(weights, warn=_warn)
        except BaseException as error:  # noqa: BLE001  (raised again where somebody waits for it)
            self._error = error
        finally:
            self._done.release()

    def wait(self) -> "Held | None":
        """The weights; None where they lie in the package. Raises what kept them away: a RuntimeError that says why."""
        began = perf_counter_ns()
        with self._done:
            pass
        self.waited_ms += (perf_counter_ns() - began) / 1e6
        if self._error is not None:
            _BEGUN.pop(self._place, None)  # the next to ask tries again
            raise self._error
        return self.held

    def forget_beside(self) -> None:
        """Give pages of the file back while the engine opens its session, which reads each weight once and makes its own form of
        most: both whole in memory at once would be twice the weights."""
        if self.held is not None and self.held.fd >= 0:
            start_new_thread(self._forget, ())

    def _forget(self) -> None:
        ends_s = monotonic() + _FORGET_S
        while not self.is_settled and monotonic() < ends_s:
            sleep(_FORGET_EACH_S)
            try:
                if self.held is not None:
                    self.held.forget_pages()
            except ValueError:  # closed meanwhile
                return


_BEGUN: "dict[str, _Begun]" = {}


def begin(root: "str | None" = None) -> None:
    """Start to fetch what the package at `root` (else where Lambda has put it) needs, unless that has begun."""
    told, task = os.environ.get("MLPACK_MODEL_DIR"), os.environ.get("LAMBDA_TASK_ROOT")
    for place in (told,) if told else tuple(os.path.join(each, "model") for each in (task, root) if each):
        path = os.path.join(place, "weights.json")
        if os.path.isfile(path):
            with open(path, "rb") as stream:  # noqa: PTH123  (importing pathlib costs more than all of this)
                head = stream.read(200)
            if head.startswith(_ELSEWHERE):  # of several models, the default one's
                place = os.path.normpath(os.path.join(place, head.decode().split('"')[3]))
            _begun(place)
            return


def settle(place: str) -> float:
    """End what `provider` began; how many milliseconds whoever opened the session of `place` waited for its weights. Their pages go
    out of this process's memory: the engine has its own form of most weights, and what it reads again comes back from the page
    cache."""
    begun = _BEGUN.get(place)
    if begun is None:
        return 0.0
    begun.is_settled = True
    if begun.held is not None:
        begun.held.forget_pages()
    return begun.waited_ms


def provider(place: str, name: str, other: "Provider | None" = None) -> "Provider | None":
    """What gives a session of the graph in `place` its weights, called `name` there, and does what `other` does. Waits for
    them; `other` where they lie in the package. Raises RuntimeError."""
    held = _begun(place).wait()
    if held is None:
        return other

    def give(engine: "Engine", options: "Any") -> None:
        from ctypes import POINTER, addressof, byref, c_char, c_char_p, c_size_t, c_void_p

        from mlpack_runtime.ort import function

        pointers = (POINTER(c_char_p), POINTER(c_void_p), POINTER(c_size_t))
        add = function(engine.table, _ADD_FILES_IN_MEMORY, c_void_p, c_void_p, *pointers, c_size_t)
        address = addressof(c_char.from_buffer(held.mapping))
        engine.check(engine.add_config(options, _DIRECTLY, b"1"))
        engine.check(add(options, byref(c_char_p(name.encode())), byref(c_void_p(address)), byref(c_size_t(len(held.mapping))), 1))
        _begun(place).forget_beside()
        if other is not None:
            other(engine, options)

    return give


def release(place: str) -> None:
    """Let go of the weights of a session that is closed."""
    begun = _BEGUN.pop(place, None)
    if begun is not None and (held := begun.wait()) is not None:
        held.close()


def _begun(place: str) -> _Begun:
    if place not in _BEGUN:
        _BEGUN[place] = _Begun(place)
    return _BEGUN[place]


def _warn(text: str) -> None:
    __import__("mlpack_runtime.telemetry")  # not before there is something to say
    sys.modules["mlpack_runtime.telemetry"].warn(text)


__all__ = ["begin", "provider", "release", "settle"]
