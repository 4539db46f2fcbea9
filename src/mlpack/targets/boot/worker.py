"""Boot a worker's package: start it, ask for its health, give it one request, and end it as an orchestrator would.

Promises:
- The process becomes ready, answers with status 200, and ends by itself with status 0 after SIGTERM.
- Under podman the image runs as its own user, read-only; without podman its files run on this machine's Python.
- Where there is no GPU, a package for one is checked up to the device: its engines and libraries in the image, and that the worker
  refuses to start with words about the driver. With a GPU that the package has no engine for, it has to name that engine. Neither
  executes an engine, and `Boot.how` says so.
- Which device computed an answer comes from the worker's own log.

Will not: measure, or reach a queue. Without a queue a worker serves HTTP alone.
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
    KEY_HEADERS,
    Boot,
    Call,
    Means,
    ask_podman,
    failure,
    free_ports,
    log_lines,
    memory_options,
    podman_image,
    private_environment,
    python_for,
    read_only_prefix,
    running,
    seal,
)
from mlpack.targets.format.contents import TASK_ROOT
from mlpack.targets.format.layering import HEALTH
from mlpack.targets.format.unpacking import PACKAGE, by_form, describe, extract

GRACE_S = 10.0
"""Seconds from SIGTERM to the end of a worker without open requests."""
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""podman's defaults exceed what it may ask for inside a container. A worker with one request needs a fraction of these."""
_DEVICE_NODE = Path("/dev/nvidiactl")
_MISS = 5
"""The exit status of a worker that has no engine for its device."""
_NO_DRIVER = re.compile(r"driver|libcuda|CUDA", re.IGNORECASE)

CallMaker = Callable[[tuple[str, ...], Mapping[str, str]], Call]
"""Makes the call that starts the package with these arguments for bootstrap.py and these variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    path: str
    body: bytes
    headers: Mapping[str, str]


def boot(package: Path, event: bytes, means: Means, entrance: tuple[str, ...] = ("worker",)) -> Boot:
    """Start the worker in `package` (an artifact's directory) and give it `event`: an event.json, or a request's body alone.
    `entrance`: the arguments of bootstrap.py that start it.

    PackError when it does not become ready, does not answer 200 in time, does not end when asked, or writes outside /tmp.
    """
    package_json, timeout_s, podman = describe(package), means.timeout_s, means.podman
    if not isinstance(package_json.get("backend"), dict) or "kind" not in package_json["backend"]:
        raise PackError(f"{package}: its {PACKAGE} does not say what computes (`backend`): it is no worker, or it was changed")
    request = _request(event, str(package_json["name"]))
    with temporary.directory("boot") as work:
        if podman is not None:
            with podman_image(package, work, podman, timeout_s) as image:
                entry = _python_of(image.program, image.identity)

                def podman_call(arguments: tuple[str, ...], env: Mapping[str, str]) -> Call:
                    env = {**env, **dataclasses.replace(means, cache=None).variables("/tmp")}
                    env_options = [word for key in sorted(env) for word in ("--env", f"{key}={env[key]}")]
                    devices = ["--device", "nvidia.com/gpu=all"] if _has_device(package_json) else []
                    options = (*memory_options(means.memory_mb), *_LIMITS, *devices, *env_options, "--entrypoint", entry)
                    command = (*image.run(*options), image.identity, "-I", "-S", f"{TASK_ROOT}/bootstrap.py", *arguments)
                    return Call(command=command, env=None, event=event, timeout_s=timeout_s, log=work / "log", in_container=True)

                result = _boot_for_device(podman_call, package_json, request, entrance)
                return Boot(answer=result.answer, init_ms=result.init_ms, how=f"{result.how}, in podman, read-only", log=result.log)
        root = extract(package, package_json, by_form, work / "task")
        python, notes = python_for(package_json)
        variables = {**private_environment(work / "tmp"), **means.variables(str(work / "tmp"))}

        def local_call(arguments: tuple[str, ...], env: Mapping[str, str]) -> Call:
            command = (*read_only_prefix(root), str(python), "-I", "-S", str(root / "bootstrap.py"), *arguments)
            return Call(command=command, env={**variables, **env}, event=event, timeout_s=timeout_s, log=work / "log")

        before = digest.of_tree(root)
        seal(root)
        result = _boot_for_device(local_call, package_json, request, entrance)
        if digest.of_tree(root) != before:
            raise PackError("the package wrote into its own directory, which is read-only where it runs: let it write to /tmp")
        notes.append("without podman: the image's own files on this machine's Python, not on its base")
        return Boot(answer=result.answer, init_ms=result.init_ms, how="; ".join([result.how, *notes]), log=result.log)


def _boot_for_device(call_for: CallMaker, package_json: Mapping[str, Any], request: _Request, entrance: tuple[str, ...]) -> Boot:
    if not _is_for_gpu(package_json):
        what = "worker" if entrance == ("worker",) else "container"
        return _boot_serving(call_for, request, f"as a {what} over HTTP", entrance)
    if package_json["backend"]["kind"] == "tensorrt":
        _check_exit(call_for(("engine", "check"), {}), "engine check")
    if _has_device(package_json) or "cpu" in package_json["backend"]["fallback"]:
        result = _boot_serving(call_for, request, "as a worker over HTTP", entrance)
        return result if result.answer is None else dataclasses.replace(result, how=f"{result.how}, {_backend_phrase(result.log)}")
    return _boot_without_device(call_for(entrance, {"MLPACK_PORT": str(free_ports(1)[0])}))


def _backend_phrase(log: tuple[str, ...]) -> str:
    """Words for the device that computed, from the worker's line "ready"."""
    for line in log:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("message") == "ready" and entry.get("backend") != "cpu":
            return f"by {entry.get('backend')} on {entry.get('device')}"
    return "on its fallback, the processor; its engines never executed"


def _boot_serving(call_for: CallMaker, request: _Request, how: str, entrance: tuple[str, ...]) -> Boot:
    """Start the worker, ask it and end it. It may also end before it is ready, when it has no engine for this GPU."""
    port = free_ports(1)[0]
    call = call_for(entrance, {"MLPACK_PORT": str(port), "MLPACK_LAME_DUCK_S": "0"})  # nobody else sends requests
    began = time.monotonic()
    with running((call.command, call.env), call) as process:
        try:
            _wait_ready(process, port, call)
        except PackError:
            if process.poll() != _MISS:
                raise
            how = "up to the device: the package has no engine for this machine's GPU, and the worker said so; never executed"
            return Boot(answer=None, init_ms=(time.monotonic() - began) * 1e3, how=how, log=log_lines(call.log))
        init_ms = (time.monotonic() - began) * 1e3
        status, body = _ask(port, "POST", request.path, call, request)
        if status != 200 or not body:
            raise failure(f"answered with status {status}: {body[:600].decode('utf-8', 'replace')}", call)
        process.send_signal(signal.SIGTERM)
        try:
            exit_status = process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            raise failure(f"did not end within {GRACE_S:g} s of SIGTERM", call) from None
        if exit_status != 0:
            raise failure(f"ended with status {exit_status} after SIGTERM, not 0", call)
    answer = {"statusCode": status, "body": body.decode("utf-8", "replace")}
    return Boot(answer=answer, init_ms=init_ms, how=how, log=log_lines(call.log))


def _boot_without_device(call: Call) -> Boot:
    """Check that the worker refuses to start without a device. An orchestrator must not take it for one that is still starting."""
    began = time.monotonic()
    with running((call.command, call.env), call) as process:
        try:
            exit_status = process.wait(call.timeout_s)
        except subprocess.TimeoutExpired:
            raise failure(f"neither served nor ended within {call.timeout_s:g} s, on a machine without a GPU", call) from None
    log = log_lines(call.log)
    if exit_status == 0 or not any(_NO_DRIVER.search(line) for line in log):
        raise failure(
            f"ended with status {exit_status} on a machine without a GPU, and did not say that the driver is missing", call
        )
    how = "up to the device: engines and libraries checked, and the worker refused to start without a driver; never executed"
    return Boot(answer=None, init_ms=(time.monotonic() - began) * 1e3, how=how, log=log)


def _check_exit(call: Call, what: str) -> None:
    with running((call.command, call.env), call) as process:
        try:
            exit_status = process.wait(call.timeout_s)
        except subprocess.TimeoutExpired:
            raise failure(f"its `{what}` did not end within {call.timeout_s:g} s", call) from None
    if exit_status != 0:
        raise failure(f"its `{what}` ended with status {exit_status}", call)


def _wait_ready(process: subprocess.Popen[bytes], port: int, call: Call) -> None:
    deadline, last_answer = time.monotonic() + call.timeout_s, "nobody listens"
    while True:
        if process.poll() is not None:
            raise failure(f"ended with status {process.returncode} before it was ready", call)
        try:
            status, body = _ask(port, "GET", HEALTH["ready"], call)
            if status == 200:
                return
            last_answer = f"status {status}: {body[:200].decode('utf-8', 'replace')}"
        except PackError:
            pass  # it does not listen yet
        if time.monotonic() > deadline:
            raise failure(f"was not ready within {call.timeout_s:g} s ({last_answer})", call)
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
    """The request of an API Gateway event, as in event.json, or of a body alone. PackError when it is not JSON."""
    path, headers = f"/v2/models/{name}/infer", {"content-type": "application/json", **KEY_HEADERS}
    try:
        content = json.loads(event)
    except ValueError as error:
        raise PackError(f"the event is not JSON: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("body"), str):
        return _Request(path=str(content.get("rawPath") or path), body=content["body"].encode(), headers=headers)
    return _Request(path=path, body=event, headers=headers)


def _python_of(program: tuple[str, ...], identity: str) -> str:
    images = json.loads(ask_podman([*program, "image", "inspect", identity], 60))
    return str(images[0]["Config"]["Entrypoint"][0])


def _has_device(package_json: Mapping[str, Any]) -> bool:
    """Whether the package is for a GPU and this machine has NVIDIA's driver."""
    return _is_for_gpu(package_json) and _DEVICE_NODE.exists()


def _is_for_gpu(package_json: Mapping[str, Any]) -> bool:
    return bool(package_json["backend"]["kind"] != "cpu")
