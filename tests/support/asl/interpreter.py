"""Runs a machine: each state in turn, on a clock that only waits move.

    run = Run(machine, tasks); run.execute({"reason": "schedule"}); run.status, run.output, run.trace, run.now

`tasks`: by a state's resource a function of its parameters, which gives the result, or `Took(seconds, result)`; a `StatesError`
that it raises is the task's, any other exception is named by its class, as a function's is on AWS.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.asl import maps
from tests.support.asl.paths import StatesError, fill, look, put

Tasks = Mapping[str, Callable[[Any], Any]]
UNCATCHABLE = ("States.Runtime", "States.DataLimitExceeded")
"""What States.ALL does not mean."""
MOST_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Took:
    """A task's result after so many seconds."""

    seconds: float
    result: Any


@dataclass(slots=True)
class Run:
    """One execution. `trace`: (state, its input); `edges`: (state, the next one) as they were gone along."""

    machine: Mapping[str, Any]
    tasks: Tasks
    name: str = "run"
    now: float = 0.0
    store: dict[tuple[str, str], str] = field(default_factory=dict)
    """Objects by bucket and key, for maps."""
    status: str = "RUNNING"
    output: Any = None
    error: str = ""
    cause: str = ""
    trace: list[tuple[str, Any]] = field(default_factory=list)
    edges: set[tuple[str, str]] = field(default_factory=set)
    context: dict[str, Any] = field(default_factory=dict)
    _until: float = float("inf")

    def execute(self, given: Any, **context: Any) -> Run:
        """To its end. `context`: more of `$$`."""
        arn = "arn:aws:states:eu-central-1:123456789012:{}:machine"
        execution = {"Id": f"{arn.format('execution')}:{self.name}", "Name": self.name, "Input": given}
        self.context = {"Execution": execution, "StateMachine": {"Id": arn.format("stateMachine"), "Name": "machine"}, **context}
        self._until = self.now + self.machine.get("TimeoutSeconds", float("inf"))
        try:
            self.output = self.go(self.machine, given)
            self.status = "SUCCEEDED"
        except StatesError as error:
            self.status = "TIMED_OUT" if error.name == "States.Timeout.Execution" else "FAILED"
            self.error, self.cause = error.name, error.cause
        return self

    def go(self, machine: Mapping[str, Any], data: Any) -> Any:
        """From a machine's first state to an end; its output. Raises StatesError."""
        name = machine["StartAt"]
        while True:
            self.trace.append((name, data))
            self.context["State"] = {"Name": name}
            data, then = self._state(machine["States"][name], data)
            if len(json.dumps(data)) > MOST_BYTES:
                raise StatesError("States.DataLimitExceeded", "more than 256 KiB between two states")
            if not then:
                return data
            self.edges.add((name, then))
            name = then

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises StatesError at the end of the execution's."""
        if self.now + seconds > self._until:
            self.now = self._until
            raise StatesError("States.Timeout.Execution")
        self.now += seconds

    def _state(self, state: Mapping[str, Any], data: Any) -> tuple[Any, str]:
        """(output, the next state, "" for an end)."""
        kind = state["Type"]
        given = look(state["InputPath"], data, self.context) if "InputPath" in state else data
        if kind == "Fail":
            raise StatesError(state.get("Error", ""), state.get("Cause", ""))
        if kind == "Choice":
            ways = [way["Next"] for way in state["Choices"] if self._holds(way, given)]
            if not ways and "Default" not in state:
                raise StatesError("States.NoChoiceMatched")
            return given, (ways or [state["Default"]])[0]
        if kind == "Wait":
            self.wait(look(state["SecondsPath"], given, self.context) if "SecondsPath" in state else state["Seconds"])
            return given, state.get("Next", "")
        if kind in ("Task", "Map"):
            return self._work(state, given)
        result = given if "Parameters" not in state else fill(state["Parameters"], given, self.context)
        return self._out(state, given, state.get("Result", result)), state.get("Next", "")

    def _work(self, state: Mapping[str, Any], given: Any) -> tuple[Any, str]:
        """A task or a map, again and again as its `Retry` says."""
        tried = [0] * len(state.get("Retry", ()))
        while True:
            try:
                work = self._task if state["Type"] == "Task" else lambda state, given: maps.run(self, state, given)
                result = work(state, given)
                if "ResultSelector" in state:
                    result = fill(state["ResultSelector"], result, self.context)
                return self._out(state, given, result), state.get("Next", "")
            except StatesError as error:
                if error.name == "States.Timeout.Execution":
                    raise
                at = next((n for n, rule in enumerate(state.get("Retry", ())) if _means(rule["ErrorEquals"], error.name)), None)
                if at is not None and tried[at] < state["Retry"][at].get("MaxAttempts", 3):
                    self.wait(_pause(state["Retry"][at], tried[at]))
                    tried[at] += 1
                    continue
                for rule in state.get("Catch", ()):
                    if _means(rule["ErrorEquals"], error.name):
                        told = {"Error": error.name, "Cause": error.cause}
                        return put(rule.get("ResultPath", "$"), given, told), rule["Next"]
                raise

    def _task(self, state: Mapping[str, Any], given: Any) -> Any:
        parameters = fill(state["Parameters"], given, self.context)
        if state["Resource"] not in self.tasks:
            raise StatesError("States.Runtime", f"there is no {state['Resource']} here")
        try:
            result = self.tasks[state["Resource"]](parameters)
        except StatesError:
            raise
        except Exception as error:
            told = {"errorType": type(error).__name__, "errorMessage": str(error)}
            raise StatesError(told["errorType"], json.dumps(told, separators=(",", ":"))) from error
        if isinstance(result, Took):
            self.wait(min(result.seconds, state["TimeoutSeconds"]))
            if result.seconds > state["TimeoutSeconds"]:
                raise StatesError("States.Timeout", f"after {state['TimeoutSeconds']} seconds")
            return result.result
        return result

    def _out(self, state: Mapping[str, Any], given: Any, result: Any) -> Any:
        whole = put(state.get("ResultPath", "$"), given, result)
        return look(state["OutputPath"], whole, self.context) if "OutputPath" in state else whole

    def _holds(self, rule: Mapping[str, Any], data: Any) -> bool:
        for word, combine in (("And", all), ("Or", any)):
            if word in rule:
                return combine(self._holds(each, data) for each in rule[word])
        if "Not" in rule:
            return not self._holds(rule["Not"], data)
        ((word, wanted),) = [(key, value) for key, value in rule.items() if key not in ("Variable", "Next", "Comment")]
        if word == "IsPresent":
            try:
                look(rule["Variable"], data, self.context)
            except StatesError:
                return not wanted
            return bool(wanted)
        try:
            value = look(rule["Variable"], data, self.context)
        except StatesError as error:
            raise StatesError("States.Runtime", error.cause) from None
        if word.endswith("Path"):
            word, wanted = word.removesuffix("Path"), look(wanted, data, self.context)
        return _COMPARISONS[word](value, wanted)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "StringEquals": lambda value, wanted: isinstance(value, str) and value == wanted,
    "StringMatches": lambda value, wanted: isinstance(value, str) and fnmatch.fnmatchcase(value, wanted),
    "NumericEquals": lambda value, wanted: _number(value) and value == wanted,
    "NumericGreaterThan": lambda value, wanted: _number(value) and value > wanted,
    "BooleanEquals": lambda value, wanted: isinstance(value, bool) and value == wanted,
}


def _means(names: list[str], error: str) -> bool:
    """Whether a rule's names mean an error."""
    if "States.ALL" in names:
        return error not in UNCATCHABLE
    return error in names or ("States.TaskFailed" in names and error not in (*UNCATCHABLE, "States.Timeout"))


def _pause(rule: Mapping[str, Any], tried: int) -> float:
    """The longest that jitter would choose."""
    return min(rule.get("IntervalSeconds", 1) * rule.get("BackoffRate", 2.0) ** tried, rule.get("MaxDelaySeconds", float("inf")))
