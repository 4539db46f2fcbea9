"""A build, a package and a model explained, whoever made them."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support import workshop as workshop_
from tests.support.models.written_graphs import write
from tests.support.outcomes import MADE_OF, as_json, outcome, result, typed, typical
from tests.support.workshop import Workshop

from mlpack.cli import commands
from mlpack.core.records import Budgets
from mlpack.errors import MlpackError, PackError, PassError, RecipeError
from mlpack.report import explain, webpage
from mlpack.report.record import files
from mlpack.report.recording import build_record

QUANTIZED = "variants: {fp32: [], int8: [{quantize: {method: dynamic, keep_float: [second]}}]}\nsearch: off\n"
INT8 = "int8@lambda-zip-x86_64"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A project with a quantized candidate, whose packages are all there."""
    made = workshop_.make(tmp_path_factory.mktemp("explained") / "project")
    made.edit(lambda text: text + QUANTIZED)
    made.build(keep_all=True)
    return made


def test_a_build_is_explained_by_its_record_alone(project: Workshop, tmp_path: Path) -> None:
    shutil.copy(project.root / "out" / "build.json", tmp_path / "build.json")
    for place in (tmp_path, tmp_path / "build.json"):
        found = explain.of(place, INT8).to_json()
        assert (found["kind"], found["name"], found["candidate"]) == ("build", "tiny", INT8)
        assert found["parts"]["runtime"] > 0
        assert {row["node"]: row["precision"] for row in found["products"]} == {"first": "int8 dynamic", "second": "float32"}
        (kept,) = found["kept_float"]
        assert (kept["node"], kept["size_bytes"], kept["operations"]) == ("second", 96 * 3 * 4, 2 * 96 * 3)
        assert "keep_float" in kept["why"]
        assert found["operations"]["inputs"] == {"x": [1, 64]}
    text = explain.of(tmp_path, INT8).text()
    assert "tiny: int8@lambda-zip-x86_64 (" in text
    assert "int8 dynamic  MatMul" in text
    assert "kept float" in text
    page = webpage.html(files.read(tmp_path))
    assert "What the model is made of" in page
    assert "operators by precision" in page


def test_a_package_and_its_model_say_the_same_as_the_build(project: Workshop, tmp_path: Path) -> None:
    built = explain.of(project.root / "out", INT8).to_json()
    package = explain.of(project.root / "out" / "artifacts" / INT8).to_json()
    assert (package["kind"], package["candidate"]) == ("package", None)
    digest = next(one for one in files.read(project.root / "out").candidates if one.id == INT8).model.digest
    assert digest is not None
    folder = project.store.root / "trees" / digest.removeprefix("sha256:")
    for model in (explain.of(folder).to_json(), explain.of(folder / "model.onnx").to_json(), package):
        for key in ("nodes", "size_bytes", "layers", "tensors", "operators", "products", "operations"):
            assert model[key] == built[key]
        assert [row["node"] for row in model["kept_float"]] == ["second"]
    four = explain.of(folder, None, {"x": (4, 64)}).to_json()
    assert four["operations"]["total"] == 4 * built["operations"]["total"]


def test_a_rebuild_says_the_same_and_reads_no_framework(project: Workshop) -> None:
    before = [one["graph"] for one in files.read(project.root / "out").to_json()["candidates"]]
    record, _ = project.build(keep_all=True)
    assert [one["graph"] for one in record["candidates"]] == before


def record() -> dict[str, Any]:
    return as_json(typical())


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("static-int8@lambda-zip-x86_64", r"no model was made \(failed: quantize: nothing to do\)"),
        ("fp16@lambda-zip-x86_64", r"no model was made \(skipped: fp16 runs as float32"),
        ("nope", r"there is no candidate 'nope' \(there are fp32@"),
    ],
)
def test_candidates_without_a_model_say_why(candidate: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_bytes(files.encode(typed(record())))
    with pytest.raises(RecipeError, match=said):
        explain.of(tmp_path, candidate)


def test_a_build_that_chose_nothing_asks_which(tmp_path: Path) -> None:
    none = record() | {"chosen": None}
    (tmp_path / "build.json").write_bytes(files.encode(typed(none)))
    with pytest.raises(RecipeError, match=r"chose nothing: say which one with --candidate \(fp32@"):
        explain.of(tmp_path)
    (tmp_path / "build.json").write_bytes(files.encode(typed(none | {"candidates": []})))
    with pytest.raises(RecipeError, match="it has none"):
        explain.of(tmp_path)


def test_a_record_of_before_says_that_it_is_one(tmp_path: Path) -> None:
    old = record()
    for one in old["candidates"]:
        del one["graph"]
    (tmp_path / "build.json").write_text(json.dumps(old))
    with pytest.raises(RecipeError, match=r"an mlpack before `explain` wrote it\. Give the package"):
        explain.of(tmp_path)
    assert "What the model is made of" not in webpage.html(typed(old))


HOSTILE = "\x1b[31m::error::<script>alert(1)</script>\n##vso[task]" + "x" * 300


def test_hostile_names_are_words(tmp_path: Path) -> None:
    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        return [renamed(one) for one in value] if isinstance(value, list) else HOSTILE if isinstance(value, str) else value

    made = as_json(outcome((result("fp32", anatomy=renamed(dict(MADE_OF))),), Budgets()))
    (tmp_path / "build.json").write_bytes(files.encode(typed(made)))
    text = explain.of(tmp_path).text()
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    assert "##vso[" not in text
    assert max(map(len, text.splitlines())) < 600
    assert "<script>" not in webpage.html(typed(made))
    assert json.loads(files.encode(typed(made))) == made


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.pop("layers"),
        lambda graph: graph["products"].append({"node": 1}),
        lambda graph: graph.update(operations={"total": "many"}),
        lambda graph: graph["tensors"][0].update(shape="2x2"),
    ],
)
def test_a_damaged_record_is_refused(change: Any, tmp_path: Path) -> None:
    made = json.loads(files.encode(build_record(outcome((result("fp32", anatomy=MADE_OF),), Budgets()))))
    change(made["candidates"][0]["graph"])
    (tmp_path / "build.json").write_text(json.dumps(made))
    with pytest.raises(RecipeError, match="graph"):
        explain.of(tmp_path)


def test_what_is_nothing_of_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a build's directory"):
        explain.of(tmp_path)
    (tmp_path / "model.onnx").symlink_to("/dev/zero")
    with pytest.raises(MlpackError):
        explain.of(tmp_path)
    (tmp_path / "package.json").write_text('{"schema": 1, "files": []}')
    with pytest.raises(PackError):
        explain.of(tmp_path)


def test_options_that_mean_nothing_there_are_refused(tmp_path: Path) -> None:
    import numpy as np
    from onnx import helper

    write(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((8, 2), np.float32)})
    with pytest.raises(RecipeError, match="--candidate is for a build"):
        explain.of(tmp_path, "int8")
    with pytest.raises(RecipeError, match=r"--shape: .* has no input 'z' \(it has 'x'\)"):
        explain.of(tmp_path, None, {"z": (1,)})
    assert explain.of(tmp_path, None, {"x": (1, 3)}).graph.operations is None  # the graph takes 8 columns
    (tmp_path / "build.json").write_bytes(files.encode(typed(record())))
    with pytest.raises(RecipeError, match="--shape is for a package or a model"):
        explain.of(tmp_path, None, {"x": (1,)})


def test_odd_models_of_others_are_explained_as_far_as_they_go(tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    held = numpy_helper.from_array(np.ones(3, np.float32), "w")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    one = helper.make_model(helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [y], [held]))
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [2])
    at = helper.make_node("SequenceAt", ["x", "i"], ["y"])
    zero = numpy_helper.from_array(np.int64(0), "i")

    def explained(model: onnx.ModelProto) -> dict[str, Any]:
        onnx.save(model, tmp_path / "odd.onnx")
        (found := explain.of(tmp_path / "odd.onnx")).text()
        return found.to_json()

    assert (explained(one)["size_bytes"], explained(one)["operations"]["total"]) == (12, 0)
    assert explained(helper.make_model(helper.make_graph([at], "g", [sequence], [y], [zero])))["size_bytes"] == 8
    for field, value in (("dims", [2**62, 2**40]), ("dims", [-5]), ("data_type", 77)):
        changed = copy.deepcopy(one)
        (tensor,) = changed.graph.initializer
        if field == "dims":
            tensor.dims[:] = value
        else:
            tensor.data_type = value
        assert explained(changed)["size_bytes"] == 12


def test_a_model_cut_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08\x3a\xff\xff\x01")
    with pytest.raises(PassError, match=r"cut\.onnx"):
        explain.of(tmp_path / "cut.onnx")


def test_the_command_prints_rows_or_json(
    project: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["mlpack", "explain", str(project.root / "out"), "--candidate", INT8, "--json"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["kept_float"][0]["node"] == "second"
    for shape in ("x", "x=", "x=1,", "x=0", "x=-1", "x=1;2", "=1", "x=999999999999"):
        monkeypatch.setattr("sys.argv", ["mlpack", "explain", str(project.root / "out"), "--shape", shape])
        with pytest.raises(SystemExit) as left:
            commands.main()
        assert left.value.code == 2
