"""A user's project: the sample recipes and models at a path of their own, and `mlpack` run in it as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools import parts

from mlpack.core.machine import arch

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = arch()
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]


@dataclass(frozen=True, kw_only=True)
class Project:
    """`python_dir` holds the Python that packages are for; `extra` goes into every command's environment."""

    root: Path
    store: Path
    rie: Path
    python_dir: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """A user's, without what would lead mlpack elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLPACK_", "PYTEST_"))}
        own = {
            "PATH": f"{self.python_dir}:{kept['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "MLPACK_STORE": str(self.store),
            "MLPACK_RIE": str(self.rie),
        }
        return {**kept, **own, **self.extra}

    @property
    def command(self) -> list[str]:
        """The words that the console script `mlpack` stands for."""
        return [sys.executable, "-m", "mlpack.cli"]

    def mlpack(self, *words: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """`mlpack WORDS` in the project's directory. It must end with `expect`."""
        done = subprocess.run(
            [*self.command, *map(str, words)], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, f"mlpack {' '.join(map(str, words))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def build(self, name: str, *options: str | Path, out: str | None = None) -> dict[str, Any]:
        """Build `recipes/NAME.yaml` with few timings into `out/NAME`, or another directory there; its record."""
        self.mlpack("build", f"recipes/{name}.yaml", "--effort", "quick", "--out", self.out(out or name), *options)
        return self.record(out or name)

    def record(self, name: str) -> dict[str, Any]:
        """What build.json of `out/NAME` says."""
        return dict(json.loads((self.out(name) / "build.json").read_bytes()))

    def out(self, name: str) -> Path:
        """Where `build` leaves the recipe NAME."""
        return self.root / "out" / name

    def edit(self, name: str, change: Callable[[str], str], to: str | None = None) -> None:
        """Write `recipes/NAME.yaml` changed, in its place or as the recipe `to`."""
        source = self.root / f"recipes/{name}.yaml"
        source.with_name(f"{to or name}.yaml").write_text(change(source.read_text()))


def copy_of_samples(root: Path, names: tuple[str, ...]) -> None:
    """The repository's recipes and these of its sample models; recipes for this machine's processor; MiniLM fetched if need be."""
    shutil.copytree(REPOSITORY / "recipes", root / "recipes")
    for recipe in (root / "recipes").glob("*.yaml"):
        recipe.write_text(recipe.read_text().replace("arch: x86_64", f"arch: {HERE}"))
    (root / "sample_models").mkdir()
    for path in (REPOSITORY / "sample_models").glob("*.py"):
        shutil.copyfile(path, root / "sample_models" / path.name)
    for name in names:
        shutil.copytree(REPOSITORY / "sample_models" / name, root / "sample_models" / name)
    if "minilm" in names:
        shutil.copytree(minilm_model(), root / "sample_models/minilm/model", dirs_exist_ok=True)


def minilm_model() -> Path:
    """all-MiniLM-L6-v2 as a Hugging Face directory, fetched once. Read only."""
    from sample_models.minilm.fetch import fetch

    kept = parts.cache() / "minilm-model"
    fetch(kept)
    return kept


def candidate(record: dict[str, Any], id_: str) -> dict[str, Any]:
    """One candidate of a record."""
    (found,) = (each for each in record["candidates"] if each["id"] == id_)
    return dict(found)
