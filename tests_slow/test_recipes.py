"""The sample recipes from weights to booted packages, with the command line as a user runs it, and what can be done with them.

Builds are made once and shared: the tests read them. No time is asserted: what is asserted holds on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.project import HERE, OTHER, Project, candidate
from tests.support.services.real_registry import Registry
from tests_slow.conftest import program, run

from mlpack.core.digest import of_tree
from mlpack.decide import bands
from mlpack.pipeline.packing import pack
from mlpack.targets.limits import ZIP_UNZIPPED

MakeProject = Callable[..., Project]

MINILM_BYTES = 65_000_000
MINILM_DROP = 0.01
FASHION_DROP = 0.005
ELF_MACHINE = {"x86_64": 0x3E, "arm64": 0xB7}
ZIP, IMAGE = f"int8@lambda-zip-{HERE}", f"int8@lambda-image-{HERE}"
SENTENCE = "the bank of a river, where the land slopes to the water"


@pytest.fixture(scope="module")
def project(make_project: MakeProject, warm_store: Path) -> Project:
    """Where the sample recipes are built."""
    return make_project("fashion", "tabular", "minilm", store=warm_store)


@pytest.fixture(scope="module")
def fashion(project: Project) -> dict[str, Any]:
    return project.build("fashion")


@pytest.fixture(scope="module")
def minilm(project: Project, trixie: Path) -> dict[str, Any]:
    """With every package kept, so that both the zip and the image can be looked at."""
    return project.build("minilm", "--base", trixie, "--keep", "all")


@pytest.fixture(scope="module")
def minilm_image(project: Project, minilm: dict[str, Any]) -> Path:
    return project.out("minilm") / "artifacts" / IMAGE / "image"


def answer(done: Any) -> list[float]:
    """The first output of what `mlpack run` printed."""
    return list(json.loads(done.stdout)["outputs"][0]["data"])


def event(path: Path, body: dict[str, Any]) -> Path:
    """A request file as an HTTP API would hand it over."""
    http = {"version": "2.0", "rawPath": "/", "requestContext": {"http": {"method": "POST", "path": "/"}}, "headers": {}}
    path.write_text(json.dumps({**http, "body": json.dumps(body)}))
    return path


def cosine(one: Any, other: Any) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_fashion_int8_is_small_and_as_right_as_float(project: Project, fashion: dict[str, Any]) -> None:
    int8, whole = candidate(fashion, ZIP), candidate(fashion, f"fp32@lambda-zip-{HERE}")
    assert int8["accuracy"]["n"] == 2000
    assert int8["accuracy"]["drop"] <= FASHION_DROP
    assert int8["package"]["size_bytes"] < whole["package"]["size_bytes"]
    assert int8["model"]["size_bytes"] < whole["model"]["size_bytes"] / 3


def test_smallest_within_the_budgets_is_chosen(fashion: dict[str, Any]) -> None:
    """Or another whose size differs by no more than what counts as the same."""
    sizes = {each["id"]: each["package"]["size_bytes"] for each in fashion["candidates"] if each["status"] in ("ok", "chosen")}
    assert fashion["recipe"]["prefer"] == "size"
    assert sizes[fashion["chosen"]] * (1 - bands.SIZE_BAND) <= min(sizes.values()) * (1 + bands.SIZE_BAND)
    assert candidate(fashion, fashion["chosen"])["accuracy"]["drop"] <= fashion["recipe"]["budgets"]["accuracy_drop"]


def test_tabular_from_an_onnx_file_with_outside_weights(project: Project) -> None:
    done = project.mlpack("build", "recipes/tabular.yaml")
    record = project.record("tabular")
    assert candidate(record, record["chosen"])["accuracy"]["drop"] <= 0.005
    assert "booted under the Lambda emulator" in done.stderr
    assert project.root / done.stdout.strip() == project.out("tabular") / record["artifact"]["path"]
    assert (project.root / done.stdout.strip()).is_file()


def test_minilm_int8_keeps_its_recall_in_65_mb(minilm: dict[str, Any]) -> None:
    forms = [id_.replace("int8", form) for form in ("int8", "int8-unfused") for id_ in (ZIP, IMAGE)]
    assert minilm["chosen"] in forms
    for id_ in forms:
        found = candidate(minilm, id_)
        assert found["accuracy"]["metric"] == "recall_at_1"
        assert found["accuracy"]["drop"] <= MINILM_DROP
        assert found["accuracy"]["isa"] == minilm["machine"]["isa"]
        assert found["package"]["size_bytes"] <= MINILM_BYTES
        assert not [note for note in found["package"]["notes"] if "bytecode" in note]
        assert bool(found["package"]["parts"]["base"]) is ("image" in id_)


def test_build_leaves_record_and_reports_that_agree(project: Project, fashion: dict[str, Any], minilm: dict[str, Any]) -> None:
    for name, record in (("fashion", fashion), ("minilm", minilm)):
        for report in ("report.md", "report.html"):
            text = (project.out(name) / report).read_text("utf-8")
            assert all(each["id"] in text for each in record["candidates"])
        for path, entry in record["files"].items():
            assert (project.out(name) / path).stat().st_size == entry["size_bytes"]


def test_second_build_runs_no_step_again(project: Project, fashion: dict[str, Any]) -> None:
    again = project.build("fashion", out="again")
    assert all(step["cached"] for each in again["candidates"] for step in each["steps"])
    assert again["artifact"] == fashion["artifact"]
    assert again["files"] == fashion["files"]


# --- what it answers --------------------------------------------------------------------------------------------------


def test_minilm_answers_as_the_float_model_does(project: Project, minilm: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = project.root / "sample_models/minilm/model"
    with torch.no_grad():
        tokens = AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")
        hidden = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0]
    wanted = hidden.mean(dim=0).numpy()
    request = event(tmp_path / "event.json", {"text": SENTENCE})
    given = {}
    for id_, where in ((ZIP, "under the Lambda emulator"), (IMAGE, "under the Lambda emulator, in podman, read-only")):
        done = project.mlpack("run", project.out("minilm") / "artifacts" / id_, "--event", request)
        assert f"booted {where};" in done.stderr
        given[id_] = np.array(answer(done))
        assert given[id_].shape == wanted.shape
        assert cosine(given[id_], wanted) > 0.97
    assert cosine(given[ZIP], given[IMAGE]) > 0.9999


def test_fashion_names_the_pictures_classes(project: Project, fashion: dict[str, Any], tmp_path: Path) -> None:
    with np.load(project.root / "sample_models/fashion/eval.npz") as data:
        pictures, labels = data["image"][:16], data["labels"][:16]
    request = event(tmp_path / "event.json", {"inputs": {"image": pictures.tolist()}})
    scores = np.array(answer(project.mlpack("run", project.out("fashion"), "--event", request))).reshape(16, -1)
    assert (scores.argmax(axis=1) == labels).sum() >= 15


# --- the image, by other people's tools -------------------------------------------------------------------------------


def test_image_is_valid_to_us_and_to_others(project: Project, minilm: dict[str, Any], minilm_image: Path, tmp_path: Path) -> None:
    assert project.mlpack("image", "validate", "--lambda", minilm_image).stdout == ""
    inspected = json.loads(run(program("skopeo"), "inspect", f"oci:{minilm_image}:latest"))
    assert inspected["Digest"] == candidate(minilm, IMAGE)["package"]["digest"]
    run(program("umoci"), "unpack", "--rootless", "--image", f"{minilm_image}:latest", tmp_path / "bundle")
    task = tmp_path / "bundle/rootfs/var/task"
    assert of_tree(task) == of_tree(pack.unpack(minilm_image.parent, tmp_path / "unpacked"))


def test_image_is_the_same_after_a_registry(project: Project, minilm_image: Path, registry: Registry, tmp_path: Path) -> None:
    reference = f"{registry.host}/team/minilm:v1"
    pushed = project.mlpack("image", "push", minilm_image, reference).stdout.strip()
    digest = pushed.partition("@")[2]
    assert pushed == f"{registry.host}/team/minilm@{digest}"
    assert project.mlpack("image", "pull", pushed, tmp_path / "pulled", "--arch", HERE).stdout.strip() == digest
    inspected = json.loads(project.mlpack("image", "inspect", reference, "--arch", HERE).stdout)
    assert inspected == json.loads(project.mlpack("image", "inspect", minilm_image, "--arch", HERE).stdout)
    told = json.loads(run(program("skopeo"), "inspect", "--tls-verify=false", f"docker://{reference}"))
    assert told["Digest"] == digest


# --- releases ---------------------------------------------------------------------------------------------------------


def test_release_is_pulled_and_booted_elsewhere(project: Project, fashion: dict[str, Any], minilm: dict[str, Any]) -> None:
    assert project.mlpack("publish", "out/fashion").stdout == "fashion@1\n"
    assert project.mlpack("publish", "out/fashion").stdout == "fashion@1\n"
    assert project.mlpack("publish", "out/minilm").stdout == "minilm@1\n"
    names = [line.split()[0] for line in project.mlpack("list").stdout.splitlines()]
    assert names == ["fashion@1", "minilm@1"]
    assert project.mlpack("show", "fashion", "--field", "digest").stdout.strip() == fashion["artifact"]["digest"]
    zipped = Path(project.root, project.mlpack("show", "fashion@1", "--field", "zip").stdout.strip())
    assert zipped.read_bytes() == (project.out("fashion") / fashion["artifact"]["path"]).read_bytes()
    for name, record in (("fashion", fashion), ("minilm", minilm)):
        pulled = project.root / project.mlpack("pull", name).stdout.strip()
        kept = {path.name for path in (project.out(name) / "artifacts").iterdir()}
        assert record["chosen"] in {path.name for path in (pulled / "artifacts").iterdir()} == kept
        assert answer(project.mlpack("run", pulled)) == answer(project.mlpack("run", project.out(name)))


# --- the same bytes, and other targets --------------------------------------------------------------------------------


def test_same_recipe_elsewhere_gives_the_same_packages(
    minilm: dict[str, Any], fashion: dict[str, Any], make_project: MakeProject, trixie: Path
) -> None:
    """Another directory, another empty store; less to measure, which is no part of a package."""
    other, int8 = make_project("minilm", "fashion"), ("--only", "int8@*")
    pairs = other.root / "sample_models/minilm/pairs.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[:64]))
    other.edit("minilm", lambda text: text.replace("accuracy_drop: 0.01", "accuracy_drop: 1"))
    for record, again in ((minilm, other.build("minilm", "--base", trixie, *int8)), (fashion, other.build("fashion", *int8))):
        for each in again["candidates"]:
            assert each["package"]["digest"] == candidate(record, each["id"])["package"]["digest"]
            assert each["model"] == candidate(record, each["id"])["model"]


def test_minilm_as_function_and_layer_boots(project: Project, minilm: dict[str, Any], tmp_path: Path) -> None:
    project.edit("minilm", one_target(f"lambda-zip: {{arch: {HERE}, memory_mb: 1769, layer: true}}"), to="layered")
    record = project.build("layered", "--only", "int8@*")
    assert record["artifact"]["kind"] == "layer-zip"
    request = event(tmp_path / "event.json", {"text": SENTENCE})
    layered = project.mlpack("run", project.out("layered"), "--event", request)
    whole = project.mlpack("run", project.out("minilm") / "artifacts" / ZIP, "--event", request)
    assert cosine(answer(layered), answer(whole)) > 0.9999


def test_minilm_for_the_other_processor_is_packed_unmeasured(project: Project, minilm: dict[str, Any], tmp_path: Path) -> None:
    project.edit("minilm", one_target(f"lambda-zip: {{arch: {OTHER}, memory_mb: 1769}}"), to="other")
    done = project.mlpack(
        "build", "recipes/other.yaml", "--effort", "quick", "--keep", "all", "--out", project.out("other"), expect=5
    )
    assert f"not measured: this machine is {HERE}" in done.stderr
    found = candidate(project.record("other"), f"int8@lambda-zip-{OTHER}")
    assert found["accuracy"]["value"] is None
    assert found["latency_ms"]["p50"] is None
    assert "was not measured" in " ".join(found["reasons"])
    assert found["package"]["size_bytes"] < min(ZIP_UNZIPPED.value, MINILM_BYTES)
    package = project.out("other") / "artifacts" / found["id"]
    engine = pack.unpack(package, tmp_path / "unpacked") / "lib/libonnxruntime.so"
    assert int.from_bytes(engine.read_bytes()[18:20], "little") == ELF_MACHINE[OTHER]
    refused = project.mlpack("run", package, expect=3)
    assert "boot it on a machine of that kind" in refused.stderr


def one_target(line: str) -> Callable[[str], str]:
    """A change of the MiniLM recipe: this target alone."""

    def change(text: str) -> str:
        head, _, rest = text.partition("targets:\n")
        return f"{head}targets:\n  {line}\nbudgets:{rest.partition('budgets:')[2]}"

    return change
