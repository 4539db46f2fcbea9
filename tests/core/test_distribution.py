"""What is installed under which name, and what a user is told to install."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import mlpack
from mlpack.core.distribution import install

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
# What would install the other project's, in any of the usual ways. Where a page must say so, it says `mlpack` and no command.
OTHERS = re.compile(r"\bmlpack\[|(?:pip3?|pipx|uv tool|uv pip|uvx|uv add)(?: install)?(?: -\S+)* '?\"?mlpack(?![-\w.])")


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([], "pip install 'mlpack-build[aws]'"),
        (["pyvenv.cfg"], "pip install 'mlpack-build[aws]'"),
        (["pipx_metadata.json"], "pipx runpip mlpack-build install 'mlpack-build[aws]'"),
        (["uv-receipt.toml"], "uv tool install 'mlpack-build[aws]'"),
    ],
)
def test_the_command_fits_the_way_it_was_installed(tmp_path: Path, left: list[str], told: str) -> None:
    prefix = tmp_path / "mlpack-build"
    prefix.mkdir()
    for name in left:
        (prefix / name).touch()
    assert install("aws", prefix) == told


def test_the_name_and_the_version_have_one_source() -> None:
    assert PROJECT["project"]["name"] == mlpack.__distribution__
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/mlpack/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", mlpack.__version__)


def test_nothing_tells_anybody_to_install_the_other_project() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    wrong = []
    for name in filter(None, tracked):
        path = ROOT / name
        if path == Path(__file__) or path.suffix in (".npz", ".onnx", ".data", ".safetensors") or not path.is_file():
            continue
        text = path.read_text("utf-8", errors="replace")
        wrong += [f"{name}: {found[0]}" for found in OTHERS.finditer(text)]
    assert wrong == []


@pytest.mark.parametrize(
    "text", ["pip install mlpack", "pip install -q 'mlpack[aws]'", "uv tool install mlpack\n", "pipx install mlpack,"]
)
def test_the_search_would_find_it(text: str) -> None:
    assert OTHERS.search(text)
    assert not OTHERS.search(text.replace("mlpack", "mlpack-build"))


def test_every_extra_that_is_named_exists() -> None:
    named = set()
    for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"):
        for found in re.findall(r"mlpack-build\[([a-z,-]+)\]|\binstall\(\"([a-z-]+)\"\)", path.read_text("utf-8")):
            named |= set(",".join(found).strip(",").split(","))
    assert named
    assert named <= EXTRAS


def test_readers_begin_with_how_to_install_it() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    first = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert first.startswith("Install\n")
    for words in (
        "pipx install mlpack-build",
        "uv tool install mlpack-build",
        "pip install mlpack-build",
        "cannot share an environment",
    ):
        assert words in first
    assert {extra for extra in EXTRAS if f"`mlpack-build[{extra}]`" in first} == EXTRAS - {"dev"}
