"""`python -m tests_slow.fuzzing ENTRANCE --count N --seed S [--only NUMBER]`: run one fuzzer, or send one of its requests again."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from tests_slow.fuzzing import harness, requests

ENTRANCES = ("handler", "events", "messages", "worker", "container", "front_door", "raw_http", "registries", "wrong_worker")


def main() -> int:
    """0 when every answer was one of the promised forms; 1, with the request, when one was not."""
    parser = argparse.ArgumentParser(prog="python -m tests_slow.fuzzing")
    parser.add_argument("entrance", choices=ENTRANCES)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--only", type=int, help="this request alone")
    parser.add_argument("--survey", action="store_true", help="go on after a failure, and print two of each kind")
    parser.add_argument("--wrong", type=float, help="all requests are correct but this share, as in traffic")
    told = parser.parse_args()
    if told.wrong is not None:
        requests.mix(told.wrong)
    harness.limited()
    module = import_module(f"tests_slow.fuzzing.{told.entrance}")
    # Thousands of registries, each synced to disk many times, are in memory where that may be.
    memory = "/dev/shm" if told.entrance == "registries" and os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mlpack-fuzz-", dir=memory) as work:
        try:
            module.run(harness.Told(Path(work), told.count, told.seed, told.only, told.survey))
        except (harness.Failed, AssertionError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
