"""The Lambda handler's entrance: events and direct invocations into `mlpack_runtime.handler`, in this process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests_slow.fuzzing import harness, oracle, packages, requests
from tests_slow.fuzzing.packages import SPECS, Spec

ENGINE_BYTES = 300
"""The engine may be given so many bytes for each byte of the request, and a fixed MB: what is repeated is bounded."""


class Context:
    """Of an invocation."""

    aws_request_id = "invocation-1"


class Counting:
    """A session that counts the bytes that it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs, self.outputs = session.inputs, session.outputs
        self.given = 0

    def run(self, feeds: Any) -> Any:
        self.given += sum(memoryview(made.data).nbytes for made in feeds.values())
        return self._session.run(feeds)


class Entrance:
    """The handler's module over four services, and the right answers."""

    def __init__(self, work: Path, seed: int, output: harness.Output) -> None:
        os.environ.pop("AWS_LAMBDA_INITIALIZATION_TYPE", None)
        self.seed = seed
        self.output = output
        self.services = {spec.kind: packages.service(packages.make(work / spec.kind, spec)) for spec in SPECS}
        sys.modules.pop("mlpack_runtime.handler", None)
        import mlpack_runtime.handler as module

        self.module = module
        self.engines = {}
        for kind, service in self.services.items():
            self.engines[kind] = service.model.session = Counting(service.model.session)  # type: ignore[assignment]
        self.first: dict[tuple[str, int], Any] = {}
        output.lines()

    def of(self, number: int) -> tuple[Spec, requests.Request, Any, bool]:
        """(package, request, what the function is given, whether that is an event of HTTP)."""
        spec = SPECS[number % len(SPECS)]
        request, random = requests.draw(self.seed, number // len(SPECS), spec)
        if random.random() < 0.3:
            return spec, request, requests.direct(random, request), False
        return spec, request, requests.event(random, request), True

    def send(self, number: int) -> tuple[int, str]:
        """One of them, held against every promise."""
        spec, request, given, _ = self.of(number)
        module, engine = self.module, self.engines[spec.kind]
        module.SERVICE, engine.given = self.services[spec.kind], 0
        allowed = {500: {*packages.HOOKS_FAULTS}} if spec.hooked else {}
        http = type(given) is dict and isinstance(given.get("requestContext"), dict) and given.get("warmup") is not True
        try:
            made = module.handler(given, Context()) if number % 2 else oracle.strict(module.render(given, Context()))
        except module.InferenceError as raised:
            oracle.check(not http, "an HTTP event raised", raised)
            told = oracle.strict(str(raised).encode())
            listed = type(given) is list and bool(given)  # no source's, and no request
            status, value = 501 if listed else 500, None
            oracle.error(status, told, {501: {"UnsupportedEvent"}} if listed else allowed)
        else:
            if http:
                status, value = oracle.envelope(given, made, allowed)
            else:
                status, value = self._direct(spec, given, made)
        size = max(request.size, len(json.dumps(given)) if request.size < 10_000 else 0)
        oracle.check(
            engine.given <= (1 << 20) + ENGINE_BYTES * size, f"{engine.given:,} bytes for the engine of {size:,} in the request"
        )
        self._logged(status, value, warm=not http and type(given) is dict and given.get("warmup") is True)
        self._correct(spec, request, status, value)
        return size, str(status)

    def _direct(self, spec: Spec, given: Any, made: Any) -> tuple[int, Any]:
        """A direct answer has no status: what has an error is its caller's."""
        if isinstance(made, dict) and "error" in made:
            types = {kind: status for status, kinds in oracle.TYPES.items() for kind in kinds}
            kind = made.get("error_type")
            oracle.check(kind in types, "a direct answer's error", made)
            oracle.error(types[kind], made, {})
            return types[kind], made
        if isinstance(made, dict) and "model_name" in made:
            oracle.outputs(made)
            oracle.check(all("data" in row for row in made["outputs"]), "a direct answer with binary outputs", made)
        else:
            oracle.check(made == 3 or "trace_id" in made, "a direct answer without a trace id", made)
        return 200, made

    def _logged(self, status: int, value: Any, *, warm: bool) -> None:
        lines = [oracle.line(text, "lambda-zip") for text in self.output.lines()]
        told = [found for found in lines if "batch" in found]
        asked = status >= 400 or (isinstance(value, dict) and "model_name" in value)
        oracle.check(len(told) <= 1 and (told or not asked or warm), f"{len(told)} lines about a request", lines)
        if told:
            oracle.check(told[0]["status"] == status and told[0]["errors"] == int(status >= 500), "a line's status", told[0])

    def _correct(self, spec: Spec, request: requests.Request, status: int, value: Any) -> None:
        if request.correct is None:
            return
        oracle.check(status == 200, f"a correct request got {status}", value)
        first = self.first.setdefault((spec.kind, request.correct), oracle.plain(value))
        oracle.check(oracle.plain(value) == first, "a correct request's answer is another one than at first", value)

    def describe(self, number: int) -> str:
        spec, _, given, _ = self.of(number)
        return f"package {spec.kind}: {harness.shown(given)}"


def run(told: harness.Told) -> None:
    """As many as it is told."""
    with harness.Output() as output:
        entrance = Entrance(told.work, told.seed, output)
        harness.Run("handler", told, output).each(entrance.send, entrance.describe)
