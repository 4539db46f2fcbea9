"""Extras: every package that an installation may lack is known by the extra that brings it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from mlpack.passes.export import extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Not named there: what onnx and pydantic cannot do without, and what only the type checker sees.
COME_ALONG = {"google", "pydantic_core", "_typeshed", "scipy"}
# Nobody's extra: an estimator that was fitted on a data frame brings it, or it is not used.
WHERE_IT_IS = {"pandas"}


def names(requirements: list[str]) -> set[str]:
    """As they are imported; `ruamel.yaml` is part of `ruamel`."""
    found = {re.split(r"[^A-Za-z0-9_-]", each)[0].replace("-", "_") for each in requirements}
    imports = {"optimum_onnx": "optimum", "scikit_learn": "sklearn", "xgboost_cpu": "xgboost"}
    return {imports.get(name, name) for name in found} - {"mlpack_build"}


def imported() -> set[str]:
    found = set()
    for path in (ROOT / "src/mlpack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {"mlpack", "mlpack_control", "mlpack_runtime"}


@pytest.mark.slow
def test_whatever_base_installation_lacks_is_known_by_its_extra() -> None:
    aws = {*names(PROJECT["optional-dependencies"]["aws"]), "botocore"}  # no pass needs them: who does says so itself
    linters = {"cfnlint", "statelint"}
    assert imported() - names(PROJECT["dependencies"]) - COME_ALONG - WHERE_IT_IS - aws - linters <= set(extras.EXTRAS)


def test_the_extras_are_those_of_the_project() -> None:
    optional = PROJECT["optional-dependencies"]
    several = ("torch", "huggingface", "classical")
    assert {extra: names(optional[extra]) for extra in several} == {
        extra: {name for name, brings in extras.EXTRAS.items() if brings == extra} for extra in several
    }
    assert "mlpack-build[torch]" in optional["huggingface"]
    # One distribution has the libraries, the other the module that is imported; it is named after neither.
    assert names(optional["tensorrt-rtx"]) == {"tensorrt_rtx_cu12_libs", "tensorrt_rtx_cu12_bindings"}
    assert {name for name, brings in extras.EXTRAS.items() if brings == "tensorrt-rtx"} == {"tensorrt_rtx_bindings"}


def test_missing_is_found_behind_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    absent = ModuleNotFoundError("No module named 'onnxscript.ir'", name="onnxscript.ir")
    wrapped = RuntimeError("the exporter failed")
    wrapped.__cause__ = absent
    assert extras.missing(wrapped) is absent
    assert extras.way_out(absent, "torch").endswith("pip install 'mlpack-build[torch]'")
    assert extras.way_out(absent, "huggingface").endswith("pip install 'mlpack-build[huggingface]'")


@pytest.mark.parametrize("name", ["numpy", "no_such_package", "safetensors.no_such_part", None])
def test_what_an_extra_would_not_bring_is_not_missing(name: str | None) -> None:
    assert extras.missing(ModuleNotFoundError("gone", name=name)) is None
