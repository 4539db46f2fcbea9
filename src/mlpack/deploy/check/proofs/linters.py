"""What cfn-lint and statelint say, where they are installed. Their warnings count as errors do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlpack.core import distribution
from mlpack.core.files import bounded
from mlpack.deploy.check.proofs.own import CFN
from mlpack.deploy.check.records import Finding, Proof, proof
from mlpack.deploy.machines.asl import UNKNOWN_TO_STATELINT


def linter_proofs(root: Path) -> Iterator[Proof]:
    """Both of them."""
    yield _with("cfnlint", "cfn-lint", lambda: cfn_lint((root / CFN).read_text(), CFN))
    yield _with("statelint", "statelint", lambda: _machines(root))


def _with(module: str, name: str, findings: Any) -> Proof:
    if find_spec(module) is None:
        return Proof(name, "could not run", why=f"it is not installed: {distribution.install('deploy')}")
    try:
        return proof(name, tuple(findings()))
    except (OSError, ValueError) as error:
        return proof(name, (Finding(CFN, "", f"cannot be read: {error}"),))


def cfn_lint(template: str, file: str) -> Iterator[Finding]:
    """Errors and warnings; W3037, an IAM action that does not exist, is one of the latter."""
    import cfnlint.api
    from cfnlint.config import ManualArgs

    for match in cfnlint.api.lint(template, config=ManualArgs(regions=["us-east-1"])):
        if match.rule.id[0] in "EW":
            yield Finding(file, ".".join(map(str, getattr(match, "path", None) or ())), f"{match.rule.id} {_short(match.message)}")


def _short(message: str) -> str:
    """Without the names of everything that a reference could have meant, and without the whole of a long value."""
    text = re.sub(r"\[[^\[\]]{120,}\]", "[...]", message)
    return re.sub(r"'([^']{60})[^']{60,}'", r"'\1...'", text)


def _machines(root: Path) -> Iterator[Finding]:
    for path in sorted(root.glob("*.asl.json")):
        document = bounded.load_json(path)
        for problem in state_lint(document):
            place = re.search(r"State Machine[\w.\[\]-]*", problem)
            yield Finding(path.name, place[0].removeprefix("State Machine.") if place else "", problem)


def state_lint(document: Any) -> list[str]:
    """What statelint says of a state machine, but for what it does not know."""
    from statelint.linter import Linter

    return [each for each in Linter.validate(document) if not any(gap in each for gap in UNKNOWN_TO_STATELINT)]
