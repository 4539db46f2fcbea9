"""Run packages on a processor that is not here: qemu's user mode in front of the package's own bench.

Promises:
- The package's runtime, engine and graph are the shipped ones. The processors are an AVX2 one without VNNI, and an arm64 one like
  Graviton2's.
- A run ends within its time, with the calls completed by then. A crash under emulation is a `MeasureError` with the child's last
  output.

Will not: time anything. Emulation is slow in its own way.
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
"""The emulator of each architecture by its name on Debian; elsewhere the name has no ending."""
INSTALL = "install qemu-user-static"

_MODELS = {
    # The last Intel core with AVX2 and nothing wider, without the features that qemu lacks and no kernel uses.
    "x86_64": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
    "arm64": "neoverse-n1",
}
_DESCRIPTIONS = {
    "x86_64": "an AVX2 processor without VNNI (Haswell, under qemu)",
    "arm64": "an arm64 processor (Neoverse N1, under qemu)",
}
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
"""/proc/cpuinfo of a Neoverse N1, the core of Graviton2."""
_LINKED = ("bin", "etc", "lib", "lib64", "opt", "sbin", "usr", "var")
_LOAD_S = 180.0
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """An emulated processor. `words` come before the command. `version`: the emulator's, for the action of a run. `root`: the root
    file system with the libraries and the Python of another architecture."""

    arch: str
    words: tuple[str, ...]
    version: str
    root: Path | None = None

    @property
    def model(self) -> str:
        """The emulator's name for it, without features: `Haswell`."""
        return _MODELS[self.arch].partition(",")[0].partition("-noTSX")[0]

    @property
    def description(self) -> str:
        """The processor in words."""
        return _DESCRIPTIONS[self.arch]

    def interpreter(self, python: str, here: Path) -> Path | None:
        """The Python for a package of this minor version: that of `root`, else `here` if it is a program and no script, else this
        process's own. None where `root` has none."""
        if self.root is not None:
            path = self.root / f"usr/bin/python{python}"
            places = (path, self.root / f"usr/local/bin/python{python}", self.root / f"var/lang/bin/python{python}")
            return next((place for place in places if _is_program_in(place, self.root)), None)
        return here if _is_program(here) else Path(sys.executable)


def processor(arch: str, find: Callable[[str], Path | None], root: Path | None = None) -> Processor | None:
    """The emulated processor of this architecture; None where `find` finds no emulator, or it does not run."""
    name = QEMU[arch]
    program = find(name) or find(name.removesuffix("-static"))
    if program is None:
        return None
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return None
    model = _MODELS[arch]
    return Processor(arch=arch, words=(str(program), "-cpu", model), version=result.stdout.split("\n")[0], root=root)


def foreign_processor(arch: str, find: Callable[[str], Path | None], python: str) -> Processor:
    """The emulated processor for packages of another architecture, with a root file system that has their Python: `find` locates it
    by the name `arm64-root`. MeasureError says what is missing."""
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
    """The subject's outputs for its first calls, a path prefix each (see `measure.predict`): all of them, or those that start
    within `seconds`, but at least one. `subject.emulator` runs it.

    MeasureError when it fails, or when loading or one call takes much longer.
    """
    prefixes: list[Path] = []
    with measure.child(subject, calls_dir, frozenset(os.sched_getaffinity(0))) as running:
        running.timeout_s = _LOAD_S
        running.ask(op="load")
        running.timeout_s = 2 * seconds
        began = time.monotonic()
        while len(prefixes) < n_calls and (not prefixes or time.monotonic() - began < seconds):
            prefix = out_dir / f"emulated-{len(prefixes)}"
            running.ask(op="predict", calls=[len(prefixes), len(prefixes) + 1], out=str(prefix.absolute()))
            prefixes.append(prefix)
    return prefixes


def emulate(subject: Subject, processor: Processor, python: str, work: Path) -> Subject:
    """The subject on that processor. `work`: a directory that outlives the run. MeasureError without a Python for it."""
    interpreter = processor.interpreter(python, subject.interpreter)
    if interpreter is None:
        raise MeasureError(
            f"{processor.root} has no Python {python}, which the package is for: give a root file system that has it"
        )
    view = () if processor.root is None else ("-L", str(_view(processor.root, work / "root")))
    return dataclasses.replace(subject, interpreter=interpreter, emulator=(*processor.words, *view))


def _view(root: Path, folder: Path) -> Path:
    """The root file system with files that describe the emulated processor. Without them the engine reads those of this machine,
    which is no arm64 one, and ends (onnxruntime 1.31.1 in `cpuinfo_initialize`)."""
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
    """Whether the file is a program. The emulator starts no scripts."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == _ELF
    except OSError:
        return False


def _is_program_in(path: Path, root: Path) -> bool:
    """Whether the path is a program in this root file system, whose links are followed inside it."""
    for _ in range(8):
        if not path.is_symlink():
            break
        to = os.readlink(path)
        path = root / to.lstrip("/") if to.startswith("/") else path.parent / to
    return _is_program(path)
