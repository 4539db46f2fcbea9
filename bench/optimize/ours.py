"""mlpack's side, exactly as a user has it: `mlpack build` on the recipe, and what each candidate's package ships.

Promises: the build is a command in a process of its own, with its default effort; the graph and the way it is opened are taken out
of the packed bytes; the float build that it is compared with starts from the same state of the store: what any first build leaves,
and nothing of this model.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
from cases import Case, only_float
from common import ROOT
from engine import Opened

KEPT = "built.json"
OF_NO_MODEL = ("runtime",)
"""Kinds of action whose results any build leaves to the next, whatever its model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A build: seconds, what it chose (None: nothing), its record, and each candidate's shipped model by its id."""

    seconds: float
    float_seconds: float
    chosen: str | None
    record: dict[str, Any]
    shipped: dict[str, Opened]
    failure: str = ""
    commit: str = ""


def build(case: Case, work: Path, warm: Path, limit_s: float) -> Built:
    """Build the case and its float alone, each in a copy of the store `warm`; what ships lies below `work` afterwards."""
    with peers.alone(warm):
        _warm_up(case, warm, work, limit_s)
    float_seconds, _, failure = _built(case, work / "float", warm, limit_s, alone=True)
    if failure:
        return Built(seconds=0.0, float_seconds=0.0, chosen=None, record={}, shipped={}, failure=f"float alone: {failure}")
    seconds, out, failure = _built(case, work / "auto", warm, limit_s, alone=False)
    if failure:
        return Built(seconds=seconds, float_seconds=float_seconds, chosen=None, record={}, shipped={}, failure=failure)
    record = json.loads((out / "build.json").read_bytes())
    shipped = {folder.name: _opened(folder, work / "shipped" / folder.name) for folder in sorted((out / "artifacts").iterdir())}
    return Built(seconds=seconds, float_seconds=float_seconds, chosen=record["chosen"], record=record, shipped=shipped)


def keep(built: Built, folder: Path) -> Built:
    """The build with its shipped models in `folder`, instead of what an earlier one left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for id_, each in built.shipped.items():
        shutil.copytree(each.path.parent, folder / id_)
    told = dataclasses.asdict(built)
    told["shipped"] = {id_: [each.path.name, each.level, dict(each.entries)] for id_, each in built.shipped.items()}
    told["commit"] = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", "src"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    (folder / KEPT).write_text(json.dumps(told))
    return last(folder)


def last(folder: Path) -> Built:
    """The build that `keep` kept. SystemExit where there is none."""
    if not (folder / KEPT).is_file():
        raise SystemExit(f"{folder.name}: no build is kept: run it without --again")
    told = json.loads((folder / KEPT).read_bytes())
    opened = {
        id_: Opened(path=folder / id_ / name, level=level, entries=entries)
        for id_, (name, level, entries) in told["shipped"].items()
    }
    return Built(**{**told, "shipped": opened})


def _warm_up(case: Case, warm: Path, work: Path, limit_s: float) -> None:
    """The store as any first build leaves it: the runtime and its wheels. Made once, by the smallest model's float build."""
    if warm.is_dir():
        return
    store = warm.with_name(f".{warm.name}")
    shutil.rmtree(store, ignore_errors=True)
    _, _, failure = _run(_project(case, work / "warm", alone=True), store, limit_s)
    if failure:
        raise SystemExit(f"the first build failed: {failure}")
    for path in (store / "actions").glob("*.json"):
        if json.loads(path.read_bytes()).get("action", {}).get("kind") not in OF_NO_MODEL:
            path.unlink()
    shutil.copyfile(work / "warm/mlpack.lock", store / "mlpack.lock")
    store.rename(warm)


def _built(case: Case, folder: Path, warm: Path, limit_s: float, *, alone: bool) -> tuple[float, Path, str]:
    """Seconds, the build's directory, and why it failed."""
    project = _project(case, folder, alone=alone)
    if (warm / "mlpack.lock").is_file():
        shutil.copyfile(warm / "mlpack.lock", project.parent / "mlpack.lock")
    store = folder / ".store"
    subprocess.run(["cp", "-a", "--reflink=auto", str(warm), str(store)], check=True)
    return _run(project, store, limit_s)


def _project(case: Case, folder: Path, *, alone: bool) -> Path:
    """A copy of the user's project; the path of its recipe."""
    shutil.copytree(case.recipe.parent, folder)
    recipe = folder / "recipe.yaml"
    if alone:
        recipe.write_text(only_float(recipe.read_text("utf-8")), "utf-8")
    return recipe


def _run(recipe: Path, store: Path, limit_s: float) -> tuple[float, Path, str]:
    out = recipe.parent / "out"
    command = [sys.executable, "-m", "mlpack.cli", "--quiet", "build", recipe.name, "--out", str(out), "--keep", "all"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "MLPACK_STORE": str(store)}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=recipe.parent, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return time.monotonic() - began, out, f"took more than {limit_s:.0f} s"
    failure = "" if done.returncode in (0, 5) else f"exit {done.returncode}: {' '.join(done.stderr.split())[-400:]}"
    return time.monotonic() - began, out, failure


def _opened(package: Path, out: Path) -> Opened:
    """The graph that a package ships, and how its runtime opens it."""
    from mlpack.targets.shipped import unpack

    out.mkdir(parents=True)
    model = unpack(package, out) / "model"
    settings = json.loads((model / "model.json").read_bytes())
    entries = {"session.intra_op.allow_spinning": "0", **(settings.get("session") or {})}
    return Opened(path=model / settings["graph"], level=settings.get("graph_optimization_level", 99), entries=entries)
