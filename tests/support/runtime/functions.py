"""A package's function in the process of the tests: its handler as Lambda's client calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mlpack_runtime import model


class Context:
    """What the client tells of an invocation. `left_ms`: how long it may still take."""

    aws_request_id = "invocation-1"

    def __init__(self, left_ms: int = 60_000) -> None:
        self._left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        """As the client has it."""
        return self._left_ms


def function(root: Path, patch: pytest.MonkeyPatch, **environment: str) -> Callable[..., Any]:
    """`handler(event, context=Context())` of the package at `root`. Raises what importing it raises."""
    patch.setattr(model, "ROOT", str(root))
    for name, value in environment.items():
        patch.setenv(name, value)
    patch.delitem(sys.modules, "mlpack_runtime.handler", raising=False)
    handler = import_module("mlpack_runtime.handler").handler
    return lambda event, context=None: handler(event, context or Context())
