"""Tasks, their services and the machines under them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlpack.deploy.check.facts.reading import Facts, Part, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, number, said

FARGATE_MB = {
    256: (512, 2048, 1024), 512: (1024, 4096, 1024), 1024: (2048, 8192, 1024), 2048: (4096, 16_384, 1024),
    4096: (8192, 30_720, 1024), 8192: (16_384, 61_440, 4096), 16_384: (32_768, 122_880, 8192),
}  # fmt: skip
"""Sizes of Fargate by CPU: least and most memory, and its steps (docs.aws.amazon.com, "Fargate task CPU and memory")."""


def task(facts: Facts) -> Iterator[Finding]:
    """Sizes, GPUs, and how long a container may take to stop."""
    for part in facts.of("task"):
        fargate = "FARGATE" in (part["on"] or ())
        if fargate:
            yield from _fargate(facts, part)
        containers = part["containers"] if isinstance(part["containers"], list) else []
        if not containers:
            yield said(facts, part, "containers", "there are none")
        for at, container in enumerate(containers):
            for reason in _container(facts, container, fargate):
                yield Finding(facts.file, f"{part.key('containers')}.{at}", reason)
        for name in ("role", "execution role"):
            if facts.get(part[name], "role") is None:
                yield said(facts, part, name, "names no role of this deployment")


def _fargate(facts: Facts, part: Part) -> Iterator[Finding]:
    cpu, memory = number(part["cpu"]), number(part["memory"])
    if cpu not in FARGATE_MB:
        yield said(facts, part, "cpu", f"Fargate has no {part['cpu']}: {', '.join(map(str, FARGATE_MB))}")
        return
    least, most, step = FARGATE_MB[int(cpu)]
    small = cpu == 256 and memory == 512
    if memory is None or not least <= memory <= most or (memory % step and not small):
        yield said(facts, part, "memory", f"{part['memory']} MB: with {cpu:g} of CPU, {least} to {most} in steps of {step}")


def _container(facts: Facts, container: Mapping[str, Any], fargate: bool) -> Iterator[str]:
    if fargate and any(each.get("type") == "GPU" for each in container.get("resource_requirements") or ()):
        yield "Fargate has no GPUs: use EC2 machines (capacity provider)"
    stop = number(container.get("stop_timeout"))
    if stop is not None and stop > 120:
        yield f"stops in {stop:g} s: ECS kills after 120 s, and Spot takes the machine away after as many"
    logging = container.get("log_configuration") or {}
    group = (logging.get("options") or {}).get("awslogs-group")
    if logging.get("log_driver") != "awslogs" or facts.get(group, "logs") is None:
        yield "writes its lines to no log group of this deployment"
    for each in container.get("environment") or ():
        if each.get("value") is None:
            yield f"{each.get('name')} has no value"


def service(facts: Facts) -> Iterator[Finding]:
    """What tasks run on, and that a balancer finds their port."""
    providers = {meant(part["cluster"]): part["providers"] or [] for part in facts.of("cluster providers")}
    for part in facts.of("service"):
        strategy = [each for each in part["strategy"] or () if isinstance(each, Mapping)]
        if strategy and part["launch type"] is not None:
            yield said(facts, part, "launch type", "a launch type beside a strategy of capacity providers: one of them has to go")
        if sum(1 for each in strategy if number(each.get("base"))) > 1:
            yield said(facts, part, "strategy", "two providers have a base: one has it at most")
        if strategy and not any(number(each.get("weight")) for each in strategy):
            yield said(facts, part, "strategy", "no provider has a weight: nothing would run")
        for each in strategy:
            if each.get("capacity_provider") not in providers.get(meant(part["cluster"]), ()):
                yield said(facts, part, "strategy", f"{each.get('capacity_provider')} is no provider of its cluster")
        owner = facts.get(part["task"], "task")
        if owner is None:
            yield said(facts, part, "task", "names no task of this deployment")
            continue
        yield from _on(facts, part, owner, strategy)
        if part["breaker"] is not True:
            yield said(facts, part, "breaker", "without a breaker a task that never starts is started for ever")


def _on(facts: Facts, part: Part, owner: Part, strategy: list[Mapping[str, Any]]) -> Iterator[Finding]:
    names = {str(each.get("capacity_provider")) for each in strategy}
    if "FARGATE" in (owner["on"] or ()) and any(not name.startswith("FARGATE") for name in names):
        yield said(facts, part, "strategy", f"{owner.id} is for Fargate, and runs on {', '.join(sorted(names))}")
    if "EC2" in (owner["on"] or ()) and any(name.startswith("FARGATE") for name in names):
        yield said(facts, part, "strategy", f"{owner.id} is for EC2, and Fargate cannot run it")
    ports = {mapping.get("container_port") for each in owner["containers"] or () for mapping in each.get("port_mappings") or ()}
    if part["port"] is not None and part["port"] not in ports:
        yield said(facts, part, "port", f"no container of {owner.id} listens at {part['port']}")


def capacity(facts: Facts) -> Iterator[Finding]:
    """That machines are drained before they go, and answer no strangers for their role."""
    for part in facts.of("capacity"):
        if part["draining"] != "ENABLED":
            yield said(facts, part, "draining", "tasks would be killed with their machine: ENABLED drains them first")
        if part["protection"] == "ENABLED" and part["scaling"] != "ENABLED":
            yield said(facts, part, "protection", "is for managed scaling alone")
    for part in facts.of("launch"):
        if part["tokens"] != "required":
            yield said(facts, part, "tokens", "has to be required: without tokens any request from inside can take the role")
        if part["encrypted"] is not True:
            yield said(facts, part, "encrypted", "its disk is not encrypted")


RULES: tuple[Rule, ...] = (task, service, capacity)
