"""Other people's models, each built with the recipe that `mlpack init` writes on it, as it stands; only data files are made for it.

A row a model: the exit code, how far the shipped float package's answers are from the engine's on the source file (without
optimisation; the largest difference over the largest number of the output), the metric that `init` chose, every candidate with its
reason or its latency, size and accuracy, and the seconds. The exit code is 1 when a model that the engine runs ends with anything
but 0 or 5, when float answers differ, or when a candidate has neither numbers nor a reason.

`--fast` leaves out those that take minutes and measures the least; without it latencies are measured as a user's build does. A row
that fails, dies or takes longer than `--limit` is a row that says so; the others go on. With `--keep FILE` every row is written
there as soon as it is known, and a second run makes those that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT, parts

sys.path.insert(0, str(ROOT))

SAME = 1e-4
"""Float answers that differ by no more than this share of the largest are the same: fused kernels add in another order. Where the
engine's own optimisations of the source file move them further, twice as far is allowed."""


def main() -> int:
    """Build them one after the other, each in a process of its own, and print the table."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", metavar="NAME", action="append", help="this model; may be given again")
    made.add_argument("--fast", action="store_true", help="only those that take seconds, with the least measuring")
    made.add_argument("--json", action="store_true", help="print the rows as JSON")
    made.add_argument("--keep", type=Path, metavar="FILE", help="rows as lines of JSON; those that stand there are not made again")
    made.add_argument("--limit", type=float, default=3600.0, metavar="SECONDS", help="longest that one model may take [3600]")
    made.add_argument("--store", type=Path, help="the builds' store, kept [default: a new one]")
    made.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoo-") as scratch:
        store = (options.store or Path(scratch) / "store").resolve()
        if options.one:
            print(json.dumps(built(options.one, store, fast=options.fast)))
            return 0
        wanted = options.only or [name for name, heavy in names() if not (heavy and options.fast)]
        kept = read_rows(options.keep)
        rows, began = [], time.monotonic()
        for number, name in enumerate(wanted, start=1):
            print(f"[{number}/{len(wanted)}] {name}, after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            row = kept.get(name) or in_child(name, store, fast=options.fast, limit=options.limit)
            rows.append(row)
            if options.keep and name not in kept:
                with options.keep.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
            if not options.json:
                print(shown(row), flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    bad = [row["name"] for row in rows if problems(row)]
    print(f"{len(rows) - len(bad)} of {len(rows)} as they should be" + (f"; not: {', '.join(bad)}" if bad else ""), file=sys.stderr)
    return 1 if bad else 0


def names() -> list[tuple[str, bool]]:
    """Every model, and whether it takes minutes."""
    return [(each.name, each.heavy) for each in every().values()]


def every() -> Mapping[str, Any]:
    """The zoo by name: ours, and what the slow tests add (random-weight architectures, classical models)."""
    from sample_models import zoo
    from tests.support.models import more_members

    return {each.name: each for each in (*zoo.members(), *more_members.members())}


def read_rows(path: Path | None) -> dict[str, dict[str, Any]]:
    """Rows that an earlier run kept, by name; a line that it did not end is none."""
    found = {}
    for line in path.read_text("utf-8").splitlines() if path and path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[str(row["name"])] = dict(row)
    return found


def in_child(name: str, store: Path, *, fast: bool, limit: float) -> dict[str, Any]:
    """One row, made where neither its memory nor its death is ours; what it started ends with it."""
    command = [sys.executable, __file__, "--one", name, "--store", str(store), *(["--fast"] if fast else [])]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen(command, stdout=said, stderr=complained, start_new_session=True)
        try:
            process.wait(limit)
            why = "the process ended"
        except subprocess.TimeoutExpired:
            why = f"took longer than {limit:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        complained.seek(0)
        lines, rest = said.read().splitlines(), complained.read()[-1500:]
    try:
        return dict(json.loads(lines[-1]))
    except (ValueError, IndexError, TypeError):
        seconds = round(time.monotonic() - began, 1)
        return {"name": name, "code": process.returncode, "error": f"{why}: {rest}", "seconds": seconds, "candidates": {}}


def built(name: str, store: Path, *, fast: bool) -> dict[str, Any]:
    """One model from the package index to answers."""
    from tools import tryout

    from mlpack.pipeline.measuring.measure import Effort
    from mlpack.store.local import Store

    member = every()[name]
    with tempfile.TemporaryDirectory(prefix=f"zoo-{name}-") as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        model = member.place(folder, parts.cache() / "zoo")
        recipe = tryout.write_recipe(model)
        tried = tryout.try_out(recipe, Store(store), effort=tryout.LEAST if fast else Effort())
        row: dict[str, Any] = {"name": name, "code": int(tried.code), "error": tried.error, "seconds": round(tried.seconds, 1)}
        row["metric"] = next(line.partition("#")[0].strip() for line in tried.recipe.splitlines() if line.startswith("metric:"))
        row["candidates"] = {each["id"]: told(each) for each in tried.record.get("candidates", ())}
        row["chosen"] = tried.record.get("chosen")
        row["difference"] = None
        if tried.baseline in tried.answers:
            wanted = member.answers(model, tried.calls)
            row["difference"] = tryout.difference(tried.float_answers, wanted)
            row["allowed"] = max(SAME, 2 * engines_own(model, tried.calls, wanted)) if model.suffix == ".onnx" else SAME
        shutil.rmtree(folder)
        return row


def engines_own(model: Path, calls: Any, wanted: Any) -> float:
    """How far the engine's own optimisations move the answers: no package can be nearer than chance to them."""
    from sample_models import zoo
    from tools import tryout

    return tryout.difference(zoo.by_the_engine(model, calls, "ORT_ENABLE_ALL"), wanted)


def told(candidate: Mapping[str, Any]) -> str:
    """A candidate's numbers, or why it has none."""
    if candidate["status"] in ("failed", "skipped"):
        return f"{candidate['status']}: {'; '.join(candidate['reasons'])}"
    said = [candidate["status"]]
    if ratio := candidate["ratio_to_baseline"]:
        said.append(f"latency ×{ratio['p50'] if isinstance(ratio, dict) else ratio}")
    if (package := candidate["package"]) and package["size_bytes"]:
        said.append(f"{package['size_bytes'] / 1e6:.1f} MB")
    if accuracy := candidate["accuracy"]:
        said.append(f"{accuracy['metric']} {accuracy['value']:.4f}, drop {accuracy['drop']:.4f}")
    return ", ".join([*said, *candidate["reasons"]])


def problems(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a row."""
    found = [f"exit {row['code']}"] if row["code"] not in (0, 5) else []
    if row.get("difference") is not None and not row["difference"] <= row["allowed"]:
        found.append(f"float answers differ by {row['difference']:.3g}")
    return found + [f"{id_}: no reason" for id_, said in row["candidates"].items() if said in ("failed: ", "skipped: ")]


def shown(row: Mapping[str, Any]) -> str:
    """The row for people."""
    difference = "-" if row.get("difference") is None else f"{row['difference']:.2g}"
    wrong = f"  WRONG: {'; '.join(problems(row))}" if problems(row) else ""
    head = f"{row['name']:28} exit {row['code']}  float ±{difference}  {row.get('metric', '')}  {row.get('seconds', 0)} s{wrong}"
    lines = [
        head,
        *(f"    {id_}{' (chosen)' if id_ == row.get('chosen') else ''}: {said}" for id_, said in row["candidates"].items()),
    ]
    return "\n".join([*lines, *(f"    {line}" for line in row.get("error", "").splitlines()[-6:])])


if __name__ == "__main__":
    raise SystemExit(main())
