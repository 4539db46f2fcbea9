"""Many messages, some of them poison and some sent twice, to workers that are killed while services fail: nothing is lost.

By default as many as take half a minute; with MLPACK_SOAK=1 50,000, a kill every 20 s. The counts are printed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import package, words
from tests.support.runtime.workers import Place, Process, add_botocore, until
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime import model
from mlpack_runtime.aws import promises

SOAK = os.environ.get("MLPACK_SOAK") == "1"
MESSAGES = 50_000 if SOAK else 1_000
KILL_EVERY_S = 20.0 if SOAK else 3.0
WORKERS = 3
POISON_EVERY = 100  # 1 %
TWICE_EVERY = 20
BACKLOG = 400  # moto walks through a queue's messages at every request
VOCABULARY = ["a", "cat", "dog", "sat", "cats", "on", "the", "mat", "dogs", "mats"]
POISON = ['{"text": "cut off', '{"text": 7}', '{"texts": []}', '{"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES"}]}']


def text_of(number: int) -> str:
    """One text of a thousand, of one to four words."""
    digits = str(number % 1000)
    return " ".join(VOCABULARY[int(digit)] for digit in digits)


def is_poison(number: int) -> bool:
    return number % POISON_EVERY == 50


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = package(
        tmp_path_factory.mktemp("soak") / "package",
        words,
        tokenizer={"file": "tokenizer.json", "max_length": 8},
        worker={"max_batch": 16, "max_wait_ms": 5},
    )
    return add_botocore(made)


@pytest.fixture
def place(aws: AwsServer) -> Iterator[Place]:
    # Kills and faults use up receipts of good messages: enough of them, so that only poison is given up.
    made = Place(aws, receives=100)
    yield made
    made.close()


def faults(messages: int) -> list[Fault]:
    """Each service fails in each way, all along."""
    kinds = [("error", False), ("error", True), ("close", False), ("close", True)]
    every = {
        ("s3", "PutObject"): (messages, 150),
        ("sqs", "ReceiveMessage"): (messages // 5, 40),
        ("sqs", "DeleteMessageBatch"): (messages // 8, 25),
        ("sqs", "SendMessage"): (messages // POISON_EVERY, 7),
        ("sqs", "ChangeMessageVisibilityBatch"): (messages // 50, 5),
    }
    return [
        Fault(*kinds[at % 4], service=service, operation=operation, number=number)
        for (service, operation), (requests, step) in every.items()
        for at, number in enumerate(range(step, requests, step))
    ]


def feed(place: Place, ended: threading.Event) -> int:
    """Send them all, never far ahead of the workers; how many messages that were, duplicates included."""
    entries = []
    for number in range(MESSAGES):
        body = POISON[number // POISON_EVERY % len(POISON)] if is_poison(number) else json.dumps({"text": text_of(number)})
        attributes = {"request_id": {"DataType": "String", "StringValue": f"r-{number}"}}
        copies = 2 if number % TWICE_EVERY == 1 else 1
        entries += [{"MessageBody": body, "MessageAttributes": attributes}] * copies

    def send(begin: int) -> None:
        numbered = [{"Id": str(at), **entry} for at, entry in enumerate(entries[begin : begin + 10])]
        place.sqs.send_message_batch(QueueUrl=place.url, Entries=numbered)

    with ThreadPoolExecutor(4) as pool:
        for begin in range(0, len(entries), BACKLOG // 2):
            while not ended.is_set() and sum(place.counts()) > BACKLOG:
                time.sleep(0.1)
            list(pool.map(send, range(begin, min(begin + BACKLOG // 2, len(entries)), 10)))
    return len(entries)


def kill_now_and_then(
    place: Place, root: Path, workers: list[Process], fed: threading.Event, ended: threading.Event
) -> list[Process]:
    """SIGKILL to one after the other, each followed by a new one; those that were killed."""
    killed: list[Process] = []
    while not ended.wait(KILL_EVERY_S) and not fed.is_set():
        at = len(killed) % WORKERS
        workers[at].end(9)
        killed.append(workers[at])
        workers[at] = start(place, root)
    return killed


def start(place: Place, root: Path) -> Process:
    return place.worker(root, visibility_s=10, breaker_cooldown_s=1)


def expected_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """What the model says of each text, asked here, one by one."""
    monkeypatch.setattr(model, "ROOT", str(root))
    loaded = model.load()
    return {text: loaded.predict_texts([text])["embedding"].flat() for text in {text_of(number) for number in range(1000)}}


def test_good_messages_are_answered_once_and_poison_buried(
    root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = expected_answers(root, monkeypatch)
    planned = faults(MESSAGES)
    began_s = time.monotonic()
    workers = [start(place, root) for _ in range(WORKERS)]
    fed, ended = threading.Event(), threading.Event()
    try:
        place.aws.plan(*planned)
        with ThreadPoolExecutor(2) as pool:
            killing = pool.submit(kill_now_and_then, place, root, workers, fed, ended)
            try:
                sent = pool.submit(feed, place, ended).result()
                fed.set()
                until(lambda: place.counts() == (0, 0), "an empty queue", 900)
            finally:
                ended.set()
            killed = killing.result()
        took_s = time.monotonic() - began_s
        assert [worker.end() for worker in workers] == [0] * WORKERS
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.end(9)
    log = place.aws.log()
    puts = [(one, one.path.rpartition("/")[2]) for one in log if one.operation == "PutObject"]
    puts = [(one, name) for one, name in puts if name != promises.NAME]  # what each worker asks of the bucket when it starts
    written = Counter(name for one, name in puts if one.status == 200)
    # One that took effect before the fault: its answer said otherwise, or never came.
    unseen = {name for one, name in puts if one.fault in ("error after", "close after")}
    written.update(unseen - written.keys())
    names = {f"r-{number}.json" for number in range(MESSAGES)}
    dead = Counter(message["MessageAttributes"]["request_id"]["StringValue"] for message in place.dead())
    poison = {f"r-{number}" for number in range(MESSAGES) if is_poison(number)}
    struck = Counter(one.fault for one in log if one.fault)
    with capsys.disabled():
        refused = sum(1 for one, _ in puts if one.status == 412)
        print(
            f"\n{MESSAGES} requests, {sent} messages ({sent - MESSAGES} duplicates), {len(poison)} poison; "
            f"{len(killed)} kills of {WORKERS} workers; {sum(struck.values())} faults of {len(planned)} planned ({dict(struck)}); "
            f"{len(log)} requests to AWS, {refused} results refused because there was one; "
            f"{sum(dead.values())} in the dead-letter queue; {took_s:.0f} s"
        )
    assert written.keys() == names
    assert set(written.values()) == {1}
    lines = [line for one in (*workers, *killed) for line in one.lines]
    warned = Counter(str(line.get("message"))[:60] for line in lines if line.get("level") != "INFO")
    assert dead.keys() == poison, (sorted(poison - dead.keys()), sorted(dead.keys() - poison), warned)
    assert killed
    assert sum(struck.values()) > len(planned) // 2
    check_contents(place, expected)


def check_contents(place: Place, expected: dict[str, list[float]]) -> None:
    """Each result, read back."""

    def wrong(number: int) -> str | None:
        found: Any = place.result(f"r-{number}")
        if is_poison(number):
            return None if found["status"] == 400 else f"r-{number}: {found}"
        answer = json.loads(found["body"])["outputs"][0]["data"]
        right = found["status"] == 200 and answer == pytest.approx(expected[text_of(number)], rel=1e-5)
        return None if right else f"r-{number}: {found}"

    with ThreadPoolExecutor(4) as pool:
        assert [one for one in pool.map(wrong, range(MESSAGES)) if one] == []
