"""The tails of the code, held in CI: longest file, longest function, most parameters, longest name of a test.

Raising a budget is a commit that says why.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 6
TEST_NAME = 59  # a longer one is cut in CI's columns, and nobody types it behind `-k`


def problems(path: Path) -> list[str]:
    """What in this file exceeds a budget."""
    text = path.read_text(encoding="utf-8")
    found = []
    if text.count("\n") > FILE_LINES:
        found.append(f"{path}: {text.count(chr(10))} lines (at most {FILE_LINES})")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            names = [
                a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")
            ]
            if lines > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines (at most {FUNCTION_LINES})")
            if len(names) > PARAMETERS and not _is_command(node):
                found.append(f"{path}:{node.lineno}: {node.name} takes {len(names)} parameters (at most {PARAMETERS})")
    return found


def long_names(path: Path) -> list[str]:
    """The tests in this file whose names are too long."""
    return [
        f"{path}:{node.lineno}: {node.name} has {len(node.name)} characters (at most {TEST_NAME})"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and len(node.name) > TEST_NAME
    ]


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command's parameters are its options: click hands them over one by one."""
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


def main() -> int:
    """Print every problem; 1 when there is one."""
    found = [line for path in sorted(Path("src").rglob("*.py")) for line in problems(path)]
    found += [
        line for folder in ("tests", "tests_slow") for path in sorted(Path(folder).rglob("*.py")) for line in long_names(path)
    ]
    print("\n".join(found) if found else "budgets: every file, function, parameter list and test name is within its budget")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
