"""What a call tells whoever waits for it: a protocol, so that the verbs know no terminal.

Promises: nothing that is told changes what is done; `mlpack.cli.console` is the one that prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Say(Protocol):
    """Told of single things."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def warn(self, text: str) -> None:
        """Something that the user may have to change."""


class Progress(Say, Protocol):
    """Told of what a call does, in the order in which it does it.

    Texts may quote what strangers wrote (a model's names, a program's output): make them fit for where you show them. An exception
    raised by one of the methods ends the call.
    """

    def step(self, label: str) -> AbstractContextManager[None]:
        """A step that takes a while: entered when it begins, left when it is done or failed."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A step of `total` units: it calls what the context manager gives with the number of units just done."""


class Silent:
    """A progress that nobody is told of."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def step(self, label: str) -> Iterator[None]:  # noqa: ARG002 - the protocol's
        """Nothing but the block."""
        yield

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 - the protocol's
        """Nothing but the block."""
        yield lambda _units: None
