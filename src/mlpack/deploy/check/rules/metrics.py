"""Alarms, composite alarms, dashboards and what scaling looks at. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlpack.deploy.check.facts.reading import Facts, Part, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, number, said, within
from mlpack.deploy.graph.watching import Metric
from mlpack.deploy.watch import emitted

_STATISTIC = re.compile(r"Average|Maximum|Minimum|SampleCount|Sum|IQM|(p|tm|tc|ts|wm)\d{1,2}(\.\d+)?|p100|(PR|TM|TC|TS|WM)\(.*\)")
_PERCENTILE = re.compile(r"p\d")
FUNCTIONS = frozenset(
    (
        "ABS", "ANOMALY_DETECTION_BAND", "AVG", "CEIL", "DATAPOINT_COUNT", "DAY", "DIFF", "DIFF_TIME", "EPOCH", "FILL", "FIRST",
        "LAST", "FLOOR", "HOUR", "IF", "INSIGHT_RULE_METRIC", "LAMBDA",
        "LOG", "LOG10", "MAX", "METRIC_COUNT", "METRICS", "MIN",
        "MINUTE", "MONTH", "PERIOD", "RATE", "REMOVE_EMPTY", "RUNNING_SUM", "SEARCH", "SERVICE_QUOTA", "SLICE", "SORT", "STDDEV",
        "SUM",
        "TIME_SERIES", "YEAR",
    )
)  # fmt: skip
COMPARISONS = ("GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold")
MISSING = ("notBreaching", "breaching", "ignore", "missing")
_SETS = {
    (namespace, name): {tuple(sorted(key.lower() for key in keys)): keys for keys in sets}
    for (namespace, name), sets in emitted.AWS.items()
}


def metric_problem(namespace: Any, name: Any, dimensions: Mapping[str, Any], statistic: Any) -> str | None:
    """What is wrong with a metric: nobody emits it, or not under these dimensions, or the statistic is none."""
    if not _STATISTIC.fullmatch(str(statistic)):
        return f"{statistic} is no statistic"
    keys = tuple(sorted(re.sub("_", "", str(key)).lower() for key in dimensions))
    known: Iterable[tuple[str, ...]] = _SETS.get((namespace, name), {}).values()
    if namespace not in {space for space, _ in _SETS}:
        known = emitted.OWN_DIMENSIONS
    for each in known:
        if tuple(sorted(key.lower() for key in each)) == keys:
            seen = Metric(namespace=namespace, name=name, dimensions=tuple((key, "") for key in each), statistic="Sum")
            return None if emitted.is_emitted(seen) else f"neither AWS nor mlpack's runtime emits {namespace} {name}"
    if (namespace, name) in _SETS or (namespace == emitted.NAMESPACE and name in emitted.OWN):
        return f"{namespace} {name} is not emitted by {', '.join(map(str, dimensions)) or 'no dimension'}"
    return f"neither AWS nor mlpack's runtime emits {namespace} {name}"


def formula_problem(formula: Any, ids: Iterable[Any]) -> str | None:
    """What is wrong with a formula of metric math."""
    text = re.sub(r"\"[^\"]*\"|'[^']*'", "''", str(formula))
    if text.count("(") != text.count(")"):
        return f"{formula}: brackets do not match"
    for name in re.findall(r"\b([A-Z][A-Z0-9_]*)\s*\(", text):
        if name not in FUNCTIONS:
            return f"{formula}: metric math has no {name}"
    for name in re.findall(r"(?<![\w.])([a-z]\w*)\b(?!\s*\()", text):
        if name not in set(ids):
            return f"{formula}: there is no {name}"
    return None


def queries_problems(queries: Any) -> Iterator[str]:
    """What is wrong with the metrics of an alarm or a policy."""
    ids = [each.get("id") for each in queries]
    if len(set(ids)) != len(ids):
        yield f"two have one id: {ids}"
    if sum(bool(each.get("returned")) for each in queries) != 1:
        yield "one of them, and no more, returns data"
    for each in queries:
        if len(queries) > 1 and not re.fullmatch(r"[a-z]\w*", str(each.get("id"))):
            yield f"{each.get('id')} is no id: the first letter is small"
        if "expression" in each:
            problem = formula_problem(each["expression"], ids)
        else:
            problem = metric_problem(each.get("namespace"), each.get("name"), each.get("dimensions") or {}, each.get("statistic"))
        if problem is not None:
            yield problem


def alarm(facts: Facts) -> Iterator[Finding]:
    """That an alarm can go red: by metrics that exist, in points that there are."""
    for part in facts.of("alarm"):
        for problem in queries_problems(part["metrics"] or ()):
            yield said(facts, part, "metrics", problem)
        for each in part["metrics"] or ():
            period = number(each.get("period", 60))
            if period is None or not (period in (10, 30) or (period >= 60 and period % 60 == 0)):
                yield said(facts, part, "period", f"a period is 10, 30 or a multiple of 60 seconds, not {each.get('period')}")
        periods, points = number(part["periods"]), number(part["points"])
        if periods is None or periods < 1:
            yield said(facts, part, "periods", f"{part['periods']} is no number of periods")
        elif points is not None and not 1 <= points <= periods:
            yield said(facts, part, "points", f"{points:g} of {periods:g}: it could never be red")
        if part["comparison"] not in COMPARISONS:
            yield said(facts, part, "comparison", f"{part['comparison']} is no comparison")
        if part["missing"] not in MISSING:
            yield said(facts, part, "missing", f"{part['missing']}: say what missing data means: {', '.join(MISSING)}")
        if part["low samples"] is not None and not any(
            _PERCENTILE.match(str(each.get("statistic"))) for each in part["metrics"] or ()
        ):
            yield said(facts, part, "low samples", "is for percentiles alone")
        if number(part["threshold"]) is None:
            yield said(facts, part, "threshold", f"{part['threshold']} is no number")


def heard(facts: Facts) -> Iterator[Finding]:
    """That an alarm has somebody who hears it: an action, or a composite alarm."""
    inner = {name for part in facts.of("composite") for name in re.findall(r"<(\w+)\.\w+>", str(part["rule"]))}
    for part in facts.of("alarm"):
        if not part["actions"] and part.id not in inner:
            yield said(facts, part, "actions", "nobody hears of it: no action, and no composite alarm asks for it")


def composite(facts: Facts) -> Iterator[Finding]:
    """That the rule of a composite alarm can be read, and asks for alarms that there are."""
    for part in facts.of("composite"):
        rule = str(part["rule"])
        for name in re.findall(r"\b([A-Za-z_]+)\s*\(", rule):
            if name not in ("ALARM", "OK", "INSUFFICIENT_DATA", "AT_LEAST", "NOT", "AND", "OR"):
                yield said(facts, part, "rule", f"{rule}: there is no {name}(...), but ALARM, OK and INSUFFICIENT_DATA")
        if rule.count("(") != rule.count(")"):
            yield said(facts, part, "rule", f"{rule}: brackets do not match")
        skeleton = re.sub(r"\w+\(\s*\"?[^()]*?\"?\s*\)", "x", rule)
        if not re.fullmatch(r"[\s()]*(NOT\s+)?x[\s()]*(\s(AND|OR)\s[\s()]*(NOT\s+)?x[\s()]*)*", skeleton):
            yield said(facts, part, "rule", f"{rule}: alarms are joined by AND, OR and NOT")
        for argument in re.findall(r"\(\s*\"?([^()\"]+)\"?\s*\)", rule):
            name = meant(argument)
            own = facts.parts.get(name) if name else None
            if own is None or own.kind not in ("alarm", "composite"):
                yield said(facts, part, "rule", f"{argument} is no alarm of this deployment")


def dashboard(facts: Facts) -> Iterator[Finding]:
    """That a dashboard shows metrics that exist, in its 24 columns."""
    for part in facts.of("dashboard"):
        body = part["body"]
        if not isinstance(body, Mapping):
            continue
        widgets = body.get("widgets")
        if not isinstance(widgets, list) or not widgets:
            yield said(facts, part, "body", "has no widgets")
            continue
        for at, widget in enumerate(widgets):
            where = f"{part.key('body')}.widgets.{at}"
            if (number(widget.get("x")) or 0) + (number(widget.get("width")) or 0) > 24:
                yield Finding(facts.file, where, "reaches beyond the 24 columns")
            for problem in _plots(widget.get("properties", {}).get("metrics") or ()):
                yield Finding(facts.file, f"{where}.properties.metrics", problem)


def _plots(rows: Any) -> Iterator[str]:
    options = [row[-1] if row and isinstance(row[-1], Mapping) else {} for row in rows]
    ids = [each.get("id") for each in options if each.get("id")]
    for row, option in zip(rows, options, strict=True):
        if "expression" in option:
            problem = formula_problem(option["expression"], ids)
        else:
            words = [word for word in row if not isinstance(word, Mapping)]
            pairs = dict(zip(words[2::2], words[3::2], strict=False))
            named = [*words, None, None][:2]
            problem = metric_problem(named[0], named[1], pairs, option.get("stat", "Average"))
        if problem is not None:
            yield problem


def scaling(facts: Facts) -> Iterator[Finding]:
    """That a pool has room between its bounds, and looks at metrics that exist."""
    for part in facts.of("scaling"):
        least, most = number(part["least"]), number(part["most"])
        if least is not None and most is not None and least > most:
            yield said(facts, part, "least", f"{least:g} is more than the most, {most:g}")
        if most is not None and most < 1:
            yield said(facts, part, "most", "nothing would ever run")
        yield from within(facts, part, "least", 0, 100_000)
    for part in facts.of("group"):
        least, most = number(part["least"]), number(part["most"])
        if least is not None and most is not None and least > most:
            yield said(facts, part, "least", f"{least:g} is more than the most, {most:g}")
    for part in facts.of("scaling policy"):
        if part["type"] != "TargetTrackingScaling":
            continue
        yield from _tracking(facts, part)
        target = facts.get(part["target"], "scaling")
        if target is not None and number(target["least"]) == 0 and not _wakes(facts, target):
            yield said(facts, target, "least", "none run at 0, and nothing takes the pool from 0 to 1")


def _tracking(facts: Facts, part: Part) -> Iterator[Finding]:
    value = number(part["value"])
    if value is None or value <= 0:
        yield said(facts, part, "value", f"{part['value']} is no target")
    for problem in queries_problems(part["metrics"] or ()):
        yield said(facts, part, "metrics", problem)


def _wakes(facts: Facts, target: Part) -> bool:
    steps = (each for each in facts.of("scaling policy") if each["type"] == "StepScaling")
    return any(meant(each["target"]) == target.id for each in steps)


RULES: tuple[Rule, ...] = (alarm, heard, composite, dashboard, scaling)
