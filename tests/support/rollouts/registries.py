"""A registry with two releases of fashion, of which prod has the first; and who leads a rollout of the second from it."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

from tests.support.registry.builds import build
from tests.support.registry.places import move
from tests.support.rollouts.alias_api import AliasApi
from tests.support.rollouts.metrics import Metrics

from mlpack.core.progress import Silent
from mlpack.deploy.rollouts.aws import Account
from mlpack.deploy.rollouts.leading import Leader
from mlpack.registry.library.access import open_access
from mlpack.registry.releases.releases import function_zip

SETTINGS: dict[str, Any] = {
    "target": {"kind": "function", "function": "fashion-prod", "alias": "live"},
    "counting": {"service": "fashion-prod", "late_s": 0, "alarms": []},
    "policy": {"rules": {"errors": {"limit": 0.01, "margin": 0.005}}, "bake_s": 120},
    "machine": "arn:aws:states:eu-west-1:123456789012:stateMachine:fashion-prod-rollout",
}


@dataclasses.dataclass
class Machines:
    """boto3's client for `stepfunctions`: it starts machines, which do nothing by themselves."""

    running: dict[str, str] = dataclasses.field(default_factory=dict)

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> None:  # noqa: A002, N803 - boto3's names
        self.running[f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"] = input

    def describe_execution(self, executionArn: str) -> dict[str, Any]:  # noqa: N803
        return {"status": "RUNNING" if executionArn in self.running else "FAILED"}

    def stop_execution(self, executionArn: str, **_why: str) -> None:  # noqa: N803
        del self.running[executionArn]


class Cloud:
    """The account, with a clock that sleeping turns. `more`: other clients."""

    def __init__(self, **more: Any) -> None:
        self.api, self.metrics, self.machines = AliasApi(), Metrics(), Machines()
        self.now = 1_800_000_000.0
        self._clients = {"lambda": self.api, "cloudwatch": self.metrics, "stepfunctions": self.machines, **more}

    def client(self, service: str) -> Any:
        """The client of a service."""
        return self._clients[service]

    def sleep(self, seconds: float) -> None:
        """Turn the clock."""
        self.now += seconds


def stocked(where: str, root: Path, cloud: Cloud) -> Leader:
    """The registry at `where` with fashion@1 at prod and fashion@2; its code is what the function has."""
    access = open_access(where, None, Silent(), {})
    for version in (1, 2):
        release = access.opened.publish(build(root / f"build-{version}", name="fashion", content=bytes([version])))
        path = function_zip(release)
        assert path is not None
        cloud.api.code = base64.b64encode(bytes.fromhex(release.files[path].hex)).decode()
    move(access.opened.place, "fashion", 1)
    account = Account(where, cloud.client)
    return Leader(access=access, account=account, clock=lambda: cloud.now, sleep=cloud.sleep)
