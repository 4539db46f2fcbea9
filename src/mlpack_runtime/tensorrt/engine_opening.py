"""The engine of this device, wherever it is, and the backend on it: from the package, from where engines are kept, or built now.

Promises: only bytes of the digest that the specification or the record of their key names are opened; what is not there is built
only where MLPACK_ENGINE_ON_MISS says so. Will not: run anything by itself.
"""

import os

from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends.cuda_driver import LIBRARY, Cuda
from mlpack_runtime.tensorrt import bindings, engine_key, engine_plan, engine_store
from mlpack_runtime.tensorrt.backend import TensorrtBackend
from mlpack_runtime.tensorrt.engine_make import Maker
from mlpack_runtime.tensorrt.engine_store import MISS, SERVICE, EngineError, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def plan(directory: str, spec: "Mapping[str, Any]", device: "Mapping[str, Any]", say: "Callable[[str], None]") -> bytes:
    """The engine for this device, verified: the package's, else the one under its key in MLPACK_ENGINES.

    On a miss an EngineError with MISS, or with MLPACK_ENGINE_ON_MISS=build one that is built, published and taken.
    """
    key = engine_key.key_here(spec, device)
    row = engine_key.packaged(spec, device["sm"])
    if row is not None and row["key"] == key:  # a native engine of another driver is in the package, and is none for this device
        return engine_store.packaged(directory, row)
    address = os.environ.get("MLPACK_ENGINES")
    refused = spec.get("refused", {}).get(device["sm"])
    why = f" (the build could not make one: {refused})" if refused else ""
    lean = f": {bindings.LEAN}" if spec["tensorrt"]["flavour"] == "lean" else ""
    if not address:
        raise EngineError(
            f"the package has no engine for {device['sm']}{why}, and MLPACK_ENGINES does not say where others are"
            + (lean or ": build one with `bootstrap.py engine build` on this kind of GPU"),
            MISS,
        )
    shelf = Shelf(address)
    record = shelf.record(key)
    if record is not None:
        say(f"engine {key[:12]} for {device['sm']} from {shelf.address}")
        return shelf.engine(record)
    if os.environ.get("MLPACK_ENGINE_ON_MISS", "fail") != "build":
        raise EngineError(
            f"no engine for {device['name']}, {device['sm']} (key {key}) in the package{why} or in {shelf.address}"
            + (
                lean
                or ": run `bootstrap.py engine build` with this image on this kind of GPU once, or let workers do it with "
                "MLPACK_ENGINE_ON_MISS=build"
            ),
            MISS,
        )
    return shelf.engine(Maker(directory, spec, device, shelf, say).make())


def open_plan(directory: str, spec: "Mapping[str, Any]", device: "Mapping[str, Any]", say: "Callable[[str], None]") -> bytes:
    """The engine for this device: from the package, or from where engines are kept. Its digest is verified. Raises BackendError:
    "service" where a service failed; its status is engine_store's for that and for a miss."""
    try:
        engine_key.check_graph(directory, spec)
        return plan(directory, spec, device, say)
    except EngineError as error:
        if error.code == SERVICE:
            raise BackendError(f"{error}. Start the worker again when the service answers", "service", error.code) from None
        raise BackendError(str(error), "package", error.code if error.code == MISS else 1) from None
    except engine_key.SpecError as error:
        raise BackendError(str(error), "package") from None


def load(
    directory: str, _settings: "Mapping[str, Any]", library: str = LIBRARY, say: "Callable[[str], None]" = lambda _: None
) -> TensorrtBackend:
    """Open the engine of the package's specification on the first GPU. Raises BackendError: "package" for what is not there."""
    try:
        spec = engine_key.read(directory)
        cuda = Cuda(library)
        try:
            return _opened(directory, spec, cuda, say)
        except BaseException:
            cuda.close()
            raise
    except (engine_key.SpecError, bindings.BindingsError) as error:
        raise BackendError(str(error), "package") from None


def _opened(directory: str, spec: "Mapping[str, Any]", cuda: Cuda, say: "Callable[[str], None]") -> TensorrtBackend:
    device, tensorrt = cuda.describe(), spec["tensorrt"]
    trt = bindings.load(tensorrt["flavour"])
    if trt.__version__ != tensorrt["version"]:
        raise BackendError(
            f"this image has TensorRT {trt.__version__}, and the specification is for {tensorrt['version']}: engines belong to one "
            "version. Rebuild the package",
            "package",
        )
    data = open_plan(directory, spec, device, say)
    wrong, _ = engine_plan.against(spec, data, device["sm"])
    if wrong:
        raise BackendError(f"the engine is not what was built: {'; '.join(wrong)}", "package")
    return TensorrtBackend(spec, data, cuda, trt)
