"""A release is refused where tag, version and changelog disagree."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

import mlpack

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = """# Changelog

## [Unreleased]

- later

## [1.2.0] - 2026-12-01

- what it is

### More

- [x]: y

## [1.1.0] - 2026-11-01

- old
"""


@pytest.fixture
def release() -> ModuleType:
    spec = util.spec_from_file_location("release_tool", ROOT / "tools/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notes_are_the_section_of_the_version(release: ModuleType) -> None:
    assert release.notes("v1.2.0", CHANGELOG, "1.2.0") == "- what it is\n\n### More\n\n- [x]: y"
    assert release.notes("v1.1.0", CHANGELOG, "1.1.0") == "- old"


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "problem"),
    [
        ("v1.2.1", "1.2.0", CHANGELOG, "is not v1.2.0"),
        ("1.2.0", "1.2.0", CHANGELOG, "is not v1.2.0"),
        ("v1.3.0", "1.3.0", CHANGELOG, "no section"),
        ("v1.2.0", "1.2.0", CHANGELOG.replace(" - 2026-12-01", ""), "on which day"),
        ("v1.2.0", "1.2.0", CHANGELOG.replace("2026-12-01", "not yet"), "on which day"),
        ("v1.2.0", "1.2.0", "## [1.2.0] - 2026-12-01\n\n## [1.1.0] - 2026-11-01\n\n- old\n", "nothing"),
        ("v1.2.0", "1.2.0", "", "no section"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(release: ModuleType, tag: str, version: str, changelog: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        release.notes(tag, changelog, version)


def test_the_version_is_read_without_importing(release: ModuleType) -> None:
    assert release.version((ROOT / "src/mlpack/__init__.py").read_text()) == mlpack.__version__
    with pytest.raises(ValueError, match="no __version__"):
        release.version("x = 1\n")


@pytest.mark.parametrize(("words", "code"), [([], 2), (["notes"], 2), (["other", "v1"], 2), (["notes", "v0.0.0"], 1)])
def test_the_command_ends_with_a_code(words: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/release.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_changelog_speaks_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    form = re.compile(r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - (\d{4}-\d\d-\d\d|not yet))?")
    assert [each for each in headings if not form.fullmatch(each)] == []
    assert any(each.startswith(f"## [{mlpack.__version__}]") for each in headings)
    assert not re.search(r"^### (Changed|Fixed|Removed|Deprecated)$", text.split("## [0.1.0]")[1], re.MULTILINE)
