"""Mutation testing of the pure modules: is a single change of the code noticed by the tests that mirror it?

    python tools/mutants.py [--most 60] [--seed 1] [--only MODULE] [--processes N]     (`make mutants`)

mutmut makes the mutants and runs, for each, the tests that reach the changed function; `[tool.mutmut]` in pyproject.toml names the
modules and the tests. Of each module a fixed sample is run. Mutants that change nothing but the words of a message are left out:
the words are asserted where they matter. A survivor that no test can notice, or that nobody need notice, stands in
tools/mutants_known.toml with its reason and does not count. Exit 1 when fewer than nine in ten of a module's others are noticed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "mutants"
KNOWN = ROOT / "tools/mutants_known.toml"
LEAST = 0.9
SURVIVED = (0, 33)
"""mutmut's codes: the tests passed, and no test reaches the function."""
Known = dict[str, list[dict[str, str]]]
_MUTANT = re.compile(r"(.+)__mutmut_(\d+|orig)")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: `name` is mutmut's, `was` and `now` are the lines that differ, joined where they are several."""

    module: str
    name: str
    was: str
    now: str


class _WithoutWords(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node


def _functions(source: str) -> dict[tuple[str, str], ast.AST]:
    """By the name of the function and the number of the mutant, or `orig`."""
    functions = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (match := _MUTANT.fullmatch(node.name)):
            functions[match[1], match[2]] = node
            node.name = match[1]
    return functions


def _lines(node: ast.AST) -> list[str]:
    return [line.strip() for line in ast.unparse(node).splitlines()]


def _words(node: ast.AST) -> str:
    return ast.dump(_WithoutWords().visit(ast.parse(ast.unparse(node))))


def mutants(module: str, mutated: str) -> Iterator[Mutant]:
    """Those of a module's mutated source, without those that change nothing but words."""
    functions = _functions(mutated)
    for (function, number), node in functions.items():
        original = functions[function, "orig"]
        if number == "orig" or _words(node) == _words(original):
            continue
        changed = [line for line in difflib.ndiff(_lines(original), _lines(node)) if line[0] in "-+"]
        was, now = (" ".join(line[2:] for line in changed if line[0] == sign) for sign in "-+")
        yield Mutant(module=module, name=f"{module}.{function}__mutmut_{number}", was=was, now=now)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    return config


def modules() -> dict[str, Path]:
    """The modules to mutate, by name, each with its place below `src`."""
    return {path.removeprefix("src/").removesuffix(".py").replace("/", "."): Path(path) for path in _config()["only_mutate"]}


def tests() -> list[str]:
    """The files and folders of tests that mirror them."""
    paths: list[str] = _config()["pytest_add_cli_args_test_selection"]
    return paths


def known() -> Known:
    """The survivors that are explained, by module: `was`, `now` and `why` of each."""
    table = tomllib.loads(KNOWN.read_text("utf-8"))
    return {row["module"]: row["mutants"] for row in table["modules"]}


def explained(mutant: Mutant, table: Known) -> bool:
    """Whether it stands in the list."""
    return any((row["was"], row["now"]) == (mutant.was, mutant.now) for row in table.get(mutant.module, ()))


def sample(every: list[Mutant], most: int, seed: int) -> list[Mutant]:
    """At most so many of a module's, always the same ones."""
    drawn = random.Random(f"{seed} {every[0].module}").sample(every, min(most, len(every)))
    return sorted(drawn, key=lambda mutant: mutant.name)


def _mutmut(names: list[str], processes: int) -> None:
    command = [sys.executable, "-m", "mutmut", "run", f"--max-children={processes}", *names]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"mutmut ended with {done.returncode}:\n{done.stdout[-6000:]}")


def _codes(path: Path) -> dict[str, int | None]:
    """mutmut's exit codes of a module's mutants, by their names."""
    codes: dict[str, int | None] = json.loads((WORK / f"{path}.meta").read_text("utf-8"))["exit_code_by_key"]
    return codes


def _make(processes: int) -> None:
    """All mutants, and which tests reach which function."""
    shutil.rmtree(WORK, ignore_errors=True)
    _mutmut(["mlpack.decide.bands.x__estimated__mutmut_1"], processes)


def judge(module: str, drawn: list[Mutant], codes: dict[str, int | None], table: Known) -> tuple[str, bool]:
    """What to print of a module, and whether enough of its mutants were noticed."""
    if skipped := [mutant.name for mutant in drawn if codes[mutant.name] is None]:
        raise ValueError(f"mutmut did not run {', '.join(skipped)}")
    left = [mutant for mutant in drawn if codes[mutant.name] in SURVIVED]
    unexplained = [mutant for mutant in left if not explained(mutant, table)]
    noticed = len(drawn) - len(left)
    share = noticed / (noticed + len(unexplained)) if noticed + len(unexplained) else 1.0
    lines = [f"{module}: {noticed} of {len(drawn)} mutants noticed, {len(left) - len(unexplained)} explained: {share:.0%}"]
    lines += [f"  {mutant.name}\n    - {mutant.was}\n    + {mutant.now}" for mutant in unexplained]
    return "\n".join(lines), share >= LEAST


def main() -> int:
    """Run the samples and print what survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--most", type=int, default=60, help="mutants of a module [default: 60]")
    parser.add_argument("--seed", type=int, default=1, help="which ones [default: 1]")
    parser.add_argument("--only", help="one module, by name")
    parser.add_argument("--processes", type=int, default=2, help="mutants at a time [default: 2]")
    parser.add_argument("--keep", action="store_true", help="use the mutants and the times of the last run")
    asked = parser.parse_args()
    if not asked.keep:
        _make(asked.processes)
    chosen = {name: path for name, path in modules().items() if asked.only in (None, name)}
    drawn = {
        name: sample(list(mutants(name, (WORK / path).read_text("utf-8"))), asked.most, asked.seed) for name, path in chosen.items()
    }
    _mutmut([mutant.name for each in drawn.values() for mutant in each], asked.processes)
    results = [judge(name, drawn[name], _codes(path), known()) for name, path in chosen.items()]
    print("\n".join(text for text, _ in results))
    return 0 if all(enough for _, enough in results) else 1


if __name__ == "__main__":
    sys.exit(main())
