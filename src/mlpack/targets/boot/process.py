"""What every way of booting has in common: a process in a group of its own, its log, a directory that is read-only to it.

Promises: children are ended and files removed however it ends; an error has the tail of the log. Will not know what is started.
"""

from __future__ import annotations

import os
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
    """A package that came up and answered. `init_ms`: from the start of its process to its first readiness for an event;
    under podman that includes the container's start. `how` says what it ran in, for people."""

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
    """What a package is booted with. `timeout_s`: for its answer. `memory_mb`: what it is told it has. `rie`, `podman`: where the
    programs aws-lambda-rie and podman are, None where they are not here: then it goes without."""

    timeout_s: float
    memory_mb: int
    rie: Path | None = None
    podman: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One event for one command: what both ways of giving it need to know."""

    command: tuple[str, ...]
    env: Mapping[str, str] | None
    event: bytes
    timeout_s: float
    log: Path
    in_container: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An image of a package in podman's store: how to call podman, its id, and a name for a container of it."""

    program: tuple[str, ...]
    identity: str
    name: str

    def run(self, *options: str) -> tuple[str, ...]:
        """The command that runs it, read-only but for /tmp, on this machine's network; the image and its arguments follow."""
        fixed = ("--name", self.name, "--rm", "--network=host", "--read-only", "--tmpfs", "/tmp", "--log-driver=none")
        return (*self.program, "run", *fixed, *options)


@contextmanager
def pulled(package: Path, work: Path, podman: Path, timeout_s: float) -> Iterator[Pulled]:
    """The package's image in podman's store while the block runs; then it and its container are gone."""
    runtime = ("--runtime", "runc") if os.geteuid() == 0 and shutil.which("runc") else ()
    program = (str(podman), *runtime)
    # podman 4 names an image by its path as given, and not every path is a name: not one with the @ of a candidate's id, nor
    # one with the _ that a temporary directory may end in. So a relative path, which two boots of one image do not share.
    name = f"mlpack-{os.getpid()}-{time.monotonic_ns()}"
    (work / name).symlink_to((package / layering.LAYOUT).resolve())
    said = ask_podman([*program, "pull", "--quiet", f"oci:{name}"], max(timeout_s, 2 * patience(package)), folder=work)
    identity = said.strip().splitlines()[-1]
    try:
        yield Pulled(program=program, identity=identity, name=name)
    finally:
        quietly([*program, "rm", "--force", "--time", "0", name])
        if not quietly([*program, "rmi", f"localhost/{name}"]):  # podman 5 gives it no name
            quietly([*program, "rmi", identity])


def patience(package: Path) -> float:
    """Seconds that the package in this directory may take to come up: a minute, and what a slow disk takes to read it."""
    return 60.0 + digest.size_of_tree(package) // _SLOW_DISK_BYTES_S


def bounds(memory_mb: int) -> tuple[str, ...]:
    """podman's words for this much memory and the processors that come with it, where cgroups are ours to set: as root."""
    if os.geteuid() != 0:
        return ()
    cpus = min(memory_mb / limits.MEMORY_PER_VCPU.value, float(os.cpu_count() or 1))
    return ("--memory", f"{memory_mb}m", "--cpus", f"{cpus:.2f}")


def private(tmp: Path) -> dict[str, str]:
    """An environment of its own, with nothing of the caller's, around a new /tmp."""
    tmp.mkdir()
    return {"HOME": str(tmp), "TMPDIR": str(tmp), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC"}


def quietly(command: Sequence[str], timeout_s: float = 60) -> bool:
    """Whether it succeeded, in that time."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def ask_podman(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> str:
    """What podman says to a command that must succeed, else PackError."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=max(timeout_s, 120))
    except subprocess.TimeoutExpired:
        raise PackError(f"{' '.join(command[:2])} did not end in time") from None
    if done.returncode:
        raise PackError(f"podman could not take the image: {done.stderr.strip()[-800:]}")
    return done.stdout


def failure(what: str, call: Call) -> PackError:
    """The error of a package that was booted, with the end of its log."""
    tail = "\n".join(f"  {line}" for line in lines(call.log)[-_TAIL_LINES:])
    return PackError(f"the package was booted and {what}.\nThe end of its log:\n{tail or '  (empty)'}")


def lines(log: Path) -> tuple[str, ...]:
    """A log so far."""
    return tuple(log.read_text("utf-8", "replace").splitlines()) if log.exists() else ()


@contextmanager
def running(started: tuple[Sequence[str], Mapping[str, str] | None], call: Call) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, ended with all its children on the way out."""
    command, env = started
    with interrupts.guarded() as guard:
        with call.log.open("wb") as log:
            process = _start(command, env, log, call)
        try:
            try:
                guard.let_in()
                yield process
            finally:
                guard.keep_out()
        finally:
            _end(process)


def _start(command: Sequence[str], env: Mapping[str, str] | None, log: IO[bytes], call: Call) -> subprocess.Popen[bytes]:
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
        interrupts.reap(process, _GRACE_S)
    interrupts.reap(process)


def python_for(described: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """The Python of this machine to run a package on, and what is to be said about it."""
    version = str(described["python"])
    if found := bytecode.interpreter(version, install=False):
        return found.path, []
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(sys.executable), [f"on Python {here}, since there is no {version} here"]


def check_arch(described: Mapping[str, Any]) -> None:
    """PackError when the package is for another processor than this one."""
    here = machine.arch()
    if described["arch"] != here:
        raise PackError(f"the package is for {described['arch']} and this machine is {here}: boot it on a machine of that kind")


def confined(root: Path) -> tuple[str, ...]:
    """Words to put before a command so that `root` is read-only to it even for root; nothing where that is not permitted.

    Permission bits do not bind root, a read-only mount in a namespace of its own does.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return ()
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _READ_ONLY, str(root))
    tried = subprocess.run([*words, "true"], capture_output=True, check=False, timeout=30)
    return words if tried.returncode == 0 else ()


def seal(root: Path) -> None:
    """Everything below is readable, and nothing can be written."""
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def free_ports(count: int) -> tuple[int, ...]:
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
