"""What the pages tell people to type does what they say: every command behind a `$`, page by page, in a project of its own.

A block whose first line is a comment with a file's name is that file. A command that should fail says so: `# exit code 3`.
The site is built from the pages, strictly, and fetches nothing from elsewhere.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.project import Project

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
PROMISED = {
    "getting-started.md": ('"name": "logits"', "size by layer type"),
    "how-to/deploy-a-zip.md": ('"name": "logits"',),
    "how-to/protect-a-package.md": ("  -",),  # as sha256sum ends its line
    "how-to/share-a-cache.md": ("shared cache",),
    "how-to/write-a-metric-or-hook.md": ('"digit": "four"', "judge:top2"),
    "how-to/publish-and-roll-back.md": ("tabular@1", "rollback", "0 wrong"),
    "how-to/use-from-python.md": ("step: build tabular", "ships: out/tabular/artifacts/", "tabular 1 live", "tabular fp32@"),
    "how-to/debug-a-step.md": ("nothing to quantize by the method dynamic", "reproduce.py"),
}
"""What has to stand in the output of each page with commands."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all pages: what the first has built is there for the others."""
    return tmp_path_factory.mktemp("store")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The code blocks that say what they are, in their order."""
    yield from BLOCK.findall(text)


def script(text: str) -> str:
    """The commands of a page as a program that stops at the first which ends otherwise than the page says."""
    lines = ["set -euo pipefail"]
    for kind, block in blocks(text):
        if kind == "console":
            for command in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
                words, _, code = command.partition("# exit code ")
                lines.append(f"code=0; {words.strip()} || code=$?; test $code = {code}" if code else words)
    return "\n".join(lines) + "\n"


def test_every_page_with_commands_is_tried() -> None:
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "```console" in path.read_text("utf-8")} == set(PROMISED)


@pytest.mark.parametrize("page_name", PROMISED)
def test_commands_of_a_page_do_what_it_says(page_name: str, store: Path, make_project: Callable[..., Project]) -> None:
    project, text = make_project("tabular", store=store), (DOCS / page_name).read_text("utf-8")
    for _, block in blocks(text):
        if file := FILE.match(block):
            (project.root / file[1]).write_text(block)
    programs = project.root / "bin"
    programs.mkdir()
    for name, words in (("mlpack", project.command), ("python", [sys.executable])):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**project.environment, "PATH": f"{programs}:{project.environment['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script(text)], cwd=project.root, env=environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert [words for words in PROMISED[page_name] if words not in output] == [], output


def test_the_site_is_strict_and_fetches_nothing() -> None:
    done = subprocess.run(["make", "site", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is fetched from elsewhere, and every link leads somewhere" in done.stdout
    site = ROOT / "build/site/library/index.html"
    assert all(f'id="mlpack.{name}"' in site.read_text("utf-8") for name in ("build", "plan", "BuildResult"))
