"""A step that fails leaves a folder that fails in the same way, and nothing of the machine in it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import workshop as workshop_
from tests.support.workshop import Workshop

from mlpack.core.digest import of_tree
from mlpack.errors import PassError, RecipeError
from mlpack.passes import PASSES
from mlpack.pipeline import reproduce
from mlpack.report.record import files as record_files
from mlpack.store.local import Store

VARIANTS = "variants: {float: [], bad: [{quantize: {method: static, samples: 8, keep_float: [nope]}}], good: [quantize]}\n"
SAID = "quantize: `keep_float` names 'nope'"
FOLDER = "repro/bad@lambda-zip-x86_64-quantize"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's directory after a build in which a variant failed."""
    made = workshop_.make(tmp_path_factory.mktemp("left") / "project")
    made.edit(lambda text: text + VARIANTS)
    record, _ = made.build()
    bad = next(one for one in record["candidates"] if one["variant"] == "bad")
    assert bad["status"] == "failed"
    assert bad["reproduced_by"] == f"{FOLDER}/reproduce.py"
    assert bad["reasons"][0].startswith(SAID)
    assert bad["reasons"][1:] == [f"to run this step alone, in the build's directory: python {FOLDER}/reproduce.py"]
    assert record["chosen"] is not None
    return made.root


@pytest.fixture
def failed(left: Path, tmp_path: Path) -> Path:
    """A copy of the folder that the build left."""
    return Path(shutil.copytree(left / "out" / FOLDER, tmp_path / "failed"))


def test_a_failed_step_fails_alone_as_it_did_anywhere(failed: Path, left: Path, tmp_path: Path) -> None:
    for report in ("report.html", "report.md"):
        assert FOLDER in (left / "out" / report).read_text()
    empty = Store(tmp_path / "elsewhere")
    with pytest.raises(PassError, match=r"keep_float") as error:
        reproduce.run_and_report(failed, empty, None)
    said = next(one for one in record_files.read(left / "out").to_json()["candidates"] if one["variant"] == "bad")["reasons"][0]
    assert str(error.value) == said
    assert {path.name for path in failed.iterdir()} == {"step.json", "reproduce.py", "model", "calibration"}


@pytest.mark.slow
def test_the_script_is_run_by_python(failed: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(failed / "reproduce.py")],
        capture_output=True, text=True, env={"PYTHONPATH": "src", "HOME": str(failed)}, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert SAID in done.stderr


@pytest.mark.slow
def test_two_builds_leave_the_same_and_no_path(failed: Path, left: Path, workshop: Workshop) -> None:
    workshop.edit(lambda text: text + VARIANTS)
    workshop.build()
    assert of_tree(workshop.root / "out" / FOLDER) == of_tree(failed)
    whole = b"".join(path.read_bytes() for path in failed.rglob("*") if path.is_file())
    assert str(left).encode() not in whole
    assert b"/home/" not in whole
    assert "repro/" not in json.dumps(json.loads((left / "out" / "build.json").read_text())["files"])


def test_mended_step_says_that_it_did_not_fail_and_what_differs(failed: Path, store: Store, tmp_path: Path) -> None:
    said = json.loads((failed / "step.json").read_text())
    said["config"] |= {"method": "dynamic", "keep_float": []}
    said["tools"]["onnx"] = "1.0\x1b[31m"
    (failed / "step.json").write_text(json.dumps(said))
    (failed / "model" / "notes.json").write_text("{}")
    told = reproduce.run_and_report(failed, store, tmp_path / "made")
    assert told.startswith("quantize did not fail: it made ")
    assert "model was changed since the step failed" in told
    assert "onnx was 1.0\\x1b[31m and is " in told
    assert (tmp_path / "made" / "model.onnx").is_file()
    with pytest.raises(RecipeError, match="is not empty"):
        reproduce.run_and_report(failed, store, tmp_path / "made")


@pytest.mark.slow
def test_what_is_large_is_found_in_the_store(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reproduce, "COPIED_BYTES", 2_000)
    again = VARIANTS.replace("good: [quantize]", "worse: [{quantize: {method: static, samples: 8, keep_float: [nope]}}]")
    workshop.edit(lambda text: text + again)
    record, out = workshop.build()
    # Candidates that fail alike share a script.
    assert [one["reproduced_by"] for one in record["candidates"]] == [None, f"{FOLDER}/reproduce.py", f"{FOLDER}/reproduce.py"]
    folder = out / FOLDER
    assert list(folder.parent.iterdir()) == [folder]
    assert {path.name for path in folder.iterdir()} == {"step.json", "reproduce.py"}
    with pytest.raises(PassError, match="keep_float"):
        reproduce.run_and_report(folder, workshop.store, None)
    with pytest.raises(RecipeError, match=r"neither beside step\.json nor in the store .*\n.*MLPACK_STORE, or build again"):
        reproduce.run_and_report(folder, Store(tmp_path / "elsewhere"), None)


def _raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(model_dir: Path, config: Any, out_dir: Path) -> None:
        raise error

    monkeypatch.setitem(PASSES.own, "optimize", dataclasses.replace(PASSES["optimize"], run=run))


@pytest.mark.parametrize("error", [PassError("optimize: it is broken"), KeyError("logits")])
def test_a_float_that_fails_ends_the_build_and_names_its_script(
    error: Exception, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, error)
    workshop.edit(lambda text: text + "variants: {float: [], good: [quantize]}\n")
    with pytest.raises(type(error)) as raised:
        workshop.build()
    said = "\n".join((str(raised.value), *getattr(raised.value, "__notes__", ())))
    script = Path(said.rpartition("To run this step alone: python ")[2])
    assert script.is_file()
    assert script.is_relative_to(workshop.store.root)
    with pytest.raises(type(error)) as alone:
        reproduce.run_and_report(script.parent, workshop.store, None)
    assert str(alone.value) == str(error)
    assert not (workshop.root / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda said: said.clear(), "schema 1"),
        (lambda said: said.update(schema=2), "schema 1"),
        (lambda said: said.update({"pass": "shrink"}), "has no pass 'shrink'"),
        (lambda said: said["config"].update(methud="static"), "unknown key"),
        (lambda said: said["config"].update(method="sideways"), r"config\.method: must be"),
        (lambda said: said["trees"].pop("model"), r"damaged \(trees\.model\)"),
        (lambda said: said["trees"]["model"].update(digest="../../etc"), "not a sha256 digest"),
        (lambda said: said["trees"].update({"../evil": said["trees"]["model"]}), r"is given no '\.\./evil'"),
        (lambda said: said.update(trees=[]), r"damaged \(trees\)"),
    ],
)
def test_a_folder_of_somebody_elses_that_is_wrong_is_named(failed: Path, store: Store, change: Any, said: str) -> None:
    written = json.loads((failed / "step.json").read_text())
    change(written)
    (failed / "step.json").write_text(json.dumps(written))
    with pytest.raises(RecipeError, match=said):
        reproduce.run_and_report(failed, store, None)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_description_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "step.json").write_bytes(data)
    with pytest.raises(RecipeError, match=r"step\.json"):
        reproduce.run_and_report(tmp_path, Store(tmp_path / "store"), None)


def test_a_folder_without_one_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no step\.json: give a folder that a build left for a failed step, in repro/"):
        reproduce.run_and_report(tmp_path, Store(tmp_path / "store"), None)
