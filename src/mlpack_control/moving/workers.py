"""Workers: two services of ECS that read one queue. The new one's share of the tasks is its share of the messages.

Promises: the service without tasks is the new one, so that two services serve rollout after rollout; tasks that answer are started
before others are stopped, so that the pool never shrinks; while both run, each has a task.

Will not: compare and set, which ECS does not offer. A tag of the new service says whose rollout it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack_control.failures import NotReady, Overtaken, Refused

TAG, NOBODY = "mlpack-rollout", "-"


class Workers:
    """See `Mover`. `pair`: the names of two services."""

    def __init__(self, client: Any, cluster: str, pair: tuple[str, str], mark: str) -> None:
        self._client = client
        self._cluster = cluster
        self._pair = pair
        self._mark = mark

    def begin(self) -> tuple[str, str]:
        """See `Mover`."""
        first, second = self._pair
        busy = [name for name in self._pair if self._service(name)["desiredCount"]]
        if len(busy) == 2:
            raise Refused(f"{first} and {second} both have tasks: another rollout is under way; end it with `mlpack rollout abort`")
        old = busy[0] if busy else first
        for name, mark in ((old, NOBODY), (self._other(old), self._mark)):
            self._client.tag_resource(resourceArn=self._service(name)["serviceArn"], tags=[{"key": TAG, "value": mark}])
        return old, self._mark

    def publish(self, release: Mapping[str, Any]) -> str:
        """The service without tasks, to which the stack gave the new image."""
        new = self._new()
        if new is None:
            raise Overtaken(f"{' and '.join(self._pair)}: none has the tag of this rollout any more")
        return new

    def warm(self, new: str, provisioned: int) -> None:
        """See `Mover`. Its first task starts with its first share."""
        if self._service(new)["status"] != "ACTIVE":
            raise NotReady(f"{new} is not active")

    def shift(self, old: str, new: str, percent: int, revision: str) -> str:
        """See `Mover`."""
        total = max(2, self._total())
        share = min(total - 1, max(1, round(total * percent / 100)))
        return self._set(new, (new, share), (old, total - share))

    def finalise(self, old: str, new: str, revision: str) -> str:
        """See `Mover`. It is two calls here."""
        return self._set(new, (new, self._total()), (old, 0))

    def roll_back(self, old: str, new: str | None, revision: str) -> str:
        """See `Mover`. It is two calls here."""
        new = new or self._other(old)
        return self._set(new, (old, self._total()), (new, 0))

    def clear(self, *, anybody: bool = False) -> bool:
        """See `Mover`."""
        new = self._new(anybody=anybody)
        if new is None:
            return False
        old = self._other(new)
        some, rest = (self._service(name)["desiredCount"] for name in (new, old))
        if not some or not rest:
            return False
        self._resize(old, rest + some)
        self._resize(new, 0)
        return True

    def _set(self, new: str, *sizes: tuple[str, int]) -> str:
        if _tag(self._service(new)) != self._mark:
            raise Overtaken(f"{new}: its tag {TAG} names another rollout")
        growth = {name: tasks - self._service(name)["desiredCount"] for name, tasks in sizes}
        for name, tasks in sorted(sizes, key=lambda size: -growth[size[0]]):
            self._resize(name, tasks)
        return self._mark

    def _new(self, *, anybody: bool = False) -> str | None:
        """The service whose tag is this rollout's, or anybody's."""
        marks = {name: _tag(self._service(name)) for name in self._pair}
        ours = [name for name, mark in marks.items() if (mark not in ("", NOBODY) if anybody else mark == self._mark)]
        return ours[0] if len(ours) == 1 else None

    def _other(self, name: str) -> str:
        return self._pair[1] if name == self._pair[0] else self._pair[0]

    def _total(self) -> int:
        return sum(int(self._service(name)["desiredCount"]) for name in self._pair)

    def _resize(self, service: str, tasks: int) -> None:
        self._client.update_service(cluster=self._cluster, service=service, desiredCount=tasks)

    def _service(self, name: str) -> Mapping[str, Any]:
        answer = self._client.describe_services(cluster=self._cluster, services=[name], include=["TAGS"])
        if not answer["services"]:
            raise Refused(f"{self._cluster} has no service {name}: apply the stack of this release first")
        service: Mapping[str, Any] = answer["services"][0]
        return service


def _tag(service: Mapping[str, Any]) -> str:
    return next((str(tag["value"]) for tag in service.get("tags", ()) if tag["key"] == TAG), "")
