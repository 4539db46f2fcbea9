"""Where tests and their helpers lie, and that each module of them has one name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "tests_slow", "bench")
PROGRAMS = {Path("tests_slow/onnx_suite.py")}
"""What `python -m` runs, beside the tests that run it too."""


def modules(*folders: str) -> list[Path]:
    """Every Python file in these folders, below the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """The modules that a file imports and their levels; for `from a import b`, both `a` and `a.b`."""
    names: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.append((node.module or "", node.level))
            names += ((f"{node.module}.{alias.name}", node.level) for alias in node.names)
    return tuple(names)


def test_what_is_no_test_lies_in_support() -> None:
    helpers = [
        path
        for path in modules("tests", "tests_slow")
        if not path.name.startswith("test_")
        and path.name != "conftest.py"
        and path.parts[:2] not in {("tests", "support"), ("tests_slow", "fuzzing")}
        and path not in PROGRAMS
    ]
    assert helpers == []


def test_helpers_are_imported_by_their_one_name() -> None:
    own = {path.stem for path in modules("tests", "tests_slow") if path.stem not in {"__init__", "__main__"}}
    bare = {(str(path), name) for path in modules(*FOLDERS) for name, level in imports(path) if level or name in own}
    assert bare == set()


def test_no_module_imports_a_fast_test_or_a_conftest() -> None:
    wrong = {
        (str(path), name)
        for path in modules(*FOLDERS)
        for name, _ in imports(path)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith(("test_", "conftest"))
    }
    assert wrong == set()


def test_every_imported_helper_exists() -> None:
    known = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in modules("tests", "tests_slow")}
    folders = {name.rpartition(".")[0] for name in known}
    asked = {
        (str(path), name)
        for path in modules(*FOLDERS)
        for name, _ in imports(path)
        if name.startswith(("tests.", "tests_slow.")) and name not in known | folders and name.rpartition(".")[0] not in known
    }
    assert asked == set()


def test_no_file_of_tests_is_loaded_under_two_names() -> None:
    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(ROOT / "tests"):
            names[file].add(name)
    assert __name__ in names[__file__]
    assert {file: kept for file, kept in names.items() if len(kept) > 1} == {}


def test_no_test_is_skipped_for_good_or_expected_to_fail() -> None:
    """CONTRIBUTING lists the machines on which some are left out: that takes a condition."""
    texts = {path: (ROOT / path).read_text("utf-8") for path in modules("tests", "tests_slow")}
    hopeless = {
        (str(path), node.lineno)
        for path, text in texts.items()
        if "skip" in text or "xfail" in text  # only these are worth parsing
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and (node.attr in {"xfail", "importorskip"} or (node.attr == "skip" and ast.unparse(node.value) == "pytest.mark"))
    }
    assert hopeless == set()


@pytest.mark.slow
@pytest.mark.parametrize(("mark", "status"), [("slow", pytest.ExitCode.OK), ("not slow", pytest.ExitCode.NO_TESTS_COLLECTED)])
def test_every_test_of_the_slow_folder_is_slow(mark: str, status: pytest.ExitCode) -> None:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", mark]
    done = subprocess.run([*words, "tests_slow/test_strings.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
