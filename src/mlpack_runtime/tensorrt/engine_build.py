"""Build a TensorRT engine from an ONNX graph: the parser and the builder, driven by one JSON request.

    python -c "from mlpack_runtime.tensorrt.engine_build import main; main(['REQUEST.json', 'ANSWER.json'])"

    request   {"op": "parse" | "build", "graph": path, "flavour", "sm": "sm89" or null for this machine's own, "profiles", "flags",
              "workspace_bytes", "timing_cache": path or null, "out": path}
    answer    {"ok": true, "version", "inputs", "outputs", "profiles", "size_bytes", "warnings"}
              {"ok": false, "stage": "import" | "parse" | "build", "version", "log": [...],
              "errors": [{"node", "name", "operator", "code", "reason", "check", "functions"}]}

The same file serves the build, which starts it as a process of its own because a parser in C++ may crash on a hostile file, and
the image on the fleet's GPU. Promises: an answer for every graph that does not kill the process; every error that TensorRT logs is
in it. Will not: choose profiles, verify numbers, or keep what it made anywhere but in `out`.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import json
import sys

from mlpack_runtime.tensorrt import bindings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32",
          "INT64": "int64", "BOOL": "bool", "FP8": "float8e4m3fn", "FP4": "float4e2m1", "INT4": "int4"}  # fmt: skip
"""TensorRT's names of element types, and numpy's."""

HARDWARE = {"none": "NONE", "ampere_plus": "AMPERE_PLUS", "same_compute_capability": "SAME_COMPUTE_CAPABILITY"}
"""What `flags.hardware` may say, and TensorRT's names."""

_KEPT_LINES = 40


class BuildError(RuntimeError):
    """TensorRT refused. `stage` says where, `errors` what, each with its node where one is named."""

    def __init__(self, stage: str, errors: "list[dict[str, Any]]") -> None:
        super().__init__(errors[0]["reason"] if errors else f"TensorRT gave no reason ({stage})")
        self.stage = stage
        self.errors = errors


class Log:
    """What TensorRT said: errors and warnings, in order, the latest `_KEPT_LINES` of each."""

    def __init__(self, trt: "Any") -> None:
        said = self
        self.errors: list[str] = []
        self.warnings: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: "Any", message: str) -> None:
                said.take(severity.name, message)

        self.logger = Logger()

    def take(self, severity: str, message: str) -> None:
        """One line."""
        lines = self.errors if severity in ("ERROR", "INTERNAL_ERROR") else self.warnings if severity == "WARNING" else None
        if lines is not None and message not in lines:
            lines.append(message)
            del lines[:-_KEPT_LINES]


def carry_out(trt: "Any", request: "Mapping[str, Any]", log: Log) -> "tuple[dict[str, Any], Any]":
    """(the answer, the serialised engine or None). Raises BuildError."""
    builder = trt.Builder(log.logger)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(request["graph"]):
        raise BuildError("parse", [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)] or _said(log))
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    answer = {"version": trt.__version__, "inputs": [_port(each) for each in inputs], "outputs": [_port(each) for each in outputs]}
    if request["op"] == "parse":
        return answer, None
    config = builder.create_builder_config()
    _apply(trt, config, request)
    profiles = [_profile(builder, profile) for profile in request["profiles"]]
    for number, profile in enumerate(profiles):
        if config.add_optimization_profile(profile) < 0:
            raise BuildError("build", _said(log) or [_plain(f"profile {number} does not fit the graph")])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError("build", _said(log))
    answer["profiles"] = [_read_back(profile, asked) for profile, asked in zip(profiles, request["profiles"], strict=True)]
    if request.get("timing_cache"):
        with open(request["timing_cache"], "wb") as stream:
            stream.write(config.get_timing_cache().serialize())
    return answer, plan


def _creation_flags(trt: "Any") -> int:
    """Strong typing: the only kind there is from TensorRT 11 on, where the flag may be gone; asked for where it exists."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _apply(trt: "Any", config: "Any", request: "Mapping[str, Any]") -> None:
    """The request's options on TensorRT's own."""
    flags = request["flags"]
    for name, wanted in (("TF32", flags["tf32"]), ("VERSION_COMPATIBLE", flags["version_compatible"]),
                         ("EXCLUDE_LEAN_RUNTIME", flags["exclude_lean_runtime"])):  # fmt: skip
        flag = getattr(trt.BuilderFlag, name)
        (config.set_flag if wanted else config.clear_flag)(flag)
    if flags["optimization_level"] is not None:
        config.builder_optimization_level = flags["optimization_level"]
    if request["workspace_bytes"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace_bytes"])
    if flags["hardware"] != "none":
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[flags["hardware"]])
    if request.get("sm") and hasattr(config, "set_compute_capability"):
        capability = getattr(trt.ComputeCapability, request["sm"].upper(), None)
        if capability is None:
            known = sorted(name.lower() for name in dir(trt.ComputeCapability) if name.startswith("SM"))
            raise BuildError(
                "build", [_plain(f"this TensorRT builds nothing for {request['sm']} (it builds for {', '.join(known)})")]
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
    if request.get("timing_cache"):
        _timing_cache(config, request["timing_cache"])


def _timing_cache(config: "Any", path: str) -> None:
    try:
        with open(path, "rb") as stream:
            known = stream.read()
    except FileNotFoundError:
        known = b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        # Of another device or version: its timings would mislead. A new one takes its place.
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _profile(builder: "Any", profile: "Mapping[str, Any]") -> "Any":
    made = builder.create_optimization_profile()
    for name, bounds in profile.items():
        try:
            made.set_shape(name, *(tuple(bounds[kind]) for kind in ("min", "opt", "max")))
        except (ValueError, RuntimeError) as error:
            raise BuildError("build", [_plain(f"the profile of input {name!r} does not fit: {error}")]) from error
    return made


def _read_back(profile: "Any", asked: "Mapping[str, Any]") -> "dict[str, Any]":
    rows = {name: [list(shape) for shape in profile.get_shape(name)] for name in asked}
    return {name: dict(zip(("min", "opt", "max"), shapes, strict=True)) for name, shapes in rows.items()}


def _port(tensor: "Any") -> "dict[str, Any]":
    """Name, element type and shape; an axis that may vary is -1."""
    kind = tensor.dtype.name
    return {"name": tensor.name, "dtype": DTYPES.get(kind, kind), "shape": list(tensor.shape)}


def _parser_error(error: "Any") -> "dict[str, Any]":
    return {
        "node": error.node(),
        "name": error.node_name(),
        "operator": error.node_operator(),
        "code": error.code().name,
        "reason": error.desc(),
        "check": error.func(),
        "functions": list(error.local_function_stack()),
    }


def _said(log: Log) -> "list[dict[str, Any]]":
    return [_plain(line) for line in log.errors]


def _plain(reason: str) -> "dict[str, Any]":
    return {"node": None, "name": "", "operator": "", "code": "", "reason": reason, "check": "", "functions": []}


def answer_to(request: "Mapping[str, Any]") -> "dict[str, Any]":
    """Carries out a request; writes the engine to its `out`. Never raises for what TensorRT refuses."""
    try:
        trt = bindings.load(request["flavour"], to_build=True)
    except bindings.BindingsError as error:
        return {"ok": False, "stage": "import", "version": None, "errors": [_plain(str(error))], "log": []}
    log = Log(trt)
    try:
        answer, plan = carry_out(trt, request, log)
    except BuildError as error:
        return {"ok": False, "stage": error.stage, "version": trt.__version__, "errors": error.errors, "log": log.errors}
    if plan is not None:
        data = memoryview(plan)
        answer["size_bytes"] = data.nbytes
        with open(request["out"], "wb") as stream:
            stream.write(data)
    return {"ok": True, "warnings": log.warnings, **answer}


def main(arguments: "list[str]") -> int:
    """Reads the request's file, writes the answer's. 0: there is an answer, a refusal too."""
    request_path, answer_path = arguments
    with open(request_path, "rb") as stream:
        request = json.loads(stream.read())
    answer = answer_to(request)
    with open(answer_path, "w", encoding="utf-8") as text:
        json.dump(answer, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
