"""Bytecode: the same bytes wherever the tree lies, no build path inside, valid whatever happens to times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.small_packages import PYTHON, running

import mlpack
from mlpack.errors import PackError
from mlpack.targets.format import bytecode


def sources(root: Path) -> Path:
    """Real code, with the constructs whose bytecode once differed between runs: sets, long tuples, shared names."""
    own = Path(mlpack.__file__).parent
    (root / "package").mkdir(parents=True)
    for name in ("core/digest.py", "core/records.py", "targets/boot/function.py"):
        (root / "package" / Path(name).name).write_bytes((own / name).read_bytes())
    (root / "package/__init__.py").write_text("KINDS = 'x' in {'b', 'a', 'x', 'y'}\nSHARED = ('mlpack', 'mlpack', 1.5)\n")
    (root / "bootstrap.py").write_text("import package\n")
    return root


def compiled(root: Path) -> dict[str, bytes]:
    assert bytecode.compile_tree(sources(root), running(), "/var/task") == 4
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.pyc"))}


def test_compile_tree_in_different_places_gives_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(tmp_path / "one")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("MLPACK_TEST_NOISE", "x" * 1000)
    assert compiled(tmp_path / "another/and/deeper") == first
    assert len(first) == 4


def test_compile_tree_names_the_place_in_the_package(tmp_path: Path) -> None:
    for data in compiled(tmp_path / "tree").values():
        assert os.fsencode(tmp_path) not in data
        assert b"/var/task/package/" in data
        assert int.from_bytes(data[4:8], "little") == 1  # PEP 552: by hash, unchecked


def test_compile_tree_bytecode_is_used_when_the_source_is_newer(tmp_path: Path) -> None:
    root = sources(tmp_path / "tree")
    bytecode.compile_tree(root, running(), "/var/task")
    (root / "package/__init__.py").write_text("raise SystemExit('compiled anew')\n")
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import package; print(package.KINDS)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_compile_tree_names_every_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(:\n")
    (tmp_path / "b.py").write_text("return\n")
    (tmp_path / "good.py").write_text("x = 1\n")
    with pytest.raises(PackError, match=r"(?s)a\.py.*b\.py"):
        bytecode.compile_tree(tmp_path, running(), "/var/task")


def test_what_no_compiler_takes_may_go_without_bytecode(tmp_path: Path) -> None:
    """Generated code is as deep as its generator likes; wheels hold templates, and texts of other Pythons."""
    texts = {"deep": "x = " + "1+" * 60_000 + "1\n", "template": "{{ name }} = 1 2\n", "nul": "x = 1\0\n", "fine": "x = 1\n"}
    texts["nested"] = "x = " + "[" * 5_000 + "]" * 5_000 + "\n"
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert bytecode.compile_tree(tmp_path, running(), "/var/task/site", lenient=True) == 1
    with pytest.raises(PackError, match=r"(?s)deep\.py.*nested\.py.*nul\.py.*template\.py"):
        bytecode.compile_tree(tmp_path, running(), "/var/task/site")


def test_interpreter_of_this_version_is_this_one() -> None:
    found = bytecode.interpreter(PYTHON)
    assert found is not None
    assert found.path == Path(sys.executable)


def test_interpreter_behind_a_pyenv_shim_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim, real = tmp_path / "shims/python3.99", tmp_path / "versions/3.99.1/bin/python3.99"
    for path, text in ((shim, "#!/bin/sh\nexit 127\n"), (real, "#!/bin/sh\necho 3.99.1\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent), prepend=os.pathsep)
    assert bytecode.interpreter("3.99", install=False) == bytecode.Interpreter(path=real, version="3.99.1")


def test_interpreter_that_is_nowhere_is_none_and_said() -> None:
    assert bytecode.interpreter("3.98", install=False) is None
    assert "python3.98" in bytecode.missing_note("3.98")
