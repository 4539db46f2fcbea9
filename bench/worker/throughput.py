"""Texts a second of a worker at its queue, beside the engine's own in a plain loop.

Both have the same MiniLM int8, one engine thread and the same 2,048 texts of mixed lengths in the same order. The engine alone runs
consecutive batches, each padded to its longest, at the best of several sizes; tokenising is not timed. The worker takes messages of
8 texts from moto's SQS, with its default batching, writes each result to moto's S3 and deletes the message; it is timed from its
first request for messages to its last result. moto is a Python server, slower than AWS: it stays on one core, the worker may use
both, and its engine never more than one. What sorting all texts by length would give is shown beside; no queue can.
Figure: the worker at least 90 % of the engine alone.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from setting import EngineAlone, cut, keep_to_last_core, package  # noqa: E402 - bench/ is no package

from common import Row, minilm_texts, number, parser, place, ratio, report, scratch, spread  # noqa: E402  # isort: skip

SIZES = (1, 2, 4, 8, 16, 32)
PER_MESSAGE = 8


def main() -> int:
    """Both in turns."""
    made = parser(__doc__, runs=5)
    made.add_argument("--texts", type=int, default=2048, help="how many [default: 2048]")
    made.add_argument("--max-batch", type=int, default=8, help="the worker's [default: 8]")
    options = made.parse_args()
    here, given = place(options), minilm_texts()[: options.texts]
    rates: dict[str, list[float]] = {name: [] for name in ("alone", "sorted", "worker", "busy")}
    with scratch() as work:
        root = package(here, work)
        engine = EngineAlone(here.python, root)
        ordered = sorted(given, key=len)
        own, in_order = ({size: len(all_) / sum(engine.seconds(cut(all_, size))) for size in SIZES} for all_ in (given, ordered))
        best, best_ordered = max(own, key=own.__getitem__), max(in_order, key=in_order.__getitem__)
        for round_ in range(options.runs + 1):
            alone = engine.seconds(cut(given, best))
            in_turn = engine.seconds(cut(ordered, best_ordered))
            taken_s, busy_s = through_a_queue(here.python, root, given, options.max_batch)
            if round_:  # the first fills caches
                rates["alone"].append(len(given) / sum(alone))
                rates["sorted"].append(len(given) / sum(in_turn))
                rates["worker"].append(len(given) / taken_s)
                rates["busy"].append(100 * busy_s / taken_s)
        engine.end()
    sizes = ", ".join(f"{size}: {number(rate)}" for size, rate in own.items())
    rows = [
        Row(name=f"engine alone, batches of {best}", value=statistics.median(rates["alone"]), unit="texts/s", detail=sizes),
        row(f"engine alone, all texts sorted, batches of {best_ordered}", rates["sorted"], "texts/s"),
        row("worker", rates["worker"], "texts/s"),
        ratio("worker / engine alone", rates["worker"], rates["alone"], at_least=0.9),
        row("  the worker's engine was busy", rates["busy"], "%"),
    ]
    how = f"MiniLM int8, one engine thread, {len(given)} texts of mixed lengths, {PER_MESSAGE} a message; moto on the same 2 cores"
    return report("worker_throughput", rows, how, options.out)


def row(name: str, samples: list[float], unit: str) -> Row:
    """A median that is held to nothing."""
    return Row(name=name, value=statistics.median(samples), unit=unit, detail=spread(samples))


def through_a_queue(python: Path, root: Path, given: list[str], max_batch: int) -> tuple[float, float]:
    """(seconds from the first request for messages to the last result, seconds of those that the engine ran)."""
    from tests.support.runtime.workers import Place, Process, until
    from tests.support.services.aws_server import AwsServer

    everywhere = os.sched_getaffinity(0)
    keep_to_last_core()
    server = AwsServer().start()  # and it stays there
    os.sched_setaffinity(0, everywhere)
    queue = Place(server)
    try:
        messages = cut(given, PER_MESSAGE)
        for number_, some in enumerate(messages):
            queue.send({"texts": some}, request_id=f"r-{number_}")
        server.clear_log()
        told = {"queue_url": queue.url, "results": "s3://results/answers", "max_batch": max_batch}
        worker = Process(root, server.environment, python=python, **told).ready()
        until(lambda: len(worker.answers) >= len(messages), "every answer", 600)
        until(lambda: queue.counts() == (0, 0), "an empty queue", 60)
        assert worker.end() == 0, worker.stderr
        log = server.log()
        began_s = next(one.began_s for one in log if one.operation == "ReceiveMessage")
        ended_s = max(one.ended_s for one in log if one.operation == "PutObject")
        assert sum(one.operation == "PutObject" and one.status == 200 for one in log) == len(messages)
        return ended_s - began_s, worker.said("ended")[0]["engine_ms"] / 1e3
    finally:
        queue.close()
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
