"""What a simulation has to know of a deployment: a few numbers out of its graph, kept beside its files as `simulation.json`.

Promises: the numbers are the graph's own and the policy is the one that the controller gets; read again they are checked.
Will not: read an account, or a package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.core.files import bounded
from mlpack.deploy import limits
from mlpack.deploy.graph.endpoints import HttpApi, RestApi
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.tasks import Scaling
from mlpack.deploy.service import Service
from mlpack.deploy.simulate.load import Place
from mlpack.deploy.simulate.pool import LEAST_CATCH_UP_S, Pool
from mlpack.errors import RecipeError
from mlpack_control import Policy

FILE = "simulation.json"
GATEWAY_S = 29.0


def facts(service: Service, graph: Graph, policy: Policy | None) -> dict[str, Any]:
    """The document. `policy`: None where CodeDeploy shifts the traffic."""
    p95 = service.p95_ms
    document: dict[str, Any] = {
        "service": graph.name,
        "peak_rps": service.deploy.traffic.peak_rps,
        "mean_rps": service.deploy.traffic.mean_rps,
        "latency_ms": {"p50": service.measured.p50_ms or p95 / 1.5, "p95": p95, "slow": service.slo_p95_ms},
        "cold_ms": service.measured.cold_start_ms or 0.0,
    }
    if policy is not None:
        document["policy"] = policy.json()
    function = limits.front(graph)
    if function is not None and service.package.kind != "worker":
        apis: tuple[HttpApi | RestApi, ...] = (*graph.of(HttpApi), *graph.of(RestApi))
        document["function"] = {
            "reserved": function.reserved or service.deploy.traffic.account - limits.UNRESERVED,
            "timeout_s": min(float(function.timeout_s), *(api.timeout_ms / 1000 for api in apis), GATEWAY_S),
            "throttle": {"rate": apis[0].throttle.rate, "burst": apis[0].throttle.burst} if apis else None,
        }
    for scaling in graph.of(Scaling):
        document["pool"] = {
            "least": scaling.least,
            "most": scaling.most,
            "rate": limits.per_task(service),
            "batch": service.package.max_batch,
            "wait_s": service.deploy.worker.wait_s,
            "in_cooldown_s": scaling.in_cooldown_s,
            "out_cooldown_s": scaling.out_cooldown_s,
            "receives": service.deploy.worker.receives,
        }
    return document


def read(directory: Path) -> dict[str, Any]:
    """The document of a directory. RecipeError where there is none, or it is not in its form."""
    path = directory / FILE
    try:
        document = bounded.load_json(path)
    except FileNotFoundError:
        raise RecipeError(f"{directory}: has no {FILE}: `mlpack deploy write SOURCE -o {directory}` writes one") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read as JSON ({error}); `mlpack deploy write` writes it anew") from None
    try:
        for key in ("peak_rps", "mean_rps", "cold_ms"):
            _number(document[key], key)
        for key in ("p50", "p95", "slow"):
            _number(document["latency_ms"][key], key, positive=True)
        policy_of(document)
        place_of(document)
        pool_of(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(f"{path}: is not in its form ({error}); `mlpack deploy write` writes it anew") from None
    return dict(document)


def policy_of(document: Mapping[str, Any]) -> Policy | None:
    """What the controller goes by; None where it has nothing to move."""
    return Policy.of(document["policy"]) if document.get("policy") is not None else None


def place_of(document: Mapping[str, Any]) -> Place | None:
    """What callers meet, where it is a function."""
    function = document.get("function")
    if function is None:
        return None
    throttle, latency = function["throttle"], document["latency_ms"]
    return Place(
        p50_s=latency["p50"] / 1000,
        p95_s=latency["p95"] / 1000,
        cold_s=document["cold_ms"] / 1000,
        reserved=int(_number(function["reserved"], "reserved", positive=True)),
        timeout_s=_number(function["timeout_s"], "timeout_s", positive=True),
        rate=None if throttle is None else _number(throttle["rate"], "rate", positive=True),
        burst=None if throttle is None else int(_number(throttle["burst"], "burst", positive=True)),
    )


def pool_of(document: Mapping[str, Any]) -> Pool | None:
    """The tasks behind the queue, where there are some."""
    told = document.get("pool")
    if told is None:
        return None
    numbers = {key: _number(told[key], key) for key in ("rate", "wait_s", "in_cooldown_s", "out_cooldown_s")}
    wholes = {key: int(_number(told[key], key)) for key in ("least", "most", "batch", "receives")}
    if not numbers["rate"] or not numbers["wait_s"]:
        raise ValueError("rate or wait_s is 0")
    catch_up_s = max(numbers["wait_s"] / 2, LEAST_CATCH_UP_S)
    return Pool(**wholes, **numbers, catch_up_s=catch_up_s)  # type: ignore[arg-type]


def _number(value: Any, name: str, *, positive: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is no number from 0")
    if positive and not value:
        raise ValueError(f"{name} is 0")
    return float(value)
