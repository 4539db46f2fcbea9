"""mlpack as its users have it: the distribution that was built from the tracked files, in an environment without the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import uv
from tests.support.project import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"


@dataclass(frozen=True, kw_only=True)
class Built:
    """`source` is a copy of what git tracks; `wheel` was made of the unpacked `sdist`, as pip makes it."""

    source: Path
    sdist: Path
    wheel: Path


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment. `extra` goes into the environment of every command."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.root / "bin"

    @property
    def variables(self) -> dict[str, str]:
        """A user's who has activated it, without what would lead Python or mlpack elsewhere."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLPACK_", "PYTEST_", "PYTHON", "GITHUB_"))
        }
        return {**kept, "PATH": f"{self.bin}:{kept['PATH']}", "VIRTUAL_ENV": str(self.root), **self.extra}

    def pip(self, *words: str | Path) -> None:
        """`uv pip WORDS` on it."""
        run(uv.find_uv_bin(), "pip", *words, "--quiet", env=self.variables)


def run(*words: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run([str(word) for word in words], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def build(place: Path) -> Built:
    """The distribution from what git tracks, and nothing else of this checkout."""
    source = place / "source"
    for name in run("git", "ls-files", "-z", cwd=REPOSITORY).rstrip("\0").split("\0"):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    hatch = (sys.executable, "-m", "hatchling", "build", "--directory", place / "dist")
    run(*hatch, "--target", "sdist", cwd=source)
    (sdist,) = (place / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    run(*hatch, "--target", "wheel", cwd=unpacked)
    (wheel,) = (place / "dist").glob("*.whl")
    return Built(source=source, sdist=sdist, wheel=wheel)


def environment(place: Path, constraints: Path) -> Environment:
    """An empty one for this Python. `constraints` becomes the lock without hashes: what is installed is what was tested."""
    run(uv.find_uv_bin(), "venv", "--quiet", "--seed", "--python", sys.executable, place)
    pins = re.findall(r"^[A-Za-z0-9._-]+==[^\\\n]+", LOCK.read_text(), re.MULTILINE)
    constraints.write_text("\n".join(pin.strip() for pin in pins) + "\n")
    return Environment(root=place)
