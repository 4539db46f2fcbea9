"""Describes this machine: processor, instruction sets, cores, memory.

Measurements are keyed by it and never merged across machines. It reads /proc and runs nothing.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from mlpack.core.records import Machine

_ISAS = (
    # The first that is there decides how int8 products are summed; below the ones with VNNI, u8·s8 sums can saturate on x86.
    ("amx", "amx_int8"),
    ("avx512-vnni", "avx512_vnni"),
    ("avx-vnni", "avx_vnni"),
    ("avx512", "avx512bw"),
    ("avx2", "avx2"),
    ("neon-i8mm", "i8mm"),
    ("neon-dotprod", "asimddp"),
    ("neon", "asimd"),
)
_TELLING = frozenset(
    {"avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "f16c", "fma"}
    | {"asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"}
)


def this_machine() -> Machine:
    """The machine this process runs on, read from /proc; `arch` as targets name it (x86_64, arm64)."""
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    flags = set(_field(text, "flags").split()) | set(_field(text, "Features").split())
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return Machine(
        cpu=_field(text, "model name") or _field(text, "CPU part") or "unknown",
        arch=arch(),
        isa=next((name for name, flag in _ISAS if flag in flags), "unknown"),
        flags=tuple(sorted(flags & _TELLING)),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(memory.group(1)) * 1024 if memory else 0,
        os=f"{platform.system()} {platform.release()}",
    )


def arch() -> str:
    """This machine's architecture by the name that targets use."""
    machine = platform.machine()
    return {"aarch64": "arm64", "AMD64": "x86_64"}.get(machine, machine)


def _field(text: str, name: str) -> str:
    match = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else ""
