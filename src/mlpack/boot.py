"""Boot a package here as its target would, and call it once: the last thing between a build and "ok".

Promises: the bytes that ship, through the real Runtime API: the emulator (aws-lambda-rie) when there is one, else a stub of that
API in this process, on loopback only; an environment like Lambda's and nothing of the caller's; the package read-only, only a
private /tmp writable; an image under podman when there is one. Children are ended and ports freed however it ends. Anything but
an answer with status 200 is a PackError with the tail of the log. Will not measure: see `measure`.
Source: AWS Lambda developer guide, "Using the Lambda runtime API"; the emulator's own log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlpack import bytecode, digest, machine
from mlpack.errors import PackError
from mlpack.runtime_api import Failed, RuntimeApi
from mlpack.targets import lambda_image, limits
from mlpack.targets.unpacking import describe, unpack

_INVOKE = "/2015-03-31/functions/function/invocations"
_INIT_REPORT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)")
_TAIL_LINES = 40
_GRACE_S = 3.0
_CONNECT_S = 10.0
_LAMBDA_USER = "993:990"
"""The user that Lambda runs functions as, whatever the image says: files must be readable by everybody."""
_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A package that came up and answered. `init_ms`: from the start of its process to its first readiness for an event;
    under podman that includes the container's start. `how` says what it ran in, for people."""

    answer: Any
    """An object, or what a `postprocess` hook returned to a direct call."""
    init_ms: float
    how: str
    log: tuple[str, ...]

    @property
    def status(self) -> int:
        """The HTTP answer's status; 200 for a direct call, which has none."""
        return int(self.answer.get("statusCode", 200)) if isinstance(self.answer, dict) else 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One event for one command: what both ways of giving it need to know."""

    command: tuple[str, ...]
    env: Mapping[str, str] | None
    event: bytes
    timeout_s: float
    log: Path
    in_container: bool = False


def boot(
    package: Path,
    event: bytes,
    *,
    timeout_s: float = 60.0,
    memory_mb: int | None = None,
    rie: Path | None = None,
    podman: Path | None = None,
) -> Boot:
    """Start the package in `package` (an artifact's directory) and give it `event`, the JSON that its handler takes.

    `memory_mb`: what the function is told it has (default: the package's own). `rie`, `podman`: those programs, where they are.
    PackError when it does not come up, does not answer 200 in time, writes outside /tmp, or is for another processor.
    """
    described = describe(package)
    _check_arch(described)
    memory_mb = memory_mb or int(described["memory_mb"])
    with _directory() as work:
        if described["kind"] == "image" and podman is not None:
            return _boot_image(package, event, work, _Limits(timeout_s=timeout_s, memory_mb=memory_mb), rie, podman)
        root = unpack(package, work / "task")
        interpreter, notes = _interpreter(described)
        if described["kind"] == "image":
            notes.append("without podman: the image's own files on this machine's Python, not on its base")
        call = _Call(
            command=(*_confined(root), str(interpreter), "-I", "-S", str(root / "bootstrap.py")),
            env=_environment(root, work / "tmp", memory_mb, timeout_s),
            event=event,
            timeout_s=timeout_s,
            log=work / "log",
        )
        before = digest.of_tree(root)
        _seal(root)
        made = _emulated(call, rie) if rie is not None else _stubbed(call)
        if digest.of_tree(root) != before:
            raise PackError("the package wrote into its own directory, which is read-only on Lambda: let it write to /tmp")
        return Boot(answer=made.answer, init_ms=made.init_ms, how="; ".join([made.how, *notes]), log=made.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    timeout_s: float
    memory_mb: int


def _boot_image(package: Path, event: bytes, work: Path, given: _Limits, rie: Path | None, podman: Path) -> Boot:
    root_user = os.geteuid() == 0
    runtime = ["--runtime", "runc"] if root_user and shutil.which("runc") else []
    program = [str(podman), *runtime]
    # podman 4 names an image by its path as given, and not every path is a name: not one with the @ of a candidate's id, nor
    # one with the _ that a temporary directory may end in. So a relative path, which two boots of one image do not share.
    name = f"mlpack-{os.getpid()}-{time.monotonic_ns()}"
    (work / name).symlink_to((package / lambda_image.LAYOUT).resolve())
    pulled = _podman([*program, "pull", "--quiet", f"oci:{name}"], given.timeout_s, folder=work)
    identity = pulled.strip().splitlines()[-1]
    files = f"nofile={limits.FILE_DESCRIPTORS.value}:{limits.FILE_DESCRIPTORS.value}"
    options = ["--name", name, "--rm", "--network=host", "--read-only", "--tmpfs", "/tmp", "--log-driver=none"]
    options += ["--user", _LAMBDA_USER, "--ulimit", files, "--ulimit", "nproc=1000:1000"]
    if root_user:  # cgroups are only ours to set as root
        share = given.memory_mb / limits.MEMORY_PER_VCPU.value
        cpus = min(share, float(os.cpu_count() or 1))
        options += ["--memory", f"{given.memory_mb}m", "--cpus", f"{cpus:.2f}"]
    env = _lambda_variables("/var/task", given.memory_mb, given.timeout_s)
    settings = [word for key in sorted(env) for word in ("--env", f"{key}={env[key]}")]
    call = _Call(
        command=(*program, "run", *options, *settings, identity),
        env=None,  # podman is the user's program and works in the user's environment; the container gets none of it
        event=event,
        timeout_s=given.timeout_s,
        log=work / "log",
        in_container=True,
    )
    try:
        made = _emulated(call, rie) if rie is not None else _stubbed(call)
    finally:
        _quietly([*program, "rm", "--force", "--time", "0", name])
        if not _quietly([*program, "rmi", f"localhost/{name}"]):  # podman 5 gives it no name
            _quietly([*program, "rmi", identity])
    return Boot(answer=made.answer, init_ms=made.init_ms, how=f"{made.how}, in podman, read-only", log=made.log)


def _quietly(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _podman(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=max(timeout_s, 120))
    except subprocess.TimeoutExpired:
        raise PackError(f"{' '.join(command[:2])} did not end in time") from None
    if done.returncode:
        raise PackError(f"podman could not take the image: {done.stderr.strip()[-800:]}")
    return done.stdout


def _stubbed(call: _Call) -> Boot:
    with RuntimeApi(call.event, call.timeout_s) as api:
        began = time.monotonic()
        with _running(_with_api(call, api.address), call) as process:
            answer = _wait(api, process, call)
        return Boot(answer=answer, init_ms=(api.ready_at - began) * 1e3, how="by a stub of the Runtime API", log=_lines(call.log))


def _with_api(call: _Call, address: str) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
    if not call.in_container:
        return call.command, {**(call.env or {}), "AWS_LAMBDA_RUNTIME_API": address}
    *before, identity = call.command
    return (*before, "--env", f"AWS_LAMBDA_RUNTIME_API={address}", identity), call.env


def _wait(api: RuntimeApi, process: subprocess.Popen[bytes], call: _Call) -> Any:
    deadline = time.monotonic() + call.timeout_s
    while not api.done.wait(0.02):
        if process.poll() is not None:
            raise _failure(f"ended with status {process.returncode} before it answered", call)
        if time.monotonic() > deadline:
            raise _failure(f"did not answer within {call.timeout_s:g} s", call)
    outcome = api.outcome
    if isinstance(outcome, Failed):
        raise _failure(f"failed at {outcome.stage}: {outcome.kind}: {outcome.message}", call)
    return _checked(outcome or b"", call)


def _emulated(call: _Call, rie: Path) -> Boot:
    ports = _free_ports(2)
    listen, api = (f"127.0.0.1:{port}" for port in ports)
    options = ("--runtime-interface-emulator-address", listen, "--runtime-api-address", api)
    if call.in_container:
        # Inside, as AWS documents it: the emulator starts the image's own command.
        *before, identity = call.command
        entry = json.loads(_podman([*call.command[: call.command.index("run")], "image", "inspect", identity], 60))[0]["Config"][
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
    with _running((command, call.env), call) as process:
        answer = _checked(_invoke(ports[0], process, call), call)
    log = _lines(call.log)
    found = next((match for line in log if (match := _INIT_REPORT.search(line))), None)
    if found is None:
        raise _failure("did not report its initialisation to the emulator", call)
    return Boot(answer=answer, init_ms=float(found[1]), how="under the Lambda emulator", log=log)


def _invoke(port: int, process: subprocess.Popen[bytes], call: _Call) -> bytes:
    """What the emulator answers; its init begins with this request."""
    import http.client

    give_up = time.monotonic() + min(_CONNECT_S + (20 if call.in_container else 0), call.timeout_s)
    while True:
        if process.poll() is not None:
            raise _failure(f"ended with status {process.returncode} before it answered", call)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=call.timeout_s)
        try:
            connection.connect()
            break
        except OSError:
            if time.monotonic() > give_up:
                raise _failure("the emulator did not start listening", call) from None
            time.sleep(0.02)
    try:
        connection.request("POST", _INVOKE, call.event, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    except TimeoutError:
        raise _failure(f"did not answer within {call.timeout_s:g} s", call) from None
    except (OSError, http.client.HTTPException) as error:
        raise _failure(f"broke the connection ({error or type(error).__name__})", call) from None
    finally:
        connection.close()


def _checked(body: bytes, call: _Call) -> Any:
    """The answer, when it is one: status 200 with a body, or for a direct call no error: a hook's empty list is one."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise _failure(f"answered with something that is not JSON: {body[:200]!r}", call) from None
    if answer is None:
        raise _failure("answered with null: does its hook return nothing?", call)
    if not isinstance(answer, dict):
        return answer
    if "errorType" in answer or "errorMessage" in answer:
        raise _failure(f"failed: {answer.get('errorType')}: {answer.get('errorMessage')}", call)
    if answer.get("statusCode", 200) != 200 or "error" in answer:
        status = f"status {answer['statusCode']}" if "statusCode" in answer else "an error"
        raise _failure(f"answered with {status}: {str(answer.get('body', answer))[:600]}", call)
    if not (answer.get("body") if "statusCode" in answer else answer):
        raise _failure("gave an empty answer", call)
    return answer


def _failure(what: str, call: _Call) -> PackError:
    tail = "\n".join(f"  {line}" for line in _lines(call.log)[-_TAIL_LINES:])
    return PackError(f"the package was booted and {what}.\nThe end of its log:\n{tail or '  (empty)'}")


def _lines(log: Path) -> tuple[str, ...]:
    return tuple(log.read_text("utf-8", "replace").splitlines()) if log.exists() else ()


@contextmanager
def _running(started: tuple[Sequence[str], Mapping[str, str] | None], call: _Call) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, ended with all its children on the way out."""
    command, env = started
    with call.log.open("wb") as log:
        process = _start(command, env, log, call)
    try:
        yield process
    finally:
        _end(process)


def _start(command: Sequence[str], env: Mapping[str, str] | None, log: IO[bytes], call: _Call) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env=env,
            cwd=call.log.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise PackError(f"{command[0]} could not be started: {error}") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass  # the leader is gone, and nobody is left of its group
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _environment(root: Path, tmp: Path, memory_mb: int, timeout_s: float) -> dict[str, str]:
    tmp.mkdir()
    private = {"HOME": str(tmp), "TMPDIR": str(tmp), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC"}
    return {**private, **_lambda_variables(str(root), memory_mb, timeout_s)}


def _lambda_variables(root: str, memory_mb: int, timeout_s: float) -> dict[str, str]:
    return {
        "LAMBDA_TASK_ROOT": root,
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "test_function",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(max(1, int(timeout_s))),
    }


def _interpreter(described: Mapping[str, Any]) -> tuple[Path, list[str]]:
    version = str(described["python"])
    if found := bytecode.interpreter(version, install=False):
        return found.path, []
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(sys.executable), [f"on Python {here}, since there is no {version} here"]


def _check_arch(described: Mapping[str, Any]) -> None:
    here = machine.arch()
    if described["arch"] != here:
        raise PackError(f"the package is for {described['arch']} and this machine is {here}: boot it on a machine of that kind")


def _confined(root: Path) -> tuple[str, ...]:
    """Words to put before a command so that `root` is read-only to it even for root; nothing where that is not permitted.

    Permission bits do not bind root, a read-only mount in a namespace of its own does.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return ()
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _READ_ONLY, str(root))
    tried = subprocess.run([*words, "true"], capture_output=True, check=False, timeout=30)
    return words if tried.returncode == 0 else ()


def _seal(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@contextmanager
def _directory() -> Iterator[Path]:
    """A new directory, removed at the end with whatever was sealed in it."""
    work = Path(tempfile.mkdtemp(prefix="mlpack-boot-"))
    try:
        yield work
    finally:
        for path in (work, *work.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(stat.S_IRWXU)
        shutil.rmtree(work, ignore_errors=True)


def _free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback address that nobody listens on now."""
    held = []
    try:
        for _ in range(count):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in held)
    finally:
        for each in held:
            each.close()
