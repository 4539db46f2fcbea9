"""Who may do what, tags, and references to nothing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlpack.deploy.check.facts.reading import Facts, Unreadable
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, said
from mlpack.deploy.grants import WILDCARDS

TAGS = ("service", "team", "env")
UNTAGGED = frozenset(
    (
        "rights", "version", "alias", "permission", "queue policy", "bucket policy", "topic policy", "cluster providers", "profile",
        "launch", "scaling", "scaling policy", "dashboard", "budget", "monitor", "subscription", "integration", "route",
        "authorizer", "rest", "plan key", "url", "listener", "rule", "schedule", "warmth", "group",
    )
)  # fmt: skip
"""Kinds without tags in CloudFormation, or whose tags nobody pays by."""
_ACTION = re.compile(r"[a-z0-9-]+:[A-Z][A-Za-z0-9]*")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def rights(facts: Facts) -> Iterator[Finding]:
    """That each right names its actions and its resources, but for the written list."""
    for part in facts.of("rights"):
        for statement in _statements(part["policy"]):
            if statement.get("Effect") != "Allow":
                continue
            for action in map(str, _listed(statement.get("Action"))):
                if not _ACTION.fullmatch(action):
                    yield said(facts, part, "policy", f"{action} is not one action: each right is named")
                elif "*" in _listed(statement.get("Resource")) and action not in WILDCARDS:
                    yield said(
                        facts, part, "policy", f"{action} for every resource: name them (grants.WILDCARDS lists the exceptions)"
                    )
            if "NotAction" in statement or "NotResource" in statement:
                yield said(facts, part, "policy", "says what is not allowed, and so allows everything else")
            if not _listed(statement.get("Resource")):
                yield said(facts, part, "policy", "a statement without resources allows nothing")
        if facts.get(part["role"], "role") is None:
            yield said(facts, part, "role", "belongs to no role of this deployment")


def _statements(policy: Any) -> list[Mapping[str, Any]]:
    return [each for each in _listed(policy.get("Statement")) if isinstance(each, Mapping)] if isinstance(policy, Mapping) else []


def trust(facts: Facts) -> Iterator[Finding]:
    """That a role is taken by one service."""
    for part in facts.of("role"):
        for statement in _statements(part["trust"]):
            principal = statement.get("Principal")
            service = principal.get("Service") if isinstance(principal, Mapping) else None
            if not isinstance(service, str) or not service.endswith(".amazonaws.com"):
                yield said(facts, part, "trust", f"{principal} may take it: a role of a deployment is taken by one service of AWS")


def resource_policies(facts: Facts) -> Iterator[Finding]:
    """That queues, buckets and topics let nobody in without a condition, and nobody without TLS."""
    for kind in ("queue policy", "bucket policy", "topic policy"):
        for part in facts.of(kind):
            statements = _statements(part["policy"])
            for statement in statements:
                outside = statement.get("Principal") in ("*", {"AWS": "*"}) or "Service" in str(statement.get("Principal"))
                if statement.get("Effect") == "Allow" and outside and not statement.get("Condition"):
                    yield said(facts, part, "policy", f"lets {statement.get('Principal')} in from every account")
            tls = (str(each.get("Condition")) for each in statements if each.get("Effect") == "Deny")
            if not any("SecureTransport" in condition for condition in tls):
                yield said(facts, part, "policy", "does not ask for TLS")


def tags(facts: Facts) -> Iterator[Finding]:
    """That whatever costs money says for which service, team and environment."""
    if "" in facts.tags:
        missing = [tag for tag in TAGS if not facts.tags[""].get(tag)]
        if missing:
            yield Finding(
                facts.file, "provider.aws.default_tags.tags", f"lacks {', '.join(missing)}: nobody could tell whose costs these are"
            )
        return
    for part in facts.parts.values():
        missing = [tag for tag in TAGS if not facts.tags.get(part.id, {}).get(tag)]
        if part.kind not in UNTAGGED and missing:
            yield Finding(facts.file, f"{part.place}.Tags", f"lacks {', '.join(missing)}: nobody could tell whose costs these are")


def documents(facts: Facts) -> Iterator[Finding]:
    """That what should be JSON is."""
    for part in facts.parts.values():
        for name, value in part.facts.items():
            if isinstance(value, Unreadable):
                yield said(facts, part, name, repr(value))


def references(facts: Facts) -> Iterator[Finding]:
    """That nothing names what is not there."""
    known = {*facts.parts, *facts.unknown, *facts.text.get("Parameters", {}), *facts.text.get("variable", {})}
    known |= {"account", "region", "partition", "AWS"}
    for part in facts.parts.values():
        for name, value in part.facts.items():
            for word in _named(value):
                if word not in known:
                    yield said(facts, part, name, f"names {word}, which is not in this deployment")


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"<([A-Z]\w*)(?:[.:][\w:.]+)?>", value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _named(each)


def provider(facts: Facts) -> Iterator[Finding]:
    """That Terraform's provider is pinned: its schema is what the file was held against."""
    if "terraform" not in facts.text:
        return
    pinned = facts.text["terraform"].get("required_providers", {}).get("aws", {}).get("version")
    if not re.fullmatch(r"(~> |= ?)?\d+\.\d+\.\d+", str(pinned)):
        yield Finding(facts.file, "terraform.required_providers.aws.version", f"{pinned} is no one version (~> 5.100.0)")


def kinds(facts: Facts) -> Iterator[Finding]:
    """That a template without macros has no type of theirs."""
    for name in facts.unknown:
        kind = facts.text.get("Resources", {}).get(name, {}).get("Type", "")
        if str(kind).startswith("AWS::Serverless"):
            yield Finding(facts.file, f"Resources.{name}.Type", f"{kind} needs a macro: linters would not see what becomes of it")
    if "Transform" in facts.text:
        yield Finding(facts.file, "Transform", "a macro changes the template where nobody checks it")


RULES: tuple[Rule, ...] = (rights, trust, resource_policies, tags, documents, references, provider, kinds)
