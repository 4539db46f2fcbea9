"""Packages booted on this machine: what a build chose, once, and what somebody wants to call."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlpack.core import digest, machine
from mlpack.core.records import Target
from mlpack.errors import RecipeError
from mlpack.pipeline import output, transform
from mlpack.pipeline.outcome import Startup
from mlpack.pipeline.packing.packages import Package
from mlpack.store.local import Store
from mlpack.targets import TARGETS, shipped

Tools = Callable[[str], Path | None]
"""Where a program that boots packages is (`aws-lambda-rie`, `podman`), or None."""


def boot_once(package: Package, target: Target, programs: Mapping[str, Path | None], store: Store) -> Startup:
    """Boot a package of a build, once per machine and per set of programs to boot it with."""
    action = {
        "kind": "boot",
        "version": 1,
        # The tree, not the digest of what is deployed: the sample request lies beside that.
        "package": str(package.artifact.tree),
        "machine": dataclasses.asdict(machine.this_machine()),
        "programs": sorted(name for name, path in programs.items() if path),
        **TARGETS[target.kind].provider,
    }
    with store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            event = (package.dir / "event.json").read_bytes()
            up = shipped.boot(package.dir, event, rie=programs["aws-lambda-rie"], podman=programs["podman"])
            kept = {"how": up.how, "init_ms": round(up.init_ms, 1), "status": None if up.answer is None else up.status}
            (entry.dir / "boot.json").write_bytes(digest.canonical_json(kept))
    return Startup(**transform.read_json(entry.dir / "boot.json"))


def run_package(package: Path, event: Path | None, tools: Tools, *, memory_mb: int | None, timeout_s: float) -> shipped.Boot:
    """Boot what a build left (its directory, or one artifact's) and give it `event`, or the sample that came with it."""
    folder = output.artifact_dir(package)
    sample = folder / "event.json"
    if event is None and not sample.is_file():
        raise RecipeError(f"{folder}: the package came without its sample request ({sample.name}): say --event")
    request = (event or sample).read_bytes()
    rie, podman = tools("aws-lambda-rie"), tools("podman")
    return shipped.boot(folder, request, timeout_s=timeout_s, memory_mb=memory_mb, rie=rie, podman=podman)


def shown(answer: Any) -> Any:
    """An answer as people read it: the body of an HTTP answer, parsed; a direct call's as it is."""
    body = answer.get("body") if isinstance(answer, dict) else None
    try:
        return json.loads(body) if isinstance(body, str) else answer
    except ValueError:
        return body
