"""What stands before an alias: an API, a load balancer, an address, or nothing. Pure.

Promises: an endpoint lets through what its function may work on, and no more; it may invoke the alias and nothing else.
"""

from __future__ import annotations

from typing import Any

from mlpack.core import digest
from mlpack.deploy.design.model import rate
from mlpack.deploy.design.parts import logs
from mlpack.deploy.graph import endpoints as graph
from mlpack.deploy.graph.endpoints import Auth, Route, Throttle
from mlpack.deploy.graph.functions import Permission
from mlpack.deploy.graph.values import Id, Joined, Node, Parameter, Ref, Value
from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Jwt

ENDPOINT = Id("Endpoint")
EVERYTHING = (Route(method="ANY", path="/"), Route(method="ANY", path="/{proxy+}"))
"""The package answers all paths, and 404 itself."""
PREFLIGHTS = tuple(Route(method="OPTIONS", path=route.path) for route in EVERYTHING)
"""Where the package has `serve.cors`, it answers browsers before they send credentials."""
_HTTP_MS, _REST_MS = 30_000, 29_000
_BALANCER_LETTERS = 32
SUBNETS = Parameter("Subnets", "subnets of at least two zones, in which it runs", kind="texts")
VPC = Parameter("Vpc", "the network of these subnets")


def endpoint(service: Service, alias: Id, *, burst: int | None = None) -> tuple[Node, ...]:
    """What is asked over HTTP, with its right to invoke the alias."""
    kind = service.deploy.endpoint.kind
    throttle = Throttle(rate=rate(service), burst=burst or service.burst)
    if kind == "http-api":
        return _http_api(service, alias, throttle)
    if kind == "rest":
        return _rest_api(service, alias, throttle)
    if kind == "url":
        return _url(service, alias)
    if kind == "alb":
        return _balanced_alias(service, alias)
    return ()


def address(service: Service) -> Value | None:
    """Where callers go."""
    return None if service.deploy.endpoint.kind == "none" else Ref(ENDPOINT, "url")


def auth_of(service: Service) -> Auth:
    """Who may ask; where nothing is said, those whose requests AWS can check."""
    asked = service.deploy.endpoint.auth or "iam"
    return graph.Jwt(issuer=asked.issuer, audience=asked.audience) if isinstance(asked, Jwt) else asked


def _may(alias: Id, service: str, source: Value, **more: Any) -> Permission:
    return Permission(id=Id("EndpointMay"), alias=alias, service=service, source=source, **more)


def _http_api(service: Service, alias: Id, throttle: Throttle) -> tuple[Node, ...]:
    return (
        logs(service, ENDPOINT, f"/aws/apigateway/{service.stack}"),
        graph.HttpApi(
            id=ENDPOINT,
            name=service.stack,
            alias=alias,
            auth=auth_of(service),
            routes=(*EVERYTHING, *(PREFLIGHTS if service.package.cors and auth_of(service) != "none" else ())),
            throttle=throttle,
            timeout_ms=_HTTP_MS,
            logs=Id(f"{ENDPOINT}Logs"),
        ),
        _may(alias, "apigateway.amazonaws.com", Joined((Ref(ENDPOINT, "execution_arn"), "/*"))),
    )


def _rest_api(service: Service, alias: Id, throttle: Throttle) -> tuple[Node, ...]:
    tenants = tuple(
        graph.Tenant(name=name, throttle=Throttle(rate=each, burst=max(1, round(throttle.burst * min(1.0, each / throttle.rate)))))
        for name, each in sorted(service.deploy.traffic.tenants.items())
    )
    if auth_of(service) == "key" and not tenants:
        tenants = (graph.Tenant(name="default", throttle=throttle),)
    return (
        logs(service, ENDPOINT, f"/aws/apigateway/{service.stack}"),
        graph.RestApi(
            id=ENDPOINT,
            name=service.stack,
            alias=alias,
            auth=auth_of(service),
            throttle=throttle,
            timeout_ms=_REST_MS,
            logs=Id(f"{ENDPOINT}Logs"),
            tenants=tenants,
            document=service.package.document,
            preflights=bool(service.package.cors),
        ),
        _may(alias, "apigateway.amazonaws.com", Joined((Ref(ENDPOINT, "execution_arn"), "/*"))),
    )


def _url(service: Service, alias: Id) -> tuple[Node, ...]:
    if auth_of(service) == "none":
        by_url = Permission(id=Id("EndpointMayInvoke"), alias=alias, service="*", source="", by_url=True)
        return (graph.FunctionUrl(id=ENDPOINT, alias=alias, auth="none"), _may(alias, "*", "", function_url="NONE"), by_url)
    return (graph.FunctionUrl(id=ENDPOINT, alias=alias, auth="iam"),)


def callers(service: Service) -> graph.SecurityGroup:
    """Who reaches a load balancer: anybody, or those who have a group of the environment's."""
    internal = service.deploy.endpoint.internal
    who: Value = Parameter("CallersGroup", "the security group of those who ask") if internal else "0.0.0.0/0"
    ports = ((443, who),) if internal else ((80, who), (443, who))
    return graph.SecurityGroup(id=Id("Callers"), description=f"those who ask {service.stack}", vpc=VPC, ingress=ports)


def balancer(service: Service, target: Id, other: Id | None = None) -> tuple[Node, ...]:
    """A load balancer before a group of targets."""
    return (
        callers(service),
        graph.LoadBalancer(
            id=ENDPOINT,
            name=balancer_name(service.stack),
            subnets=SUBNETS,
            vpc=VPC,
            certificate=Parameter("Certificate", "the ARN of the certificate for the load balancer's name"),
            internal=service.deploy.endpoint.internal,
            target=target,
            other=other,
            security_group=Id("Callers"),
        ),
    )


def balancer_name(stack: str) -> str:
    """A stack's name as a load balancer takes it: 32 letters, and no `internal-` at their begin. Each stack has its own."""
    if len(stack) <= _BALANCER_LETTERS and not stack.startswith("internal-"):
        return stack
    return f"{stack.removeprefix('internal-')[: _BALANCER_LETTERS - 9].rstrip('-')}-{digest.of_bytes(stack.encode()).hex[:8]}"


def _balanced_alias(service: Service, alias: Id) -> tuple[Node, ...]:
    target = graph.TargetGroup(id=Id("Targets"), alias=alias)
    may = _may(alias, "elasticloadbalancing.amazonaws.com", Ref(target.id))
    return (target, may, *balancer(service, target.id))
