"""Nested facts in one form: names in snake_case, metrics as one list, numbers as numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NESTED = {"insights", "containers", "strategy", "kinds"}
_NUMBERS = {"amount", "least", "most", "rate", "burst", "threshold", "value", "cpu", "memory"}


def formed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a resource as rules read them."""
    result = {name: value for name, value in facts.items() if value is not None}
    for name in _NESTED & set(result):
        result[name] = snake(result[name])
    for name in _NUMBERS & set(result):
        result[name] = number(result[name])
    if "ingress" in result:
        result["ingress"] = sorted(_doors(result["ingress"]))
    if "metrics" in result or "metric" in result:
        listed = result.get("metrics")
        result["metrics"] = [_query(each) for each in listed] if isinstance(listed, list) else [_single(result)]
        for name in ("namespace", "metric", "dimensions", "statistic", "extended", "period"):
            result.pop(name, None)
    return result


def snake(tree: Any) -> Any:
    """A tree with its keys in snake_case."""
    if isinstance(tree, Mapping):
        return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key)).lower(): snake(value) for key, value in tree.items()}
    return [snake(value) for value in tree] if isinstance(tree, list) else tree


def number(value: Any) -> Any:
    """A number that may be written as a text."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value


def _query(entry: Any) -> dict[str, Any]:
    """One of the metrics of an alarm or a scaling policy."""
    entry = snake(entry) if isinstance(entry, Mapping) else {}
    result = {"id": entry.get("id"), "returned": bool(entry.get("return_data", True))}
    if entry.get("expression") is not None:
        return result | {"expression": entry["expression"]}
    stat = entry.get("metric_stat") or entry.get("metric") or {}
    stat = stat if isinstance(stat, Mapping) else {}
    within = stat.get("metric")
    inner = within if isinstance(within, Mapping) else stat
    return result | _metric(inner, stat.get("stat"), stat.get("period"))


def _single(facts: Mapping[str, Any]) -> dict[str, Any]:
    named = {"namespace": facts.get("namespace"), "metric_name": facts.get("metric"), "dimensions": facts.get("dimensions")}
    return {"id": None, "returned": True} | _metric(named, facts.get("statistic", facts.get("extended")), facts.get("period"))


def _metric(named: Mapping[str, Any], statistic: Any, period: Any) -> dict[str, Any]:
    where = named.get("dimensions") or {}
    if isinstance(where, list):
        where = [snake(each) for each in where if isinstance(each, Mapping)]
        where = {each.get("name"): each.get("value") for each in where}
    # in Terraform the names of dimensions are keys, which `snake` has changed
    names = {re.sub(r"_", "", str(key)).lower(): value for key, value in where.items()}
    result = {"namespace": named.get("namespace"), "name": named.get("metric_name"), "dimensions": names, "statistic": statistic}
    return result | ({"period": period} if period is not None else {})


def _doors(rules: Any) -> list[tuple[Any, Any, str]]:
    """(from port, to port, who) of each rule of a security group."""
    result = []
    for rule in rules if isinstance(rules, list) else [rules]:
        rule = snake(rule) if isinstance(rule, Mapping) else {}
        who = [rule.get("cidr_ip"), rule.get("cidr_ipv6"), rule.get("source_security_group_id")]
        who += [each for name in ("cidr_blocks", "ipv6_cidr_blocks", "security_groups") for each in rule.get(name) or []]
        result += [(rule.get("from_port"), rule.get("to_port"), str(each)) for each in who if each]
    return result
