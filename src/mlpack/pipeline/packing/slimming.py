"""Wheels that nobody has read before, such as those a recipe asks for: which of their files ship.

Promises:
- What code may look at while it runs stays: modules, extensions, libraries, data, and of each distribution's records what
  `importlib.metadata` reads. Only kinds of files go that serve compilers, type checkers, debuggers, test runners and installers.
- A folder of tests stays where anything outside it names it.
- Every file has one place, and equal trees give equal results. What was left out is counted by its reason.
- The licences of each distribution lie in `licenses/NAME/`.

Will not: run code of a wheel, or judge a licence (`requirements` does).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from fnmatch import fnmatchcase
from pathlib import Path

from mlpack.core import digest
from mlpack.core.distribution import normalized
from mlpack.errors import PackError
from mlpack.pipeline.packing.runtime_part import copy

VERSION = 3
"""Raised when equal wheels would give other bytes."""
_TESTS = "tests that nothing outside them imports"
_PLACES = "an installer's records of places and times"
_COMPILED = "bytecode that the builder's interpreter may have made"
_SCRIPTS = "console scripts"
_COMPILES = ("cupy/", "cupyx/", "triton/", "torch/", "numba/", "numba_cuda/", "pyopencl/", "pycuda/", "tvm/", "jaxlib/", "cffi/")
"""Packages that compile while they run, with headers of their own."""

_GENERAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("uv's own", (".lock",)),
    (_COMPILED, ("__pycache__/*", "*/__pycache__/*")),
    ("bytecode of another interpreter", ("*.pyc",)),
    ("types, for checkers", ("*.pyi", "*/py.typed")),
    ("sources of Cython, for compilers", ("*.pxd", "*.pxi", "*.pyx")),
    ("headers, for compilers", tuple(f"*/include/*.{ending}" for ending in ("h", "hpp", "hxx", "hh", "inl", "ipp", "cuh"))),
    ("static libraries and settings of linkers", ("*.a", "*.la", "*.cmake", "*/pkgconfig/*.pc")),
    ("debug data", ("*.debug", "*.pdb", "*.dSYM/*")),
    ("manuals", ("share/man/*", "share/doc/*")),
    ("lines for Python's start, which packages go without", ("*.pth",)),
    (_PLACES, tuple(f"*.dist-info/{name}" for name in ("direct_url.json", "uv_cache.json", "uv_build.json"))),
    ("records of an installer", tuple(f"*.dist-info/{name}" for name in ("INSTALLER", "REQUESTED", "WHEEL", "zip-safe"))),
)
"""Why files are left out, and their patterns; `*` crosses directories."""
_INSTALLERS = ("uv's own", _COMPILED, _PLACES, _SCRIPTS)
"""Reasons that hold for every package: these files have paths and times of the machine that builds."""
_TEXTS = r"(?:LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|AUTHORS)[^/]*"
_LICENCES = re.compile(rf"[^/]+\.dist-info/(?:licenses?/.+|sboms/.+|{_TEXTS})", re.IGNORECASE)
_LICENCES_OF_MANUALS = re.compile(rf"share/doc/(?:.*/)?{_TEXTS}", re.IGNORECASE)
"""Where some wheels put them as data."""
_TEST_FOLDER = re.compile(r"(?:^|.*/)tests?")
_TEST_FILE = re.compile(r"test_.*\.py|.*_tests?\.py|conftest\.py")
_MENTIONS = re.compile(rb"\btests?\b")
_RELATIVE = re.compile(rb"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_QUOTED = re.compile(rb"""["'](tests?)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files that do not ship, by their reason."""

    reason: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One distribution as it ships. `license`: what its own metadata say, "" where they say nothing; `classifiers`: those of them
    about its licence; `size_bytes`: of its files that ship."""

    name: str
    version: str
    license: str
    classifiers: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slimmed:
    """What became of a tree of wheels. `paths`: of what ships, below the package's root, sorted."""

    paths: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    distributions: tuple[Distribution, ...]


def slim_unknown(installed: Path, out_dir: Path, *, slim: bool = True) -> Slimmed:
    """Move the files of the wheels unpacked in `installed` to `out_dir`: below `site/`, licences below `licenses/NAME/`.

    Args:
        installed: The tree that `wheels.install` wrote, with a RECORD for each distribution.
        out_dir: The package's tree. A file that is there already stays where the new one has equal bytes.
        slim: Whether files are left out. With False everything ships but what the installer wrote of this machine.

    Returns:
        The places, what was left out, and the distributions with their licences and sizes.

    Raises:
        PackError: Two files would get one place with different bytes, or something in the tree is no plain file.
    """
    sizes = _files(installed)
    reasons = _reasons(installed, sizes, None if slim else _INSTALLERS)
    kept = [path for path in sizes if path not in reasons]
    described = list(_described(installed, kept, sizes))
    folders = {folder: name for folder, name, _ in described}
    placed: set[str] = set()
    for path in kept:
        name = folders.get(path.partition("/")[0])
        if path.endswith(".dist-info/RECORD"):
            _shorten_record(installed / path, {each for each in kept if not _LICENCES.fullmatch(each)})
        if name is not None and _LICENCES.fullmatch(path):
            place = f"licenses/{name}/{re.sub('^licenses?/', '', path.partition('/')[2], flags=re.IGNORECASE)}"
        else:
            place = f"site/{path}"
        _move(installed / path, out_dir / place, place, again=place in placed)
        placed.add(place)
    for folder, name, _ in described:
        if not any(place.startswith(f"licenses/{name}/") for place in placed):  # the metadata are all that names its licence
            place = f"licenses/{name}/METADATA"
            (out_dir / place).parent.mkdir(parents=True, exist_ok=True)
            copy(out_dir / "site" / folder / "METADATA", out_dir / place)
            placed.add(place)
    counted: dict[str, list[int]] = {}
    for path, reason in reasons.items():
        counted.setdefault(reason, []).append(sizes[path])
    left_out = tuple(LeftOut(reason=reason, files=len(each), size_bytes=sum(each)) for reason, each in sorted(counted.items()))
    distributions = tuple(sorted((each for _, _, each in described), key=lambda each: each.name))
    return Slimmed(paths=tuple(sorted(placed)), left_out=left_out, distributions=distributions)


def contested(installed: Path) -> dict[str, list[str]]:
    """Files that several of the wheels unpacked in `installed` bring with different bytes, by RECORD's hashes: sorted, by the last
    distribution by name that brings them."""
    there = set(_files(installed))  # a RECORD may name what it likes
    brought: dict[str, dict[str, str]] = {}
    for record in installed.glob("*.dist-info/RECORD"):
        name = normalized(record.parent.name.partition("-")[0])
        for path, told in _recorded(record):
            if path in there:
                brought.setdefault(path, {})[name] = told
    last: dict[str, list[str]] = {}
    for path, hashes in sorted(brought.items()):
        if len(set(hashes.values())) > 1:
            last.setdefault(max(hashes), []).append(path)
    return dict(sorted(last.items()))


def _files(installed: Path) -> dict[str, int]:
    """Every file's size by its path, sorted."""
    sizes = {}
    for path, entry in digest.entries(installed):
        if entry.is_dir(follow_symlinks=False):
            continue
        if not entry.is_file(follow_symlinks=False):
            raise PackError(f"the wheel holds {path!r}, which is no plain file: a package holds plain files only")
        sizes[path] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(sizes.items()))


def _reasons(installed: Path, paths: Iterable[str], only: Collection[str] | None) -> dict[str, str]:
    """Why each file that does not ship is left out; `only`: the reasons that count, None for all."""
    paths = list(paths)
    reasons = {}
    for path in paths:
        reason = next((why for why, patterns in _GENERAL if any(fnmatchcase(path, pattern) for pattern in patterns)), None)
        if (path.endswith(".pyi") and _reads_stub(installed / path)) or _LICENCES_OF_MANUALS.fullmatch(path):
            continue
        if reason is not None and not (path.startswith(_COMPILES) and "compilers" in reason):
            reasons[path] = reason
        elif path.startswith("bin/") and path.count("/") == 1 and _is_script(installed / path):
            reasons[path] = _SCRIPTS
    if only is not None:
        return {path: reason for path, reason in reasons.items() if reason in only}
    for folder in sorted(_tests(installed, [path for path in paths if path not in reasons])):
        reasons |= {path: _TESTS for path in paths if path.startswith(f"{folder}/") and path not in reasons}
    return reasons


def _is_script(path: Path) -> bool:
    """Whether it is a text for an interpreter; a program that a wheel brings is none."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _reads_stub(stub: Path) -> bool:
    """Whether the module beside a stub reads it when it is imported, as `lazy_loader.attach_stub` does."""
    module = stub.with_suffix(".py")
    return module.is_file() and any(word in module.read_bytes() for word in (b"attach_stub", b".pyi"))


def _tests(installed: Path, paths: list[str]) -> set[str]:
    """The folders of tests that nothing outside them names."""
    folders = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        while folder and _TEST_FILE.fullmatch(name):
            if "/" in folder and _TEST_FOLDER.fullmatch(folder):
                folders.add(folder)
                break
            folder = folder.rpartition("/")[0]  # tests/unit/test_it.py
    folders = {folder for folder in folders if not any(folder.startswith(f"{other}/") for other in folders)}
    if not folders:
        return folders
    inside = tuple(f"{folder}/" for folder in folders)
    for path in paths:
        if path.endswith(".py") and not path.startswith(inside):
            source = (installed / path).read_bytes()
            if _MENTIONS.search(source):
                folders -= _named_in(source, path, folders)
    return folders


def _named_in(source: bytes, path: str, folders: set[str]) -> set[str]:
    """Which of `folders` a module imports, or names in a text. By its words: it may be of a Python that this one cannot parse."""
    here = path.rpartition("/")[0]
    named = {folder for folder in folders if folder.encode() in source or folder.replace("/", ".").encode() in source}
    for dots, start, names in _RELATIVE.findall(source):
        parts = here.split("/")
        base = "/".join(
            [*parts[: len(parts) - len(dots) + 1], *start.decode().split(".")] if start else parts[: len(parts) - len(dots) + 1]
        )
        imported = {base, *(f"{base}/{name.decode()}" for name in re.findall(rb"\w+", names))}
        named |= {folder for folder in folders if any(each == folder or each.startswith(f"{folder}/") for each in imported)}
    for text in _QUOTED.findall(source):  # os.path.join(here, "tests")
        named |= {folder for folder in folders if folder == f"{here}/{text.decode()}"}
    return named


def _described(installed: Path, kept: list[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, str, Distribution]]:
    """Each distribution: the folder of its records, its normalized name, and what it says of itself."""
    shipped = set(kept)
    for folder in sorted({path.partition("/")[0] for path in kept if fnmatchcase(path, "*.dist-info/METADATA")}):
        told = BytesHeaderParser().parsebytes((installed / folder / "METADATA").read_bytes())
        name = normalized(str(told.get("Name") or folder.partition("-")[0]))
        record = installed / folder / "RECORD"
        own = {path for path in kept if path.startswith(f"{folder}/")}
        if record.is_file():
            own = {path for path, _ in _recorded(record)}
        stated = str(told.get("License-Expression") or told.get("License") or "").strip()
        yield (
            folder,
            name,
            Distribution(
                name=name,
                version=str(told.get("Version") or ""),
                license=" ".join(stated.split())[:200] if stated.upper() != "UNKNOWN" else "",
                classifiers=tuple(
                    str(each).removeprefix("License :: ").removeprefix("OSI Approved :: ")
                    for each in told.get_all("Classifier") or ()
                    if str(each).startswith("License :: ")
                ),
                size_bytes=sum(sizes[path] for path in own & shipped),
            ),
        )


def _recorded(record: Path) -> Iterator[tuple[str, str]]:
    """The paths of a RECORD, each with its hash, or "" where it has none."""
    import csv

    with record.open(newline="", encoding="utf-8", errors="replace") as file:
        yield from ((row[0], row[1] if len(row) > 1 else "") for row in csv.reader(file) if row)


def _shorten_record(record: Path, kept: set[str]) -> None:
    """Leave only what ships in a RECORD: `importlib.metadata` finds modules and files by it, and nobody checks its hashes."""
    lines = sorted(f"{path},,\n" for path, _ in _recorded(record) if path in kept and "," not in path and '"' not in path)
    record.write_text("".join(lines), "utf-8")


def _move(source: Path, target: Path, place: str, *, again: bool) -> None:
    if target.exists():
        if digest.of_file(source) == digest.of_file(target):
            return
        who = "two of the wheels" if again else "mlpack's own part of the package and a wheel"
        raise PackError(f"{who} have a file {place} each, with different bytes: only one of them can ship")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    target.chmod(0o644)
