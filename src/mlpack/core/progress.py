"""What a build tells whoever waits for it: a protocol, so that the verbs know no terminal.

Promises: nothing that is told changes what is built; `mlpack.cli.console` is the one that prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Say(Protocol):
    """Told of single things."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def warn(self, text: str) -> None:
        """Something that the user may have to change."""


class Progress(Say, Protocol):
    """Told of what a build does, in the order in which it does it."""

    def step(self, label: str) -> AbstractContextManager[None]:
        """A step that takes a while: entered when it begins, left when it is done or failed."""

    def table(self, record: Mapping[str, Any]) -> None:
        """The candidates of a finished build, by its record."""

    def verdict(self, record: Mapping[str, Any]) -> None:
        """What was chosen and why, by the same record."""
