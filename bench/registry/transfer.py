"""How fast a release goes to S3 and back, and how much memory that takes, beside boto3's own transfer of the same bytes.

A release of one zip of 1 GB is published and pulled; boto3's `upload_file` and `download_file` move that zip, as they are when
nobody sets anything. Each in a process of its own, in turns, against moto over HTTP on loopback, in a process of its own;
interpreters and imports are not timed, they count as memory. What AWS adds, latency and bandwidth, is the same for both.
Figures: at least 80 % of boto3's speed each way, at most 150 MB.

moto puts what it has taken into files (parts of more than 1 MB), and holds an object whole while it builds it or hands it out.
Each round has a server of its own, so that the memory it does not give back goes with it: its peak is in the report. A server that
keeps files from the beginning is no way out: `rclone serve s3` ignores conditional writes, and the registry refuses such a store.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import ROOT, Row, number, parser, report, scratch, spread  # noqa: E402 - bench/ is no package

KEY = "plain"
BUCKET = "models"
SIDES = ("publish", "upload_file", "pull", "download_file")


def main() -> int:
    """Time each side in turns."""
    made = parser(__doc__, runs=3)
    made.add_argument("--size-mb", type=int, default=1024, help="bytes of the zip [default: 1024 MB]")
    made.add_argument("--child", nargs=3, help=argparse.SUPPRESS, metavar=("SIDE", "WORK", "WHERE"))
    options = made.parse_args()
    if options.child:
        return child(*options.child)
    from tests.support.registry.builds import build
    from tests.support.services.aws_server import AwsServer

    samples: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    peaks: list[float] = []
    with scratch() as work:
        build(work / "out", content=os.urandom(options.size_mb << 20))
        for round_ in range(options.runs + 1):
            server = AwsServer(in_memory_bytes=1 << 20).start()
            try:
                where = server.make_place(BUCKET)
                for side in SIDES:
                    taken = run_child(side, work, where, server.environment)
                    if round_:  # the first round fills caches
                        samples[side].append(taken)
                peaks.append(server.peak_mb())
            finally:
                server.stop()
            for name in ("pulled", "downloaded"):
                shutil.rmtree(work / name, ignore_errors=True)
    rows = [
        *speed("publish", samples["publish"], samples["upload_file"], options.size_mb),
        *speed("pull", samples["pull"], samples["download_file"], options.size_mb),
        Row(
            name="the server's peak memory",
            value=max(peaks),
            unit="MB",
            detail=f"{number(max(peaks) / options.size_mb)} times the zip",
        ),
    ]
    return report("registry_transfer", rows, "1 GB over loopback to moto, each side a process, in turns", options.out)


def speed(name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]], size_mb: int) -> list[Row]:
    """MB/s of both, their ratio, and our memory."""
    pairs = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)]
    memory = [one["peak_mb"] for one in ours]
    rates = {"mlpack": [size_mb / one["seconds"] for one in ours], "boto3": [size_mb / one["seconds"] for one in theirs]}
    return [
        *(
            Row(name=f"{name}, {who}", value=statistics.median(rate), unit="MB/s", detail=spread(rate))
            for who, rate in rates.items()
        ),
        Row(
            name=f"{name}, speed beside boto3's",
            value=statistics.median(pairs),
            unit="×",
            detail=f"pairs: {spread(pairs)}",
            at_least=0.8,
        ),
        Row(
            name=f"{name}, peak memory",
            value=max(memory),
            unit="MB",
            detail=f"boto3's: {number(max(one['peak_mb'] for one in theirs))}",
            at_most=150,
        ),
    ]


def run_child(side: str, work: Path, where: str, environment: dict[str, str]) -> dict[str, float]:
    """One side in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", side, str(work), where],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


def child(side: str, work: str, where: str) -> int:
    """Do it, and say how long it took."""
    move = prepared(side, Path(work), where)
    began = time.perf_counter()
    move()
    taken = time.perf_counter() - began
    # Not ru_maxrss: that begins with what the parent had.
    peak_kb = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    print(json.dumps({"seconds": taken, "peak_mb": peak_kb / 1024}))
    return 0


def prepared(side: str, work: Path, where: str) -> Callable[[], object]:
    """The call that is timed; its imports are done, its clients made."""
    if side in ("upload_file", "download_file"):
        import boto3

        client = boto3.client("s3")
        client.list_buckets()
        if side == "upload_file":
            zipped = next((work / "out").glob("artifacts/*/function.zip"))
            return lambda: client.upload_file(str(zipped), BUCKET, KEY)
        (work / "downloaded").mkdir()
        return lambda: client.download_file(BUCKET, KEY, str(work / "downloaded/function.zip"))
    from mlpack.registry import places
    from mlpack.registry.rows.rows import Reference

    registry = places.open_registry(where)
    next(registry.place.blobs.list(), None)
    if side == "publish":
        return lambda: registry.publish(work / "out")
    release = registry.show(Reference(name="minilm"))
    return lambda: registry.pull(release, work / "pulled")


if __name__ == "__main__":
    sys.exit(main())
