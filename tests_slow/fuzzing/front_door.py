"""The front door's entrance: every kind of event into `mlpack_runtime.frontdoor`, in this process. Behind it are either a queue and
results that are in this process too, where what was sent is worked on by the package's own service, or real workers over HTTP."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

from tests_slow.fuzzing import harness, oracle, packages, requests, worker
from tests_slow.fuzzing.packages import SPECS, Spec

from mlpack_runtime.door.exchange import Door
from mlpack_runtime.door.sending import Queue, Worker
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.model import describe
from mlpack_runtime.queueing import results
from mlpack_runtime.service import Service

ALLOWED = {503: {"Unavailable"}}
HTTP_EVERY = 5
"""One request in so many goes to a worker over HTTP, the others through the queue."""


class Context:
    """Of an invocation: another id each time, as Lambda has them."""

    def __init__(self, number: int) -> None:
        self.aws_request_id = f"invocation-{number}"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


class Clock:
    """Time that only waiting moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def now(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


class Behind:
    """SQS, results and tickets, for the one request at hand; what is sent is answered at once, by the package's own service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.sent: list[dict[str, Any]] = []
        self.documents: dict[str, dict[str, Any]] = {}
        self.tickets: dict[str, dict[str, Any]] = {}
        self.status = 0

    def send_message(self, **given: Any) -> None:
        json.dumps(given)  # what botocore could write
        self.sent.append(given)
        said = {name: value["StringValue"] for name, value in given["MessageAttributes"].items()}
        reply = self._service.message({"x-trace-id": said["trace_id"]}, given["MessageBody"].encode(), said["request_id"], {})
        self.status = reply.status
        name = f"tiny/{said['request_id']}"
        self.documents.setdefault(name, results.document(reply, said["request_id"], said["trace_id"]))

    def result(self, name: str) -> dict[str, Any] | None:
        return self.documents.get(name)

    def ticket(self, name: str, now_s: float) -> dict[str, Any] | None:
        return self.tickets.get(name)

    def accept(self, name: str, ticket: dict[str, Any], now_s: float) -> bool:
        return self.tickets.setdefault(name, ticket)["digest"] == ticket["digest"]

    def note(self, name: str, ticket: dict[str, Any]) -> None:
        self.tickets[name] = ticket

    def forget(self) -> None:
        """Begin anew."""
        self.sent, self.documents, self.tickets, self.status = [], {}, {}, 0


class Entrance:
    """A front door of each package, with a queue behind it and with a worker."""

    def __init__(self, told: harness.Told, output: harness.Output) -> None:
        self.seed = told.seed + 3
        self.output = output
        self.workers = worker.Entrance(told)
        self.doors: dict[tuple[str, bool], Door] = {}
        self.behind: dict[str, Behind] = {}
        self.clock = Clock()
        for spec in SPECS:
            root = packages.make(told.work / f"door-{spec.kind}", spec)
            self.behind[spec.kind] = behind = Behind(packages.service(root))
            url = f"http://127.0.0.1:{self.workers.workers[spec.kind].port}"
            told_queue = Settings(
                {"MLPACK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/work", "MLPACK_RESULTS": "s3://b/p"}
            )
            stub: Any = behind
            queue = Queue(stub, "https://sqs.eu-central-1.amazonaws.com/1/work", told_queue.message_bytes)
            self.doors[spec.kind, True] = Door(describe(), told_queue, (queue, stub, None), self.clock.now, self.clock.pause)
            self.doors[spec.kind, False] = Door(describe(), Settings({"MLPACK_WORKER_URL": url}), (None, None, Worker(url)))
        os.environ["MLPACK_WORKER_URL"] = url
        sys.modules.pop("mlpack_runtime.frontdoor", None)
        self.module = import_module("mlpack_runtime.frontdoor")
        self.first: dict[tuple[str, int], Any] = {}
        output.lines()

    def of(self, number: int) -> tuple[Spec, requests.Request, Any, bool]:
        """(package, request, event, whether a queue is behind the door)."""
        spec = SPECS[number % len(SPECS)]
        request, random = requests.draw(self.seed, number // len(SPECS), spec)
        queued = random.random() >= 1 / HTTP_EVERY
        if random.random() < 0.3:
            return spec, request, requests.direct(random, request), queued
        return spec, request, requests.event(random, request), queued

    def send(self, number: int) -> tuple[int, str]:
        """One event, its answer held against every promise, and what it sent on too."""
        spec, request, given, queued = self.of(number)
        behind, door = self.behind[spec.kind], self.doors[spec.kind, queued]
        behind.forget()
        allowed = ALLOWED | ({500: {*packages.HOOKS_FAULTS}} if spec.hooked else {})
        try:
            reply, made = self.module.respond(door, given, Context(number))
        except self.module.InferenceError as raised:
            oracle.check(
                type(given) is not dict or not isinstance(given.get("requestContext"), dict), "an HTTP event raised", raised
            )
            value = oracle.strict(str(raised).encode())
            listed = {501: {"UnsupportedEvent"}} if type(given) is list and given else {}  # no source's, and no request
            status = {"DeadlineExceeded": 504, "Unavailable": 503, "UnsupportedEvent": 501}.get(value["error_type"], 500)
            oracle.error(status, value, allowed | listed)
        else:
            if made is None:
                status, value = reply.status, oracle.strict(reply.body)
                oracle.error(status, value, allowed)
            else:
                status, value = oracle.envelope(given, made, allowed)
        self._told_on(spec, behind, status)
        size = max(request.size, len(json.dumps(given)) if request.size < 10_000 else 0)
        self._logged(status)
        if request.correct is not None:
            oracle.check(status == 200, f"a correct request got {status}", value)
            first = self.first.setdefault((spec.kind, request.correct), oracle.plain(value))
            oracle.check(oracle.plain(value) == first, "a correct request's answer is another one than at first", value)
        return size, f"{status}{'' if queued else ' of a worker'}"

    def _told_on(self, spec: Spec, behind: Behind, status: int) -> None:
        """At most one message, whose names are clean; and none that the package then refuses for its form."""
        oracle.check(len(behind.sent) <= 1, "more than one message", behind.sent)
        for given in behind.sent:
            said = {name: value["StringValue"] for name, value in given["MessageAttributes"].items()}
            oracle.check(not set(said["request_id"]) - requests.NAME_LETTERS, "a message's request id", said)
            oracle.check(all(value.isprintable() and value.isascii() for value in said.values()), "a message's attributes", said)
            oracle.check(len(given["MessageBody"].encode()) <= 1 << 20, "a message's size", len(given["MessageBody"]))
            if not spec.hooked:
                oracle.check(behind.status != 400, f"a message was sent that the package refuses ({status})", given)

    def _logged(self, status: int) -> None:
        lines = [oracle.line(text, "frontdoor", "lambda-zip") for text in self.output.lines()]
        told = [found for found in lines if found.get("target") == "frontdoor"]
        oracle.check(len(told) <= 1, f"{len(told)} lines about a request", lines)
        oracle.check(status < 400 or (told and told[0]["status"] == status), "a line's status", lines)

    def describe(self, number: int) -> str:
        spec, _, given, queued = self.of(number)
        return f"package {spec.kind}, {'queue' if queued else 'worker'}: {harness.shown(given)}"


def run(told: harness.Told) -> None:
    """As many as it is told."""
    with harness.Output() as output:
        entrance = Entrance(told, output)
        try:
            harness.Run("front_door", told, output).each(entrance.send, entrance.describe)
        finally:
            for door in entrance.doors.values():
                if door.worker is not None:
                    door.worker.close()
            entrance.workers.end()
