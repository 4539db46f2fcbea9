"""Boot a worker's package: start it, ask for its health, give it one request, and end it as an orchestrator would.

Promises: the process becomes ready, answers with status 200, and ends by itself with status 0 after SIGTERM; under podman the image
as its own user, read-only, else its files on this machine's Python. One for a GPU is booted up to the device where there is none:
its engines and libraries are checked in the image, and the worker is seen to refuse to start, with words about the driver, or
about the engine that this machine's GPU would need and the package has not; nothing of it is executed then, and `Boot.how` says
so. What computed an answer is what the worker's own log says. Will not measure, and will not reach a queue: without one a worker
serves HTTP alone.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.errors import PackError
from mlpack.targets.boot.process import (
    Boot,
    Call,
    Means,
    ask_podman,
    bounds,
    confined,
    failure,
    free_ports,
    lines,
    private,
    pulled,
    python_for,
    running,
    seal,
)
from mlpack.targets.format.contents import TASK_ROOT
from mlpack.targets.format.layering import HEALTH
from mlpack.targets.format.unpacking import PACKAGE, by_form, describe, extract

GRACE_S = 10.0
"""From SIGTERM to the end of a worker that has nothing left to answer."""
_LIMITED = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""podman's own are more than it may ask for where it is contained itself; a worker with one request needs a fraction of these."""
_DEVICE_NODE = Path("/dev/nvidiactl")
_MISS = 5
"""How a worker ends that has no engine for its device."""
_NO_DRIVER = re.compile(r"driver|libcuda|CUDA", re.IGNORECASE)

Start = Callable[[tuple[str, ...], Mapping[str, str]], Call]
"""What starts the package with these arguments for bootstrap.py and these variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    path: str
    body: bytes
    headers: Mapping[str, str]


def boot(package: Path, event: bytes, means: Means) -> Boot:
    """Start the worker in `package` (an artifact's directory) and give it `event`: an event.json, or a request's body alone.

    PackError when it does not become ready, does not answer 200 in time, does not end when asked, or writes outside /tmp.
    """
    described, timeout_s, podman = describe(package), means.timeout_s, means.podman
    if not isinstance(described.get("backend"), dict) or "kind" not in described["backend"]:
        raise PackError(f"{package}: its {PACKAGE} does not say what computes (`backend`): it is no worker, or it was changed")
    request = _request(event, str(described["name"]))
    with temporary.directory("boot") as work:
        if podman is not None:
            with pulled(package, work, podman, timeout_s) as image:
                entry = _python_of(image.program, image.identity)

                def contained(arguments: tuple[str, ...], env: Mapping[str, str]) -> Call:
                    given = [word for key in sorted(env) for word in ("--env", f"{key}={env[key]}")]
                    devices = ["--device", "nvidia.com/gpu=all"] if _has_device(described) else []
                    options = (*bounds(means.memory_mb), *_LIMITED, *devices, *given, "--entrypoint", entry)
                    command = (*image.run(*options), image.identity, "-I", "-S", f"{TASK_ROOT}/bootstrap.py", *arguments)
                    return Call(command=command, env=None, event=event, timeout_s=timeout_s, log=work / "log", in_container=True)

                made = _up(contained, described, request, timeout_s)
                return Boot(answer=made.answer, init_ms=made.init_ms, how=f"{made.how}, in podman, read-only", log=made.log)
        root = extract(package, described, by_form, work / "task")
        python, notes = python_for(described)
        variables = private(work / "tmp")

        def here(arguments: tuple[str, ...], env: Mapping[str, str]) -> Call:
            command = (*confined(root), str(python), "-I", "-S", str(root / "bootstrap.py"), *arguments)
            return Call(command=command, env={**variables, **env}, event=event, timeout_s=timeout_s, log=work / "log")

        before = digest.of_tree(root)
        seal(root)
        made = _up(here, described, request, timeout_s)
        if digest.of_tree(root) != before:
            raise PackError("the package wrote into its own directory, which is read-only where it runs: let it write to /tmp")
        notes.append("without podman: the image's own files on this machine's Python, not on its base")
        return Boot(answer=made.answer, init_ms=made.init_ms, how="; ".join([made.how, *notes]), log=made.log)


def _up(start: Start, described: Mapping[str, Any], request: _Request, timeout_s: float) -> Boot:
    if not _is_for_gpu(described):
        return _served(start, request, "as a worker over HTTP")
    if described["backend"]["kind"] == "tensorrt":
        _ended(start(("engine", "check"), {}), "engine check", timeout_s)
    if _has_device(described) or "cpu" in described["backend"]["fallback"]:
        made = _served(start, request, "as a worker over HTTP")
        return made if made.answer is None else dataclasses.replace(made, how=f"{made.how}, {_by(made.log)}")
    return _refused(start(("worker",), {"MLPACK_PORT": str(free_ports(1)[0])}), timeout_s)


def _by(log: tuple[str, ...]) -> str:
    """What computed, by the worker's line "ready"."""
    for line in log:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("message") == "ready" and said.get("backend") != "cpu":
            return f"by {said.get('backend')} on {said.get('device')}"
    return "on its fallback, the processor; its engines never executed"


def _served(start: Start, request: _Request, how: str) -> Boot:
    """Ready, answered, ended; or ended before, for want of an engine."""
    port = free_ports(1)[0]
    call = start(("worker",), {"MLPACK_PORT": str(port)})
    began = time.monotonic()
    with running((call.command, call.env), call) as process:
        try:
            _wait_ready(process, port, call)
        except PackError:
            if process.poll() != _MISS:
                raise
            how = "up to the device: the package has no engine for this machine's GPU, and the worker said so; never executed"
            return Boot(answer=None, init_ms=(time.monotonic() - began) * 1e3, how=how, log=lines(call.log))
        init_ms = (time.monotonic() - began) * 1e3
        status, body = _ask(port, "POST", request.path, call, request)
        if status != 200 or not body:
            raise failure(f"answered with status {status}: {body[:600].decode('utf-8', 'replace')}", call)
        process.send_signal(signal.SIGTERM)
        try:
            ended = process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            raise failure(f"did not end within {GRACE_S:g} s of SIGTERM", call) from None
        if ended != 0:
            raise failure(f"ended with status {ended} after SIGTERM, not 0", call)
    answer = {"statusCode": status, "body": body.decode("utf-8", "replace")}
    return Boot(answer=answer, init_ms=init_ms, how=how, log=lines(call.log))


def _refused(call: Call, timeout_s: float) -> Boot:
    """Without a device the worker has to say so and end, at once: an orchestrator must not take it for one that is starting."""
    began = time.monotonic()
    with running((call.command, call.env), call) as process:
        try:
            ended = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise failure(f"neither served nor ended within {timeout_s:g} s, on a machine without a GPU", call) from None
    log = lines(call.log)
    if ended == 0 or not any(_NO_DRIVER.search(line) for line in log):
        raise failure(f"ended with status {ended} on a machine without a GPU, and did not say that the driver is missing", call)
    how = "up to the device: engines and libraries checked, and the worker refused to start without a driver; never executed"
    return Boot(answer=None, init_ms=(time.monotonic() - began) * 1e3, how=how, log=log)


def _ended(call: Call, what: str, timeout_s: float) -> None:
    with running((call.command, call.env), call) as process:
        try:
            ended = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise failure(f"its `{what}` did not end within {timeout_s:g} s", call) from None
    if ended != 0:
        raise failure(f"its `{what}` ended with status {ended}", call)


def _wait_ready(process: subprocess.Popen[bytes], port: int, call: Call) -> None:
    deadline, seen = time.monotonic() + call.timeout_s, "nobody listens"
    while True:
        if process.poll() is not None:
            raise failure(f"ended with status {process.returncode} before it was ready", call)
        try:
            status, body = _ask(port, "GET", HEALTH["ready"], call)
            if status == 200:
                return
            seen = f"status {status}: {body[:200].decode('utf-8', 'replace')}"
        except PackError:
            pass  # it does not listen yet
        if time.monotonic() > deadline:
            raise failure(f"was not ready within {call.timeout_s:g} s ({seen})", call)
        time.sleep(0.05)


def _ask(port: int, method: str, path: str, call: Call, request: _Request | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=call.timeout_s)
    try:
        connection.request(method, path, request.body if request else None, dict(request.headers) if request else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except TimeoutError:
        raise failure(f"did not answer {method} {path} within {call.timeout_s:g} s", call) from None
    except (OSError, http.client.HTTPException) as error:
        raise failure(f"broke the connection of {method} {path} ({error or type(error).__name__})", call) from None
    finally:
        connection.close()


def _request(event: bytes, name: str) -> _Request:
    """The request in an API Gateway event, as event.json holds one, or a body alone. PackError when it is neither."""
    path, headers = f"/v2/models/{name}/infer", {"content-type": "application/json"}
    try:
        found = json.loads(event)
    except ValueError as error:
        raise PackError(f"the event is not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("body"), str):
        return _Request(path=str(found.get("rawPath") or path), body=found["body"].encode(), headers=headers)
    return _Request(path=path, body=event, headers=headers)


def _python_of(program: tuple[str, ...], identity: str) -> str:
    inspected = json.loads(ask_podman([*program, "image", "inspect", identity], 60))
    return str(inspected[0]["Config"]["Entrypoint"][0])


def _has_device(described: Mapping[str, Any]) -> bool:
    """Whether the package is for a GPU and this machine has NVIDIA's driver."""
    return _is_for_gpu(described) and _DEVICE_NODE.exists()


def _is_for_gpu(described: Mapping[str, Any]) -> bool:
    return bool(described["backend"]["kind"] != "cpu")
