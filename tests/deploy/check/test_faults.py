"""Planted faults: every one is found, by a finding that names file, key and reason; and nothing is found where none was planted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.deploy_faults import CFN, FAULTS, Fault, planted
from tests.support.deploy_graphs import graphs

from mlpack.deploy.check.facts.reading import of_cloudformation, of_terraform
from mlpack.deploy.check.proofs.linters import cfn_lint
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.all import findings
from mlpack.deploy.render import cloudformation, terraform

DOCUMENTS = {
    (name, file): json.loads(json.dumps(render(of)))
    for name, of in graphs().items()
    for file, render in ((CFN, cloudformation), ("service.tf.json", terraform))
}
ELSEWHERE = {"a plan without a key", "a provider that the cluster has not"}
"""Faults whose finding stands at another resource, which they make wrong."""
OWN = [fault for fault in FAULTS if fault.rung == "rules"]
LINTED = [fault for fault in FAULTS if fault.rung == "cfn-lint"]


def found(fault: Fault) -> tuple[Finding, ...]:
    document: dict[str, Any] = planted(DOCUMENTS[fault.graph, fault.file], fault)
    if fault.rung == "cfn-lint":
        return tuple(cfn_lint(json.dumps(document), fault.file))
    return findings((of_cloudformation if fault.file == CFN else of_terraform)(fault.file, document))


def test_there_are_enough_faults_of_many_kinds() -> None:
    assert len(FAULTS) >= 60
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", OWN, ids=lambda fault: fault.name)
def test_rules_find_a_planted_fault(fault: Fault) -> None:
    said = found(fault)
    assert any(fault.resource in finding.key for finding in said) or fault.name in ELSEWHERE, said
    assert all(finding.file == fault.file and finding.key and finding.reason for finding in said)


@pytest.mark.slow
@pytest.mark.parametrize("fault", LINTED, ids=lambda fault: fault.name)
def test_cfn_lint_finds_a_planted_fault(fault: Fault) -> None:
    assert any(fault.resource in finding.key for finding in found(fault))


@pytest.mark.slow
@pytest.mark.parametrize("name", graphs())
def test_cfn_lint_finds_nothing_in_a_sound_graph(name: str) -> None:
    assert list(cfn_lint(json.dumps(DOCUMENTS[name, CFN]), CFN)) == []
