"""Tests that the generated reference is what the code says, and complete."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from mlpack.evaluation.metrics import METRICS
from mlpack.passes import PASSES
from mlpack.recipe.schema import RecipeKeys
from mlpack.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent


def _make_docs() -> Any:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_up_to_date() -> None:
    for path, text in _make_docs().documents().items():
        assert (ROOT / path).read_text("utf-8") == text, f"{path} is out of date: run `make docs`"


def test_reference_names_every_key_pass_target_and_metric() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    for name in (*RecipeKeys.model_fields, *PASSES, *TARGETS, *METRICS):
        assert f"`{name}`" in page


def test_schema_does_not_offer_what_the_build_fills_in() -> None:
    schema = json.loads((ROOT / "docs" / "recipe.schema.json").read_text("utf-8"))
    for name, row in PASSES.items():
        offered = schema["$defs"][f"step-{name}"].get("properties", {})
        assert not {*row.binds, "arch"} & set(offered)
