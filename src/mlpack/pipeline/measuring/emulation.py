"""Run packed bytes as a processor would that is not here: qemu's user mode in front of the package's own bench.

Promises: the package's runtime, engine and graph are the shipped ones; an AVX2 processor without VNNI, and an arm64 one as
Graviton2 is; a run ends within its time, with the calls done by then. A crash under emulation is a `MeasureError` with its last
words. Times nothing: what is emulated is slow in its own way.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.errors import MeasureError
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.measuring.measure import Subject

if TYPE_CHECKING:
    from collections.abc import Callable

QEMU = {"x86_64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}
"""The program that emulates a processor of this architecture, as Debian names it; without its ending elsewhere."""
INSTALL = "install qemu-user-static"

_MODELS = {
    # The last Intel core with AVX2 and nothing wider. What the emulator warns that it lacks is left out: no kernel asks for it.
    "x86_64": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
    "arm64": "neoverse-n1",
}
_SAID = {"x86_64": "an AVX2 processor without VNNI (Haswell, under qemu)", "arm64": "an arm64 processor (Neoverse N1, under qemu)"}
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
"""What Linux says of a Neoverse N1, which Graviton2 is made of."""
_LINKED = ("bin", "etc", "lib", "lib64", "opt", "sbin", "usr", "var")
_LOAD_S = 180.0
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """An emulated processor. `words` stand before the command; `version` is the emulator's own, for what is kept of a run;
    `root`: the root file system that programs for another architecture find their libraries and their Python in."""

    arch: str
    words: tuple[str, ...]
    version: str
    root: Path | None = None

    @property
    def model(self) -> str:
        """`Haswell`: as the emulator calls it, without its features."""
        return _MODELS[self.arch].partition(",")[0].partition("-noTSX")[0]

    @property
    def said(self) -> str:
        """What it is, for people."""
        return _SAID[self.arch]

    def interpreter(self, python: str, here: Path) -> Path | None:
        """The Python to run a package of this minor version on: of `root`, else `here` where that is a program and no script, else
        this process's own. None where there is none."""
        if self.root is not None:
            path = self.root / f"usr/bin/python{python}"
            places = (path, self.root / f"usr/local/bin/python{python}", self.root / f"var/lang/bin/python{python}")
            return next((place for place in places if _inside(place, self.root)), None)
        return here if _is_program(here) else Path(sys.executable)


def processor(arch: str, find: Callable[[str], Path | None], root: Path | None = None) -> Processor | None:
    """The emulated processor of this architecture, where its program is on the path (by `find`); None where it is not, or cannot be
    run."""
    name = QEMU[arch]
    program = find(name) or find(name.removesuffix("-static"))
    if program is None:
        return None
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    model = _MODELS[arch]
    return Processor(arch=arch, words=(str(program), "-cpu", model), version=done.stdout.split("\n")[0], root=root)


def foreign(arch: str, find: Callable[[str], Path | None], python: str) -> Processor:
    """The emulated processor for packages of another architecture, which need a root file system of it with their Python: the one
    that `find` names (`arm64-root`). MeasureError says what is missing."""
    root = find(f"{arch}-root")
    candidate = processor(arch, find, root)
    if candidate is None:
        raise MeasureError(f"{INSTALL}, and name a root file system with Python {python} in MLPACK_{arch.upper()}_ROOT")
    if root is None:
        raise MeasureError(f"name a root file system for {arch} with Python {python} in MLPACK_{arch.upper()}_ROOT")
    if candidate.interpreter(python, root) is None:
        raise MeasureError(f"the root file system {root} has no Python {python}, which the packages are for: give one that has it")
    return candidate


def predict(subject: Subject, calls_dir: Path, n_calls: int, out_dir: Path, seconds: float) -> list[Path]:
    """The subject's outputs for its first calls, a path prefix each (see `measure.predict`): all of them, or those that were begun
    within `seconds`, and at least one. `subject.emulator` says how it is run.

    MeasureError when it fails, or when loading or one call takes much longer than that.
    """
    done: list[Path] = []
    with measure.child(subject, calls_dir, frozenset(os.sched_getaffinity(0))) as running:
        running.timeout_s = _LOAD_S
        running.ask(op="load")
        running.timeout_s = 2 * seconds
        began = time.monotonic()
        while len(done) < n_calls and (not done or time.monotonic() - began < seconds):
            prefix = out_dir / f"emulated-{len(done)}"
            running.ask(op="predict", calls=[len(done), len(done) + 1], out=str(prefix.absolute()))
            done.append(prefix)
    return done


def emulated(subject: Subject, on: Processor, python: str, work: Path) -> Subject:
    """The same package on that processor. `work`: a directory that outlives the run. MeasureError without a Python for it."""
    interpreter = on.interpreter(python, subject.interpreter)
    if interpreter is None:
        raise MeasureError(f"{on.root} has no Python {python}, which the package is for: give a root file system that has it")
    view = () if on.root is None else ("-L", str(_view(on.root, work / "root")))
    return dataclasses.replace(subject, interpreter=interpreter, emulator=(*on.words, *view))


def _view(root: Path, folder: Path) -> Path:
    """The root file system with a processor of its own to read about. What a program opens is looked for there first: without these
    files the engine reads of this machine's, takes it for an arm64 one, and ends (onnxruntime 1.31.1 in `cpuinfo_initialize`)."""
    cpus = folder / "sys/devices/system/cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "kernel_max"):
        (cpus / name).write_text("0\n")
    (folder / "proc").mkdir()
    (folder / "proc/cpuinfo").write_text(_CPUINFO)
    for name in _LINKED:
        if (root / name).exists():
            (folder / name).symlink_to(root / name)
    return folder


def _is_program(path: Path) -> bool:
    """Whether the file is a program and no script, which the emulator does not start."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == _ELF
    except OSError:
        return False


def _inside(path: Path, root: Path) -> bool:
    """Whether there is such a program in this root file system, links followed as they are inside."""
    for _ in range(8):
        if not path.is_symlink():
            break
        to = os.readlink(path)
        path = root / to.lstrip("/") if to.startswith("/") else path.parent / to
    return _is_program(path)
