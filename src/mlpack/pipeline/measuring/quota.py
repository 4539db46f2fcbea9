"""Hold a child process to a share of a processor, as Lambda does with less memory than a vCPU has.

Promises:
- The kernel's own bandwidth control does it, in periods of 20 ms: in a cgroup of version 2 or 1 where one may be made here, else in
  a scope of systemd. No process is stopped and continued from outside, which would measure the stopper.
- A quota is tried on a busy process before it is trusted. One that gives more than it says is none.
- The cgroup goes when the block ends.

Will not: change a cgroup that was there, or invent a quota where there is none.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst; systemd.resource-control(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD_US = 20_000
_TRIAL_SHARE, _TRIAL_S, _TRIAL_MOST = 0.2, 0.4, 0.3
_ENTER = 'echo $$ > "$0" && exec "$@"'
_BUSY = "import time\nend, spent = time.monotonic() + {s}, time.process_time()\nwhile time.monotonic() < end: pass\n"
_BUSY += "print(time.process_time() - spent)"
_GONE_S = 2.0

Held = Callable[[float], AbstractContextManager[tuple[str, ...]]]
"""A share of one processor, held while the block runs: what goes before the child's command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A way to hold a child to a share, and its name for people."""

    name: str
    held: Held


def ways(cgroups: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mounts")) -> tuple[Quota, ...]:
    """The ways that this machine seems to have, in the order in which to try them. None is tried: that takes half a second.

    Args:
        cgroups: The cgroups of this process, in the kernel's form.
        mounts: The file systems that are mounted, in the kernel's form.

    Returns:
        The ways.
    """
    return (*_of_cgroups(cgroups, mounts), *_of_systemd())


def first_that_holds(of: Iterable[Quota]) -> Quota | str:
    """The first of these ways that holds a busy process to its share; or why there is none, in words."""
    reasons = []
    for quota in of:
        problem = trial(quota)
        if problem is None:
            return quota
        reasons.append(f"{quota.name}: {problem}")
    return "; ".join(reasons) or "no cgroup can be made here, and there is no systemd to ask"


def trial(quota: Quota) -> str | None:
    """What is wrong with a quota, by a busy process that it holds; None when nothing is."""
    try:
        with quota.held(_TRIAL_SHARE) as prefix:
            command = [*prefix, sys.executable, "-I", "-S", "-c", _BUSY.format(s=_TRIAL_S)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200]
        share = float(done.stdout) / _TRIAL_S
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    return None if share <= _TRIAL_MOST else f"a busy process had {share:.0%} of a processor, and {_TRIAL_SHARE:.0%} were allowed"


def _of_cgroups(cgroups: Path, mounts: Path) -> Iterator[Quota]:
    """Cgroups below this process's own, or below one that holds it."""
    try:
        lines = [line.split(":", 2) for line in cgroups.read_text().splitlines()]
        mounted = [line.split()[1:4] for line in mounts.read_text().splitlines()]
    except OSError:
        return
    for place, kind, options in mounted:
        if kind == "cgroup2":
            own = next((path for number, _, path in lines if number == "0"), None)
        elif kind == "cgroup" and "cpu" in options.split(","):
            own = next((path for _, names, path in lines if "cpu" in names.split(",")), None)
        else:
            continue
        if own is None:
            continue
        root = Path(place)
        folder = root / own.strip("/")
        for parent in (folder, *(each for each in folder.parents if each.is_relative_to(root))):
            if _has_control(parent, kind):
                yield Quota(name=f"a cgroup ({'version 2' if kind == 'cgroup2' else 'version 1'})", held=_cgroup(parent, kind))
                break


def _has_control(parent: Path, kind: str) -> bool:
    """Whether a group made in `parent` has the control, and this user may write it."""
    made = _name(parent)
    try:
        made.mkdir()
    except OSError:
        return False
    try:
        return os.access(made / ("cpu.max" if kind == "cgroup2" else "cpu.cfs_quota_us"), os.W_OK)
    finally:
        with suppress(OSError):
            made.rmdir()


def _name(parent: Path) -> Path:
    return parent / f"mlpack-{os.getpid()}-{time.monotonic_ns()}"


def _cgroup(parent: Path, kind: str) -> Held:
    @contextmanager
    def held(share: float) -> Iterator[tuple[str, ...]]:
        made = _name(parent)
        made.mkdir()
        try:
            allowed = round(share * PERIOD_US)
            if kind == "cgroup2":
                (made / "cpu.max").write_text(f"{allowed} {PERIOD_US}")
            else:
                (made / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (made / "cpu.cfs_quota_us").write_text(str(allowed))
            yield ("/bin/sh", "-c", _ENTER, str(made / "cgroup.procs"))
        finally:
            _remove(made)

    return held


def _remove(made: Path) -> None:
    """Remove a group as soon as the kernel has let go of the processes that ended in it."""
    give_up = time.monotonic() + _GONE_S
    while True:
        try:
            made.rmdir()
        except OSError:
            if time.monotonic() > give_up:
                return
            time.sleep(0.01)
        else:
            return


def _of_systemd() -> Iterator[Quota]:
    program = shutil.which("systemd-run")
    if program is None or not Path("/run/systemd/system").is_dir():
        return
    user = os.geteuid() != 0
    place = f"XDG_RUNTIME_DIR=/run/user/{os.geteuid()}"  # where the user's own systemd listens: a package's process is not told

    @contextmanager
    def held(share: float) -> Iterator[tuple[str, ...]]:
        settings = [f"CPUQuota={share * 100:.2f}%", f"CPUQuotaPeriodSec={PERIOD_US // 1000}ms"]
        options = ["--scope", "--quiet", "--collect", *(["--user"] if user else []), *(f"--property={each}" for each in settings)]
        yield ("/usr/bin/env", place, program, *options, "--")

    yield Quota(name="a scope of systemd", held=held)
