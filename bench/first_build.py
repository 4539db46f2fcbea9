"""A whole first `mlpack build recipes/minilm.yaml` against `optimum-cli export onnx` and `optimum-cli onnxruntime quantize` alone.

The build has nothing of this model: export, float, int8, the measurement of every candidate (accuracy on 2,048 texts, cold starts,
latencies), both packages and the boot. It has what a CI machine that ran any build before has: the wheels in uv's cache, the
base's layer in the store, and sources in the page cache. The other side has no packages, no measurement and no boot.
Figure: at most 4 times.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

from common import (
    MINILM,
    Place,
    Row,
    export_and_quantize,
    in_turns,
    parser,
    place,
    ratio,
    report,
    run,
    scratch,
    seconds,
    timed,
)


def main() -> int:
    """Build and export in turns."""
    options = parser(__doc__, runs=3).parse_args()
    here = place(options)
    with scratch() as work:
        here.build(MINILM, work / "warm")  # wheels into uv's cache, the base's layer into the store
    builds: list[dict[str, Any]] = []
    samples = in_turns({"mlpack": lambda: first_build(here, builds), "optimum": exported}, options.runs, warm_ups=0)
    rows = [
        timed("optimum-cli export onnx + onnxruntime quantize", samples["optimum"], "s"),
        timed("mlpack build, first, whole", samples["mlpack"], "s"),
        ratio("mlpack / optimum-cli", samples["mlpack"], samples["optimum"], at_most=4.0),
        *steps(builds[-1]),
    ]
    return report("first_build", rows, "MiniLM, in turns; wheels and the base's layer cached, nothing of the model", options.out)


def first_build(here: Place, builds: list[dict[str, Any]]) -> float:
    """Seconds of one build in a store that knows the base and nothing else."""
    with scratch(here.store.parent) as work:
        (work / "store").mkdir()
        run(["cp", "-a", "--reflink=auto", str(here.store / "oci"), str(work / "store/oci")])
        taken = seconds(lambda: here.build(MINILM, work / "out", store=work / "store"))
        recorded: dict[str, float] = defaultdict(float)
        for path in (work / "store/actions").glob("*.json"):
            action = json.loads(path.read_bytes())
            recorded[str(action["action"]["kind"])] += action["seconds"]
        builds.append({"whole": taken, "kinds": recorded})
        return taken


def exported() -> float:
    """Seconds of the two commands."""
    with scratch() as work:
        return seconds(lambda: export_and_quantize(work))


def steps(build: dict[str, Any]) -> list[Row]:
    """Where the last build's time went: what the store recorded for each kind of action; measuring it does not time."""
    kinds = sorted(build["kinds"].items(), key=lambda item: -item[1])
    rows = [Row(name=f"  {kind}", value=taken, unit="s") for kind, taken in kinds if taken >= 0.1]
    rest = build["whole"] - sum(build["kinds"].values())
    return [*rows, Row(name="  measuring, and the rest", value=rest, unit="s", detail="the rest: imports and output")]


if __name__ == "__main__":
    sys.exit(main())
