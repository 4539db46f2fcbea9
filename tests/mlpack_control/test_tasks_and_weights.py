"""Workers and containers: what moves them, on services and a load balancer of moto."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.rollouts.metrics import Metrics, broken
from tests.support.rollouts.rollouts import ROLLOUT, Account, Memory, end_of, lead
from tests.support.services.aws_server import AwsServer

from mlpack_control.failures import NotReady, Overtaken, Refused
from mlpack_control.moving import mover

pytestmark = pytest.mark.slow


def rollout(target: dict[str, Any], mark: str = "fashion-prod-1", **policy: Any) -> dict[str, Any]:
    """A rollout whose errors the package alone counts."""
    rules = {"errors": {"limit": 0.01, "margin": 0.005, "sources": ["package"]}}
    return {**ROLLOUT, "id": mark, "target": target, "policy": {**ROLLOUT["policy"], "rules": rules, **policy}}


class Real(Account):
    """An account whose tasks and weights are moto's.."""

    def __init__(self, aws: AwsServer, metrics: Metrics | None = None) -> None:
        super().__init__(metrics=metrics or Metrics(), trail=Memory())
        self._aws: dict[str, Any] = {name: aws.client(name) for name in ("ecs", "elbv2")}

    def client(self, service: str) -> Any:
        return self._aws.get(service) or super().client(service)


@pytest.fixture
def workers(aws: AwsServer) -> dict[str, Any]:
    """Ten tasks of the old image, and a service for the new one."""
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="pool")
    ecs.register_task_definition(family="task", containerDefinitions=[{"name": "worker", "image": "x", "memory": 128}])
    for name, count in (("tasks", 10), ("next", 0)):
        ecs.create_service(cluster="pool", serviceName=name, taskDefinition="task", desiredCount=count)
    return {"kind": "workers", "cluster": "pool", "old": "tasks", "new": "next"}


@pytest.fixture
def container(aws: AwsServer) -> dict[str, Any]:
    """A listener of which the old group gets everything."""
    ec2, elb = aws.client("ec2"), aws.client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"][:2]]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate(zones)
    ]
    balancer = elb.create_load_balancer(Name="edge", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    groups = [
        elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")["TargetGroups"][0][
            "TargetGroupArn"
        ]
        for name in ("old", "next")
    ]
    listener = elb.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[{"Type": "forward", "TargetGroupArn": groups[0]}]
    )["Listeners"][0]["ListenerArn"]
    for group in groups:
        elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "10.0.0.9", "Port": 80}])
    return {"kind": "container", "listener": listener, "old": groups[0], "new": groups[1]}


def tasks(aws: AwsServer) -> dict[str, int]:
    """How many tasks each service wants."""
    found = aws.client("ecs").describe_services(cluster="pool", services=["tasks", "next"])["services"]
    return {service["serviceName"]: service["desiredCount"] for service in found}


def weights(aws: AwsServer, target: dict[str, Any]) -> dict[str, int]:
    """Each group's weight."""
    actions = aws.client("elbv2").describe_listeners(ListenerArns=[target["listener"]])["Listeners"][0]["DefaultActions"]
    groups = actions[0].get("ForwardConfig", {}).get("TargetGroups", [])
    names = {target["old"]: "old", target["new"]: "new"}
    return {names[each["TargetGroupArn"]]: each["Weight"] for each in groups}


def test_workers_go_by_shares_of_tasks_and_back_again(aws: AwsServer, workers: dict[str, Any]) -> None:
    account = Real(aws)
    assert lead(account, rollout(workers))["state"]["phase"] == "finalised"
    assert tasks(aws) == {"tasks": 0, "next": 10}
    document = lead(Real(aws), rollout(workers, "fashion-prod-2"))
    assert (document["state"]["old"], document["state"]["new"], tasks(aws)) == ("next", "tasks", {"tasks": 10, "next": 0})


def test_broken_workers_are_rolled_back(aws: AwsServer, workers: dict[str, Any]) -> None:
    bad = Metrics(lambda metric, version: broken(metric, "8" if version == "next" else version))
    assert lead(Real(aws, bad), rollout(workers))["state"]["phase"] == "rolled_back"
    assert tasks(aws) == {"tasks": 10, "next": 0}


def test_shares_of_workers_are_whole_tasks(aws: AwsServer, workers: dict[str, Any]) -> None:
    moves = mover(workers, "a", Real(aws).client)
    old, revision = moves.begin()
    new = moves.publish({})
    seen = []
    for percent in (5, 25, 50):
        moves.shift(old, new, percent, revision)
        seen.append(tuple(tasks(aws).values()))
    assert seen == [(9, 1), (8, 2), (5, 5)]
    with pytest.raises(Refused, match="both have tasks"):
        mover(workers, "b", Real(aws).client).begin()
    assert (moves.clear(), tasks(aws), moves.clear()) == (True, {"tasks": 10, "next": 0}, False)
    mover(workers, "b", Real(aws).client).begin()
    with pytest.raises(Overtaken, match="names another rollout"):
        moves.shift(old, new, 5, revision)


def test_a_containers_weights_are_those_of_the_steps(aws: AwsServer, container: dict[str, Any]) -> None:
    moves = mover(container, "a", Real(aws).client)
    old, revision = moves.begin()
    new = moves.publish({})
    moves.warm(new, 0)
    seen = []
    for percent in (5, 25, 50):
        revision = moves.shift(old, new, percent, revision)
        assert moves.shift(old, new, percent, "lost") == revision
        seen.append(weights(aws, container))
    assert seen == [{"old": 95, "new": 5}, {"old": 75, "new": 25}, {"old": 50, "new": 50}]
    with pytest.raises(Refused, match="both get traffic"):
        mover(container, "b", Real(aws).client).begin()
    assert (moves.clear(), weights(aws, container), moves.clear()) == (True, {"old": 100, "new": 0}, False)
    with pytest.raises(Overtaken, match="somebody moved it meanwhile"):
        moves.shift(old, new, 75, revision)
    assert moves.roll_back(old, new, "lost")


def test_a_second_rollout_of_a_container_goes_the_other_way(aws: AwsServer, container: dict[str, Any]) -> None:
    for mark in ("fashion-prod-1", "fashion-prod-2"):
        document = lead(Real(aws), rollout(container, mark))
        assert document["state"]["phase"] == "finalised"
    assert weights(aws, container) == {"old": 100, "new": 0}
    again = mover(container, "fashion-prod-3", Real(aws).client)
    old, revision = again.begin()
    again.shift(old, again.publish({}), 25, revision)
    account = Real(aws)
    assert account.brake(end_of(rollout(container, "fashion-prod-2"))) is False
    assert account.brake(end_of(rollout(container, "fashion-prod-3"))) is True
    assert weights(aws, container) == {"old": 100, "new": 0}


def test_a_container_without_healthy_tasks_is_waited_for(aws: AwsServer, container: dict[str, Any]) -> None:
    aws.client("elbv2").deregister_targets(TargetGroupArn=container["new"], Targets=[{"Id": "10.0.0.9", "Port": 80}])
    with pytest.raises(NotReady, match="no healthy target yet"):
        mover(container, "a", Real(aws).client).warm(container["new"], 0)
