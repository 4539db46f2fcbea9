"""The container's entrance: as the worker's, of processes that serve HTTP and nothing else."""

from __future__ import annotations

from tests_slow.fuzzing import harness, worker


def run(told: harness.Told) -> None:
    """As many as it is told."""
    worker.run(told, "container", "serve")
