"""What makes a start short, in interpreters of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlpack_runtime import starting

SOURCES = Path(starting.__file__).resolve().parents[1]
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

HEAP = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime.starting import settle, tune_allocator
def wants_huge_pages():
    heap, flags = False, []
    for line in open("/proc/self/smaps"):
        first = line.split()[0]
        if "-" in first:
            heap = "[heap]" in line
        elif first == "VmFlags:" and heap:
            flags += line.split()[1:]
    return "hg" in flags
before = wants_huge_pages()
tune_allocator()
during = wants_huge_pages()
settle()
print(before, during, wants_huge_pages())
"""
OTHER_LIBRARY = """
import sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime import starting
class Musl:
    def __init__(self, name): pass
starting.CDLL = Musl
starting.tune_allocator()
starting.settle()
print("left as it is")
"""


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(SOURCES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="this kernel has no huge pages")
def test_the_heap_takes_huge_pages_while_a_package_loads() -> None:
    assert printed(HEAP) == "False True False"


def test_another_c_library_is_left_as_it_is() -> None:
    assert printed(OTHER_LIBRARY) == "left as it is"


def test_work_beside_gives_its_value_or_its_error() -> None:
    good, bad = starting.Beside(lambda: 3), starting.Beside(lambda: 1 // 0)
    good.start()
    bad.start()
    assert good.result() == 3
    bad.wait()
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert starting.Beside(lambda: 3).result() is None


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({}, False),
        ({"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}, False),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1"}, True),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}, True),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}, False),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, False),
    ],
)
def test_only_a_start_on_demand_has_seconds(environment: dict[str, str], answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_INITIALIZATION_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert starting.has_seconds() is answer
