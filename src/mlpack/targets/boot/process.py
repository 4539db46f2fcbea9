"""What every way to boot a package shares: a process in a group of its own, its log, and a directory that it cannot write.

Promises:
- Children end and files go, however the boot ends. An error has the tail of the log.

Will not: know which kind of package runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlpack.core import digest, interrupts, machine
from mlpack.errors import PackError
from mlpack.targets import limits
from mlpack.targets.format import bytecode, layering

_TAIL_LINES = 40
_GRACE_S = 3.0
_SLOW_DISK_BYTES_S = 20_000_000
_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """The boot of a package that answered. `init_ms`: from the start of its process until it is ready for an event; under podman
    that includes the container's start. `how`: what it ran in, for people."""

    answer: Any
    """An object, or what a `postprocess` hook returned to a direct call; None where the device is not here."""
    init_ms: float
    how: str
    log: tuple[str, ...]

    @property
    def status(self) -> int:
        """The HTTP answer's status; 200 for a direct call, which has none."""
        return int(self.answer.get("statusCode", 200)) if isinstance(self.answer, dict) else 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a package is booted with. `timeout_s`: for its answer. `memory_mb`: the memory that its environment states. `rie`,
    `podman`: the programs aws-lambda-rie and podman; None where they are not here, then the boot does without. `weights`: an
    address that has the weights of a package without them, and `cache` a directory for them; None: one that goes after the boot."""

    timeout_s: float
    memory_mb: int
    rie: Path | None = None
    podman: Path | None = None
    weights: str | None = None
    cache: Path | None = None

    def variables(self, tmp: str) -> dict[str, str]:
        """The variables that say where weights are, by which key the boot is let in, and that nothing is asked of AWS. `tmp`: the
        directory of the process for temporary files."""
        weights = {"MLPACK_WEIGHTS": self.weights, "MLPACK_WEIGHTS_CACHE": str(self.cache or tmp)} if self.weights else {}
        return {AROUND_VARIABLE: "stub", **weights, KEY_VARIABLE: hashlib.sha256(_KEY.encode()).hexdigest()}


AROUND_VARIABLE = "MLPACK_AROUND"
KEY_VARIABLE = "MLPACK_ACCESS_KEY_SHA256"
_KEY = secrets.token_urlsafe(32)
"""By which this process's boots are let in where a package asks who calls. It is new in each process, and goes nowhere else."""
KEY_HEADERS = {"x-mlpack-key": _KEY}


def with_key(event: bytes) -> bytes:
    """An event, with the key where it is in HTTP's form; else as it is."""
    try:
        content = json.loads(event)
    except ValueError:  # it is for the package to say so
        return event
    if not isinstance(content, dict) or not isinstance(content.get("requestContext"), dict):
        return event
    headers = content.get("headers")
    content["headers"] = {**(headers if isinstance(headers, dict) else {}), **KEY_HEADERS}
    return json.dumps(content, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One event for one command, for the emulator and for the stub."""

    command: tuple[str, ...]
    env: Mapping[str, str] | None
    event: bytes
    timeout_s: float
    log: Path
    in_container: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodmanImage:
    """A package's image in podman's store: podman's command, the image's id, and a name for its container."""

    program: tuple[str, ...]
    identity: str
    name: str

    def run(self, *options: str) -> tuple[str, ...]:
        """The command that runs it, read-only but for /tmp, on this machine's network; the image and its arguments follow."""
        common = ("--name", self.name, "--rm", "--network=host", "--read-only", "--tmpfs", "/tmp", "--log-driver=none")
        return (*self.program, "run", *common, *options)


@contextmanager
def podman_image(package: Path, work: Path, podman: Path, timeout_s: float) -> Iterator[PodmanImage]:
    """Put the package's image into podman's store while the block runs; then remove it and its container."""
    runtime = ("--runtime", "runc") if os.geteuid() == 0 and shutil.which("runc") else ()
    program = (str(podman), *runtime)
    # podman 4 names an image by its path as given, and not every path is a name: not one with the @ of a candidate's id, nor
    # one with the _ that a temporary directory may end in. So a relative path, which two boots of one image do not share.
    name = f"mlpack-{os.getpid()}-{time.monotonic_ns()}"
    (work / name).symlink_to((package / layering.LAYOUT).resolve())
    output = ask_podman([*program, "pull", "--quiet", f"oci:{name}"], max(timeout_s, 2 * patience(package)), folder=work)
    identity = output.strip().splitlines()[-1]
    try:
        yield PodmanImage(program=program, identity=identity, name=name)
    finally:
        succeeds([*program, "rm", "--force", "--time", "0", name])
        if not succeeds([*program, "rmi", f"localhost/{name}"]):  # podman 5 gives it no name
            succeeds([*program, "rmi", identity])


def patience(package: Path) -> float:
    """Seconds that the package in this directory has to become ready: a minute, and the time to read it from a slow disk."""
    return 60.0 + digest.size_of_tree(package) // _SLOW_DISK_BYTES_S


def memory_options(memory_mb: int) -> tuple[str, ...]:
    """podman's options for this much memory and the processors that come with it; none unless we are root and may set cgroups."""
    if os.geteuid() != 0:
        return ()
    cpus = min(memory_mb / limits.MEMORY_PER_VCPU.value, float(os.cpu_count() or 1))
    return ("--memory", f"{memory_mb}m", "--cpus", f"{cpus:.2f}")


def private_environment(tmp: Path) -> dict[str, str]:
    """A new environment with nothing of the caller's, and the new directory `tmp` in the place of /tmp."""
    tmp.mkdir()
    return {"HOME": str(tmp), "TMPDIR": str(tmp), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC"}


def succeeds(command: Sequence[str], timeout_s: float = 60) -> bool:
    """Run a command without output. Whether it succeeded in that time."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def ask_podman(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> str:
    """podman's output for a command. PackError when it fails."""
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=max(timeout_s, 120))
    except subprocess.TimeoutExpired:
        raise PackError(f"{' '.join(command[:2])} did not end in time") from None
    if result.returncode:
        raise PackError(f"podman could not take the image: {result.stderr.strip()[-800:]}")
    return result.stdout


def failure(what: str, call: Call) -> PackError:
    """The error of a failed boot, with the end of its log."""
    tail = "\n".join(f"  {line}" for line in log_lines(call.log)[-_TAIL_LINES:])
    return PackError(f"the package was booted and {what}.\nThe end of its log:\n{tail or '  (empty)'}")


def log_lines(log: Path) -> tuple[str, ...]:
    """The lines of a log so far."""
    return tuple(log.read_text("utf-8", "replace").splitlines()) if log.exists() else ()


@contextmanager
def running(launch: tuple[Sequence[str], Mapping[str, str] | None], call: Call) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own while the block runs; then end it with all its children."""
    command, env = launch
    with interrupts.guarded() as guard:
        with call.log.open("wb") as log:
            process = start(command, env, log, subprocess.STDOUT, call.log.parent)
        try:
            try:
                guard.let_in()
                yield process
            finally:
                guard.keep_out()
        finally:
            _end(process)


def start(
    command: Sequence[str],
    env: Mapping[str, str] | None,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, without input. PackError when it cannot be started."""
    try:
        return subprocess.Popen(
            command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
    except OSError as error:
        raise PackError(f"{command[0]} could not be started: {error}") from None


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process of `start` and to its children."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass  # the whole group has ended


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(process, number)
        interrupts.reap(process, _GRACE_S)
    interrupts.reap(process)


def python_for(package_json: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """The Python of this machine for a package, and notes about it for the user."""
    version = str(package_json["python"])
    if python := bytecode.interpreter(version, install=False):
        return python.path, []
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(sys.executable), [f"on Python {here}, since there is no {version} here"]


def check_arch(package_json: Mapping[str, Any]) -> None:
    """PackError when the package is for another processor than this one."""
    here = machine.arch()
    if package_json["arch"] != here:
        raise PackError(f"the package is for {package_json['arch']} and this machine is {here}: boot it on a machine of that kind")


def read_only_prefix(root: Path) -> tuple[str, ...]:
    """The words before a command that make `root` read-only to it, even for root; none where that is not permitted.

    Permission bits do not bind root. A read-only mount in a namespace of its own does.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return ()
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _READ_ONLY, str(root))
    trial = subprocess.run([*words, "true"], capture_output=True, check=False, timeout=30)
    return words if trial.returncode == 0 else ()


def seal(root: Path) -> None:
    """Make everything below readable, and nothing writable."""
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def free_ports(count: int) -> tuple[int, ...]:
    """Free ports of the loopback address."""
    sockets = []
    try:
        for _ in range(count):
            sockets.append(socket.socket())
            sockets[-1].bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()
