"""Services that no build made, for tests of deployments: one of each kind, with any section."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlpack.deploy.service import DOOR_HANDLER, HANDLER, Door, Measured, Package, ReleaseName, Service
from mlpack.recipe.deploy.section import Section, Traffic

FEATURES = {"table": "users", "key": ["user_id"], "columns": {"x": ["age"]}, "defaults": {"age": 0}, "deadline_ms": 40.0}
CACHE = {"memory_bytes": 32_000_000, "ttl_ms": 3_600_000.0, "table": "answers", "deadline_ms": 20.0}
_SHA = {"lambda-zip": "11" * 32, "lambda-image": "22" * 32, "container": "33" * 32, "worker": "44" * 32}


def section(**parts: Any) -> Section:
    """The section with a peak of 50 requests a second, and these parts of it."""
    return Section(**{"traffic": Traffic(peak_rps=50.0, mean_rps=5.0), **parts})


def package(kind: str = "lambda-zip", **changes: Any) -> Package:
    """A package of this kind; `gpu=True` for a worker on one."""
    gpu = bool(changes.get("gpu"))
    target = {"worker": "gpu-worker" if gpu else "cpu-worker"}.get(kind, kind)
    values: dict[str, Any] = {
        "candidate": f"int8@{target}-x86_64",
        "target": target,
        "kind": kind,
        "sha256": _SHA[kind],
        "size_bytes": 64_000_000,
        "compressed_bytes": 30_000_000,
        "runtime": "python3.13",
        "architecture": "x86_64",
        "memory_mb": 2048 if kind in ("container", "worker") else 1769,
        "timeout_s": 10,
        "handler": DOOR_HANDLER if kind == "worker" else HANDLER,
        "max_batch": 8 if kind in ("container", "worker") else 1,
        "door": Door(sha256="55" * 32, size_bytes=220_000, runtime="python3.13") if kind == "worker" else None,
        "document": {"openapi": "3.1.0", "info": {"title": "fashion", "version": "1"}, "paths": {}},
    }
    return Package(**{**values, **changes})


def service(kind: str = "lambda-zip", deploy: Section | None = None, **changes: Any) -> Service:
    """A service of a package of this kind. `changes`: fields of its package."""
    return Service(
        name="fashion",
        environment="prod",
        tags={"service": "catalogue", "team": "vision", "env": "prod"},
        release=ReleaseName(name="fashion", version=8, digest="sha256:" + "ab" * 32, alias="prod"),
        package=package(kind, **changes),
        measured=Measured(
            p50_ms=3.0,
            p95_ms=5.6,
            p99_ms=7.4,
            cold_start_ms=68.0,
            load_ms=44.0,
            peak_mb=84.0,
            throughput_per_s=250.0,
            batch=8 if kind in ("container", "worker") else 1,
            batch_ms=20.0 if kind in ("container", "worker") else 5.6,
        ),
        deploy=deploy or section(),
    )


def with_measures(one: Service, **measures: Any) -> Service:
    """The same service with other measures."""
    return dataclasses.replace(one, measured=dataclasses.replace(one.measured, **measures))
