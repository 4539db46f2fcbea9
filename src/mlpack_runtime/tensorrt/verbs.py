"""TensorRT engines on the device: `python -I -S ROOT/bootstrap.py engine VERB`.

    build [--force]   build this device's engine as tensorrt.json says, verify it, publish it to MLPACK_ENGINES; once, under a lease
                      (MLPACK_LEASES); nothing to do where it is there already
    fetch             have this device's engine, verified, and say where from: what a worker does at its start
    key [SM]          the key of this device's engine, or of an architecture's that needs no device (TensorRT for RTX)
    check             all that can be checked without running anything, on a machine without a GPU too

Exit codes: 0 done; 2 a wrong command; 3 the package, the engine or TensorRT is wrong; 4 a service failed; 5 there is no engine for
this device. Lines on stderr are for people, the result on stdout is JSON. Variables: docs/tensorrt.md.
"""

import os
import sys

from mlpack_runtime import jsontext, model
from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends.cuda_driver import Cuda
from mlpack_runtime.tensorrt import bindings, engine_key, engine_opening, engine_plan, engine_store, engine_verify
from mlpack_runtime.tensorrt.engine_make import Maker
from mlpack_runtime.tensorrt.engine_store import FAILED, EngineError, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USAGE = 2
_MISUSED = "usage: bootstrap.py engine build [--force] | fetch | key [SM] | check"


def say(line: str) -> None:
    """A line for people."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def device() -> "dict[str, Any]":
    """This machine's first GPU. Raises BackendError."""
    cuda = Cuda()
    try:
        return cuda.describe()
    finally:
        cuda.close()


def build(arguments: "list[str]") -> "dict[str, Any]":
    """The record of this device's engine. Raises EngineError."""
    if arguments not in ([], ["--force"]):
        raise EngineError(_MISUSED, USAGE)
    address = os.environ.get("MLPACK_ENGINES")
    if not address:
        raise EngineError("MLPACK_ENGINES must say where engines are published: s3://bucket/prefix", USAGE)
    directory = model.directory()
    spec = engine_key.read(directory)
    engine_key.check_graph(directory, spec)
    found = device()
    return Maker(directory, spec, found, Shelf(address), say).make(force=bool(arguments))


def fetch(arguments: "list[str]") -> "dict[str, Any]":
    """This device's engine, verified. Raises EngineError, with MISS when there is none."""
    if arguments:
        raise EngineError(_MISUSED, USAGE)
    directory = model.directory()
    spec = engine_key.read(directory)
    engine_key.check_graph(directory, spec)
    found = device()
    plan = engine_opening.plan(directory, spec, found, say)
    wrong, unknown = engine_plan.against(spec, plan, found["sm"])
    if wrong:
        raise EngineError(f"the engine is not what was built: {'; '.join(wrong)}")
    return {"key": engine_key.key_here(spec, found), "sm": found["sm"], "size_bytes": len(plan), "not_read": unknown}


def key(arguments: "list[str]") -> "dict[str, Any]":
    """The key of an engine. Raises EngineError."""
    if len(arguments) > 1:
        raise EngineError(_MISUSED, USAGE)
    spec = engine_key.read(model.directory())
    if not arguments:
        found = device()
        return {"key": engine_key.key_here(spec, found), "sm": found["sm"]}
    if spec["tensorrt"]["flavour"] != "rtx":
        raise EngineError(
            "an engine of the full TensorRT has a key for its driver and device: ask on that device, without SM", USAGE
        )
    return {"key": engine_key.key(spec, arguments[0]), "sm": arguments[0]}


def check(arguments: "list[str]") -> "dict[str, Any]":
    """{"checked": [...], "not_checked": [...]}. Raises EngineError for whatever is wrong."""
    if arguments:
        raise EngineError(_MISUSED, USAGE)
    directory = model.directory()
    spec = engine_key.read(directory)
    engine_key.check_graph(directory, spec)
    flavour, version = spec["tensorrt"]["flavour"], spec["tensorrt"]["version"]
    done, left = ["the graph is the one that the specification names"], []
    for row in spec["engines"]:
        plan = engine_store.packaged(directory, row)
        wrong, unknown = engine_plan.against(spec, plan, row["sm"])
        if wrong:
            raise EngineError(f"{row['file']}: {'; '.join(wrong)}")
        done.append(f"{row['file']}: digest" + ("" if unknown else ", version, architecture and names"))
        left += [f"{row['file']}: {what}" for what in unknown]
    if not spec["engines"]:
        how = bindings.LEAN if flavour == "lean" else "`engine build` on the fleet's GPU makes one"
        left.append(f"any engine: the package has none, and a worker ends without one in MLPACK_ENGINES; {how}")
    _, recorded = engine_verify.calls(directory)
    done.append(f"{len(recorded)} check calls can be read")
    trt = bindings.load(flavour)
    if trt.__version__ != version:
        raise EngineError(f"this image has TensorRT {trt.__version__}, and the specification is for {version}: rebuild the package")
    done.append(f"TensorRT {version} ({flavour}) can be imported")
    try:
        found = device()
        done.append(
            f"a device: {found['name']}, {found['sm']}, CUDA {found['driver'] // 1000}.{found['driver'] % 1000 // 10} driver"
        )
        left.append("whether the engine runs: `engine fetch`, and the worker's start, do that")
    except BackendError as error:
        left.append(f"the device, and whether any engine loads and runs on it: {error}")
    return {"checked": done, "not_checked": left}


VERBS: "dict[str, Callable[[list[str]], dict[str, Any]]]" = {"build": build, "fetch": fetch, "key": key, "check": check}


def main(arguments: "list[str]") -> int:
    """Carries out a verb; the exit code."""
    verb = VERBS.get(arguments[0]) if arguments else None
    if verb is None:
        say(_MISUSED)
        return USAGE
    try:
        result = verb(arguments[1:])
    except EngineError as error:
        say(f"engine {arguments[0]}: {error}")
        return error.code
    except (
        engine_key.SpecError,
        engine_verify.VerifyError,
        bindings.BindingsError,
        BackendError,
        model.ModelError,
    ) as error:
        say(f"engine {arguments[0]}: {error}")
        return FAILED
    sys.stdout.write(jsontext.dumps(result) + "\n")
    sys.stdout.flush()
    return 0
