"""The fashion network's int8 package against its float one, one thread, one picture a call, blocks in turns.

Each side is the package that ships, in a process of its own; what is divided are the medians of blocks that were taken one
after the other. Figure: at least 2.5 times faster on a processor with VNNI (or its like on arm64), whose instructions int8 is
for; on any other the number is printed and not judged. `--runs` means nothing here: the build's own measurement is what is read.
"""

from __future__ import annotations

import sys

from common import FASHION, Row, forget_measurements, number, parser, place, report, scratch, this_machine

FIGURE = 2.5


def main() -> int:
    """Measure anew and print."""
    options = parser(__doc__).parse_args()
    here = place(options)
    forget_measurements(here.store)
    with scratch() as work:
        record = here.build(FASHION, work / "out")
    isa = this_machine().isa
    judged = "vnni" in isa or isa in {"amx", "neon-dotprod", "neon-i8mm"}
    rows = []
    for candidate in record["candidates"]:
        latency = candidate["latency_ms"]
        if latency is None:
            raise SystemExit(f"{candidate['id']}: {candidate['status']}: {'; '.join(candidate['reasons'])}")
        detail = f"{number(latency['p50_low'])} to {number(latency['p50_high'])}, n={latency['n']}"
        top1 = candidate["accuracy"]["value"]
        rows.append(
            Row(name=f"{candidate['variant']}, latency p50", value=latency["p50"], unit="ms", detail=f"{detail}, top1 {top1:.4f}")
        )
    for candidate in record["candidates"]:
        found = candidate["ratio_to_baseline"]
        if candidate["variant"] == "fp32":
            continue
        held = FIGURE if judged and candidate["variant"] == "int8" else None
        detail = f"{number(1 / found['high'])} to {number(1 / found['low'])}, {len(found['samples'])} blocks"
        if not judged and candidate["variant"] == "int8":
            detail += f"; this machine has no VNNI: the figure (at least {FIGURE}) is not judged here"
        rows.append(Row(name=f"float / {candidate['variant']}", value=1 / found["p50"], unit="×", detail=detail, at_least=held))
    return report("int8_fashion", rows, f"one thread, batch 1, {isa}", options.out)


if __name__ == "__main__":
    sys.exit(main())
