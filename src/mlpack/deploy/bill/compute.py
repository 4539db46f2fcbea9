"""The price of what computes: functions, environments that are kept, tasks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlpack.deploy.bill.prices import HOURS, PRICES, SECONDS
from mlpack.deploy.bill.records import Line
from mlpack.deploy.bill.use import LOOKS, ROLLOUTS, Use
from mlpack.deploy.graph.functions import Function, Provisioned
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Scaling, Service, Task
from mlpack.pipeline.estimates.devices import DEVICES
from mlpack.targets.prices import FARGATE, LAMBDA

UNKNOWN = "unknown"
"""The price of what has none here: the bill says so."""
_INSIGHTS = 8 + 11 + 6
"""Metrics of Container Insights for a cluster, a service and a task's definition (aws.amazon.com/cloudwatch/pricing, example 8)."""


def function(node: Function, use: Use) -> Iterator[Line]:
    """The function that callers reach by its requests; another one by the looks of rollouts."""
    rate = LAMBDA[node.architecture]
    gb = node.memory_mb / 1024
    front = use.front
    if front is None or front.id != node.id:
        runs = ROLLOUTS * LOOKS
        yield Line(
            component="coordination", what=f"the function {node.name}", prices=(f"LAMBDA[{node.architecture}]",),
            how=f"{runs} runs a month of 1 s with {node.memory_mb} MB",
            month_usd=runs * (gb * rate.gb_second_usd + rate.million_requests_usd / 1e6),
        )  # fmt: skip
        return
    kept = [one for one in use.graph.of(Provisioned) if use.of_alias(one.alias).id == node.id]
    share = sum(_share(one, use) for one in kept) if kept else 0.0
    warm = PRICES[f"provisioned use {node.architecture}"].usd
    gb_second = share * warm + (1 - share) * rate.gb_second_usd
    yield Line(
        component="model" if use.program == "function" else "coordination", what=f"requests to {node.name}",
        how=f"{use.answer_ms:g} ms with {node.memory_mb} MB",
        prices=(f"LAMBDA[{node.architecture}]", *((f"provisioned use {node.architecture}",) if kept else ())),
        per_1k_usd=use.answer_ms * gb * gb_second + rate.million_requests_usd / 1000,
    )  # fmt: skip
    cold_ms = use.service.measured.cold_start_ms
    if cold_ms and use.program == "function" and share < 1:
        yield Line(
            component="model", what=f"cold starts of {node.name}", prices=(f"LAMBDA[{node.architecture}]",),
            how=f"{100 * use.cold_share:.2g} % of requests, {cold_ms:.0f} ms each",
            per_1k_usd=(1 - share) * use.cold_share * math.ceil(cold_ms) * gb * rate.gb_second_usd,
        )  # fmt: skip
    if node.snapstart:
        yield Line(
            component="provisioned", what=f"snapshots of {node.name}", prices=("snapshot", "restore"),
            how=f"one snapshot of {node.memory_mb} MB is kept, and restored for each cold start",
            month_usd=gb * SECONDS * PRICES["snapshot"].usd, per_1k_usd=1000 * use.cold_share * gb * PRICES["restore"].usd,
        )  # fmt: skip


def _share(node: Provisioned, use: Use) -> float:
    """Of a month in which environments are kept."""
    window = use.service.deploy.warm.when
    return window.share if node.schedule and window is not None else 1.0


def provisioned(node: Provisioned, use: Use) -> Iterator[Line]:
    """Environments that are kept, whether they are used or not."""
    of = use.of_alias(node.alias)
    count = max([node.count, *(count for _, count in node.schedule)])
    name = f"provisioned {of.architecture}"
    yield Line(
        component="provisioned", what=f"{count} environments of {of.name}", prices=(name,),
        how=f"{of.memory_mb} MB each, {100 * _share(node, use):.3g} % of the month",
        month_usd=count * of.memory_mb / 1024 * SECONDS * _share(node, use) * PRICES[name].usd,
    )  # fmt: skip


def tasks(node: Service, use: Use) -> Iterator[Line]:
    """The tasks of a service: the fewest are fixed, the others come with requests."""
    scaling = next((one for one in use.graph.of(Scaling) if one.service == node.id), None)
    least, most = (scaling.least, scaling.most) if scaling is not None else (node.count, node.count)
    mean = use.tasks(least, most)
    dear = sum(base for provider, base, _ in node.strategy if not _is_spot(provider, use))
    weights = sum(weight for _, _, weight in node.strategy)
    spot = sum(weight * _spot_share(provider, use) for provider, _, weight in node.strategy) / weights if weights else 0.0
    hourly, how, prices = _hourly(use.task(node.task), node, use)
    beyond = 1 - spot * (1 - PRICES["Spot"].usd)

    def month(count: float) -> float:
        return HOURS * hourly * (min(count, dear) + max(0.0, count - dear) * beyond)

    yield Line(
        component="model", what=f"{mean:.3g} tasks of {use.task(node.task).family}",
        how=f"{how}, {least} to {most} tasks, {100 * spot:.3g} % of those beyond the first {dear} on Spot",
        prices=(*prices, *(("Spot",) if spot else ())), month_usd=month(least),
        per_1k_usd=(month(mean) - month(least)) / (use.requests / 1000) if use.requests else 0.0,
    )  # fmt: skip
    if node.public_ip:
        yield Line(
            component="gateway", what="public addresses of tasks", prices=("address",), how=f"one for each of {mean:.3g} tasks",
            month_usd=least * HOURS * PRICES["address"].usd,
            per_1k_usd=(mean - least) * HOURS * PRICES["address"].usd / (use.requests / 1000) if use.requests else 0.0,
        )  # fmt: skip


def _hourly(task: Task, node: Service, use: Use) -> tuple[float, str, tuple[str, ...]]:
    """Dollars of a task's hour without Spot, in words, and where the price stands."""
    if task.on == "fargate":
        prices = FARGATE[task.architecture]
        vcpus, gb = task.cpu / 1024, task.memory_mb / 1024
        words = f"{vcpus:g} vCPU and {gb:g} GB on Fargate"
        return vcpus * prices.vcpu_hour_usd + gb * prices.gb_hour_usd, words, (f"FARGATE[{task.architecture}]",)
    known = {device.instance: device.usd_per_hour.value for device in DEVICES}
    types = [one for provider in _providers(node, use) for one in provider.instance_types]
    priced = [one for one in types if one in known]
    if not priced:
        return 0.0, f"no price of {' or '.join(types)} is known here", (UNKNOWN,)
    dearest = max(priced, key=known.__getitem__)
    return known[dearest], f"one task on each {dearest}", (f"DEVICES[{dearest}]",)


def _providers(node: Service, use: Use) -> list[CapacityProvider]:
    names = {provider for provider, _, _ in node.strategy}
    return [one for one in use.graph.of(CapacityProvider) if one.id in names]


def _is_spot(provider: str, use: Use) -> bool:
    return _spot_share(provider, use) >= 1


def _spot_share(provider: str, use: Use) -> float:
    for one in use.graph.of(CapacityProvider):
        if one.id == provider:
            return one.spot_share
    return 1.0 if provider == "FARGATE_SPOT" else 0.0


def insights(node: Cluster, _: Use) -> Iterator[Line]:
    """Container Insights, which counts tasks: scaling needs it."""
    if node.insights:
        yield Line(
            component="observability", what=f"Container Insights of {node.name}", prices=("metric",),
            how=f"{_INSIGHTS} metrics of a cluster, a service and its tasks", month_usd=_INSIGHTS * PRICES["metric"].usd,
        )  # fmt: skip
