"""`mlpack plugins` and `mlpack plan`: what is installed beside mlpack, whose it is, and what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support import plugin_distributions
from tests.support import workshop as workshop_
from tests.support.project import REPOSITORY

import mlpack
from mlpack.cli.commands import cli


def printed(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_plugins_are_listed_and_their_keys_are_in_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed("plugins") == "no plug-in is installed beside mlpack\n"
    plugin_distributions.install_example(monkeypatch, tmp_path)
    assert printed("plugins").splitlines() == [
        "pass round-weights  acme-mlpack 1.2  acme_mlpack.round_weights:ROW",
        "target acme-function  acme-mlpack 1.2  acme_mlpack.acme_function:ROW",
    ]
    schema = json.loads(printed("plugins", "--schema"))
    assert (
        schema["$defs"]["step-round-weights"]["properties"]["bits"]["description"]
        == "Bits of the significand that are kept, of 23."
    )
    assert "acme-function" in schema["$defs"]["RecipeKeys"]["properties"]["targets"]["properties"]


def test_what_cannot_be_used_is_listed_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_distributions.install_example(monkeypatch, tmp_path, **{"ROW = Pass(": "ROW = dict("})
    rows = {row["name"]: row for row in json.loads(printed("plugins", "--json"))["plugins"]}
    assert rows["acme-function"]["problem"] is None
    assert "is dict, not mlpack.passes.Pass" in rows["round-weights"]["problem"]
    assert "    cannot be used: the pass 'round-weights' of acme-mlpack 1.2" in printed("plugins")
    assert {"step-quantize", "target-acme-function"} < mlpack.recipe_schema()["$defs"].keys()
    assert "step-round-weights" not in mlpack.recipe_schema()["$defs"]


def test_help_and_importing_look_for_no_plugins() -> None:
    code = "import sys; from mlpack.cli import commands; import mlpack; print(*sys.modules); commands.main()"
    words = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(REPOSITORY / "src")})
    loaded = set(done.stdout.partition("\n")[0].split())
    assert "mlpack.cli.builds" in loaded
    assert not loaded & {"importlib.metadata", "mlpack.core.plugins", "mlpack.passes", "mlpack.targets"}


def test_plan_says_whose_a_pass_and_a_target_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop_.make(tmp_path / "project")
    shop.recipe.write_text(plugin_distributions.example()["recipe.yaml"])
    plugin_distributions.install_example(monkeypatch, tmp_path / "site")
    monkeypatch.setenv("MLPACK_STORE", str(tmp_path / "store"))
    assert printed("plan", str(shop.recipe)).splitlines()[-2:] == [
        "the target acme-function is that of acme-mlpack 1.2",
        "the pass round-weights is that of acme-mlpack 1.2",
    ]
