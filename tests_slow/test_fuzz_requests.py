"""Strange requests through each entrance, each answer held against every promise (tests_slow/fuzzing/oracle.py).

By default as many as take some seconds; with MLPACK_SOAK=1 200,000 through each of the handler, the worker and the front door, and
50,000 messages, 50,000 batches of them as events, and 20,000 answers of workers that are none. Then traffic: 200,000 requests
through each entrance of which one in twenty is wrong, and every other has the right answer. Each fuzzer is a process of its own, so
that its memory is. What one of them found is printed with the request and the words that send it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = os.environ.get("MLPACK_SOAK") == "1"
SEED = 8
COUNTS = {
    "handler": (3_000, 200_000),
    "events": (500, 50_000),
    "messages": (2_000, 50_000),
    "worker": (2_000, 200_000),
    "front_door": (2_000, 200_000),
    "wrong_worker": (500, 20_000),
}

WRONG = 0.05
TRAFFIC = ("handler", "events", "messages", "worker", "container", "front_door") if SOAK else ("container",)
"""Entrances for requests as they come: the others' are sent above, and this one's process differs from a worker's by its start."""


def fuzz(entrance: str, count: int, capsys: pytest.CaptureFixture[str], *options: str) -> None:
    """Run one; what it says is printed."""
    command = [sys.executable, "-m", "tests_slow.fuzzing", entrance, "--count", str(count), "--seed", str(SEED), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print(f"\n{done.stderr.strip()[-6000:]}")
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.parametrize("entrance", COUNTS)
def test_every_answer_is_one_of_the_promised_forms(entrance: str, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz(entrance, COUNTS[entrance][SOAK], capsys)


@pytest.mark.parametrize("entrance", TRAFFIC)
def test_traffic_with_wrong_requests_in_it_is_answered(entrance: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = 200_000 if SOAK else 2_000
    fuzz(entrance, count // 5 if entrance == "events" else count, capsys, "--wrong", str(WRONG))  # batches of one to ten
