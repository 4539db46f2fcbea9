"""Builds with the pass and the target of docs/extending.md, from an installed distribution: planned, cached, recorded, booted."""

from __future__ import annotations

import dataclasses
import json
import re
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.support import plugin_distributions, wheel_index
from tests.support import workshop as workshop_
from tests.support.pass_harness import hold
from tests.support.workshop import Workshop

from mlpack.core.records import Candidate
from mlpack.errors import MlpackError, PackError, PluginError, RecipeError
from mlpack.passes import PASSES
from mlpack.pipeline import booting, outlook, plan, transform
from mlpack.pipeline.packing.packages import Packages
from mlpack.recipe import reader
from mlpack.registry.rows import manifest
from mlpack.report.record import files as record_files
from mlpack.targets import TARGETS, shipped
from mlpack.targets.format import unpacking

RECIPE = plugin_distributions.example()["recipe.yaml"]
ROUNDED = "rounded@acme-function-x86_64"
WORDS = "the pass round-weights is that of acme-mlpack 1.2"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A project with the recipe of docs/extending.md, beside an installed plug-in."""
    made = workshop_.make(tmp_path / "project")
    made.recipe.write_text(RECIPE)
    plugin_distributions.install_example(monkeypatch, tmp_path / "site")
    return made


def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str = "1.2", **changed: str) -> None:
    """Another copy of the plug-in, in front of the first."""
    plugin_distributions.install_example(monkeypatch, tmp_path / name, version, **changed)


def foreseen(shop: Workshop) -> dict[str, outlook.PlannedCandidate]:
    return {row.id: row for row in outlook.foresee(shop.recipe, shop.store, (shop.root,), None)}


@pytest.mark.slow
def test_build_packs_measures_and_boots_with_both(shop: Workshop, tmp_path: Path) -> None:
    rows = foreseen(shop)
    assert rows[ROUNDED].plugins == ("the target acme-function is that of acme-mlpack 1.2", WORDS)
    assert [step.name for step in rows[ROUNDED].steps] == ["simplify", "round-weights", "optimize"]
    record, out = shop.build(keep_all=True)
    made = {one["id"]: one for one in record["candidates"]}
    assert {id_: one["status"] for id_, one in made.items()} == dict.fromkeys(("fp32@acme-function-x86_64", ROUNDED), "ok")
    one = made[ROUNDED]
    (step,) = [each for each in one["steps"] if each["pass"] == "round-weights"]
    assert (step["config"], step["notes"]) == ({"bits": 10}, {"rounded": 2, "plugin": "acme-mlpack 1.2"})
    assert one["cost_per_million_usd"] == pytest.approx(0.00002 * 0.5 * one["latency_ms"]["p50"] * 1000, rel=0.02)
    assert one["package"]["kind"] == "acme-tar"
    assert "the target acme-function is that of acme-mlpack 1.2" in one["package"]["notes"]
    package = out / "artifacts" / ROUNDED
    with tarfile.open(package / "function.tar") as archive:
        assert "bootstrap.py" in archive.getnames()
    assert json.loads((package / "package.json").read_bytes())["plugin"] == {"distribution": "acme-mlpack", "version": "1.2"}
    booted = booting.run_package(package, None, lambda _name: None, memory_mb=None, timeout_s=60)
    assert booted.status == 200
    assert booted.how.endswith("as Acme does it")
    built = record_files.read(out)
    files = {name: entry.digest for name, entry in built.files.items()}
    published = manifest.manifest_of(built, {name: manifest.Digest(found) for name, found in files.items()})
    assert published.packages[ROUNDED].kind == "acme-tar"
    forged = {**files, f"artifacts/{record['chosen']}/function.tar": files[f"artifacts/{record['chosen']}/package.json"]}
    with pytest.raises(RecipeError, match=r"artifact\.kind 'acme-tar' has the digest"):
        manifest.manifest_of(built, {name: manifest.Digest(found) for name, found in forged.items()})
    (package / "function.tar").write_bytes((package / "function.tar").read_bytes()[:-20_000])
    with pytest.raises(PackError):
        shipped.unpack(package, tmp_path / "unpacked")


@pytest.mark.slow
def test_results_of_another_version_of_the_plugin_are_not_taken(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.build()
    assert all(step.cached for step in foreseen(shop)[ROUNDED].steps)
    again(tmp_path, monkeypatch, "newer", "1.3")
    transform.version_of.cache_clear()  # as in the process of another day
    steps = {step.name: step for step in foreseen(shop)[ROUNDED].steps}
    assert steps["simplify"].cached
    assert not steps["round-weights"].cached
    assert steps["round-weights"].why == ("tools.acme-mlpack: 1.2 → 1.3",)
    record, _ = shop.build()
    assert {note for one in record["candidates"] for note in one["package"]["notes"] if "acme" in note} == {
        "the target acme-function is that of acme-mlpack 1.3"
    }


def test_plugins_row_keeps_the_contract_of_passes(shop: Workshop, tmp_path: Path) -> None:
    candidate = plan.expand(reader.load(shop.recipe)).candidates[1]
    source = transform.take_source(reader.load(shop.recipe), shop.store, (shop.root,))
    simplified = transform.run_steps(dataclasses.replace(candidate, steps=candidate.steps[:1]), source, shop.store, {}, print)
    row = PASSES["round-weights"]
    hold(row, shop.store.path(simplified.tree), row.config(bits=10), tmp_path / "held")


def test_mistakes_in_a_plugins_keys_are_told_as_in_ours(shop: Workshop) -> None:
    shop.recipe.write_text(
        RECIPE.replace("round-weights: 10", "round-weight: 10").replace("memory_mb: 512", "memory_mb: 64, pyhton: '3.13'")
    )
    with pytest.raises(RecipeError) as caught:
        reader.load(shop.recipe)
    told = "\n".join(caught.value.problems)
    wrong = (
        "recipe.yaml:7: variants.rounded[0].round-weight: there is no pass 'round-weight'; did you mean 'round-weights'? (known: "
    )
    assert wrong in told
    assert "round-weights" in told.partition("(known: ")[2]
    assert "targets.acme-function.pyhton: unknown key; did you mean 'python'?" in told
    shop.recipe.write_text(RECIPE.replace("round-weights: 10", "round-weights: {bits: 23}").replace("512", "64"))
    with pytest.raises(RecipeError) as caught:
        reader.load(shop.recipe)
    told = "\n".join(caught.value.problems)
    assert "bits: 23 is not between 1 and 22" in told
    assert "targets.acme-function.memory_mb: must be from 256 to 4096 (MB), not 64" in told


def test_schema_with_plugins_has_theirs_and_ours_alone_has_not(shop: Workshop) -> None:
    assert {"step-round-weights", "target-acme-function"} <= reader.schema(PASSES, TARGETS)["$defs"].keys()
    assert not {"step-round-weights", "target-acme-function"} & reader.schema()["$defs"].keys()


ROWS = {
    "ROW = Pass(run=run": ("ROW = dict(run=run", "is dict, not mlpack.passes.Pass"),
    'short="bits"': ('short="bit"', "names 'bit' as short, which is no field of its config"),
    'tools=("onnx", "numpy")': ("tools=['onnx']", r"has \['onnx'\] as tools"),
    "version=1": ("version='1'", "its version"),
    "run=run": ("run='run'", "has 'run' where a function belongs"),
    "@dataclass(frozen=True, slots=True, kw_only=True)\nclass RoundWeights": ("class RoundWeights", "no dataclass"),
    "bits: int = 12": ("bits: int = 12\n    arch: str", "without a default for arch"),
}


@pytest.mark.parametrize("old", ROWS, ids=range(len(ROWS)))
def test_row_that_is_none_is_a_problem_of_its_recipe(
    old: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, said = ROWS[old]
    again(tmp_path, monkeypatch, "broken", **{old: new})
    where = r"recipe\.yaml:7: variants\.rounded\[0\].*'round-weights' of acme-mlpack 1\.2"
    with pytest.raises(RecipeError, match=f"{where}.*{said}") as caught:
        reader.load(shop.recipe)
    assert caught.value.exit_code == 2
    shop.recipe.write_text(RECIPE.replace("round-weights: 10", "prune: {ratio: 0.5}"))
    with pytest.raises(RecipeError) as other:
        reader.load(shop.recipe)
    assert "acme" not in str(other.value)


KINDS = {
    "python: Literal": ("pyhton: Literal", "has a config without python"),
    "needs_base=False": ("needs_base=True", "has a config without base"),
    "boot=boot,": ("boot=None,", "where a function belongs"),
    "description=": ("descriptoin=", "cannot be loaded: TypeError"),
}


@pytest.mark.parametrize("old", KINDS, ids=range(len(KINDS)))
def test_target_that_lacks_something_is_a_problem_of_its_recipe(
    old: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, said = KINDS[old]
    again(tmp_path, monkeypatch, "broken", **{old: new})
    with pytest.raises(RecipeError, match=rf"recipe\.yaml:9: targets\.acme-function.*of acme-mlpack 1\.2.*{said}"):
        reader.load(shop.recipe)


@pytest.mark.slow
def test_fault_of_a_pass_is_its_candidates_and_names_the_plugin(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(tmp_path, monkeypatch, "broken", **{"    rounded = 0\n": "    rounded = 1 // 0\n"})
    record, _ = shop.build()
    (one,) = [each for each in record["candidates"] if each["id"] == ROUNDED]
    assert one["status"] == "failed"
    assert any(
        "acme_mlpack.round_weights.run of acme-mlpack 1.2 failed: ZeroDivisionError" in reason and "round_weights.py:" in reason
        for reason in one["reasons"]
    )


FAULTS: dict[str, dict[str, Any]] = {
    "write": {"    packed = listed(contents)\n": "    packed = contents.nowhere\n"},
    "write gives": {"    return Written(": "    return dict("},
    "boot": {"    booted = function.boot(package, event, means, unpack)\n": "    booted = None\n"},
    "price": {"    return 0.00002 * config": "    return 1 / 0 * config"},
    "price gives": {"    return 0.00002 * config": "    return float('nan') * config"},
    "settings": {
        "    limits=(SIZE,),\n": "    limits=(SIZE,), settings=settings,\n",
        "\n\nROW = ": "\n\ndef settings(config): return {'odd': object()}\n\n\nROW = ",
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_target_is_told_as_the_plugins(
    fault: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(tmp_path, monkeypatch, "broken", **FAULTS[fault])
    try:
        record, _ = shop.build()
        told = "\n".join(reason for one in record["candidates"] for reason in one["reasons"])
        assert record["chosen"] is None
    except MlpackError as error:
        told = str(error)
    assert f"acme_mlpack.acme_function.{fault.split()[0]} of acme-mlpack 1.2" in told


UNFIT = {
    "set": ({"    bits: int = 12": "    odd: frozenset[int] = frozenset()\n    bits: int = 12"}, "frozenset is not JSON"),
    "class": ({"    bits: int = 12": "    odd: PassError | None = None\n    bits: int = 12"}, "has fields that no recipe can say"),
    "raises": ({"raise ValueError": "raise KeyError", "<= 22": "<= 2"}, r"RoundWeights failed: KeyError: .*round_weights\.py:\d+"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_config_that_cannot_be_used_is_told_with_its_class(
    unfit: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, said = UNFIT[unfit]
    again(tmp_path, monkeypatch, "broken", **changed)
    with pytest.raises(RecipeError, match=rf"recipe\.yaml:7: variants\.rounded\[0\].*{said}"):
        reader.load(shop.recipe)


def test_words_of_our_configs_mean_nothing_in_a_plugins(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ratio` is prune's to bound, and `method: static` quantize's to need data for."""
    more = {"    bits: int = 12": "    ratio: float = 2.5\n    method: str = 'static'\n    bits: int = 12"}
    again(tmp_path, monkeypatch, "other", **more)
    shop.recipe.write_text(RECIPE.replace("10]", "{ratio: 3.5}]").replace("eval.npz}", "eval.npz, calibration: none}"))
    variants = reader.load(shop.recipe).variants
    assert variants is not None
    assert variants[1].steps[0].config.ratio == 3.5


def test_wheels_that_nobody_knows_are_told(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(tmp_path, monkeypatch, "broken", **{"    limits=(SIZE,),\n": "    limits=(SIZE,), needs=lambda config: ('warp',),\n"})
    with pytest.raises(PackError, match="a target needs 'warp' in its runtime part, which is none of engine, "):
        shop.build()


def with_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requirements: str) -> None:
    again(tmp_path, monkeypatch, "needing", **{plugin_distributions.REQUIREMENTS: requirements})


def test_wheels_that_a_target_brings_are_pinned_and_shipped(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together with those of hooks, in one resolution."""
    with_requirements(tmp_path, monkeypatch, "('Zones>=1',)")
    candidate = plan.expand(reader.load(shop.recipe)).baselines[0]
    with wheel_index.serving(tmp_path / "registry", monkeypatch) as index:
        index.add("zones", "1.5", {"zones_data/a.txt": "x", "zones_data/a.pyi": "x"}, needs=("part",))
        index.add("zones", "2.0", needs=("part",))
        index.add("part", "1.0")
        assert {row.requirements for row in foreseen(shop).values()} == {
            "requirements: zones>=1, not pinned for Python 3.13 on x86_64 yet; a build resolves and pins them"
        }
        paths, described = shipped_by(shop, candidate)
        assert {"site/zones.py", "site/part.py", "licenses/zones/METADATA"} <= paths
        assert [(each["name"], each["version"]) for each in described["requirements"]] == [("part", "1.0"), ("zones", "2.0")]
        (shop.root / "app.py").write_text("def best(outputs):\n    return {}\n")
        shop.recipe.write_text(RECIPE + "serve: {postprocess: 'app:best', requirements: ['zones<2']}\n")
        paths, described = shipped_by(shop, candidate)
        assert {"site/zones_data/a.txt"} <= paths
        assert "site/zones_data/a.pyi" not in paths
        assert [each["version"] for each in described["requirements"]] == ["1.0", "1.5"]


def shipped_by(shop: Workshop, candidate: Candidate) -> tuple[set[str], dict[str, Any]]:
    """The paths in a package, and what it says of itself."""
    recipe = reader.load(shop.recipe)
    model = transform.run_steps(
        candidate, transform.take_source(recipe, shop.store, (shop.root,)), shop.store, {}, lambda _text: None
    )
    packages = Packages(recipe, shop.store, (shop.root,))
    packages.prepare(candidate)
    sample = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
    package = packages.pack(candidate, model, sample)
    described = json.loads((package.dir / "package.json").read_bytes())
    return {each["path"] for each in described["files"]}, described


@pytest.mark.parametrize(
    ("requirements", "error", "said"),
    [
        ("('zones',)", RecipeError, "the target acme-function of acme-mlpack 1.2: there is no distribution zones in the index"),
        ("('kit',)", RecipeError, "the target acme-function of acme-mlpack 1.2: kit 1.0 comes under AGPL-3.0-only"),
        ("('onnxruntime',)", RecipeError, "the target acme-function of acme-mlpack 1.2: they "),
        ("('-r more.txt',)", RecipeError, "the target acme-function of acme-mlpack 1.2: its requirements: "),
        ("('zones @ file:///zones.whl',)", RecipeError, "acme-mlpack 1.2: its requirements: "),
        ("'zones'", PluginError, "acme_mlpack.acme_function.requirements of acme-mlpack 1.2"),
        ("(3,)", PluginError, "is no tuple of requirements"),
        ("(1 / 0,)", PluginError, "ZeroDivisionError"),
    ],
)
def test_requirements_that_cannot_be_had_are_the_targets(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requirements: str, error: type[MlpackError], said: str
) -> None:
    with_requirements(tmp_path, monkeypatch, requirements)
    recipe = reader.load(shop.recipe)
    packages = Packages(recipe, shop.store, (shop.root,))
    with wheel_index.serving(tmp_path / "registry", monkeypatch) as index:
        index.add("kit", "1.0", said="License-Expression: AGPL-3.0-only\n")
        index.add("onnxruntime", "1.0")
        with pytest.raises(error) as caught:
            packages.prepare(plan.expand(recipe).baselines[0])
    assert said in str(caught.value)


CHAINS = {
    "pass": 'Chain(ends=("nowhere",), auto=())',
    "field": 'Chain(configs={"optimize": {"levle": 1}}, auto=())',
    "none": "None",
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_chain_that_cannot_be_written_out_is_the_targets_fault(
    chain: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"    limits=(SIZE,),\n": f"    limits=(SIZE,), chain=lambda config: {chain},\n", "Written\n": "Written, Chain\n"}
    again(tmp_path, monkeypatch, "broken", **more)
    with pytest.raises(PluginError, match=r"of acme-mlpack 1\.2"):
        outlook.foresee(shop.recipe, shop.store, (shop.root,), None)


@pytest.mark.slow
def test_package_without_its_plugin_says_which_to_install(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out = shop.build()
    (package,) = (out / "artifacts").iterdir()
    monkeypatch.undo()
    said = r"'acme-function', which is not known here: it was built with a plug-in, 'acme-mlpack' '1\.2'"
    with pytest.raises(PackError, match=said):
        shipped.boot(package, b"{}")
    assert unpacking.describe(package)["plugin"]["distribution"] == "acme-mlpack"
    with pytest.raises(PackError):
        shipped.unpack(package, tmp_path / "unpacked")


def test_every_name_that_the_page_promises_is_there() -> None:
    rows = re.findall(r"^\| `(mlpack\.[a-z_.]+)` \| (.*) \|$", plugin_distributions.PAGE.read_text("utf-8"), re.MULTILINE)
    promised = {module: re.findall(r"`(\w+)`", names) for module, names in rows}
    assert len(promised) >= 12
    assert all(promised.values())
    assert [
        f"{module}.{name}" for module, names in promised.items() for name in names if not hasattr(import_module(module), name)
    ] == []
