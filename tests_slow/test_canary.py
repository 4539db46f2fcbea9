"""A canary end to end on this machine: two versions of a package are booted, a local gateway sends each request to one of them by
the weights of the alias, their own log lines become the counts that the controller reads, and the controller moves the weights.

What is ours is real: runtime, log lines, controller, evidence. What is AWS's is emulated: the Runtime API, the alias with its
refusals, the gateway (token, throttle, choice of a version) and CloudWatch's sums. The clock is turned, not waited for.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from tests.support.rollouts.alias_api import AliasApi
from tests.support.rollouts.rollouts import Memory
from tests.support.runtime.runtime_apis import RuntimeApi
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.token_issuer import Signer
from tests.support.serving.gateway import function_url

from mlpack_control import Policy, replay
from mlpack_control.handler import Controller

pytestmark = pytest.mark.slow

SERVICE, ALIAS, ISSUER = "tiny-prod", "live", "https://issuer.example"
PER_MINUTE = 240
BODY = json.dumps({"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [2]}}).encode()
ROLLOUT: dict[str, Any] = {
    "id": "tiny-prod-1",
    "target": {"kind": "function", "function": SERVICE, "alias": ALIAS},
    "release": {"name": "tiny", "version": 8, "sha256": "new-code"},
    "counting": {"service": SERVICE, "late_s": 0, "alarms": []},
    "policy": {
        "steps": [25, 50, 100],
        "rules": {"errors": {"limit": 0.05, "margin": 0.02}, "slow": {"limit": 0.2, "margin": 0.1}},
        "bake_s": 120,
        "look_s": 60,
    },
}
BAD_HOOK = """
def postprocess(outputs, call=None):
    raise RuntimeError("the table of labels is gone")
"""


class Version:
    """A version of the function: a process that has the package, behind a Runtime API of its own. `lines`: of its log."""

    def __init__(self, root: Path, number: str) -> None:
        self.api, self.lines = RuntimeApi(), []
        self._alone = threading.Lock()
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_FUNCTION_NAME": SERVICE,
            "AWS_LAMBDA_FUNCTION_VERSION": number,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "MLPACK_SERVICE": SERVICE,
            "MLPACK_SLOW_MS": "600000",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-I", "-S", str(root / "bootstrap.py")]
        self._process = subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def invoke(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The function's answer; None where it failed, which is what the platform counts as an error."""
        with self._alone:
            path, answer, _ = self.api.invoke(event, Lambda_Runtime_Deadline_Ms="9999999999999")
        return answer if path.endswith("/response") else None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.api.close()


class Watch:
    """CloudWatch: sums by the minute, of what the platform counted and of the log lines' own metrics, by their own dimensions."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str, tuple[tuple[str, str], ...], str], dict[int, float]] = defaultdict(dict)

    def add(self, key: tuple[str, str, tuple[tuple[str, str], ...], str], at: int, value: float) -> None:
        minutes = self.sums[key]
        minutes[at] = minutes.get(at, 0.0) + value

    def embedded(self, line: dict[str, Any], at: int) -> None:
        """A line in the Embedded Metric Format, as CloudWatch reads it: each metric for each set of dimensions."""
        for block in line["_aws"]["CloudWatchMetrics"]:
            for names in block["Dimensions"]:
                dimensions = tuple((name, str(line[name])) for name in names)
                for metric in block["Metrics"]:
                    self.add((block["Namespace"], metric["Name"], dimensions, "Sum"), at, line[metric["Name"]])
                    self.add((block["Namespace"], metric["Name"], dimensions, "SampleCount"), at, 1)

    def invoked(self, version: str, at: int, failed: bool) -> None:
        dimensions = (("FunctionName", SERVICE), ("Resource", f"{SERVICE}:{ALIAS}"), ("ExecutedVersion", version))
        for name, value in (("Invocations", 1), ("Errors", failed)):
            self.add(("AWS/Lambda", name, dimensions, "Sum"), at, value)

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        results = []
        for query in request["MetricDataQueries"]:
            stat = query["MetricStat"]
            dimensions = tuple((each["Name"], each["Value"]) for each in stat["Metric"]["Dimensions"])
            found = self.sums.get((stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], dimensions, stat["Stat"]), {})
            inside = sorted((at, value) for at, value in found.items() if request["StartTime"] <= at < request["EndTime"])
            stamps = [datetime.fromtimestamp(at, UTC) for at, _ in inside]
            results.append({"Id": query["Id"], "Timestamps": stamps, "Values": [value for _, value in inside]})
        return {"MetricDataResults": results}

    def describe_alarms(self, **_: Any) -> dict[str, Any]:
        return {"MetricAlarms": []}


class Door:
    """The gateway: a token's signature, a throttle by the minute, and one of the alias's versions by chance, for each request."""

    def __init__(self, api: AliasApi, versions: dict[str, Version], watch: Watch, throttle: int) -> None:
        self.api, self.versions, self.watch, self.throttle = api, versions, watch, throttle
        self.signer, self.chance = Signer("RS256"), random.Random(7)
        self.seen: dict[str, int] = defaultdict(int)
        self.used = 0

    def ask(self, token: str, at: int) -> int:
        """A status."""
        if not self.takes(token):
            return 401
        self.used += 1
        if self.used > self.throttle:
            return 429
        main, weights = self.api.alias.main, self.api.alias.weights
        other, share = next(iter(weights.items()), (main, 0.0))
        version = other if self.chance.random() < share else main
        self.seen[version] += 1
        running = self.versions[version]
        before = len(running.lines)
        answer = running.invoke(function_url("POST", "/", "", [("content-type", "application/json")], BODY))
        self.watch.invoked(version, at, answer is None)
        for _ in range(15_000):
            if len(running.lines) > before:
                break
            threading.Event().wait(0.002)
        for line in running.lines[before:]:
            if "_aws" in line:
                self.watch.embedded(line, at)
        return 502 if answer is None else int(answer["statusCode"])

    def takes(self, token: str) -> bool:
        """What a JWT authorizer looks at: the signature by the issuer's key, the issuer, the audience and the end."""
        signed, _, signature = token.rpartition(".")
        try:
            self.signer.key.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_decoded(signed.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return False
        return claims["iss"] == ISSUER and claims["aud"] == "tiny" and claims["exp"] > 1_800_000_000

    def token(self, **more: Any) -> str:
        return self.signer.token(**{"iss": ISSUER, "aud": "tiny", "sub": "caller", "exp": 4_000_000_000, **more})


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Door, Memory]]:
    """Version 7 as it was, and version 8 whose hook may fail."""
    old = package(tmp_path / "old", affine)
    hooks = {"postprocess": "hooks:postprocess"} if request.param == "bad" else {}
    new = package(tmp_path / "new", affine, **hooks)
    (new / "app/hooks.py").write_text(BAD_HOOK)
    versions = {"7": Version(old, "7"), "8": Version(new, "8")}
    try:
        yield Door(AliasApi(name=SERVICE), versions, Watch(), throttle=PER_MINUTE), Memory()
    finally:
        for version in versions.values():
            version.close()


def lead(door: Door, trail: Memory) -> tuple[dict[str, Any], list[int]]:
    """What the state machine does: asks the controller, has it act, and lets a minute of traffic go by where it waits."""
    now, statuses = 0, []
    clients = {"lambda": door.api, "cloudwatch": door.watch}
    controller = Controller(clients.__getitem__, lambda: float(now), trail)
    token = door.token()
    document = controller.run({"do": "decide", "document": {"rollout": ROLLOUT}})
    for _ in range(60):
        action = document["action"]
        if action["kind"] == "end":
            break
        if action["kind"] in ("hold", "ask"):
            door.used = 0
            statuses += [door.ask(token, now // 60 * 60) for _ in range(PER_MINUTE // 2)]
            now += 60
        else:
            document = controller.run({"do": action["kind"], "document": document})
            if document["state"]["phase"] in ("finalised", "rolled_back"):
                break
        document = controller.run({"do": "decide", "document": document})
    return document, statuses


@pytest.mark.parametrize("account", ["good"], indirect=True)
def test_healthy_release_gets_all_the_traffic(account: tuple[Door, Memory]) -> None:
    door, trail = account
    document, statuses = lead(door, trail)
    assert document["state"]["phase"] == "finalised", trail.looks
    assert [(main, weights) for main, weights, _ in door.api.history] == [("7", {"8": 0.25}), ("7", {"8": 0.5}), ("8", {})]
    assert set(statuses) == {200}
    assert 0 < door.seen["8"] < door.seen["7"]
    assert all(each.same for each in replay(Policy.of(ROLLOUT["policy"]), trail.looks.values()))
    evidence = trail.looks[max(trail.looks)]["observed"]
    assert evidence["new"]["errors"]["package"][1] == evidence["new"]["errors"]["platform"][1] > 0


@pytest.mark.parametrize("account", ["bad"], indirect=True)
def test_release_whose_hook_fails_is_rolled_back(account: tuple[Door, Memory]) -> None:
    door, trail = account
    document, statuses = lead(door, trail)
    assert document["state"]["phase"] == "rolled_back", trail.looks
    assert [(main, weights) for main, weights, _ in door.api.history] == [("7", {"8": 0.25}), ("7", {})]
    assert statuses.count(500) == door.seen["8"] > 0
    assert trail.looks[max(trail.looks)]["why"].startswith("errors is bad: ")
    failed = [line for line in door.versions["8"].lines if line.get("errors")]
    assert len(failed) == statuses.count(500)
    door.used = 0
    assert {door.ask(door.token(), 6000) for _ in range(20)} == {200}


@pytest.mark.parametrize("account", ["good"], indirect=True)
def test_gateway_stops_forged_tokens_and_too_many(account: tuple[Door, Memory]) -> None:
    door, _ = account
    token = door.token()
    header, payload, signature = token.split(".")
    assert door.ask(f"{header}.{payload}.{signature[::-1]}", 0) == 401
    assert door.ask(Signer("RS256").token(iss=ISSUER, aud="tiny", exp=4_000_000_000), 0) == 401
    assert {door.ask(door.token(**wrong), 0) for wrong in ({"aud": "other"}, {"iss": "me"}, {"exp": 1})} == {401}
    assert not door.seen
    statuses = [door.ask(token, 0) for _ in range(PER_MINUTE + 5)]
    assert statuses.count(429) == 5
