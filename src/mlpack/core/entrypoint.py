"""`module:function`, the only way in which a recipe runs code: find the function, compute the digest of its files, import it.

Promises:
- A function is searched beside the recipe, then in the working directory, and nowhere else. (An installed package is not
  searched: wrap its function in one of your own.)
- `files` holds every Python file of the user's, so that digests and copies are complete. For a module in a package these are
  all `*.py` below the top-level package; for a plain module all `*.py` directly beside it.
- An exception of the user's code becomes a `RecipeError` with its type, message and line.
- `locate` imports nothing; only `load` does.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError, RecipeError

_FORM = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)", re.ASCII)

_NEVER_DISPLACED = {"__main__", "__init__", "mlpack"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """A function in a module below `root`. `files`: the user's own Python files, relative to `root`, sorted."""

    root: Path
    module: str
    function: str
    files: tuple[str, ...]

    @property
    def reference(self) -> str:
        """`module:function`, as in the recipe."""
        return f"{self.module}:{self.function}"


def is_reference(text: str) -> bool:
    """Whether this reads as `module:function`; a path with a colon in it does not."""
    return _FORM.fullmatch(text) is not None


def suggestion(word: str, names: tuple[str, ...]) -> str:
    """`; did you mean 'x'?` when a valid name is close and the word is not one itself; otherwise an empty text."""
    if word in names:  # such as a link that leads nowhere
        return ""
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def locate(reference: str, roots: tuple[Path, ...]) -> EntryPoint:
    """Find the module of `module:function` below the first root that has it. Raises RecipeError; imports nothing."""
    match = _FORM.fullmatch(reference)
    if match is None:
        raise RecipeError(f"{reference!r} is not `module:function` (such as `app:decode` for decode() in app.py)")
    parts = match["module"].split(".")
    for root in roots:
        if (root.joinpath(*parts[:-1]) / f"{parts[-1]}.py").is_file() or root.joinpath(*parts, "__init__.py").is_file():
            packaged = len(parts) > 1 or (root / parts[0] / "__init__.py").is_file()
            files = _below(root, parts[0]) if packaged else _beside(root)
            return EntryPoint(root=root.resolve(), module=match["module"], function=match["function"], files=files)
    near = next((part for depth, part in enumerate(parts) if not any(_has(root, parts[: depth + 1]) for root in roots)), parts[-1])
    folders = [root.joinpath(*parts[: parts.index(near)]) for root in roots]
    there = tuple(sorted({name for folder in folders for name in _modules(folder)} - {near}))
    paths = " or ".join(dict.fromkeys(str(root.joinpath(*parts)) + ".py" for root in roots))
    raise RecipeError(
        f"{reference}: there is no module {match['module']}: looked for {paths}"
        f"{suggestion(near, there)} (installed packages are not searched: call them from a function of your own)"
    )


def content(entry: EntryPoint) -> Digest:
    """The digest of the function and every file that counts as the user's own."""
    return digest.of_json([entry.reference, [[file, str(digest.of_file(entry.root / file))] for file in entry.files]])


def load(entry: EntryPoint) -> Callable[..., Any]:
    """Import the module from `entry.root` and return its function. It writes no bytecode beside the user's files.

    Raises RecipeError when the import fails, or the function is missing or cannot be called. The returned function raises
    RecipeError when the user's function raises. Code that runs later (a generator's body) must run within `importing` and
    `quoting`.
    """
    with importing(entry), quoting(entry, f"importing {entry.module}"):
        module = importlib.import_module(entry.module)
    function = getattr(module, entry.function, None)
    if callable(function):

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with importing(entry), quoting(entry, f"calling {entry.reference}"):
                return function(*args, **kwargs)

        return called
    where = f"{entry.reference}: {entry.module} (from {module.__file__})"
    if function is not None:
        raise RecipeError(f"{where}: {entry.function} is a {type(function).__name__}, which cannot be called")
    names = tuple(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
    raise RecipeError(f"{where} has no function {entry.function}{suggestion(entry.function, names)}")


@contextmanager
def importing(entry: EntryPoint) -> Iterator[None]:
    """A context in which `entry.root` comes first on `sys.path` and no module of another origin hides the user's own.

    Afterwards `sys.path` is as before, and displaced modules are back, except those that an earlier root left behind and that
    could not be imported now.
    """
    root = str(entry.root)
    own = {file.split("/", 1)[0].removesuffix(".py") for file in entry.files} - _NEVER_DISPLACED
    displaced = {
        name: module
        for name, module in list(sys.modules.items())
        if name.split(".", 1)[0] in own and not _comes_from(module, entry.root)
    }
    for name in displaced:
        del sys.modules[name]
    path, writes_no_bytecode = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, root)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = writes_no_bytecode
        removed = {name: module for name, module in displaced.items() if _importable(module, path)}
        for name in [name for name in sys.modules if name.split(".", 1)[0] in {n.split(".", 1)[0] for n in removed}]:
            del sys.modules[name]
        sys.modules.update(removed)
        importlib.invalidate_caches()


class quoting:  # noqa: N801  (a context manager, used like a function)
    """A context in which whatever the user's code raises becomes a RecipeError that quotes it: type, message and the user's file
    and line.

    Foreign code can raise anything, `SystemExit` included, so everything is caught, except mlpack's own errors and interrupts.
    """

    def __init__(self, entry: EntryPoint, doing: str) -> None:
        self._entry = entry
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, MlpackError) or not isinstance(error, Exception | SystemExit):
            return
        lines = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise RecipeError(f"{_line(self._entry, error)}: {what} (raised while {self._doing})") from error


def _line(entry: EntryPoint, error: BaseException) -> str:
    """`app.py:12`, the innermost line of the user's own; the innermost line of all when none is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(entry, error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = {str(entry.root / file) for file in entry.files}
    for frame in reversed(frames):
        if frame.filename in own:
            return f"{_shown(entry, frame.filename)}:{frame.lineno}"
    return entry.reference


def _shown(entry: EntryPoint, filename: str) -> str:
    path = Path(filename)
    return path.relative_to(entry.root).as_posix() if path.is_relative_to(entry.root) else filename


def _comes_from(module: ModuleType, root: Path) -> bool:
    """Whether a module was read from below `root`; for a package without a file its paths count."""
    return any(Path(place).is_relative_to(root) for place in _places(module))


def _importable(module: ModuleType, path: list[str]) -> bool:
    """Whether an import would find the module now: it is built in, or below a directory of `path`."""
    places = _places(module)
    folders = [Path(folder or os.curdir).resolve() for folder in path]
    return not places or any(Path(place).is_relative_to(folder) for place in places for folder in folders)


def _places(module: ModuleType) -> list[Path]:
    file = getattr(module, "__file__", None)
    places = [file] if isinstance(file, str) else [p for p in getattr(module, "__path__", ()) if isinstance(p, str)]
    return [Path(place).resolve() for place in places]


def _has(root: Path, parts: list[str]) -> bool:
    return root.joinpath(*parts).is_dir() or root.joinpath(*parts).with_suffix(".py").is_file()


def _modules(root: Path) -> Iterator[str]:
    if root.is_dir():
        for entry in os.scandir(root):
            if entry.name.endswith(".py") or (entry.is_dir() and not entry.name.startswith((".", "_"))):
                yield entry.name.removesuffix(".py")


def _beside(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in os.scandir(root) if entry.name.endswith(".py") and entry.is_file()))


def _below(root: Path, package: str) -> tuple[str, ...]:
    paths = []
    for folder, folders, files in os.walk(root / package):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        paths += [Path(folder, name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    return tuple(sorted(paths))
