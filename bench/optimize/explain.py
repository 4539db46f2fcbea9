"""Where the time of each tool's model goes, kernel by kernel: why one is faster than another. Reads what `run.py` kept.

A line a tool: its milliseconds a call by the engine's profiler, then the kinds of kernels that take the most, with their nodes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import cases  # noqa: E402 - bench/ is no package
import common  # noqa: E402
import engine  # noqa: E402
import ours  # noqa: E402
import peers  # noqa: E402


def main() -> int:
    """Profile and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model", choices=cases.NAMES)
    made.add_argument("--tool", action="append", help="words that the tool's name holds; may be given again [default: every tool]")
    made.add_argument("--runs", type=int, default=10)
    made.add_argument("--kinds", type=int, default=9, help="kinds of kernels that are shown")
    made.add_argument("--limit", type=float, default=300.0, help="as run.py was given it")
    made.add_argument("--store", type=Path)
    options = made.parse_args()
    kept = (options.store or common.parts.cache() / "bench-optimize").resolve()
    case = cases.place(options.model, kept)
    for tool, opened in everyone(case, kept, options.limit).items():
        if options.tool and not any(words in tool for words in options.tool):
            continue
        try:
            kinds = profiled(case, opened, options.runs)
        except engine.AskError as error:
            print(f"{tool}: {error}")
            continue
        shown = ", ".join(f"{kind} {nodes}: {ms:.3g}" for kind, (nodes, ms) in list(kinds.items())[: options.kinds])
        print(f"{tool:32} {sum(ms for _, ms in kinds.values()):8.3f} ms  {shown}", flush=True)
    return 0


def everyone(case: cases.Case, kept: Path, limit_s: float) -> dict[str, engine.Opened]:
    """The float, what peers made, and what mlpack shipped."""
    found = {"float": engine.Opened(path=case.model)}
    for peer in peers.PEERS:
        for preset in peer.presets:
            if preset in peer.for_transformers and not case.transformer:
                continue
            outcome = peers.run(peer, preset, case.model, case.calibration, kept, limit_s)
            if outcome.folder is not None:
                found[outcome.tool] = engine.Opened(path=outcome.folder / peers.MODEL)
    shipped = kept / "shipped" / case.name
    built = ours.last(shipped).shipped if shipped.is_dir() else {}
    return found | {f"mlpack {id_.partition('@')[0]}": opened for id_, opened in built.items()}


def profiled(case: cases.Case, opened: engine.Opened, runs: int) -> dict[str, tuple[int, float]]:
    """Of each kind of kernel: nodes, milliseconds a call. AskError."""
    with engine.child(opened, case.evaluation) as running:
        said = running.ask(op="profile", model=str(opened.path), level=opened.level, entries=dict(opened.entries), runs=runs)
    return {kind: (int(nodes), float(ms)) for kind, (nodes, ms) in said["kinds"].items()}


if __name__ == "__main__":
    sys.exit(main())
