"""The output directory of a build: build.json, the reports, and the packages that ship.

Promises:
- The directory is replaced whole or not at all. A directory that is not a build's is never touched.
- build.json has the digest and the size of every file that ships.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlpack.core import digest
from mlpack.errors import RecipeError
from mlpack.report import recording, report, webpage
from mlpack.report.record import BuildRecord
from mlpack.report.record import files as record_files
from mlpack.report.recording import BuildOutcome
from mlpack.store.local import remove

BUILD = "build.json"
ARTIFACTS = "artifacts"
NOTHING: Mapping[str, Callable[[Path], None]] = MappingProxyType({})


def check(out: Path) -> None:
    """RecipeError when `out` holds files that are not a build's, which would be lost, or cannot be written to."""
    try:
        _check(out)
    except OSError as error:  # a name that is too long, a folder that may not be read, links in a circle
        raise RecipeError(f"--out {out}: cannot be used ({error.strerror}): name another") from None


def _check(out: Path) -> None:
    try:
        out.stat()  # `exists` hides links in a circle, and `resolve` as well from Python 3.13 on
    except (FileNotFoundError, NotADirectoryError):
        pass
    if out.is_dir() and any(out.iterdir()) and not (out / BUILD).is_file():
        raise RecipeError(f"--out {out}: the directory holds files and no {BUILD}, so it is not a build's: name another")
    if out.exists() and not out.is_dir():
        raise RecipeError(f"--out {out}: is a file, not a directory")
    there = _place(out)
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass  # fail now, not after an hour of work
    except OSError as error:
        raise RecipeError(f"--out {out}: {there} cannot be written to ({error.strerror}): name another") from None


def write(
    out: Path, outcome: BuildOutcome, packages: Mapping[str, Path], extras: Mapping[str, Callable[[Path], None]] = NOTHING
) -> BuildRecord:
    """Write everything beside `out`, then move it into place. Returns the record.

    `packages`: directories by candidate id. `extras`: functions that fill more directories, which do not ship, by their paths.
    """
    place = _place(out)
    place.mkdir(parents=True, exist_ok=True)
    fresh = place / f".{_short(out.name)}.{os.getpid()}.new"
    remove(fresh)
    try:
        files = {}
        for id_, folder in packages.items():
            target = fresh / ARTIFACTS / id_
            shutil.copytree(folder, target, copy_function=_copy)
            for name, entry in digest.entries(target):
                if entry.is_dir():
                    os.chmod(entry.path, 0o755)
                else:
                    files[f"{ARTIFACTS}/{id_}/{name}"] = (digest.of_file(Path(entry.path)), entry.stat().st_size)
            target.chmod(0o755)
        fresh.mkdir(parents=True, exist_ok=True)
        for path, fill in extras.items():
            fill(fresh / path)
        record = recording.build_record(dataclasses.replace(outcome, files=files))
        (fresh / "report.md").write_text(report.markdown(record), "utf-8")
        (fresh / "report.html").write_text(webpage.html(record), "utf-8")
        (fresh / BUILD).write_bytes(record_files.encode(record))
        _replace(out, fresh)
    finally:
        remove(fresh)
    return record


def _short(name: str) -> str:
    """The name, cut so that more fits into a file's name (255 bytes)."""
    return os.fsdecode(os.fsencode(name)[:200])


def artifact_dir(package: Path) -> Path:
    """The directory of a package: `package` itself, or the chosen one of the build in it."""
    if (package / "package.json").is_file():
        return package
    if (package / BUILD).is_file():
        record = record_files.read(package / BUILD)
        if record.chosen is None:
            raise RecipeError(f"{package}: this build chose nothing, so there is no package to boot; see its report.md")
        chosen = package / ARTIFACTS / record.chosen
        if not chosen.is_dir():
            raise RecipeError(f"{package}: the chosen package is not at {chosen}: copy the directory whole, or build again")
        return chosen
    raise RecipeError(f"{package}: neither a build's directory ({BUILD}) nor a package's (package.json)")


def _place(out: Path) -> Path:
    """The directory in which to prepare `out`: its parent, or `out` itself when it cannot be renamed (a container's volume)."""
    out = out.resolve()
    if out.is_dir() and (out.is_mount() or not os.access(out.parent, os.W_OK | os.X_OK)):
        return out
    return out.parent


def _replace(out: Path, fresh: Path) -> None:
    out = out.resolve()  # a link to a directory stays one
    old = fresh.with_suffix(".old")
    if fresh.parent == out:
        _replace_inside(out, fresh, old)
    else:
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    remove(old)


def _replace_inside(out: Path, fresh: Path, old: Path) -> None:
    """Replace file by file. build.json is removed first and written last, so that a directory with it is whole."""
    old.mkdir()
    for path in sorted(out.iterdir(), key=lambda path: path.name != BUILD):
        if path not in (old, fresh):
            path.rename(old / path.name)
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == BUILD):
        path.rename(out / path.name)


def _copy(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.stat(source).st_mode & stat.S_IXUSR else 0o644)
    return target
