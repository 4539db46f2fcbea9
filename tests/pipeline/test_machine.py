from __future__ import annotations

import platform

from mlpack.core import machine


def test_this_machine_is_described_from_its_own_files() -> None:
    here = machine.this_machine()
    assert here.arch == {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    assert here.cores >= 1
    assert here.memory_bytes > 1 << 28
    assert here.isa != "unknown"
    assert here == machine.this_machine()


def test_vnni_machines_are_told_from_those_without() -> None:
    here = machine.this_machine()
    assert ("vnni" in here.isa or here.isa == "amx") == bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(here.flags))
