"""What moves traffic from one version to the other: a function's alias, tasks on one queue, or weights of a load balancer.

A mover has the verbs `begin` (the old version and the revision that was read), `publish`, `warm`, `shift`, `finalise`, `roll_back`
(each write returns the next revision) and `clear` (the brake's: weights of this rollout, and nothing else).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlpack_control.failures import Refused

Clients = Callable[[str], Any]
"""boto3's client of a service by its name."""


class Mover(Protocol):
    """One target's. `revision` is what the write before returned, as opaque text."""

    def begin(self) -> tuple[str, str]:
        """The old version and the revision. Refused where another rollout is under way."""

    def publish(self, release: Mapping[str, Any]) -> str:
        """The new version, which has no traffic yet."""

    def warm(self, new: str, provisioned: int) -> None:
        """Return when the new version can answer. NotReady before."""

    def shift(self, old: str, new: str, percent: int, revision: str) -> str:
        """Give the new version so much of the traffic."""

    def finalise(self, old: str, new: str, revision: str) -> str:
        """Give the new version all of it, in one call."""

    def roll_back(self, old: str, new: str | None, revision: str) -> str:
        """Give the old version all of it, in one call, from any state that this rollout made."""

    def clear(self, *, anybody: bool = False) -> bool:
        """Take traffic from whatever gets a part of it by this rollout (`anybody`: by any of mlpack's). Whether there was some."""


def mover(target: Mapping[str, Any], mark: str, clients: Clients) -> Mover:
    """The mover of a target. `mark`: the rollout's id. Refused for a target that is none."""
    from mlpack_control.moving.balancer import Balancer
    from mlpack_control.moving.function import FunctionAlias
    from mlpack_control.moving.workers import Workers

    kind = target.get("kind")
    via = "rule" if "rule" in target else "listener"
    keys = {"function": ("function", "alias"), "workers": ("cluster", "old", "new"), "container": (via, "old", "new")}.get(
        str(kind), ()
    )
    if lacking := [key for key in keys if not isinstance(target.get(key), str)]:
        raise Refused(f"the target has no {lacking[0]}")
    match kind:
        case "function":
            return FunctionAlias(clients("lambda"), target["function"], target["alias"], mark)
        case "workers":
            return Workers(clients("ecs"), target["cluster"], (target["old"], target["new"]), mark)
        case "container":
            return Balancer(clients("elbv2"), via, target[via], (target["old"], target["new"]), mark)
    raise Refused(f"the target's kind {kind!r} is none of function, workers, container")
