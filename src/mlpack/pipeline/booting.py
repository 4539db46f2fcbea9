"""Boot packages on this machine: the chosen one of a build, once, and any that a user asks for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlpack.core import digest, machine
from mlpack.core.records import Artifact, Target
from mlpack.decide import sizing
from mlpack.errors import PackError, RecipeError
from mlpack.pipeline import output, transform
from mlpack.pipeline.outcome import Startup
from mlpack.pipeline.packing.packages import Package
from mlpack.store.local import Store
from mlpack.targets import TARGETS, limits, shipped
from mlpack.targets.format import outside

Tools = Callable[[str], Path | None]
"""Finds a program that boots packages (`aws-lambda-rie`, `podman`), or returns None."""


def boot_once(package: Package, target: Target, programs: Mapping[str, Path | None], store: Store) -> Startup:
    """Boot a package of a build, once per machine and per set of programs to boot it with."""
    action = {
        "kind": "boot",
        "version": 1,
        # The tree, not the package's digest, which leaves the sample request out.
        "package": str(package.artifact.tree),
        "machine": dataclasses.asdict(machine.this_machine()),
        "programs": sorted(name for name, path in programs.items() if path),
        **TARGETS[target.kind].provider,
    }
    with store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            startup = boot_here(package.dir, programs)
            (entry.dir / "boot.json").write_bytes(digest.canonical_json(dataclasses.asdict(startup)))
    return Startup(**transform.read_json(entry.dir / "boot.json"))


def boot_here(folder: Path, programs: Mapping[str, Path | None]) -> Startup:
    """Boot the package that lies in this directory, and send it its sample request."""
    event = (folder / "event.json").read_bytes()
    boot = shipped.boot_layers(folder, event, rie=programs["aws-lambda-rie"], podman=programs["podman"])
    return Startup(how=boot.how, init_ms=round(boot.init_ms, 1), status=None if boot.answer is None else boot.status)


def find_programs(tools: Tools) -> dict[str, Path | None]:
    """The programs that boot packages, by their names."""
    return {name: tools(name) for name in ("aws-lambda-rie", "podman")}


def check_init(startup: Startup, target: Target) -> str | None:
    """Hold a function's start against the time that Lambda gives an initialisation.

    Args:
        startup: How it booted here.
        target: Its target, with the memory that it was built for.

    Returns:
        A warning, where the time may not suffice at the share of a processor that comes with the memory; None where it does.

    Raises:
        PackError: It took longer here than Lambda allows.
    """
    if limits.INIT not in TARGETS[target.kind].limits:
        return None
    memory_mb = int(target.config.memory_mb)
    if startup.init_ms > limits.INIT.value * 1e3:
        raise PackError(
            f"its initialisation took {startup.init_ms / 1e3:.1f} s here ({startup.how}), and Lambda ends one after"
            f" {limits.INIT.value} s: it would begin anew within each first invocation. Make the model smaller, or let hooks import"
            " less when they are loaded"
        )
    return sizing.init_problem(startup.init_ms * max(1.0, limits.MEMORY_PER_VCPU.value / memory_mb), memory_mb)


def noted(artifact: Artifact, startup: Startup) -> Artifact:
    """The package's record, with what a start costs among its notes, where its weights lie outside it."""
    if not any(name.startswith(f"{outside.FOLDER}/") for name in artifact.files):
        return artifact
    note = f"started {startup.how}; a network comes on top of what a server on this machine takes"
    return dataclasses.replace(artifact, notes=(*artifact.notes, note))


def run_package(package: Path, event: Path | None, tools: Tools, *, memory_mb: int | None, timeout_s: float) -> shipped.Boot:
    """Boot a build's package, by its own directory or the build's, and send it `event`, or its own sample request."""
    folder = output.artifact_dir(package)
    sample = folder / "event.json"
    if event is None and not sample.is_file():
        raise RecipeError(f"{folder}: the package came without its sample request ({sample.name}): say --event")
    request = (event or sample).read_bytes()
    rie, podman = tools("aws-lambda-rie"), tools("podman")
    return shipped.boot(folder, request, timeout_s=timeout_s, memory_mb=memory_mb, rie=rie, podman=podman)


def body_of(answer: Any) -> Any:
    """The answer for people: the body of an HTTP answer, parsed; a direct call's answer unchanged."""
    body = answer.get("body") if isinstance(answer, dict) else None
    try:
        return json.loads(body) if isinstance(body, str) else answer
    except ValueError:
        return body
