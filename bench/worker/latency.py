"""What a worker adds to the engine's own time, for one message at a time.

A message of one text is sent, its result waited for, then the next. Timed by moto's own clock readings: from the arrival of
SendMessage to the end of PutObject of the result. The engine's own time for the same text, alone in a loop, is taken off. What is
left is the wait for company that is configured (5 ms), moto's three requests, which are shown beside it and taken off nowhere, and
the worker. Figure: at most the configured wait + 15 ms.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from setting import EngineAlone, package  # noqa: E402 - bench/ is no package

from common import Row, minilm_texts, parser, place, report, scratch, timed  # noqa: E402  # isort: skip

WAIT_MS = 5


def main() -> int:
    """Send, wait, take the next."""
    made = parser(__doc__, runs=300)
    options = made.parse_args()
    from tests.support.runtime.workers import Place, Process, until
    from tests.support.services.aws_server import AwsServer

    here, given = place(options), minilm_texts()[: options.runs + 20]
    with scratch() as work:
        root = package(here, work)
        engine = EngineAlone(here.python, root)
        server = AwsServer().start()
        queue = Place(server)
        told = {"queue_url": queue.url, "results": "s3://results/answers", "max_wait_ms": WAIT_MS}
        worker = Process(root, server.environment, python=here.python, **told).ready()
        own_ms = []
        try:
            for at, text in enumerate(given):
                queue.send({"text": text}, request_id=f"r-{at}")
                until(lambda at=at: len(worker.answers) > at, "an answer")
                own_ms.append(1e3 * engine.seconds([[text]])[0])
            until(lambda: queue.counts() == (0, 0), "an empty queue")
            assert worker.end() == 0
            log = server.log()
        finally:
            queue.close()
            server.stop()
            engine.end()
    sent = [one for one in log if one.operation == "SendMessage"]
    put = {one.path.rpartition("/")[2]: one for one in log if one.operation == "PutObject"}
    whole = [1e3 * (put[f"r-{at}.json"].ended_s - one.began_s) for at, one in enumerate(sent)][20:]
    own_ms = own_ms[20:]  # the first ones fill caches
    stages = {name: [line["stages_ms"][name] for line in worker.answers[20:]] for name in ("wait", "infer")}
    requests = {
        name: [1e3 * (one.ended_s - one.began_s) for one in log if one.operation == name][20:]
        for name in ("SendMessage", "PutObject")
    }
    rows = [
        timed("message sent to result written", whole, "ms"),
        timed("engine alone", own_ms, "ms"),
        timed("added by the worker", [a - b for a, b in zip(whole, own_ms, strict=True)], "ms", at_most=WAIT_MS + 15),
        timed("  of which waiting for company and the engine", stages["wait"], "ms"),
        timed("  of which moto's SendMessage", requests["SendMessage"], "ms"),
        timed("  of which moto's PutObject", requests["PutObject"], "ms"),
        timed("the engine inside the worker", stages["infer"], "ms"),
        Row(name="messages", value=len(whole), unit=""),
    ]
    how = f"MiniLM int8, one text a message, one message at a time, configured wait {WAIT_MS} ms; moto on the same 2 cores"
    return report("worker_latency", rows, how, options.out)


if __name__ == "__main__":
    sys.exit(main())
