"""TensorRT's Python bindings as `tensorrt.backend` uses them, computing on the memory of `fake_cuda.c`: y = 2 x, row by row.

A plan is JSON: {"inputs": {name: [dtype, shape]}, "outputs": {...}, "profiles": [...], "nonzero": bool}. With "nonzero" the output
holds only the values that are not zero, so that its size is known after the call alone. Types are FLOAT.
"""

from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace
from typing import Any

__version__ = "1.7.1.116"


class Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        self.level = level


class TensorIOMode:
    INPUT, OUTPUT = "in", "out"


class EngineInvalidityDiagnostics:
    VERSION_MISMATCH, UNSUPPORTED_CC = 1, 2


class IOutputAllocator:
    pass


class IRuntimeCache:
    def __init__(self) -> None:
        self.known = b""

    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        self.known = blob
        return blob == b"kernels"


class RuntimeConfig:
    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> None:
        self.cache = cache


class Runtime:
    driver: Any = None  # the C library
    starts = True

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        try:
            return Engine(json.loads(plan))
        except ValueError:
            return None

    def get_engine_validity(self, plan: bytes) -> tuple[int, int]:
        return 2, 3


class Engine:
    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described
        self.names = [*described["inputs"], *described["outputs"]]
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = max(1, len(described["profiles"]))

    def get_tensor_name(self, index: int) -> str:
        return str(self.names[index])

    def get_tensor_mode(self, name: str) -> str:
        return TensorIOMode.INPUT if name in self.described["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=(self.described["inputs"] | self.described["outputs"])[name][0])

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig) -> Context:
        return Context(self, config)


class Context:
    made: list[Context] = []  # noqa: RUF012  (emptied by the tests)

    def __init__(self, engine: Engine, config: RuntimeConfig) -> None:
        self.engine, self.config, self.profile, self.calls = engine, config, -1, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        Context.made.append(self)

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address != 0

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocators[name] = allocator
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.described["inputs"] if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if self.engine.described.get("nonzero") else self.shapes["x"]

    def execute_async_v3(self, stream: int) -> bool:
        if not Runtime.starts:
            return False
        Runtime.driver.fake_flush()
        self.calls += 1
        count = 1
        for size in self.shapes["x"]:
            count *= size
        values = list((ctypes.c_float * count).from_address(self.addresses["x"])) if count else []
        if self.engine.described.get("nonzero"):
            values = [value for value in values if value]
            allocator = self.allocators["y"]
            self.addresses["y"] = allocator.reallocate_output_async("y", 0, 4 * len(values), 256, stream)
            allocator.notify_shape("y", (len(values),))
        for index, value in enumerate(values):
            (ctypes.c_float * len(values)).from_address(self.addresses["y"])[index] = 2 * value
        return True


# What builds, as `engine_build` uses it: every graph is the one of above, and a plan is the JSON that `Runtime` takes.


class ILogger:
    pass


class NetworkDefinitionCreationFlag:
    pass


class BuilderFlag:
    TF32, VERSION_COMPATIBLE, EXCLUDE_LEAN_RUNTIME = range(3)


class Network:
    num_inputs = num_outputs = 1

    def get_input(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name="x", dtype=SimpleNamespace(name="FLOAT"), shape=(-1, 3))

    def get_output(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name="y", dtype=SimpleNamespace(name="FLOAT"), shape=(-1, 3))


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as stream:  # noqa: PTH123
            return stream.read() != b""


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes

    def get_shape(self, name: str) -> Any:
        return self.shapes[name]


class BuilderConfig:
    def __init__(self) -> None:
        self.flags: set[int] = set()
        self.profiles: list[Profile] = []

    def set_flag(self, flag: int) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: int) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class HardwareCompatibilityLevel:
    SAME_COMPUTE_CAPABILITY, AMPERE_PLUS = 1, 2


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes:
        ports = {"inputs": {"x": ["FLOAT", [-1, 3]]}, "outputs": {"y": ["FLOAT", [-1, 3]]}}
        return json.dumps({**ports, "profiles": [0] * len(config.profiles)}).encode()
