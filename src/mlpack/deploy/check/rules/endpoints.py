"""Gateways, addresses and balancers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlpack.deploy.check.facts.reading import Facts, Part, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, function_of, number, said

HTTP_MS, REST_MS = 30_000, 29_000
AUTHORIZATIONS = ("NONE", "AWS_IAM", "JWT", "CUSTOM")


def stage(facts: Facts) -> Iterator[Finding]:
    """That a stage throttles below what its function can run, and says who asked."""
    for kind in ("stage", "rest stage"):
        for part in facts.of(kind):
            if facts.get(part["logs"], "logs") is None:
                yield said(facts, part, "logs", "writes its access logs to no log group of this deployment")
            if "rate" not in part.paths:
                continue
            owner = _behind(facts, part)
            burst, reserved = number(part["burst"]), number(owner["reserved"]) if owner is not None else None
            if not number(part["rate"]) or not burst:
                yield said(
                    facts, part, "rate", "without a throttle callers see Lambda's 429 and 5xx in the place of the gateway's 429"
                )
            elif reserved is not None and burst > reserved:
                yield said(facts, part, "burst", f"{burst:g} at once are more than the {reserved:g} environments reserved")


def _behind(facts: Facts, part: Part) -> Part | None:
    for each in facts.of("integration"):
        if meant(each["api"]) == meant(part["api"]):
            return function_of(facts, each["alias"])
    return None


def integration(facts: Facts) -> Iterator[Finding]:
    """That the function has answered before its gateway gives up."""
    for part in facts.of("integration"):
        most = number(part["timeout"])
        if most is None or not 50 <= most <= HTTP_MS:
            yield said(facts, part, "timeout", f"{part['timeout']} ms is outside 50 to {HTTP_MS}")
        owner = function_of(facts, part["alias"])
        timeout = number(owner["timeout"]) if owner is not None else None
        if owner is not None and timeout is not None and most is not None and timeout * 1000 > most:
            yield said(
                facts, owner, "timeout", f"{timeout:g} s, and the gateway gives up after {most / 1000:g} s: nobody hears the answer"
            )


def route(facts: Facts) -> Iterator[Finding]:
    """That a route says who may ask."""
    apis = set()
    for part in facts.of("route"):
        apis.add(meant(part["api"]))
        if part["auth"] not in AUTHORIZATIONS:
            yield said(facts, part, "auth", f"{part['auth']} is none of {', '.join(AUTHORIZATIONS)}: say who may ask")
        if part["auth"] == "JWT" and facts.get(part["authorizer"], "authorizer") is None:
            yield said(facts, part, "authorizer", "asks for tokens and names nobody who checks them")
    for part in facts.of("api"):
        if part.id not in apis:
            yield said(facts, part, "", "has no route")
        if "*" in (part["origins"] or ()) and any(each["auth"] != "NONE" for each in facts.of("route")):
            yield said(facts, part, "origins", "lets every page of the web ask with its reader's rights: name the origins")
    for part in facts.of("authorizer"):
        if not str(part["issuer"]).startswith(("https://", "<")):
            yield said(facts, part, "issuer", f"{part['issuer']} is no https address")
        if not part["audience"]:
            yield said(facts, part, "audience", "takes tokens that were made for others")


def rest(facts: Facts) -> Iterator[Finding]:
    """That each method of a REST API goes to the alias, in time, and that keys are asked for where there are plans."""
    keyed = any(facts.of("plan"))
    for part in facts.of("rest"):
        body = part["body"] if isinstance(part["body"], Mapping) else {}
        for path, item in (body.get("paths") or {}).items():
            for method, each in item.items():
                made = each.get("x-amazon-apigateway-integration") if isinstance(each, Mapping) else None
                where = f"{part.key('body')}.paths.{path}.{method}"
                if made is None:
                    if isinstance(each, Mapping):
                        yield Finding(facts.file, where, "has no integration: it would answer 500")
                    continue
                timeout = number(made.get("timeoutInMillis"))
                if timeout is None or not 50 <= timeout <= REST_MS:
                    yield Finding(facts.file, where, f"timeoutInMillis {made.get('timeoutInMillis')} is outside 50 to {REST_MS}")
                if facts.get(str(made.get("uri", "")).partition("functions/")[2], "alias") is None:
                    yield Finding(facts.file, where, "goes to no alias of this deployment: a rollout would not reach it")
                if keyed and method != "options" and not each.get("security"):
                    yield Finding(facts.file, where, "asks for no key, and the plans of tenants throttle by key")
    joined = {(meant(part["key"]), meant(part["plan"])) for part in facts.of("plan key")}
    for part in facts.of("plan"):
        if part.id not in {plan for _, plan in joined}:
            yield said(facts, part, "", "no key belongs to this plan")
        if not number(part["rate"]) or not number(part["burst"]):
            yield said(facts, part, "rate", "throttles nothing")


def url(facts: Facts) -> Iterator[Finding]:
    """That a function's address says who may ask."""
    for part in facts.of("url"):
        if part["auth"] not in ("AWS_IAM", "NONE"):
            yield said(facts, part, "auth", f"{part['auth']} is neither AWS_IAM nor NONE")
        if part["auth"] == "AWS_IAM":
            continue
        if not any(each["url"] == "NONE" for each in facts.of("permission")):
            yield said(facts, part, "auth", "is open, and nothing lets anybody invoke it: every request would be refused")
        elif not any(each["by url"] is True for each in facts.of("permission")):
            why = "an address takes lambda:InvokeFunction, too (InvokedViaFunctionUrl): every request would be refused"
            yield said(facts, part, "auth", why)


def balancer(facts: Facts) -> Iterator[Finding]:
    """TLS, groups that exist, doors that are meant."""
    for part in facts.of("listener"):
        if part["protocol"] == "HTTP" and part["action"] != "redirect":
            yield said(facts, part, "protocol", "answers without TLS")
        if part["protocol"] == "HTTPS" and not part["certificate"]:
            yield said(facts, part, "certificate", "has none")
        if part["protocol"] == "HTTPS" and "TLS13" not in str(part["policy"]):
            yield said(facts, part, "policy", f"{part['policy']} lets old versions of TLS in")
        if part["action"] == "forward" and facts.get(part["first"], "target group") is None:
            yield said(facts, part, "first", "names no target group of this deployment")
    for part in facts.of("balancer"):
        if not part["groups"]:
            yield said(
                facts, part, "groups", "has no security group of its own: the network's default lets nobody in, or everybody"
            )
    for part in facts.of("security group"):
        for port, last, who in part["ingress"] or ():
            if who in ("0.0.0.0/0", "::/0") and (port != last or port not in (80, 443)):
                yield said(facts, part, "ingress", f"lets everybody in at {port} to {last}")


RULES: tuple[Rule, ...] = (stage, integration, route, rest, url, balancer)
