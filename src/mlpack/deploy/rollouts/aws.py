"""What rollouts ask of AWS from here: the state machine that leads one, and clients for the controller. Refusals are explained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry.aws.clients import Clients, DefaultAccount, Timeouts
from mlpack_control.brake import TARGET
from mlpack_control.failures import NotReady, Overtaken, Refused

Client = Callable[[str], Any]


class Account:
    """The account and region that boto3 finds, or what `AWS_ENDPOINT_URL` names."""

    def __init__(self, where: str, client: Client | None = None) -> None:
        self._where = where
        self.client: Client = client or Clients(DefaultAccount(where=where), Timeouts()).get

    def start(self, machine: str, name: str, document: Mapping[str, Any]) -> None:
        """Start a state machine, by its name or ARN. Starting it again under the name is the first start."""
        with self.explained("states:StartExecution", machine):
            client = self.client("stepfunctions")
            client.start_execution(stateMachineArn=self._arn(machine), name=name, input=json.dumps(document))

    def is_running(self, machine: str, name: str) -> bool:
        """Whether a state machine still leads the rollout of this name."""
        try:
            with self.explained("states:DescribeExecution", machine):
                answer = self.client("stepfunctions").describe_execution(executionArn=self._execution(machine, name))
        except ServiceError as error:
            if "ExecutionDoesNotExist" in str(error):
                return False
            raise
        return bool(answer["status"] == "RUNNING")

    def stop(self, machine: str, name: str, why: str) -> None:
        """End a state machine's execution, if it runs."""
        with self.explained("states:StopExecution", machine):
            self.client("stepfunctions").stop_execution(executionArn=self._execution(machine, name), error="Aborted", cause=why)

    def target(self, brake: str) -> dict[str, Any]:
        """What a deployment's rollouts move, where only the account knows it: its brake was told. RecipeError where it was not."""
        with self.explained("lambda:GetFunctionConfiguration", brake):
            answer = self.client("lambda").get_function_configuration(FunctionName=brake)
        try:
            target = json.loads(answer["Environment"]["Variables"][TARGET])
        except (KeyError, ValueError):
            raise RecipeError(f"{brake}: has no {TARGET} in its environment: apply the deployment's stack again") from None
        if not isinstance(target, dict):
            raise RecipeError(f"{brake}: its {TARGET} is no object: apply the deployment's stack again")
        return target

    @contextmanager
    def explained(self, action: str, resource: str) -> Iterator[None]:
        """A context in which refusals of AWS and of the controller are errors of ours."""
        from mlpack.registry.aws.refusals import AwsCall, explained

        try:
            with explained(AwsCall(where=self._where, action=action, resource=resource)):
                yield
        except Refused as error:
            raise RecipeError(str(error)) from error
        except Overtaken as error:
            raise ServiceError(f"{error}; `mlpack rollout status` shows how far it came") from error
        except NotReady as error:
            raise ServiceError(f"{error}: try again", retryable=True) from error

    def _arn(self, machine: str) -> str:
        if machine.startswith("arn:"):
            return machine
        client, account = self.client("stepfunctions"), self.client("sts").get_caller_identity()["Account"]
        return f"arn:{client.meta.partition}:states:{client.meta.region_name}:{account}:stateMachine:{machine}"

    def _execution(self, machine: str, name: str) -> str:
        return f"{self._arn(machine).replace(':stateMachine:', ':execution:')}:{name}"
