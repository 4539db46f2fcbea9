"""Bytecode for the Python that a package will meet, compiled by an interpreter of that very version.

Promises:
- The files are unchecked-hash ones (PEP 552): they stay valid whatever their times are, and Python does not check them.
- They hold no path of the build machine. The same sources and interpreter give the same bytes, wherever the tree lies.

Without them a package works, but Python compiles every import at each cold start, because it cannot write the result into a
read-only directory: 510 ms instead of 169 ms for one measured set of imports.

Will not: run the code that it compiles, or install an interpreter that takes long.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlpack.errors import PackError, full_disk

VERSION = 1
"""Raised whenever the same sources and interpreter would give other bytes."""
_FIND_TIMEOUT_S = 20
_INSTALL_TIMEOUT_S = 60
_COMPILE_TIMEOUT_S = 300

# Runs in the target's interpreter, in the tree, with a fixed hash seed and no site. One process, one order: reference counts,
# which `marshal` turns into flags in the file, are then the same every time. Reading back and writing again leaves only the
# counts that follow from the structure itself.
_PROGRAM = """
import json, marshal, os, sys
from importlib.util import MAGIC_NUMBER, source_hash
prefix, problems, count = sys.argv[1], [], 0
for folder, folders, names in os.walk("."):
    folders[:] = sorted(name for name in folders if name != "__pycache__")
    for name in sorted(names):
        if not name.endswith(".py") or "" == folder.strip("./") and name == "bootstrap.py":
            continue
        path = os.path.join(folder, name)
        with open(path, "rb") as stream:
            source = stream.read()
        try:
            code = compile(source, prefix + path[1:], "exec", dont_inherit=True, optimize=0)
            code = marshal.dumps(marshal.loads(marshal.dumps(code)))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            problems.append(f"{path[2:]}: {error}")
            continue
        os.makedirs(os.path.join(folder, "__pycache__"), exist_ok=True)
        target = os.path.join(folder, "__pycache__", f"{name[:-3]}.{sys.implementation.cache_tag}.pyc")
        with open(target, "wb") as stream:
            stream.write(MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + code)
        count += 1
print(json.dumps({"count": count, "problems": problems}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python on this machine. `version` in full (`3.13.0`): two of them may compile differently, so it belongs into actions."""

    path: Path
    version: str


@cache
def interpreter(version: str, *, install: bool = True) -> Interpreter | None:
    """A Python of this minor version ("3.13"): the running one, `pythonX.Y` on the path (or behind a pyenv shim), or one that uv
    manages. With `install` uv may fetch one, within a minute. None when there is none."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return Interpreter(path=Path(sys.executable), version=sys.version.split()[0])
    for path in _paths_on_path(version):
        if python := _if_version(path, version):
            return python
    for arguments, timeout_s in _uv_attempts(version, install):
        if (managed := _uv(arguments, timeout_s)) and (python := _if_version(managed, version)):
            return python
    return None


def missing_note(version: str) -> str:
    """The note for the user when `interpreter` returns None."""
    return (
        f"no Python {version} here to compile with, so the package has no bytecode and its imports take about 3x longer: "
        f"install python{version} (or `uv python install {version}`)"
    )


def compile_tree(tree: Path, python: Interpreter, prefix: str, *, lenient: bool = False) -> int:
    """Write bytecode beside every .py file below `tree`, which will lie at `prefix` (`/var/task`) in the package; returns how many.

    The root's bootstrap.py is left out: a script is always compiled anew. PackError names every file that is not valid Python;
    where `lenient`, such a file has no bytecode.
    """
    command = [str(python.path), "-S", "-s", "-P", "-B", "-c", _PROGRAM, prefix]
    try:
        result = subprocess.run(
            command,
            cwd=tree,
            env={"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PackError(f"compiling to bytecode with {python.path} took more than {_COMPILE_TIMEOUT_S} s") from None
    if result.returncode:
        if full := full_disk(result.stderr):
            raise full
        raise PackError(f"compiling to bytecode with {python.path} failed: {result.stderr.strip()[-600:]}")
    answer = json.loads(result.stdout)
    if answer["problems"] and not lenient:
        problems = "\n".join(f"  {line}" for line in answer["problems"])
        raise PackError(f"not valid for Python {python.version}, which the package will run on:\n{problems}")
    return int(answer["count"])


def _paths_on_path(version: str) -> list[Path]:
    program = shutil.which(f"python{version}")
    if program is None:
        return []
    path = Path(program)
    # pyenv has a shim for every version ever installed, which fails unless that version is selected. The real ones lie beside it.
    versions = sorted(path.parent.parent.glob(f"versions/{version}.*/bin/python{version}")) if path.parent.name == "shims" else []
    return [path, *reversed(versions)]


def _if_version(path: Path, version: str) -> Interpreter | None:
    try:
        result = subprocess.run(
            [str(path), "-I", "-S", "-c", "import sys; print(sys.version.split()[0])"],
            capture_output=True,
            text=True,
            timeout=_FIND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    full = result.stdout.strip()
    return Interpreter(path=path, version=full) if result.returncode == 0 and full.startswith(f"{version}.") else None


def _uv_attempts(version: str, install: bool) -> list[tuple[list[str], int]]:
    find = ["python", "find", "--managed-python", "--no-python-downloads", version]
    fetch = ["python", "install", "--quiet", "--no-bin", version]
    return [(find, _FIND_TIMEOUT_S), *([(fetch, _INSTALL_TIMEOUT_S), (find, _FIND_TIMEOUT_S)] if install else [])]


def _uv(arguments: list[str], timeout_s: int) -> Path | None:
    import uv

    try:
        result = subprocess.run([uv.find_uv_bin(), *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    lines = result.stdout.split("\n")
    return Path(lines[0]) if result.returncode == 0 and lines[0] else None
