"""Boot a function's package here as Lambda would, and call it once.

Promises:
- The shipped bytes run behind the Runtime API: that of the emulator (aws-lambda-rie) when it is here, else a stub in this process,
  on loopback only. An image runs under podman when that is here.
- The environment is like Lambda's, with nothing of the caller's. The package is read-only; only a private /tmp is writable.
- Anything but an answer with status 200 is a PackError with the tail of the log.

Will not: measure. `measure` does.

Source: AWS Lambda developer guide, "Using the Lambda runtime API"; the emulator's own log.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.errors import PackError
from mlpack.targets import limits
from mlpack.targets.boot.process import (
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
    with_key,
)
from mlpack.targets.boot.runtime_api import RuntimeApi, RuntimeFailure
from mlpack.targets.format.unpacking import Members, by_form, describe, extract

_INVOKE = "/2015-03-31/functions/function/invocations"
_INIT_REPORT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)")
_CONNECT_S = 10.0
_LAMBDA_USER = "993:990"
"""The user that Lambda runs functions as, whatever the image says: files must be readable by everybody."""


def boot(package: Path, event: bytes, means: Means, members: Members = by_form) -> Boot:
    """Start a package behind the Runtime API and call it once.

    Args:
        package: The directory of the package.
        event: The JSON that its handler takes.
        means: The programs, the time and the memory for it.
        members: Reads its files, for a package in a form that is not mlpack's. mlpack's images run under podman where that is here.

    Returns:
        Its answer, and how it was booted.

    Raises:
        PackError: It does not come up, does not answer 200 in time, or writes outside /tmp.
    """
    package_json = describe(package)
    with temporary.directory("boot") as work:
        if package_json["kind"] == "image" and means.podman is not None:
            return _boot_image(package, event, work, means, means.podman)
        root = extract(package, package_json, members, work / "task")
        interpreter, notes = python_for(package_json)
        if package_json["kind"] == "image":
            notes.append("without podman: the image's own files on this machine's Python, not on its base")
        call = Call(
            command=(*read_only_prefix(root), str(interpreter), "-I", "-S", str(root / "bootstrap.py")),
            env={**private_environment(work / "tmp"), **_lambda_variables(str(root), means), **means.variables(str(work / "tmp"))},
            event=with_key(event),
            timeout_s=means.timeout_s,
            log=work / "log",
        )
        before = digest.of_tree(root)
        seal(root)
        result = _boot_with_stub(call) if means.rie is None else _boot_with_emulator(call, means.rie)
        if digest.of_tree(root) != before:
            raise PackError("the package wrote into its own directory, which is read-only on Lambda: let it write to /tmp")
        return Boot(answer=result.answer, init_ms=result.init_ms, how="; ".join([result.how, *notes]), log=result.log)


def _boot_image(package: Path, event: bytes, work: Path, means: Means, podman: Path) -> Boot:
    files = f"nofile={limits.FILE_DESCRIPTORS.value}:{limits.FILE_DESCRIPTORS.value}"
    env = {**_lambda_variables("/var/task", means), **dataclasses.replace(means, cache=None).variables("/tmp")}
    settings = [word for key in sorted(env) for word in ("--env", f"{key}={env[key]}")]
    options = [
        "--user",
        _LAMBDA_USER,
        "--ulimit",
        files,
        "--ulimit",
        "nproc=1000:1000",
        *memory_options(means.memory_mb),
        *settings,
    ]
    with podman_image(package, work, podman, means.timeout_s) as image:
        call = Call(
            command=(*image.run(*options), image.identity),
            env=None,  # podman is the user's program and works in the user's environment; the container gets none of it
            event=with_key(event),
            timeout_s=means.timeout_s,
            log=work / "log",
            in_container=True,
        )
        result = _boot_with_stub(call) if means.rie is None else _boot_with_emulator(call, means.rie)
    return Boot(answer=result.answer, init_ms=result.init_ms, how=f"{result.how}, in podman, read-only", log=result.log)


def _boot_with_stub(call: Call) -> Boot:
    with RuntimeApi(call.event, call.timeout_s) as api:
        began = time.monotonic()
        with running(_command_with_api(call, api.address), call) as process:
            answer = _wait(api, process, call)
        return Boot(
            answer=answer, init_ms=(api.ready_at - began) * 1e3, how="by a stub of the Runtime API", log=log_lines(call.log)
        )


def _command_with_api(call: Call, address: str) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
    if not call.in_container:
        return call.command, {**(call.env or {}), "AWS_LAMBDA_RUNTIME_API": address}
    *before, identity = call.command
    return (*before, "--env", f"AWS_LAMBDA_RUNTIME_API={address}", identity), call.env


def _wait(api: RuntimeApi, process: subprocess.Popen[bytes], call: Call) -> Any:
    deadline = time.monotonic() + call.timeout_s
    while not api.done.wait(0.02):
        if process.poll() is not None:
            raise failure(f"ended with status {process.returncode} before it answered", call)
        if time.monotonic() > deadline:
            raise failure(f"did not answer within {call.timeout_s:g} s", call)
    outcome = api.outcome
    if isinstance(outcome, RuntimeFailure):
        raise failure(f"failed at {outcome.stage}: {outcome.kind}: {outcome.message}", call)
    return _check_answer(outcome or b"", call)


def _boot_with_emulator(call: Call, rie: Path) -> Boot:
    ports = free_ports(2)
    listen, api = (f"127.0.0.1:{port}" for port in ports)
    options = ("--runtime-interface-emulator-address", listen, "--runtime-api-address", api)
    if call.in_container:
        # Inside, as AWS documents it: the emulator starts the image's own command.
        *before, identity = call.command
        entry = json.loads(ask_podman([*call.command[: call.command.index("run")], "image", "inspect", identity], 60))[0]["Config"][
            "Entrypoint"
        ]
        command = (
            *before,
            "--volume",
            f"{rie.resolve()}:/aws-lambda-rie:ro",
            "--entrypoint",
            "/aws-lambda-rie",
            identity,
            *options,
            *entry,
        )
    else:
        command = (str(rie), *options, *call.command)
    with running((command, call.env), call) as process:
        answer = _check_answer(_invoke(ports[0], process, call), call)
    log = log_lines(call.log)
    report = next((match for line in log if (match := _INIT_REPORT.search(line))), None)
    if report is None:
        raise failure("did not report its initialisation to the emulator", call)
    return Boot(answer=answer, init_ms=float(report[1]), how="under the Lambda emulator", log=log)


def _invoke(port: int, process: subprocess.Popen[bytes], call: Call) -> bytes:
    """The emulator's answer. This request starts its initialisation."""
    import http.client

    give_up = time.monotonic() + min(_CONNECT_S + (20 if call.in_container else 0), call.timeout_s)
    while True:
        if process.poll() is not None:
            raise failure(f"ended with status {process.returncode} before it answered", call)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=call.timeout_s)
        try:
            connection.connect()
            break
        except OSError:
            if time.monotonic() > give_up:
                raise failure("the emulator did not start listening", call) from None
            time.sleep(0.02)
    try:
        connection.request("POST", _INVOKE, call.event, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    except TimeoutError:
        raise failure(f"did not answer within {call.timeout_s:g} s", call) from None
    except (OSError, http.client.HTTPException) as error:
        raise failure(f"broke the connection ({error or type(error).__name__})", call) from None
    finally:
        connection.close()


def _check_answer(body: bytes, call: Call) -> Any:
    """The parsed answer: status 200 with a body, or for a direct call anything but null and an error (a hook may return [])."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise failure(f"answered with something that is not JSON: {body[:200]!r}", call) from None
    if answer is None:
        raise failure("answered with null: does its hook return nothing?", call)
    if not isinstance(answer, dict):
        return answer
    if "errorType" in answer or "errorMessage" in answer:
        raise failure(f"failed: {answer.get('errorType')}: {answer.get('errorMessage')}", call)
    if answer.get("statusCode", 200) != 200 or "error" in answer:
        status = f"status {answer['statusCode']}" if "statusCode" in answer else "an error"
        raise failure(f"answered with {status}: {str(answer.get('body', answer))[:600]}", call)
    if not (answer.get("body") if "statusCode" in answer else answer):
        raise failure("gave an empty answer", call)
    return answer


def _lambda_variables(root: str, means: Means) -> dict[str, str]:
    return {
        "LAMBDA_TASK_ROOT": root,
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "test_function",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(means.memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(max(1, int(means.timeout_s))),
    }
