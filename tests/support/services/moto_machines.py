"""State machines in moto, in this process: moto's interpreter, functions of Python in Lambda's place, and a clock that is turned.

moto passes the names of parameters and results on as they are: here they become boto3's, and Step Functions' again.
moto waits in real time and draws its jitter; here a wait turns the clock, and jitter is the longest there is, so that a run of days
takes a second and is the same each time. Its Lambda answers by a queue of texts; here a function of this process is called, and an
exception is a function error, by its class, as Lambda says it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

REGION = "eu-central-1"
ACCOUNT = "123456789012"
_REAL_S = 180.0


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of one. `trace`: (state, its input); `error` and `cause` of one that failed."""

    status: str
    output: Any
    error: str
    cause: str
    trace: list[tuple[str, Any]]

    @property
    def edges(self) -> set[tuple[str, str]]:
        """The ways that were gone."""
        names = [name for name, _ in self.trace]
        return set(pairwise(names))


@dataclass(slots=True)
class Machines:
    """Those of one account. `turn`: hears of each wait, in seconds."""

    functions: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    build: Callable[[dict[str, str]], Any] = lambda _environment: None
    """A build of CodeBuild, whose `.sync` moto has not: by its environment. What it raises fails it."""
    turn: Callable[[float], None] = lambda _seconds: None
    arns: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """boto3's."""
        import boto3

        return boto3.client(service, region_name=REGION)

    def function(self, name: str, run: Callable[[Any], Any]) -> str:
        """A function with this name; its ARN."""
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        self.functions[name] = run
        return arn

    def machine(self, name: str, definition: Mapping[str, Any]) -> str:
        """A machine; its ARN."""
        role = f"arn:aws:iam::{ACCOUNT}:role/machine"
        answer = self.client("stepfunctions").create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
        self.arns[name] = answer["stateMachineArn"]
        return self.arns[name]

    def start(self, name: str, given: Any, execution: str) -> str:
        """Begin; the execution's ARN."""
        machine = {"stateMachineArn": self.arns[name], "input": json.dumps(given), "name": execution}
        return str(self.client("stepfunctions").start_execution(**machine)["executionArn"])

    def run(self, name: str, given: Any, execution: str = "run") -> Execution:
        """One execution to its end."""
        return self.end(self.start(name, given, execution))

    def end(self, arn: str) -> Execution:
        """What became of an execution. AssertionError for one that does not end."""
        states = self.client("stepfunctions")
        until = time.monotonic() + _REAL_S
        while (told := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < until, "the execution does not end"
            time.sleep(0.005)
        pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = sorted((event for page in pages for event in page["events"]), key=lambda event: event["id"])
        entered = [event["stateEnteredEventDetails"] for event in events if "stateEnteredEventDetails" in event]
        trace = [(each["name"], json.loads(each["input"])) for each in entered]
        output = json.loads(told["output"]) if told.get("output") else None
        return Execution(told["status"], output, told.get("error", ""), told.get("cause", ""), trace)


CONFIG = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}


@contextmanager
def machines() -> Iterator[Machines]:
    """An account in which nothing is."""
    from moto import mock_aws
    from moto.awslambda_simple.models import LambdaSimpleBackend
    from moto.stepfunctions.parser.asl.component.common.retry import jitter_strategy_decl, retrier_decl
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_unsupported as unsupported
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
    from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction

    made = Machines()

    def invoke(_: Any, function_name: str, _qualifier: Any, body: Any, _headers: Any, response_headers: Any) -> bytes:
        name = function_name.partition(":function:")[2] or function_name
        try:
            return json.dumps(made.functions[name](json.loads(body))).encode()
        except Exception as error:  # noqa: BLE001  (Lambda answers whatever a function raises)
            response_headers["x-amz-function-error"] = "Unhandled"
            return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()

    class Clock:
        @staticmethod
        def sleep(seconds: float) -> None:
            made.turn(seconds)

    class Longest:
        @staticmethod
        def uniform(_: float, most: float) -> float:
            return most

    def build(self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any) -> None:
        overrides = normalised_parameters["environmentVariablesOverride"]
        env.stack.append({"Build": made.build({each["name"]: each["value"] for each in overrides})})

    with pytest.MonkeyPatch.context() as patch, mock_aws(config=CONFIG):  # type: ignore[arg-type]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setattr(LambdaSimpleBackend, "invoke", invoke)
        both = {ResourceCondition.Sync, ResourceCondition.WaitForTaskToken}
        patch.setattr(unsupported, "_SUPPORTED_INTEGRATION_PATTERNS", both)
        patch.setattr(unsupported.StateTaskServiceUnsupported, "_eval_service_task", build)
        patch.setattr(unsupported.StateTaskServiceUnsupported, "_build_sync_resolver", _built, raising=False)
        patch.setattr(unsupported.StateTaskServiceUnsupported, "_from_error", _failed, raising=False)
        patch.setattr(StateTaskService, "_normalise_parameters", _as_boto)
        patch.setattr(StateTaskService, "_normalise_response", _as_states)
        patch.setattr(WaitFunction, "_wait_interval", lambda self, env, wait_seconds: made.turn(wait_seconds))
        patch.setattr(retrier_decl, "time", Clock)
        patch.setattr(jitter_strategy_decl, "random", Longest)
        yield made


def _built(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
) -> Callable[[], Any]:
    """A build has ended when it was started."""
    told = env.stack.pop()
    return lambda: told


def _failed(self: Any, env: Any, ex: Exception) -> Any:
    """A build that failed, as Step Functions says it."""
    from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
    from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

    kind = StatesErrorNameType.StatesTaskFailed
    told = TaskFailedEventDetails(error=kind.to_name(), cause=str(ex), resource="startBuild.sync", resourceType="codebuild")
    details = EventDetails(taskFailedEventDetails=told)
    return FailureEvent(env=env, error_name=StatesErrorName(kind), event_type=HistoryEventType.TaskFailed, event_details=details)


@cache
def _operation(service: str, action: str) -> Any:
    from botocore.session import get_session

    return get_session().get_service_model(service).operation_model("".join(word.title() for word in action.split("_")))


def _as_boto(self: Any, parameters: dict[str, Any], boto_service_name: Any = None, service_action_name: Any = None) -> None:
    """`StateMachineArn` as boto3 has it."""
    operation = _operation(self._get_boto_service_name(boto_service_name), self._get_boto_service_action(service_action_name))
    self._to_boto_request(parameters, operation.input_shape)


def _as_states(self: Any, response: Any, boto_service_name: Any = None, service_action_name: Any = None) -> None:
    """`executionArn` as Step Functions has it."""
    operation = _operation(self._get_boto_service_name(boto_service_name), self._get_boto_service_action(service_action_name))
    if operation.output_shape is not None:
        self._from_boto_response(response, operation.output_shape)
