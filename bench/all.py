"""Every benchmark, one after the other, and then `bench/README.md` from what they left in `bench/results/`.

Options go to each of them. `--only-readme` runs nothing. The README's section "What was tried" is kept by hand: it stays as it is.
The exit code is 1 when a figure is missed or a benchmark could not run; its own words, above, say which.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, number

NAMES = ("cold_start", "package_size", "startup", "first_build", "int8_fashion", "int8_kernels", "calibration")
NAMES += ("registry/transfer", "registry/listing", "worker/throughput", "worker/latency", "worker/servers")
NAMES += (
    "runtime/torch_start",
    "runtime/peak_memory",
    "runtime/throughput",
    "runtime/overhead",
    "runtime/pictures",
    "runtime/signed_client",
    "runtime/remote_weights",
    "runtime/batch",
)
ALONE = ("scale", "scale_forms", "optimize/run")
"""Run by themselves only, for hours and on gigabytes of disk; their last tables stand in the README too."""
README = ROOT / "bench/README.md"
BY_HAND = "## What was tried"
INTRODUCTION = """# Benchmarks

Anyone can run these scripts: `make bench` runs all of them; the command above a table runs one (`--help` says what it needs).
Both sides of a comparison take turns in one run, so ratios hold on other machines; milliseconds do not. Numbers are medians.
*held to* is the bound that we hold a number to, where there is one, and *holds* whether the number kept it.
"""


def main() -> int:
    """Run them and rewrite the README."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only-readme", action="store_true", help="run nothing, rewrite the README from the last results")
    made.add_argument("--out", type=Path, default=RESULTS, help="where the results go [default: bench/results]")
    options, passed_on = made.parse_known_args()
    codes = [0]
    for name in () if options.only_readme else NAMES:
        done = subprocess.run([sys.executable, ROOT / f"bench/{name}.py", "--out", options.out, *passed_on], check=False)
        print(flush=True)
        codes.append(done.returncode)
    README.write_text(readme(README.read_text() if README.exists() else "", options.out))
    return max(codes)


def readme(before: str, results: Path) -> str:
    """The whole README: tables from the results, the section kept by hand from `before`."""
    _, heading, by_hand = before.partition(BY_HAND)
    found = {name: results / f"{name.replace('/', '_')}.json" for name in (*NAMES, *ALONE)}
    sections = [section(name, json.loads(path.read_bytes())) for name, path in found.items() if path.exists()]
    return "\n".join([INTRODUCTION, *sections, (heading or BY_HAND) + (by_hand or "\n\nNothing yet.\n")])


def section(script: str, result: dict[str, Any]) -> str:
    """One benchmark's table."""
    here = result["facts"]
    machine = (
        f"{here['date']}, {here['cpu']} ({here['isa']}, {here['cores']} cores, {here['memory_gb']} GB), {here['kernel']}, "
        f"Python {here['python']}, OMP_NUM_THREADS {here['OMP_NUM_THREADS']}, load {here['load']} at the end."
    )
    lines = [f"## {result['name'].replace('_', ' ').capitalize()}", "", f"`python bench/{script}.py`: {result['how']}.", ""]
    lines += [machine, "", "| what | value | held to | holds | spread |", "| --- | ---: | --- | --- | --- |"]
    for row in result["rows"]:
        indent = "&nbsp;&nbsp;" if row["name"].startswith(" ") else ""
        cells = [indent + row["name"].strip(), f"{number(row['value'])} {row['unit']}".strip(), _figure(row), _verdict(row["held"])]
        lines.append(f"| {' | '.join([*cells, row['detail']])} |")
    return "\n".join([*lines, "", *([result["tables"]] if result.get("tables") else [])])


def _figure(row: dict[str, Any]) -> str:
    if row["at_most"] is not None:
        return f"at most {number(row['at_most'])}"
    return f"at least {number(row['at_least'])}" if row["at_least"] is not None else ""


def _verdict(held: bool | None) -> str:
    return {True: "yes", False: "**no**", None: ""}[held]


if __name__ == "__main__":
    sys.exit(main())
