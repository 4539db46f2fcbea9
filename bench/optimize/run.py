"""Real models through mlpack and through its peers, and one judge over all of them. None is tuned by hand.

Each peer runs in an environment of its own (made of `requirements-*.txt`), each preset with a time limit; what it makes is kept, so
that another run only judges. mlpack is `mlpack build` on the recipe that `mlpack init` writes, with `accuracy_drop: 0.01` and
`variants: auto`. Every model then answers the same evaluation calls in the same engine: the recipe's own metric, one thread on one
core, rounds in turns, bytes with external data, and sixteen calls on an emulated processor without VNNI.
The exit code is 1 when a figure is missed: for each model, no peer's within a drop of 0.01 (the float included) is more than 3 %
faster or smaller than the one that mlpack chose, and the build costs at most six float builds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import cases  # noqa: E402 - bench/ is no package
import common  # noqa: E402
import engine  # noqa: E402
import judge  # noqa: E402
import ours  # noqa: E402
import peers  # noqa: E402
import scoring  # noqa: E402

NAME = "optimize_run"


def main() -> int:
    """Make, ask, judge and report."""
    options = arguments().parse_args()
    kept = (options.store or common.parts.cache() / "bench-optimize").resolve()
    kept.mkdir(parents=True, exist_ok=True)
    done: list[judge.Judged] = earlier(options.out) if options.only or options.only_report else []
    for name in () if options.only_report else options.only or cases.NAMES:
        print(f"{name}", flush=True)
        case = cases.place(name, kept)
        made = made_by_peers(case, options, kept)
        if options.only_make:
            continue
        judged = judged_case(case, made, options, kept)
        done = [each for each in done if each.name != name] + [judged]
        report(done, options)
    return 0 if options.only_make else report(done, options)


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", metavar="MODEL", action="append", help="this model, keeping the others' rows; may be given again")
    made.add_argument("--peer", metavar="NAME", action="append", help="this peer only; may be given again")
    made.add_argument("--out", type=Path, default=common.RESULTS, help="where the results go [default: bench/results]")
    made.add_argument("--store", type=Path, help="where environments and models are kept [default: in the cache of the slow tests]")
    made.add_argument("--limit", type=float, default=300.0, help="seconds that a preset may take [default: 300]")
    made.add_argument("--build-limit", type=float, default=3600.0, help="seconds that a build may take [default: 3600]")
    made.add_argument("--rounds", type=int, default=20, help="rounds of latencies [default: 20]")
    made.add_argument("--block-ms", type=float, default=60.0, help="of the slowest model, in a round [default: 60]")
    made.add_argument(
        "--emulated", type=float, default=20.0, help="seconds of answers without VNNI, a model; 0: none [default: 20]"
    )
    made.add_argument("--only-make", action="store_true", help="run the peers, judge nothing")
    made.add_argument("--only-report", action="store_true", help="run nothing, judge the kept rows anew")
    made.add_argument("--again", action="store_true", help="build nothing: judge what the last builds shipped once more")
    made.add_argument("--without-ours", action="store_true", help="leave mlpack's side out: the peers' rows alone")
    made.add_argument("--remark", default="", help="words that stand with the results: what the machine did beside")
    return made


def made_by_peers(case: cases.Case, options: argparse.Namespace, kept: Path) -> list[peers.Outcome]:
    """What every preset makes of the case."""
    found = []
    for peer in peers.PEERS:
        if options.peer and peer.name not in options.peer:
            continue
        for preset in peer.presets:
            if preset in peer.for_transformers and not case.transformer:
                continue
            outcome = peers.run(peer, preset, case.model, case.calibration, kept, options.limit)
            print(f"  {outcome.tool}: {outcome.reason or 'made'}, {outcome.seconds:.0f} s", flush=True)
            found.append(outcome)
    return found


def judged_case(case: cases.Case, made: list[peers.Outcome], options: argparse.Namespace, kept: Path) -> judge.Judged:
    """Every model of the case asked and scored."""
    rows = {"float": judge.Row(tool="float", side=judge.FLOAT, size_bytes=peers.size_of(case.model.parent))}
    opened = {"float": engine.Opened(path=case.model)}
    for outcome in made:
        row = judge.Row(tool=outcome.tool, side=judge.PEER, failure=outcome.reason, seconds=outcome.seconds)
        if outcome.folder is not None:
            opened[outcome.tool] = engine.Opened(path=outcome.folder / peers.MODEL)
            row = scoring.changed(row, size_bytes=peers.size_of(outcome.folder))
        rows[outcome.tool] = row
    with tempfile.TemporaryDirectory(prefix="optimize-", dir=kept) as scratch:
        work = Path(scratch)
        built = None
        if not options.without_ours:
            shipped = kept / "shipped" / case.name
            built = (
                ours.last(shipped) if options.again else ours.build(case, work / "ours", kept / "warm-store", options.build_limit)
            )
            built = built if options.again else ours.keep(built, shipped)
            for id_, each in built.shipped.items():
                variant = f"mlpack {id_.partition('@')[0]}"
                size = peers.size_of(each.path.parent, each.path.name)
                chosen = id_ == built.chosen
                rows[variant] = judge.Row(
                    tool=variant, side=judge.OURS, chosen=chosen, size_bytes=size, seconds=built.seconds if chosen else None
                )
                opened[variant] = each
            if built.chosen is None:
                why = built.failure or "no candidate is inside the budgets"
                rows["mlpack"] = judge.Row(tool="mlpack", side=judge.OURS, failure=why, seconds=built.seconds)
            for candidate in built.record.get("candidates", ()):
                tool = f"mlpack {candidate['variant']}"
                if tool not in rows:
                    rows[tool] = judge.Row(tool=tool, side=judge.OURS, failure="; ".join(candidate["reasons"]) or "no package")
        rows = scoring.scored(case, rows, opened, kept)
        alive = {tool: opened[tool] for tool in rows if tool in opened and not rows[tool].failure}
        blocks = engine.in_turns(alive, case.evaluation, len(case.samples), options.rounds, options.block_ms)
        rows = {tool: scoring.changed(row, blocks=tuple(blocks.get(tool, ()))) for tool, row in rows.items()}
        if options.emulated:
            rows = scoring.without_vnni(case, rows, opened, (work, kept), options.emulated)
    return judge.Judged(
        name=case.name,
        metric=scoring.metric_of(case).name,
        rows=tuple(rows.values()),
        note=case.note,
        build_seconds=built.seconds if built and built.record else 0.0,
        float_seconds=built.float_seconds if built else 0.0,
        evaluated=len(case.samples),
        load=round(os.getloadavg()[1], 1),
        commit=built.commit if built else "",
    )


def report(done: list[judge.Judged], options: argparse.Namespace) -> int:
    """Figures and tables, printed and kept."""
    order = {name: number for number, name in enumerate(cases.NAMES)}
    done = sorted(map(judge.tidied, done), key=lambda each: order.get(each.name, len(order)))
    rows, tables = [], []
    for case in done:
        found = judge.verdict(case)
        for figure in found.figures:
            said = (figure.detail, *(["mlpack is alone within the drop"] if found.alone else []))
            rows.append(
                common.Row(name=figure.name, value=figure.value, unit=figure.unit, detail="; ".join(said), at_most=figure.at_most)
            )
        if found.missing:
            rows.append(common.Row(name=f"{case.name}: chosen", value=0, detail=found.missing, at_least=1))
        tables.append(judge.table(case) + "".join(f"\n{each}." for each in found.words) + "\n")
    how = "real models, each tool's in the same engine, one thread, rounds in turns"
    code = common.report(NAME, rows, f"{how}; {options.remark}" if options.remark else how, options.out) if rows else 0
    path = options.out / f"{NAME}.json"
    whole = json.loads(path.read_bytes()) if path.is_file() and rows else {"rows": []}
    whole |= {"tables": "\n".join(tables), "cases": [judge.as_json(case) for case in done], "taken": time.strftime("%Y-%m-%d")}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return code


def earlier(out: Path) -> list[judge.Judged]:
    """The cases of the last results."""
    path = out / f"{NAME}.json"
    return [judge.from_json(each) for each in json.loads(path.read_bytes()).get("cases", ())] if path.is_file() else []


if __name__ == "__main__":
    sys.exit(main())
