"""The front door's zip: what is in it and nothing else, the same bytes anywhere, and refusals."""

from __future__ import annotations

import ast
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from tests.support.small_packages import running

from mlpack.core import digest
from mlpack.errors import LimitError, PackError
from mlpack.targets.format import bytecode, frontdoor
from mlpack.targets.format.contents import Contents

SOURCES = Path(__file__).resolve().parents[2] / "src/mlpack_runtime"
MODEL = {"schema": 1, "name": "tiny", "inputs": [], "outputs": []}


def contents(root: Path, *, compiled: bool = False) -> Contents:
    """A worker's: the whole runtime, an engine, a model, hooks."""
    shutil.copytree(SOURCES, root / "runtime/mlpack_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    files = {
        "runtime/lib/libtensorrt_rtx.so.1": b"engine",
        "runtime/bootstrap.py": b"import sys\n",
        "runtime/site/tokenizers/tokenizers.abi3.so": b"library",
        "model/model/model.onnx": b"graph",
        "code/model/model.json": json.dumps(MODEL).encode(),
        "code/app/app.py": b"def preprocess(value): ...\n",
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    if compiled:
        bytecode.compile_tree(root / "runtime", running(), "/var/task")
    return Contents(runtime=root / "runtime", model=root / "model", code=root / "code", labels={})


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def start() -> str:
    """The handler's module, as a path below mlpack_runtime."""
    name = frontdoor.HANDLER.split(".")[1]
    return name if (SOURCES / f"{name}.py").is_file() else f"{name}/__init__"


def cache(name: str) -> str:
    """Where a module's bytecode lies, without its ending."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/__pycache__/{last}".lstrip("/")


def imported(name: str) -> set[str]:
    """What a module of the runtime imports of the runtime, at its top and inside functions, but not for type checkers."""
    tree = ast.parse((SOURCES / f"{name}.py").read_text("utf-8"))
    packages = [f"{parent}/__init__" for parent in Path(name).parents if parent != Path()]
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set(packages)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlpack_runtime":
            inside = Path(*(node.module or "").split(".")[1:])
            for path in (inside, *(inside / each.name for each in node.names)):
                found |= {each for each in (f"{path}", f"{path}/__init__") if (SOURCES / f"{each}.py").is_file()}
    return found - {"./__init__"}


def test_modules_are_those_that_the_handler_imports() -> None:
    reached, waiting = {"__init__"}, {start()}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imported(name) - reached
    assert sorted(reached) == list(frontdoor.MODULES)


@pytest.mark.parametrize("compiled", [False, True])
def test_write_zip_holds_only_modules_and_description(tmp_path: Path, compiled: bool) -> None:
    named, size = frontdoor.write_zip(contents(tmp_path, compiled=compiled), tmp_path / "frontdoor.zip")
    tag = running().version.split(".")
    cached = [f"mlpack_runtime/{cache(name)}.cpython-{tag[0]}{tag[1]}.pyc" for name in frontdoor.MODULES] if compiled else []
    sources = [f"mlpack_runtime/{name}.py" for name in frontdoor.MODULES]
    assert names(tmp_path / "frontdoor.zip") == sorted(["model/model.json", *sources, *cached])
    assert (named, size) == (digest.of_file(tmp_path / "frontdoor.zip"), (tmp_path / "frontdoor.zip").stat().st_size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "frontdoor.zip", "model", "runtime"]


def test_write_zip_in_another_place_gives_the_same_digest(tmp_path: Path) -> None:
    found = {frontdoor.write_zip(contents(tmp_path / at, compiled=True), tmp_path / at / "f.zip")[0] for at in ("one", "two/three")}
    assert len(found) == 1


def test_the_handler_is_in_it(tmp_path: Path) -> None:
    module, _, function = frontdoor.HANDLER.rpartition(".")
    frontdoor.write_zip(contents(tmp_path), tmp_path / "f.zip")
    with zipfile.ZipFile(tmp_path / "f.zip") as archive:
        assert module.startswith("mlpack_runtime.")
        assert f"def {function}(" in archive.read(f"mlpack_runtime/{start()}.py").decode()


@pytest.mark.parametrize("name", ["door/tickets", "protocol"])
def test_write_zip_without_a_module_is_refused(tmp_path: Path, name: str) -> None:
    given = contents(tmp_path)
    (given.runtime / f"mlpack_runtime/{name}.py").unlink()
    with pytest.raises(PackError, match=f"no plain file mlpack_runtime/{name}.py"):
        frontdoor.write_zip(given, tmp_path / "f.zip")
    (given.runtime / f"mlpack_runtime/{name}.py").symlink_to("/etc/passwd")
    with pytest.raises(PackError, match=f"no plain file mlpack_runtime/{name}.py"):
        frontdoor.write_zip(given, tmp_path / "f.zip")
    assert not (tmp_path / "f.zip").exists()


def test_write_zip_with_bytecode_of_some_modules_is_refused(tmp_path: Path) -> None:
    given = contents(tmp_path, compiled=True)
    next((given.runtime / "mlpack_runtime/aws/__pycache__").glob("promises.*")).unlink()
    with pytest.raises(PackError, match="bytecode of some modules"):
        frontdoor.write_zip(given, tmp_path / "f.zip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no plain file"),
        ("{", "is not JSON"),
        ("[]", "does not describe"),
        ('{"schema": 2, "inputs": [], "outputs": []}', "does not describe"),
        ('{"schema": 1, "inputs": []}', "does not describe"),
    ],
)
def test_write_zip_without_a_description_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    given = contents(tmp_path)
    path = given.code / "model/model.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(PackError, match=message):
        frontdoor.write_zip(given, tmp_path / "f.zip")
    assert not (tmp_path / "f.zip").exists()


def test_write_zip_is_refused_beyond_its_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = contents(tmp_path)
    _, size = frontdoor.write_zip(given, tmp_path / "f.zip")
    monkeypatch.setattr(frontdoor, "LIMIT_BYTES", size)
    frontdoor.write_zip(given, tmp_path / "f.zip")
    monkeypatch.setattr(frontdoor, "LIMIT_BYTES", size - 1)
    with pytest.raises(LimitError, match="1 more than"):
        frontdoor.write_zip(given, tmp_path / "g.zip")
    monkeypatch.undo()
    (given.code / "model/model.json").write_text(json.dumps({**MODEL, "noise": os.urandom(1 << 20).hex()}))
    with pytest.raises(LimitError, match=r"its largest file is model/model\.json"):
        frontdoor.write_zip(given, tmp_path / "g.zip")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(("g.zip", ".unchecked", ".new"))]


@pytest.mark.parametrize("key", ["authorize", "cors"])
def test_who_may_ask_is_in_it_where_the_package_says_so(tmp_path: Path, key: str) -> None:
    given = contents(tmp_path, compiled=True)
    (given.code / "model/model.json").write_text(json.dumps({**MODEL, key: {"origins": ["*"]}}))
    frontdoor.write_zip(given, tmp_path / "f.zip")
    modules = {f"mlpack_runtime/access/{path.name}" for path in (SOURCES / "access").glob("*.py")}
    assert modules <= set(names(tmp_path / "f.zip"))
