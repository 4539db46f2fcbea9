"""TensorRT on an NVIDIA GPU, as a backend: an engine whose digest is known, one context for each profile, pinned buffers.

Promises: only bytes of the digest that the specification or the record of their key names are deserialised (an engine is code); a
call outside every profile is an "input" error before the device sees it; the driver's errors come through with their sort.
Will not: build (that is `engine`), choose batches, or split a call that is too large.

Untried: no GPU was at hand. What is above `cuda_driver` and the bindings is tested against a C library with the driver's functions
and bindings of the same form that compute on its memory.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import os
from _thread import allocate_lock
from ctypes import memmove, string_at

from mlpack_runtime.backend import BackendError, Shapes
from mlpack_runtime.backends.cuda_driver import Cuda
from mlpack_runtime.ort import Port
from mlpack_runtime.tensor import DATATYPES, Tensor, count
from mlpack_runtime.tensorrt import engine_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

JIT_CACHE = "/tmp/mlpack-jit"
"""Where kernels that TensorRT for RTX compiles at its first load are kept: MLPACK_JIT_CACHE says otherwise."""

_BY_NAME = {row[3]: name for name, row in DATATYPES.items()}


class Buffer:
    """Memory on the device and, pinned, on the host, which grows to the largest use and stays."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.device = self.host = self.size_bytes = 0

    def reserve(self, size_bytes: int) -> None:
        """At least this much of both. What was there before is gone."""
        if size_bytes <= self.size_bytes and self.device:
            return
        self.release()
        self.device = self._cuda.allocate(size_bytes)
        self.host = self._cuda.allocate_host(size_bytes)
        self.size_bytes = size_bytes

    def release(self) -> None:
        """Give both back."""
        device, host = self.device, self.host
        self.device = self.host = self.size_bytes = 0
        if device:
            self._cuda.free(device)
        if host:
            self._cuda.free_host(host)


class TensorrtBackend:
    """An engine on its device. Made by `load`; `cuda` and `trt` are the driver and TensorRT's Python module."""

    kind = "tensorrt"

    def __init__(self, spec: "Mapping[str, Any]", plan: bytes, cuda: Cuda, trt: "Any") -> None:
        """Deserialise, and make a context for each profile. Raises BackendError."""
        described = cuda.describe()
        self.device = f"{described['name']}, {described['sm']}"
        self._cuda, self._trt, self._lock = cuda, trt, allocate_lock()
        self._logger = trt.Logger(trt.Logger.ERROR)
        runtime = trt.Runtime(self._logger)
        if spec["tensorrt"]["flavour"] != "rtx":
            runtime.engine_host_code_allowed = bool(spec["flags"]["version_compatible"])
        self._engine: Any = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            why = _validity(trt, runtime, plan)
            raise BackendError(f"TensorRT {trt.__version__} does not take this engine on {self.device}: {why}", "package")
        self._runtime = runtime
        self.inputs = tuple(_port(row) for row in spec["inputs"])
        self.outputs = tuple(_port(row) for row in spec["outputs"])
        self._profiles = tuple(_bounds(profile) for profile in spec["profiles"])
        self._check_names()
        self._stream = cuda.stream()
        self._jit: Any = None
        self._jit_path = _jit_path(spec, described)
        self._contexts = [self._context(index) for index in range(max(1, len(self._profiles)))]
        self._unkept = set(range(len(self._contexts)))
        self._buffers = {port.name: Buffer(cuda) for port in (*self.inputs, *self.outputs)}

    def shapes(self) -> Shapes:
        """The engine's profiles."""
        return Shapes(self._profiles)

    def run(self, feeds: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Every output. Calls from several threads go one after another. Raises BackendError."""
        given = {port.name: _checked(port, feeds.get(port.name)) for port in self.inputs}
        number = self._choose(given)
        with self._lock:
            if self._engine is None:
                raise BackendError("the engine is closed", "device")
            self._cuda.enter()
            answer = self._run(self._contexts[number], given)
            if number in self._unkept:  # now, not at the end: workers are killed
                self._unkept.discard(number)
                self.keep_kernels()
            return answer

    def _run(self, context: "Any", given: "dict[str, Tensor]") -> "dict[str, Tensor]":
        cuda, stream = self._cuda, self._stream
        for name, tensor in given.items():
            size_bytes, buffer = memoryview(tensor.data).nbytes, self._buffers[name]
            buffer.reserve(size_bytes)
            if size_bytes:
                memmove(buffer.host, bytes(tensor.data), size_bytes)
            cuda.upload(buffer.device, buffer.host, size_bytes, stream)
            if not context.set_input_shape(name, tensor.shape) or not context.set_tensor_address(name, buffer.device):
                raise BackendError(f"TensorRT refuses input {name!r} of shape {list(tensor.shape)}", "input")
        missing = context.infer_shapes()
        if missing:
            raise BackendError(f"TensorRT does not know the shapes of {', '.join(missing)}", "device")
        allocators = {port.name: self._place(context, port) for port in self.outputs}
        if not context.execute_async_v3(stream):
            cuda.wait(stream)  # the driver's error, where it has one, says more than False
            raise BackendError("TensorRT did not start the call and gave no reason: see its log lines", "device")
        shapes = {}
        for port in self.outputs:
            allocator = allocators[port.name]
            if allocator is not None:
                cuda.wait(stream)  # until then nobody knows how large this output is
            shapes[port.name] = allocator.shape if allocator else tuple(context.get_tensor_shape(port.name))
            size_bytes = count(shapes[port.name]) * DATATYPES[port.datatype][1]
            buffer = self._buffers[port.name]
            cuda.download(buffer.host, buffer.device, size_bytes, stream)
        cuda.wait(stream)
        return {port.name: self._taken(port, shapes[port.name]) for port in self.outputs}

    def _place(self, context: "Any", port: Port) -> "Any":
        """Memory for an output; where its size depends on the data, an allocator that TensorRT asks for it."""
        shape = tuple(context.get_tensor_shape(port.name))
        buffer = self._buffers[port.name]
        if all(size >= 0 for size in shape):
            buffer.reserve(count(shape) * DATATYPES[port.datatype][1])
            if not context.set_tensor_address(port.name, buffer.device):
                raise BackendError(f"TensorRT refuses memory for output {port.name!r}", "device")
            return None
        allocator = _allocator(self._trt, buffer)
        if not context.set_output_allocator(port.name, allocator):
            raise BackendError(f"TensorRT refuses an allocator for output {port.name!r}", "device")
        return allocator

    def _taken(self, port: Port, shape: "tuple[int, ...]") -> Tensor:
        size_bytes = count(shape) * DATATYPES[port.datatype][1]
        return Tensor(port.datatype, shape, string_at(self._buffers[port.name].host, size_bytes) if size_bytes else b"")

    def _choose(self, given: "Mapping[str, Tensor]") -> int:
        """The profile that holds these shapes and whose largest is the smallest: kernels were chosen for sizes near it."""
        fitting = []
        for number, profile in enumerate(self._profiles):
            if all(_inside(given[name].shape, low, high) for name, (low, _, high) in profile.items()):
                fitting.append((sum(count(high) for _, _, high in profile.values()), number))
        if fitting:
            return min(fitting)[1]
        if not self._profiles:
            return 0
        asked = ", ".join(f"{name!r} {list(tensor.shape)}" for name, tensor in given.items())
        built = "; ".join(", ".join(f"{name!r} {list(low)} to {list(high)}" for name, (low, _, high) in profile.items())
                          for profile in self._profiles)  # fmt: skip
        raise BackendError(f"no profile of this engine holds {asked}; it takes {built}", "input")

    def _context(self, index: int) -> "Any":
        """An execution context for one profile. Raises BackendError."""
        if hasattr(self._engine, "create_runtime_config") and hasattr(self._trt, "IRuntimeCache"):
            context = self._engine.create_execution_context(self._runtime_config())
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise BackendError(f"TensorRT cannot make a context on {self.device}: its memory is probably full", "device")
        if not context.set_optimization_profile_async(index, self._stream):
            raise BackendError(f"the engine has no profile {index}: it is not the one that the specification describes", "package")
        self._cuda.wait(self._stream)
        return context

    def _runtime_config(self) -> "Any":
        """TensorRT for RTX compiles kernels at its first load: a cache of its own spares the next process that."""
        config = self._engine.create_runtime_config()
        if self._jit is None:
            self._jit = config.create_runtime_cache()
            if os.path.exists(self._jit_path):
                with open(self._jit_path, "rb") as stream:
                    self._jit.deserialize(stream.read())  # False for one of another device or driver: it is made anew
        config.set_runtime_cache(self._jit)
        return config

    def keep_kernels(self) -> "str | None":
        """Write the kernels that were compiled so far; where, or None when there is nothing to keep, or no place for it."""
        if self._jit is None:
            return None
        partial = f"{self._jit_path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._jit_path), mode=0o700, exist_ok=True)
            with open(partial, "wb") as stream:
                stream.write(memoryview(self._jit.serialize()))
            os.replace(partial, self._jit_path)
        except OSError:  # full or read-only: the next process compiles them again, as this one did
            if os.path.exists(partial):
                os.remove(partial)
            return None
        return self._jit_path

    def _check_names(self) -> None:
        """The engine's own names and types against the specification's. Raises BackendError."""
        trt, engine = self._trt, self._engine
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            found[name] = (is_input, engine.get_tensor_dtype(name).name)
        from mlpack_runtime.tensorrt.engine_build import DTYPES

        wanted = {port.name: (True, DATATYPES[port.datatype][3]) for port in self.inputs}
        wanted |= {port.name: (False, DATATYPES[port.datatype][3]) for port in self.outputs}
        seen = {name: (is_input, DTYPES.get(kind, kind)) for name, (is_input, kind) in found.items()}
        if seen != wanted:
            raise BackendError(f"the engine takes and gives {seen}, and the specification says {wanted}: rebuild it", "package")
        profiles = engine.num_optimization_profiles
        if profiles != max(1, len(self._profiles)):
            raise BackendError(f"the engine has {profiles} profiles, not those of the specification: rebuild it", "package")

    def close(self) -> None:
        """Let go of engine, buffers and context. Twice is once."""
        with self._lock:
            if self._engine is None:
                return
            self._contexts, self._engine, self._runtime = [], None, None
            self._cuda.enter()
            for buffer in self._buffers.values():
                buffer.release()
            self._cuda.close_stream(self._stream)
            self._cuda.close()


def _allocator(trt: "Any", buffer: Buffer) -> "Any":
    """An object of TensorRT's own class that hands out `buffer` and remembers the shape."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shape: tuple[int, ...] = ()

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            buffer.reserve(size)
            return buffer.device

        def reallocate_output_async(self, _name: str, _memory: int, size: int, _alignment: int, _stream: int) -> int:
            return self.reallocate_output(_name, _memory, size, _alignment)

        def notify_shape(self, _name: str, shape: "Any") -> None:
            self.shape = tuple(shape)

    return Allocator()


def _checked(port: Port, tensor: "Tensor | None") -> Tensor:
    if tensor is None:
        raise BackendError(f"input {port.name!r} is missing", "input")
    if tensor.datatype != port.datatype:
        raise BackendError(f"input {port.name!r} is {port.datatype}, not {tensor.datatype}", "input")
    if not _inside(tensor.shape, tuple(axis if type(axis) is int else 0 for axis in port.shape),
                   tuple(axis if type(axis) is int else tensor.shape[place] if place < len(tensor.shape) else 0
                         for place, axis in enumerate(port.shape))):  # fmt: skip
        raise BackendError(f"input {port.name!r} has shape {list(tensor.shape)}, not {list(port.shape)}", "input")
    return tensor


def _inside(shape: "tuple[int, ...]", low: "tuple[int, ...]", high: "tuple[int, ...]") -> bool:
    return len(shape) == len(low) == len(high) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))


def _port(row: "Mapping[str, Any]") -> Port:
    if row["dtype"] not in _BY_NAME:
        raise BackendError(f"{row['name']!r} is of type {row['dtype']}, which is not served", "package")
    return Port(row["name"], _BY_NAME[row["dtype"]], tuple(row["shape"]))


def _bounds(profile: "Mapping[str, Any]") -> "dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]":
    return {name: (tuple(row["min"]), tuple(row["opt"]), tuple(row["max"])) for name, row in profile.items()}


def _validity(trt: "Any", runtime: "Any", plan: bytes) -> str:
    """Why, where this TensorRT can say it of an engine's header."""
    if not hasattr(runtime, "get_engine_validity"):
        return "it is of another version or GPU, or damaged"
    _, bits = runtime.get_engine_validity(plan)
    known = {
        name: int(getattr(trt.EngineInvalidityDiagnostics, name)) for name in dir(trt.EngineInvalidityDiagnostics) if name.isupper()
    }
    reasons = [name.lower().replace("_", " ") for name, bit in sorted(known.items()) if int(bits) & bit]
    return ", ".join(reasons) or "it gives no reason"


def _jit_path(spec: "Mapping[str, Any]", device: "Mapping[str, Any]") -> str:
    folder = os.environ.get("MLPACK_JIT_CACHE") or JIT_CACHE
    return os.path.join(folder, f"{engine_key.key(spec, device['sm'], device['name'], device['driver'])}.kernels")
