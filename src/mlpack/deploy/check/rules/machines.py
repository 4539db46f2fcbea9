"""State machines, schedules and rules of events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from mlpack.deploy.check.facts.reading import Facts, Part, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, said

TYPES = ("Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map")
_ENDS = ("Succeed", "Fail")
_CRON = (
    (r"minutes", r"[0-9*,/-]+"),
    (r"hours", r"[0-9*,/-]+"),
    (r"days of the month", r"[0-9*?,/LW-]+"),
    (r"months", r"[0-9*,/A-Z-]+"),
    (r"days of the week", r"[0-9*?,/#LA-Z-]+"),
    (r"years", r"[0-9*,/-]+"),
)


def machine(facts: Facts) -> Iterator[Finding]:
    """That every state is reached, goes somewhere, ends in time, and catches what its task raises."""
    for part in facts.of("machine"):
        definition = part["definition"]
        if not isinstance(definition, Mapping):
            continue
        if "TimeoutSeconds" not in definition:
            yield said(facts, part, "definition", "has no TimeoutSeconds: an execution that hangs is paid for a year")
        for where, reason in states(definition):
            yield Finding(facts.file, f"{part.key('definition')}{where}", reason)
        if facts.get(part["role"], "role") is None:
            yield said(facts, part, "role", "names no role of this deployment")
        for resource in _resources(definition):
            if facts.get(resource, "function") is not None:
                yield said(facts, part, "definition", f"invokes the function {meant(resource)} in place of its alias")


def states(machine: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """(where, what is wrong) of a machine and of those inside it."""
    every = machine.get("States")
    if not isinstance(every, Mapping) or not every:
        yield f"{where}.States", "there are none"
        return
    start = machine.get("StartAt")
    if start not in every:
        yield f"{where}.StartAt", f"{start} is no state here"
    reached = {start}
    for name, state in every.items():
        at = f"{where}.States.{name}"
        if not isinstance(state, Mapping):
            yield at, "is no state"
            continue
        for key, target in _targets(state):
            reached.add(target)
            if target not in every:
                yield f"{at}.{key}", f"{target} is no state here"
        yield from _state(state, at)
        yield from _inside(state, at)
    for name in every:
        if name not in reached:
            yield f"{where}.States.{name}", "is never reached"
    if not any(_is_end(state) for state in every.values() if isinstance(state, Mapping)):
        yield f"{where}.States", "none of them ends the machine"


def _state(state: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    kind = state.get("Type")
    if kind not in TYPES:
        yield f"{at}.Type", f"{kind} is no type of a state"
    if kind in ("Task", "Pass", "Wait", "Parallel", "Map") and ("Next" in state) == (state.get("End") is True):
        yield at, "has to have either Next or End"
    if kind == "Choice" and not state.get("Choices"):
        yield f"{at}.Choices", "there are none"
    if kind == "Task" and "TimeoutSeconds" not in state and "TimeoutSecondsPath" not in state:
        yield at, "has no TimeoutSeconds: a task that never answers holds the machine"
    for number, rule in enumerate([*state.get("Retry", ()), *state.get("Catch", ())]):
        errors = rule.get("ErrorEquals") or []
        if "States.ALL" in errors and len(errors) > 1:
            yield f"{at}.ErrorEquals.{number}", "States.ALL stands alone"


def _inside(state: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    for key in ("ItemProcessor", "Iterator"):
        if isinstance(state.get(key), Mapping):
            yield from states(state[key], f"{at}.{key}")
    for number, branch in enumerate(state.get("Branches") or ()):
        yield from states(branch, f"{at}.Branches.{number}")


def _is_end(state: Mapping[str, Any]) -> bool:
    return state.get("Type") in _ENDS or state.get("End") is True


def _targets(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("Next", "Default"):
        if key in state:
            yield key, state[key]
    for key in ("Choices", "Catch"):
        for number, each in enumerate(state.get(key) or ()):
            yield f"{key}.{number}.Next", each.get("Next")


def _resources(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in ("Resource", "FunctionName") and isinstance(value, str):
                yield value
            else:
                yield from _resources(value)
    elif isinstance(tree, list):
        for each in tree:
            yield from _resources(each)


def expression_problem(expression: str) -> str | None:
    """What is wrong with `rate(...)`, `cron(...)` or `at(...)`; None where nothing is."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)(s?)\)", expression)
    if rate is not None:
        value = int(rate[1])
        if value == 0:
            return "a rate of 0 is none"
        if (value == 1) == bool(rate[3]):
            return f"write rate({value} {rate[2]}{'' if value == 1 else 's'})"
        return None
    if re.fullmatch(r"at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)", expression):
        return None
    cron = re.fullmatch(r"cron\((.*)\)", expression)
    if cron is None:
        return "is no rate(...), cron(...) or at(...)"
    fields = cron[1].split()
    if len(fields) != 6:
        return f"a cron expression has six fields (minute hour day month weekday year), this one has {len(fields)}"
    for (name, pattern), value in zip(_CRON, fields, strict=True):
        if not re.fullmatch(pattern, value):
            return f"{value} are no {name}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "either the day of the month or the day of the week is ?"
    for field, most in ((fields[0], 59), (fields[1], 23)):
        if any(int(number) > most for number in re.findall(r"\d+", field.partition("/")[0])):
            return f"{field} is more than {most}"
    return None


def schedule(facts: Facts) -> Iterator[Finding]:
    """That a time is one, in a zone that exists, for a target that may be started."""
    for part in (*facts.of("schedule"), *(each for each in facts.of("rule") if each["expression"] is not None)):
        problem = expression_problem(str(part["expression"]))
        if problem is not None:
            yield said(facts, part, "expression", f"{part['expression']}: {problem}")
    for part in facts.of("schedule"):
        try:
            ZoneInfo(str(part["timezone"]))
        except (KeyError, ValueError, OSError):
            yield said(facts, part, "timezone", f"{part['timezone']} is no time zone")
        if facts.get(part["role"], "role") is None:
            yield said(facts, part, "role", "names no role of this deployment: nothing could be started")
    yield from _warm(facts)


def _warm(facts: Facts) -> Iterator[Finding]:
    """Schedules of warmth: they stand at a scalable target in one language, alone in the other."""
    for name, each in facts.text.get("Resources", {}).items():
        for number, action in enumerate(each.get("Properties", {}).get("ScheduledActions") or ()):
            problem = expression_problem(str(action.get("Schedule")))
            if problem is not None:
                yield Finding(facts.file, f"Resources.{name}.Properties.ScheduledActions.{number}.Schedule", problem)
    for name, each in facts.text.get("resource", {}).get("aws_appautoscaling_scheduled_action", {}).items():
        problem = expression_problem(str(each.get("schedule")))
        if problem is not None:
            yield Finding(facts.file, f"resource.aws_appautoscaling_scheduled_action.{name}.schedule", problem)


def rule(facts: Facts) -> Iterator[Finding]:
    """That events go where they are heard."""
    for part in facts.of("rule"):
        if part["state"] not in (None, "ENABLED"):
            yield said(facts, part, "state", f"is {part['state']}: nothing would hear of these events")
        if not part["pattern"] and part["expression"] is None:
            yield said(facts, part, "pattern", "matches nothing")
        target = _target(facts, part)
        if target is None:
            yield said(facts, part, "target", f"{part['target']} is nothing of this deployment")
        elif target.kind == "machine" and facts.get(part["role"], "role") is None:
            yield said(facts, part, "role", "a state machine is started by a role, and this names none")
        elif target.kind == "alias" and not any(
            meant(each["alias"]) == target.id and each["principal"] == "events.amazonaws.com" for each in facts.of("permission")
        ):
            yield said(facts, part, "target", f"nothing lets events invoke {target.id}")


def _target(facts: Facts, part: Part) -> Part | None:
    name = meant(part["target"])
    return facts.parts.get(name) if name else None


RULES: tuple[Rule, ...] = (machine, schedule, rule)
