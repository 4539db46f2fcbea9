"""Workers: two services of ECS that read one queue. The new one's share of the tasks is its share of the messages.

Promises: tasks that answer are started before others are stopped, so that the pool never shrinks; while both run, each has a task.

Will not: compare and set, which ECS does not offer. A tag of the new service says whose rollout it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack_control.failures import NotReady, Overtaken, Refused

TAG = "mlpack-rollout"


class Workers:
    """See `Mover`. `old` and `new`: the names of two services."""

    def __init__(self, client: Any, cluster: str, old: str, new: str, mark: str) -> None:
        self._client = client
        self._cluster = cluster
        self._old = old
        self._new = new
        self._mark = mark

    def begin(self) -> tuple[str, str]:
        """See `Mover`."""
        new = self._service(self._new)
        if new["desiredCount"] and _tag(new) != self._mark:
            raise Refused(f"{self._new} has {new['desiredCount']} tasks already: another rollout is under way; end it first")
        self._client.tag_resource(resourceArn=new["serviceArn"], tags=[{"key": TAG, "value": self._mark}])
        return self._old, self._mark

    def publish(self, release: Mapping[str, Any]) -> str:
        """The new service, which the stack made without tasks."""
        return self._new

    def warm(self, new: str, provisioned: int) -> None:
        """See `Mover`. Its first task starts with its first share."""
        if self._service(new)["status"] != "ACTIVE":
            raise NotReady(f"{new} is not active")

    def shift(self, old: str, new: str, percent: int, revision: str) -> str:
        """See `Mover`."""
        total = max(2, self._total())
        share = min(total - 1, max(1, round(total * percent / 100)))
        return self._set(new, share, old, total - share)

    def finalise(self, old: str, new: str, revision: str) -> str:
        """See `Mover`. It is two calls here."""
        return self._set(new, self._total(), old, 0)

    def roll_back(self, old: str, new: str | None, revision: str) -> str:
        """See `Mover`. It is two calls here."""
        return self._set(old, self._total(), new or self._new, 0)

    def clear(self, *, anybody: bool = False) -> bool:
        """See `Mover`."""
        new, old = self._service(self._new), self._service(self._old)
        mark = _tag(new)
        if not new["desiredCount"] or not old["desiredCount"] or not mark or (mark != self._mark and not anybody):
            return False
        self._resize(self._old, old["desiredCount"] + new["desiredCount"])
        self._resize(self._new, 0)
        return True

    def _set(self, grows: str, more: int, shrinks: str, fewer: int) -> str:
        if _tag(self._service(self._new)) != self._mark:
            raise Overtaken(f"{self._new}: its tag {TAG} names another rollout")
        self._resize(grows, more)
        self._resize(shrinks, fewer)
        return self._mark

    def _total(self) -> int:
        return int(self._service(self._old)["desiredCount"] + self._service(self._new)["desiredCount"])

    def _resize(self, service: str, tasks: int) -> None:
        self._client.update_service(cluster=self._cluster, service=service, desiredCount=tasks)

    def _service(self, name: str) -> Mapping[str, Any]:
        answer = self._client.describe_services(cluster=self._cluster, services=[name], include=["TAGS"])
        if not answer["services"]:
            raise Refused(f"{self._cluster} has no service {name}: apply the stack of this release first")
        service: Mapping[str, Any] = answer["services"][0]
        return service


def _tag(service: Mapping[str, Any]) -> str:
    return next((tag["value"] for tag in service.get("tags", ()) if tag["key"] == TAG), "")
