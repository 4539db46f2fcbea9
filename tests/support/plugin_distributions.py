"""Distributions of plug-ins as an installer leaves them on `sys.path`, and the one that docs/extending.md shows whole."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from tests.support.project import REPOSITORY

_BLOCK = re.compile(r"^```(?:python|toml|yaml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = REPOSITORY / "docs/extending.md"


def example() -> dict[str, str]:
    """The files of the plug-in in docs/extending.md, by their paths, with its recipe and its test."""
    found = {match["path"]: match["text"] for match in _BLOCK.finditer(PAGE.read_text("utf-8"))}
    package = {path for path in found if path.startswith("acme_mlpack/")}
    assert package
    assert {"pyproject.toml", "recipe.yaml"} < found.keys()
    return {**found, "acme_mlpack/__init__.py": ""}


def example_points() -> dict[str, dict[str, str]]:
    """The entry points in its pyproject.toml, by group."""
    import tomllib

    points: dict[str, dict[str, str]] = tomllib.loads(example()["pyproject.toml"])["project"]["entry-points"]
    return points


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    points: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
    name: str = "acme-mlpack",
    version: str = "1.2",
) -> Path:
    """Put a distribution of these entry points (by group) and files (by path) on the path, first."""
    for path, source in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(dedent(source))
    tops = {path.partition("/")[0].removesuffix(".py") for path in files}
    for module in [each for each in sys.modules if each.partition(".")[0] in tops]:
        monkeypatch.delitem(sys.modules, module)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [line for group, rows in points.items() for line in (f"[{group}]", *(f"{key} = {to}" for key, to in rows.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


REQUIREMENTS = '("tzdata>=2025.1",)'
"""What the page's target needs of the package index."""


def install_example(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str = "1.2", **changed: str) -> Path:
    """The plug-in of docs/extending.md, whose target needs nothing of the index; `changed`: words in its modules, and what stands
    there instead."""
    files = {path: text for path, text in example().items() if path.startswith("acme_mlpack/")}
    changed = {REQUIREMENTS: "()", **changed}
    for old, new in changed.items():
        assert any(old in text for text in files.values())
        files = {path: text.replace(old, new) for path, text in files.items()}
    return install(monkeypatch, folder, example_points(), files, version=version)
