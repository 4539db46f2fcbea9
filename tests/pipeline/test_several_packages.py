"""Built packages put together into one: what is shared, what is refused, and that equal packages give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support import small_packages

from mlpack.core import digest
from mlpack.core.serving import OutsideWeights
from mlpack.errors import LimitError, PackError, RecipeError
from mlpack.pipeline.packing import several
from mlpack.pipeline.packing.several import Member, Together
from mlpack.recipe.several import is_several, load
from mlpack.targets import CpuWorker, LambdaZip, shipped
from mlpack.targets.format.unpacking import describe

ZIP = LambdaZip(python=small_packages.PYTHON)  # type: ignore[arg-type]
TARGET = small_packages.target(ZIP)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_packages.runtime(tmp_path_factory.mktemp("runtime") / "runtime")


def member(work: Path, runtime: Path, name: str, **more: Any) -> Member:
    artifact, _ = small_packages.packed(work / name, ZIP, runtime, name=f"built-{name}", **more)
    package = describe(artifact)
    return Member(name=name, artifact=artifact, package=package, root=shipped.unpack(artifact, work / name / "task"))


def put(work: Path, *members: Member, memory_bytes: int | None = None) -> Together:
    work.mkdir(parents=True)
    return several.together(members, TARGET, ("shop", members[0].name), memory_bytes, work)


def test_one_runtime_and_each_model(tmp_path: Path, runtime: Path) -> None:
    hook = {"app.py": "def preprocess(value):\n    return value\n"}
    one, two = member(tmp_path, runtime, "one"), member(tmp_path, runtime, "two", hooks=hook)
    made = put(tmp_path / "made", one, two)
    assert sorted(path.name for path in (made.model / "models").iterdir()) == ["one", "two"]
    for name in ("one", "two"):
        settings = json.loads((made.code / "models" / name / "model.json").read_bytes())
        assert (settings["name"], settings["graph"]) == (name, "model.onnx")
        assert (made.model / "models" / name / "model.onnx").is_file()
    assert (made.code / "app/app.py").is_file()
    assert (made.runtime / "mlpack_runtime/several/service.py").is_file()
    assert list((made.runtime / "mlpack_runtime/several/__pycache__").iterdir())
    assert not (made.runtime / "mlpack_runtime/hosting/several.py").exists()
    whole = sum(path.stat().st_size for path in made.runtime.rglob("*") if path.is_file())
    assert whole < 1.5 * sum(row["size_bytes"] for row in one.package["files"] if row["part"] == "runtime")
    index = json.loads((made.code / "model/model.json").read_bytes())
    assert (index["default"], sorted(index["models"]), index["inputs"][0]["name"]) == ("one", ["one", "two"], "x")
    sizes = [row["size_bytes"] for row in one.package["files"] if row["part"] == "model"]
    assert index["models"]["one"]["size_bytes"] == sum(sizes)


def test_equal_packages_give_equal_bytes(tmp_path: Path, runtime: Path) -> None:
    trees = []
    for place in ("a", "b"):
        made = put(tmp_path / place / "made", *(member(tmp_path / place, runtime, name) for name in ("one", "two")))
        trees.append((made.version, *(digest.of_tree(getattr(made, part)) for part in ("runtime", "model", "code"))))
    assert trees[0] == trees[1]


def test_weights_beside_a_package_stay_beside(tmp_path: Path, runtime: Path) -> None:
    import onnx

    folder = small_packages.model_dir(tmp_path / "model")
    graph = onnx.load(folder / "model.onnx")
    onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    one, two = (
        member(tmp_path, runtime, "one"),
        member(tmp_path, runtime, "two", model_dir=folder, weights=OutsideWeights(source="s3://b/p")),
    )
    made = put(tmp_path / "made", one, two)
    assert (made.code / "models/two/weights.json").is_file()
    assert not (made.model / "models/two/model.onnx.data").exists()
    out = tmp_path / "out"
    out.mkdir()
    (row,) = several.copy_weights((one, two), out)
    assert row["folder"] == "models/two"
    assert str(digest.of_file(out / "weights" / row["digest"].removeprefix("sha256:"))) == row["digest"]
    assert made.settings["models"]["two"]["size_bytes"] >= 48


def test_what_cannot_be_one(tmp_path: Path, runtime: Path) -> None:
    one = member(tmp_path, runtime, "one", hooks={"app.py": "def preprocess(value):\n    return value\n"})
    two = member(tmp_path, runtime, "two", hooks={"app.py": "def preprocess(value):\n    return None\n"})
    with pytest.raises(PackError, match=r"^app/app\.py is in models\.one and in models\.two, with different content"):
        put(tmp_path / "hooks", one, two)
    with pytest.raises(PackError, match=r"models\.one: .* was built for target 'lambda-zip', and this package is for 'cpu-worker'"):
        several.check(one, small_packages.target(CpuWorker()), small_packages.PYTHON)
    with pytest.raises(PackError, match=r"was built for python .* and this package is for '3\.99'"):
        several.check(one, TARGET, "3.99")
    several.check(one, TARGET, small_packages.PYTHON)
    one.root.chmod(0o755)
    (one.root / "models").mkdir()
    with pytest.raises(PackError, match=r"models\.one: .* has several models itself: name their own packages"):
        several.check(one, TARGET, small_packages.PYTHON)
    (one.root / "models").rmdir()
    with pytest.raises(LimitError, match=r"models\.one: its files have .* raise `memory`"):
        put(tmp_path / "small", one, memory_bytes=10)


def test_another_version_of_the_runtime_is_told(tmp_path: Path, runtime: Path) -> None:
    one, two = member(tmp_path, runtime, "one"), member(tmp_path, runtime, "two")
    changed = one.root / "mlpack_runtime/limits.py"
    changed.chmod(0o644)
    changed.write_text(changed.read_text() + "# another\n")
    with pytest.raises(PackError, match=r"another version of mlpack \(limits\.py differs\): build them again"):
        put(tmp_path / "alone", one)
    rows = [{**row, "digest": f"sha256:{'0' * 64}"} if row["path"].endswith("limits.py") else row for row in one.package["files"]]
    other = Member(name="one", artifact=one.artifact, package={**one.package, "files": rows}, root=one.root)
    with pytest.raises(PackError, match=r"mlpack_runtime/limits\.py differs between models\.one and models\.two"):
        put(tmp_path / "both", other, two)


def test_the_document_has_every_models_paths(tmp_path: Path, runtime: Path) -> None:
    members = member(tmp_path, runtime, "one"), member(tmp_path, runtime, "two")
    document = json.loads(several.openapi_document(members, put(tmp_path / "made", *members)))
    assert {"/v2/models/one/infer", "/v2/models/two/infer", "/v2"} <= document["paths"].keys()
    text = json.dumps(document)
    for name in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values() if "operationId" in each]
    assert len(ids) == len(set(ids))
    assert json.loads(several.event(members[1]))["rawPath"] == "/v2/models/two/infer"


# --- the recipe --------------------------------------------------------------------------------------------------------

GOOD = "name: shop\nmodels: {a: out/a, b: ../b}\ntargets: {lambda-zip: {memory_mb: 3000}}\n"


def test_a_recipe_of_packages(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD + "default: b\nmemory: 1GiB\ntags: {team: forms}\n")
    recipe = load(path)
    assert is_several(path)
    assert (recipe.name, recipe.default, recipe.memory_bytes, recipe.tags) == ("shop", "b", 1 << 30, {"team": "forms"})
    assert recipe.models == {"a": tmp_path / "out/a", "b": tmp_path / "../b"}
    assert (recipe.target.kind, recipe.target.config.memory_mb) == ("lambda-zip", 3000)
    path.write_text(GOOD)
    assert load(path).default == "a"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "default: c\n", "default: is none of the models: a, b"),
        (GOOD + "budgets: {}\n", "unknown key"),
        ("name: shop\nmodels: {a: out/a}\n", "targets: is required"),
        ("name: shop\nmodels: {}\ntargets: {lambda-zip: }\n", "models"),
        ("name: shop\nmodels: {A: x}\ntargets: {lambda-zip: }\n", "lower-case letters"),
        ("name: shop\nmodels: [a]\ntargets: {lambda-zip: }\n", "models"),
        ("name: shop\nmodels: {a: x}\ntargets: {lambda-zip: , container: }\n", "one package is for one target"),
        ("name: shop\nmodels: {a: x}\ntargets: {lambda-zap: }\n", "lambda-zap"),
        ("models: {a: x}\ntargets: {lambda-zip: }\n", "name: is required"),
        ("name: shop\nmodels: {a: x}\ntarget: {lambda-zip: }\n", "did you mean 'targets'? (known: name, models, default, targets"),
        ("name: shop\nmodels: {a: x}\ntargets: {lambda-zip: {memory_mb: auto}}\n", ":3: targets.lambda-zip.memory_mb: auto is"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert told in str(caught.value)
    assert f"{path}:" in str(caught.value)


def test_the_default_models_weights_are_begun_early(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is imported the runtime asks for the weights of the model that it will load first."""
    import onnx

    from mlpack_runtime.remote import start
    from mlpack_runtime.remote.manifest import WeightsError

    folder = small_packages.model_dir(tmp_path / "model")
    graph = onnx.load(folder / "model.onnx")
    onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    one = member(tmp_path, runtime, "one", model_dir=folder, weights=OutsideWeights(source="s3://b/p"))
    made = put(tmp_path / "made", one, member(tmp_path, runtime, "two"))
    monkeypatch.setenv("MLPACK_WEIGHTS", "nowhere")
    monkeypatch.delenv("LAMBDA_TASK_ROOT", raising=False)
    start.begin(str(made.code))
    place = str(made.code / "models/one")
    assert place in start._BEGUN
    with pytest.raises(WeightsError, match="the weights' address is 'nowhere'"):
        start.provider(place, "model.onnx.data")


def test_models_that_ask_callers_otherwise_cannot_be_one(tmp_path: Path, runtime: Path) -> None:
    one, two = member(tmp_path, runtime, "one"), member(tmp_path, runtime, "two")
    keys = {"api_keys": {"digests": {"a": "0" * 64}}}
    _say(one, authorize=keys)
    with pytest.raises(PackError, match=r"^models\.two: serve\.authorize is another one than that of one"):
        put(tmp_path / "differ", one, two)
    _say(two, authorize=keys)
    settings = json.loads((put(tmp_path / "alike", one, two).code / "model/model.json").read_bytes())
    assert settings["authorize"] == keys
    assert "cors" not in settings


def _say(one: Member, **more: Any) -> None:
    """Put further keys into a package's model.json."""
    path = one.root / "model/model.json"
    described = json.loads(path.read_bytes())
    path.unlink()
    path.write_text(json.dumps({**described, **more}))
