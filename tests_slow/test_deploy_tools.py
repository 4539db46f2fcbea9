"""Every topology before the judges that are installed: linters, Terraform, CDK, checkov. Those that are not could not run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.topologies import topologies

from mlpack.deploy import planning, write
from mlpack.deploy.check import check
from mlpack.deploy.design import design

TOPOLOGIES = topologies()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_no_judge_finds_a_fault_in_a_topology(name: str, tmp_path: Path) -> None:
    graph = design(TOPOLOGIES[name])
    write.write(write.files(TOPOLOGIES[name], graph, planning.plan(TOPOLOGIES[name], graph)), tmp_path / "out")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    report = check(tmp_path / "out", environ)
    assert [str(finding) for finding in report.findings] == []
    ran = {proof.name for proof in report.proofs if proof.status == "ok"}
    assert {"cfn-lint", "statelint", "both languages say the same", "every file is as deploy.lock has it"} <= ran
    assert all(proof.why for proof in report.proofs if proof.status == "could not run")
