"""Build an engine on this device, verify it, publish it: once for a key, whoever asks.

Promises: one process builds under a lease, and the others wait for what it publishes; nothing is published that was not read back
and verified against the CPU engine's answers in the package; who loses the race to publish takes the winner's engine.
Will not: build without a device. The two functions that need one are arguments, so that all else is tested without.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

from mlpack_runtime.tensorrt import bindings, engine_key, engine_plan
from mlpack_runtime.tensorrt.engine_lease import NOT_KEPT, Lease
from mlpack_runtime.tensorrt.engine_store import EngineError, Shelf, record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Build = Callable[[str, Mapping[str, Any], Mapping[str, Any]], bytes]
    Verify = Callable[[str, Mapping[str, Any], bytes], Any]

LIMIT_S = 1800
"""How long TensorRT's builder may take: MiniLM takes seconds, a graph of some GB minutes."""
WAIT_S = 3600
"""How long a process waits for another's build before it gives up."""
POLL_S = 2.0
"""How often it looks whether the other is done."""
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from mlpack_runtime.tensorrt.engine_build import main; "
    "sys.exit(main(sys.argv[2:]))"
)


def build(directory: str, spec: "Mapping[str, Any]", device: "Mapping[str, Any]") -> bytes:
    """The engine of this specification for this device, by the TensorRT of this image. Raises EngineError with what it refused.

    In a process of its own: the builder is C++, may crash, and must not keep the lease's heartbeat from running.
    """
    flavour = spec["tensorrt"]["flavour"]
    with tempfile.TemporaryDirectory(prefix="mlpack-engine-") as scratch:
        request_path, answer_path, out = (os.path.join(scratch, name) for name in ("request.json", "answer.json", "engine"))
        request = {
            "op": "build", "graph": os.path.join(directory, "model.onnx"), "flavour": flavour, "out": out,
            "sm": device["sm"] if flavour == "rtx" else None, "profiles": spec["profiles"], "flags": spec["flags"],
            "workspace_bytes": spec["workspace_bytes"], "timing_cache": timing_cache(spec, device),
        }  # fmt: skip
        with open(request_path, "w", encoding="utf-8") as stream:
            json.dump(request, stream)
        command = [sys.executable, *_switches(), "-c", _START, bindings.ROOT, request_path, answer_path]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            said = _end(error.stderr or b"")
            raise EngineError(
                f"TensorRT's builder was not done after {LIMIT_S} s, and was ended: {said or 'it wrote nothing'}. See whether "
                "another process uses this GPU; build on one that is idle, or with a lower `optimization_level`"
            ) from None
        if done.returncode != 0 or not os.path.exists(answer_path):
            said = _end(done.stderr) or "it wrote nothing"
            raise EngineError(f"TensorRT's builder ended with {done.returncode} and no answer: {said}")
        with open(answer_path, "rb") as answered:
            answer = json.loads(answered.read())
        if not answer["ok"] and answer["stage"] == "import" and flavour == "lean":
            raise EngineError(f"no engine can be built here: {answer['errors'][0]['reason']}. {_capital(bindings.LEAN)}")
        if not answer["ok"]:
            raise EngineError(
                f"TensorRT {answer['version'] or ''} refuses the graph: " + "; ".join(_words(e) for e in answer["errors"][:5])
            )
        if answer["version"] != spec["tensorrt"]["version"]:
            raise EngineError(
                f"this image has TensorRT {answer['version']}, and the specification is for {spec['tensorrt']['version']}: rebuild "
                "the package, its image and specification belong together"
            )
        with open(out, "rb") as built:
            return built.read()


def _switches() -> "list[str]":
    """This interpreter's own: an image sees its site/ alone (-I -S), an environment with the full TensorRT what is installed."""
    isolated = ["-I"] if sys.flags.isolated else ["-P"]  # -P: a command line's code finds nothing in the current directory
    return [*isolated, "-S"] if sys.flags.no_site else isolated


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _end(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[-600:]


def _words(error: "Mapping[str, Any]") -> str:
    node = f"node {error['name'] or error['node']!r} ({error['operator']}): " if error["operator"] else ""
    return node + str(error["reason"])


def timing_cache(spec: "Mapping[str, Any]", device: "Mapping[str, Any]") -> "str | None":
    """Where the full TensorRT's timings for this device are kept: below MLPACK_TIMING_CACHE; None without it. By device, version
    and CUDA, because those of another mislead. TensorRT for RTX measures nothing when it builds."""
    folder = os.environ.get("MLPACK_TIMING_CACHE")
    if not folder or spec["tensorrt"]["flavour"] == "rtx":
        return None
    named = {"device": device["name"], "sm": device["sm"], "driver_cuda": device["driver"] // 1000,
             "version": spec["tensorrt"]["version"], "cuda": spec["tensorrt"]["cuda"]}  # fmt: skip
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, hashlib.sha256(engine_key.canonical(named)).hexdigest() + ".timing")


def verify(directory: str, spec: "Mapping[str, Any]", plan: bytes) -> "Any":
    """Runs a new engine on the package's check calls; how far it is from the CPU engine. Raises EngineError."""
    from mlpack_runtime.backend import BackendError
    from mlpack_runtime.backends.cuda_driver import Cuda
    from mlpack_runtime.tensorrt import engine_verify
    from mlpack_runtime.tensorrt.backend import TensorrtBackend

    try:
        opened = TensorrtBackend(spec, plan, Cuda(), bindings.load(spec["tensorrt"]["flavour"]))
        try:
            return engine_verify.verify(directory, opened.run)
        finally:
            opened.close()
    except (BackendError, bindings.BindingsError, engine_verify.VerifyError) as error:
        raise EngineError(f"the engine was built, and is not published: {error}") from None


class Maker:
    """What it takes to have one engine. `builder` and `verifier` are the two functions that need a device."""

    builder: "Build" = staticmethod(build)
    verifier: "Verify" = staticmethod(verify)

    def __init__(
        self, directory: str, spec: "Mapping[str, Any]", device: "Mapping[str, Any]", shelf: Shelf, say: "Callable[[str], None]"
    ) -> None:
        self.directory, self.spec, self.device, self.shelf, self.say = directory, spec, device, shelf, say
        self.key = engine_key.key_here(spec, device)

    def make(self, *, force: bool = False) -> "dict[str, Any]":
        """The record of this device's engine: one that is there already, or one that this process or another builds now.

        MLPACK_LEASES names the table; without it there is no lease, and two that build at once both do the work, of which one is
        kept. `force` builds even where there is one. Raises EngineError.
        """
        known = None if force else self.shelf.record(self.key)
        if known is not None:
            self.say(f"engine {self.key[:12]} for {self.device['sm']} is there already")
            return known
        address = os.environ.get("MLPACK_LEASES")
        if not address:
            return self._made(force)
        lease = Lease(address, f"engine/{self.key}")
        known = self._waited(lease, force)
        if known is not None:
            return known
        with lease:
            known = None if force else self.shelf.record(self.key)  # published between the look and the lease
            if known is not None:
                return known
            if not lease.is_kept():
                self.say(f"{address}: {NOT_KEPT}")
            record = self._made(force)
            if lease.lost:
                self.say("the lease was lost while building: another process may have built as well, and one engine was kept")
            return record

    def _waited(self, lease: Lease, force: bool) -> "dict[str, Any] | None":
        """None when the lease is ours, else what its holder published. Raises EngineError after WAIT_S."""
        end = time.monotonic() + WAIT_S
        waiting = False
        while not lease.take():
            if not waiting:
                self.say(f"engine {self.key[:12]} is being built by another process: waiting for it")
            waiting = True
            if time.monotonic() > end:
                raise EngineError(f"another process has held the lease on {self.key} for {WAIT_S} s: see what it does")
            time.sleep(POLL_S)
            known = None if force else self.shelf.record(self.key)
            if known is not None:
                return known
        return None

    def _made(self, force: bool) -> "dict[str, Any]":
        spec, device = self.spec, self.device
        self.shelf.look_out(self.say)
        self.say(f"building engine {self.key[:12]} for {device['name']}, {device['sm']}")
        start = time.monotonic()
        plan = self.builder(self.directory, spec, device)
        wrong, _ = engine_plan.against(spec, plan, device["sm"])
        if wrong:
            raise EngineError(f"the engine was built, and is not what was asked for: {'; '.join(wrong)}")
        verified = self.verifier(self.directory, spec, plan)
        record, ours = self.shelf.publish(record_of(self.key, plan, device, spec, verified), plan, force=force)
        late = "" if ours else "; another was published first, and is used"
        self.say(f"engine {self.key[:12]}: {len(plan):,} bytes in {time.monotonic() - start:.0f} s{late}")
        return record
