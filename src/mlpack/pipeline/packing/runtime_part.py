"""The runtime part of a package: mlpack's own runtime, the engines and libraries that its target needs, and their licences.

Promises:
- Equal requests give equal bytes. `runtime_key` has everything that decides them.
- A library for another processor is refused.

The part is the same for every candidate of one target, so the caller may keep it.

Will not: resolve versions.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.records import Target
from mlpack.errors import PackError, full_disk
from mlpack.pipeline.packing import wheels
from mlpack.pipeline.packing.wheel_rules import NEEDS, rules_of
from mlpack.pipeline.packing.wheels import Pin
from mlpack.targets import TARGETS
from mlpack.targets.format import bytecode
from mlpack.targets.format.bytecode import Interpreter
from mlpack.targets.format.contents import LAYER_ROOT, TASK_ROOT

VERSION = 1
"""Raised when equal requests would give other bytes."""
FUNCTION = ("loop", "batch.main", "bench", "hooks", "media", "portions")
"""The modules that bootstrap.py starts in a package that is no worker, or imports there by name."""
SERVER = ("batch.main", "bench", "hooks", "media", "portions", "hosting.serve", "backends.cpu")
"""The same in a container that serves HTTP alone. A table names its backend, `backends.cpu`."""
_ELF_MACHINES = {"x86_64": 0x3E, "arm64": 0xB7}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRequest:
    """Everything that decides the bytes of a package's runtime part. `prefix`: where it will lie in the function's file system;
    `needs`: names in `wheel_rules.NEEDS` beside a tokenizer; `modules`: of the runtime, imported by
    their names."""

    python: str
    arch: str
    text: bool
    pins: tuple[Pin, ...]
    prefix: str = TASK_ROOT
    needs: tuple[str, ...] = ("engine",)
    interpreter: Interpreter | None = None
    modules: tuple[str, ...] = ()


def runtime_request(target: Target, python: str, text: bool, pins: tuple[Pin, ...], more: tuple[str, ...] = ()) -> RuntimeRequest:
    """The request for a target's runtime part, with the interpreter of this machine that can compile for it. `more`: names in
    `wheel_rules.NEEDS` that the package's task needs beside the target's own."""
    prefix = LAYER_ROOT if getattr(target.config, "layer", False) else TASK_ROOT
    needs = (*TARGETS[target.kind].needs(target.config), *more)
    names = set(requirements((*needs, "tokenizer") if text else needs))
    target_pins = tuple(sorted((pin for pin in pins if f"{pin.name}=={pin.version}" in names), key=lambda pin: pin.name))
    if len(target_pins) != len(names):
        raise PackError(
            f"{wheels.LOCK_NAME} does not pin {' and '.join(sorted(names))} for {python} on {target.arch}: delete it to pin anew"
        )
    return RuntimeRequest(
        python=python,
        arch=target.arch,
        text=text,
        pins=target_pins,
        prefix=prefix,
        needs=needs,
        interpreter=bytecode.interpreter(python),
    )


def requirements(needs: Iterable[str]) -> tuple[str, ...]:
    """The distributions behind these names of `wheel_rules.NEEDS`, each once. PackError for an unknown name."""
    needs = tuple(needs)
    if strange := [name for name in needs if name not in NEEDS]:
        raise PackError(f"a target needs {strange[0]!r} in its runtime part, which is none of {', '.join(NEEDS)}")
    return tuple(dict.fromkeys(each for name in needs for each in NEEDS[name]))


def runtime_key(request: RuntimeRequest) -> dict[str, Any]:
    """Everything that decides the bytes of `runtime_tree`, the runtime's own sources included, as JSON for an action."""
    return {
        "runtime": str(_sources_digest(request)),
        "python": request.python,
        "arch": request.arch,
        "text": request.text,
        "pins": [[pin.name, pin.version, list(pin.sha256s)] for pin in request.pins],
        "prefix": request.prefix,
        "compiler": request.interpreter.version if request.interpreter else None,
        "versions": {"pack": VERSION, "bytecode": bytecode.VERSION},
        "rules": [[rule.pattern, rule.to] for rule in rules_of(request.needs)],
    }


def runtime_tree(request: RuntimeRequest, out_dir: Path) -> tuple[str, ...]:
    """Write bootstrap.py, mlpack_runtime/, lib/, site/ and licenses/ into `out_dir`, which is empty; returns notes for the user.

    Reads the wheels from the index or uv's cache (ServiceError, PackError); PackError when a library is for another processor.
    """
    with explain_full_disk(out_dir):
        installed = out_dir / ".installed"
        wheels.install(request.pins, request.python, request.arch, installed)
        notes = assemble_runtime(installed, request, out_dir)
        shutil.rmtree(installed)
        return notes


def assemble_runtime(installed: Path, request: RuntimeRequest, out_dir: Path) -> tuple[str, ...]:
    """Do the rest of `runtime_tree` with the wheels unpacked in `installed`, whose files are moved."""
    for path in wheels.slim(installed, out_dir, rules_of(request.needs)):
        check_machine(out_dir / path, request.arch)
    sources = sources_dir()
    for name in _source_names(sources, request):
        target = out_dir / ("bootstrap.py" if name == "bootstrap.py" else f"mlpack_runtime/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(sources / name, target)
    if request.interpreter is None:
        return (bytecode.missing_note(request.python),)
    bytecode.compile_tree(out_dir, request.interpreter, request.prefix)
    return ()


def copy(source: str | Path, target: str | Path) -> None:
    """Copy a file's bytes, readable by everybody, without its mode and times. Never a hard link: onnx refuses to load weights that
    have one, and a step may be reading the model meanwhile."""
    shutil.copyfile(source, target)
    Path(target).chmod(0o644)


def sources_dir() -> Path:
    """Where mlpack's own runtime is installed. PackError when it is not."""
    spec = importlib.util.find_spec("mlpack_runtime")
    if spec is None or not spec.submodule_search_locations:
        raise PackError("the package mlpack_runtime is not installed beside mlpack: install mlpack anew")
    return Path(next(iter(spec.submodule_search_locations)))


def _source_names(sources: Path, request: RuntimeRequest) -> tuple[str, ...]:
    """Files of mlpack's own runtime: all of them for a worker; for a function those that it can import."""
    every = tuple(path for path, entry in digest.entries(sources) if path.endswith(".py") and entry.is_file())
    if "aws" in request.needs:
        return every
    roots = SERVER if "http" in request.needs else FUNCTION
    names = {"__init__.py", "bootstrap.py", *(file_of(sources, name) for name in reachable(sources, (*roots, *request.modules)))}
    return tuple(path for path in every if path in names)


def reachable(sources: Path, roots: Iterable[str]) -> set[str]:
    """The modules of mlpack_runtime that `roots` import at any time, with `roots` and their packages, but without imports for type
    checkers. Names are dotted, below mlpack_runtime: `serving.breaker`."""
    modules: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name not in modules and (path := file_of(sources, name)) is not None:
            modules.add(name)
            pending += (name.rpartition(".")[0], *_imports_of((sources / path).read_bytes()))
    return modules


def file_of(sources: Path, name: str) -> str | None:
    """The path of this module of mlpack_runtime below `sources`; None for a name inside a module, or the root."""
    inside = name.replace(".", "/")
    return next((path for path in (f"{inside}.py", f"{inside}/__init__.py") if name and (sources / path).is_file()), None)


@functools.lru_cache(maxsize=256)
def _imports_of(source: bytes) -> tuple[str, ...]:
    """The modules of mlpack_runtime that a module imports. It is parsed once in a process: six packages would parse it six times,
    which took a quarter of a rebuild."""
    return tuple(_imported(ast.parse(source).body))


def _imported(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Only statements import, so only they are entered: a tenth of all nodes."""
    for node in statements:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlpack_runtime":
            inside = str(node.module).partition(".")[2]
            yield from (inside, *(f"{inside}.{alias.name}".lstrip(".") for alias in node.names))
        for block in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from _imported(getattr(node, block, ()))


def _sources_digest(request: RuntimeRequest) -> Digest:
    sources = sources_dir()
    return digest.of_json({name: str(digest.of_file(sources / name)) for name in _source_names(sources, request)})


def check_machine(path: Path, arch: str) -> None:
    """Raise PackError for a library of another processor."""
    with path.open("rb") as file:
        header = file.read(20)
    if header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") != _ELF_MACHINES[arch]:
        raise PackError(f"{path.name} is not built for {arch}: the package index served a wheel for another processor")


@contextmanager
def explain_full_disk(directory: Path) -> Iterator[None]:
    """Name the directory in the error of a full disk."""
    try:
        yield
    except OSError as error:
        # No PackError: a full disk is no candidate's fault, and the build must not choose another one for it.
        if full := full_disk(str(error)):
            raise OSError(full.errno, full.strerror, str(directory)) from error
        raise
