"""What computes: four functions that every engine has, and the table of the engines there are.

    load(directory, settings) -> Backend      open what model.json names; everything is loaded here, nothing later
    Backend.shapes() -> Shapes                which sizes it takes, so that batches are made to fit
    Backend.run(feeds) -> outputs             one call, from any thread
    Backend.close()                           let go of the device; running it afterwards is a BackendError

Promises: the device begins behind these four, so that workers, batches and queues are tested without one. An engine's module is
imported when a package names it. Will not: fall back by itself; `open_backend` does, and only to what the package allows.
"""

import sys

from mlpack_runtime import ort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from mlpack_runtime.ort import Port
    from mlpack_runtime.tensor import Tensor

    class Backend(Protocol):
        """A model, ready to run. `kind`: its row of the table; `device`: what it runs on, for logs ("cpu", "NVIDIA L4, sm89")."""

        kind: str
        device: str
        inputs: tuple[Port, ...]
        outputs: tuple[Port, ...]

        def shapes(self) -> "Shapes":
            """Which sizes it takes."""

        def run(self, feeds: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
            """Every output for these inputs. Raises BackendError."""

        def close(self) -> None:
            """Let go of the device."""


class BackendError(RuntimeError):
    """An engine failed. `sort` says what that means for whoever asked:

    "input"    this call is wrong (a shape outside every profile, a type): it fails again wherever it is tried
    "device"   the engine or its device is in trouble (memory, a time-out): others may fail too, later it may work
    "sticky"   the device's context is lost: nothing works in this process any more, which has to end
    "package"  the package cannot work here: no such engine, another device, bytes that are not what was built
    "busy"     not the engine: too much waits for it already; in a moment it may be taken
    "late"     not the engine: whoever asked does not wait any more
    "size"     not the engine: this call asks for more than this process may hold, now and later
    "service"  a service that the package needs did not answer, so nobody knows whether it can work: start again

    `status`: the exit status of a process that cannot start for it.
    """

    def __init__(self, message: str, sort: str, status: int = 1) -> None:
        super().__init__(message)
        self.sort = sort
        self.status = status


class Shapes:
    """Which sizes an engine takes: `profiles`, each {input: (smallest, preferred, largest shape)}; none: every size that the
    inputs' own shapes allow."""

    __slots__ = ("profiles",)

    def __init__(self, profiles: "tuple[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]], ...]" = ()) -> None:
        self.profiles = profiles


LOADERS = {
    "cpu": "mlpack_runtime.backends.cpu",
    "cuda": "mlpack_runtime.backends.cuda",
    "tensorrt": "mlpack_runtime.tensorrt.engine_opening",
}
"""Modules with a function `load(directory, settings) -> Backend`."""


def open_backend(directory: str, settings: "Mapping[str, Any]", say: "Callable[[str], None]" = lambda _: None) -> "Backend":
    """What `settings["backend"]` names ({"kind": ..., "fallback": [...]}; the CPU when it names none), or the first of its
    fallbacks that opens; `say` is told of each that did not. Raises the first one's BackendError when none does, and at once one
    that passes ("service"; "device": memory that another still has): a process that fell back for it would stay there."""
    wanted = settings.get("backend") or {"kind": "cpu"}
    first: BackendError | None = None
    for kind in (wanted["kind"], *wanted.get("fallback", ())):
        try:
            if kind not in LOADERS:
                raise BackendError(f"there is no backend {kind!r}: this runtime has {', '.join(LOADERS)}", "package")
            return _loader(kind)(directory, settings)
        except (BackendError, ort.OrtError) as error:
            failed = error if isinstance(error, BackendError) else BackendError(str(error), "package")
            if failed.sort in ("service", "device", "sticky"):
                raise
            first = first or failed
            say(f"the backend {kind!r} cannot be used here: {failed}")
    assert first is not None
    raise first


def _loader(kind: str) -> "Callable[[str, Mapping[str, Any]], Backend]":
    name = LOADERS[kind]
    try:
        __import__(name)  # not by `importlib`: where a tokenizer's thread loads that at the same time, one of the two fails
    except ImportError as error:
        raise BackendError(f"{name} cannot be imported: {error}", "package") from error
    return sys.modules[name].load  # type: ignore[no-any-return]
