"""All proofs of a deployment's directory that can run on this machine.

Promises: no credentials, and nothing leaves the machine; a proof that could not run says why, and is no failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlpack.deploy.check.proofs.linters import linter_proofs
from mlpack.deploy.check.proofs.own import LOCK, own_proofs
from mlpack.deploy.check.proofs.programs import program_proofs
from mlpack.deploy.check.records import DeploymentReport
from mlpack.errors import RecipeError


def check(root: Path, environ: Mapping[str, str] | None = None, *, tools: bool = True) -> DeploymentReport:
    """The report of a directory. `tools`: also those that are no part of mlpack's installation."""
    if not (root / LOCK).is_file():
        raise RecipeError(f"{root}: has no {LOCK}: name a directory that `mlpack deploy write` wrote")
    proofs = [*own_proofs(root), *linter_proofs(root)]
    if tools:
        proofs += program_proofs(root, environ or {})
    return DeploymentReport(str(root), tuple(proofs))
