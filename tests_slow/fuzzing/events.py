"""The handler's other entrance: batches of an SQS queue, in this process. What is answered and what comes again is held against the
log's lines."""

from __future__ import annotations

from typing import Any

from tests_slow.fuzzing import harness, oracle, requests
from tests_slow.fuzzing.handler import Context
from tests_slow.fuzzing.handler import Entrance as Handler
from tests_slow.fuzzing.packages import SPECS, Spec

BATCH = 10


class Entrance(Handler):
    """Batches of up to `BATCH` messages, each a request of its own."""

    def batch(self, number: int) -> tuple[Spec, list[requests.Request], dict[str, Any]]:
        """(package, the requests, the event with them)."""
        spec = SPECS[number % len(SPECS)]
        drawn = [requests.draw(self.seed + 5, BATCH * (number // len(SPECS)) + at, spec) for at in range(1 + number % BATCH)]
        rows = [self._record(at, requests.cleaned(requests.message(random, request))) for at, (request, random) in enumerate(drawn)]
        return spec, [request for request, _ in drawn], {"Records": rows}

    @staticmethod
    def _record(at: int, message: dict[str, Any]) -> dict[str, Any]:
        """As the event source mapping writes a message: keys begin small, and bytes are base64."""
        attributes = {
            name: {"dataType": each["DataType"], **({"stringValue": each["StringValue"]} if "StringValue" in each else {})}
            for name, each in message["MessageAttributes"].items()
            if "StringValue" in each
        }
        return {
            "messageId": f"00000000-0000-0000-0000-{at:012d}",
            "receiptHandle": "handle",
            "body": message["Body"],
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
            "messageAttributes": {name: each for name, each in attributes.items() if name != "payload"},
            "md5OfBody": "0",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:work",
            "awsRegion": "eu-west-1",
        }

    def send(self, number: int) -> tuple[int, str]:
        """One batch: what failed is named, and nothing else."""
        spec, asked, event = self.batch(number)
        self.module.SERVICE = self.services[spec.kind]
        self.module._DISPATCH.clear()
        try:
            failed = self._failures(self.module.handler(event, Context()))
        except self.module.InferenceError as error:
            told_error = oracle.strict(str(error).encode())
            oracle.check(told_error["error_type"] == "BatchFailed", "an event raised", told_error)
            failed = {row["messageId"] for row in event["Records"]}
        lines = [oracle.line(text, "lambda-zip") for text in self.output.lines()]
        told = [line for line in lines if "batch" in line and line["request_id"] != Context.aws_request_id]  # that is the batch's
        oracle.check(len(told) <= len(asked), "more lines than messages", told)
        refused = sum(line["status"] >= 400 and line["status"] != 504 for line in told)  # what came too late is let go
        oracle.check(refused <= len(failed), f"{refused} were refused, and {len(failed)} come again", told)
        right = [row["messageId"] for request, row in zip(asked, event["Records"], strict=True) if request.correct is not None]
        oracle.check(not failed.intersection(right), "a correct message comes again", told)
        size = sum(len(row["body"]) for row in event["Records"])
        return size, ("all" if len(failed) == len(asked) else "some" if failed else "none") + " come again"

    @staticmethod
    def _failures(answer: Any) -> set[str]:
        oracle.check(type(answer) is dict and answer.keys() == {"batchItemFailures"}, "an answer to a queue", answer)
        return {row["itemIdentifier"] for row in answer["batchItemFailures"]}

    def describe(self, number: int) -> str:
        spec, _, event = self.batch(number)
        return f"package {spec.kind}: {harness.shown(event)}"


def run(told: harness.Told) -> None:
    """As many as it is told; a batch counts once."""
    with harness.Output() as output:
        entrance = Entrance(told.work, told.seed, output)
        harness.Run("events", told, output).each(entrance.send, entrance.describe)
