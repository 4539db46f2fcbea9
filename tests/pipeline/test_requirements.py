"""What hooks need: resolved by the real uv from an index on loopback, pinned, shipped, judged, and told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import wheel_index
from tests.support.wheel_index import Index
from tests.support.workshop import Workshop

from mlpack.core.records import Recipe
from mlpack.errors import RecipeError, ServiceError
from mlpack.pipeline import plan, transform
from mlpack.pipeline.outlook import foresee
from mlpack.pipeline.packing import wheels
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.pipeline.packing.requirements import Wanted, merge_summaries, pinned, read_summary, wheels_tree
from mlpack.pipeline.packing.wheels import Lock
from mlpack.recipe import reader

SAMPLE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
OWN = ("engine-like==2.0",)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with wheel_index.serving(tmp_path / "registry", monkeypatch) as made:
        yield made


def wanted(*lines: str, python: str = "3.13", arch: str = "x86_64") -> Wanted:
    return Wanted(lines=lines, python=python, arch=arch, own=OWN)


def packed(workshop: Workshop) -> tuple[Packages, Recipe, Package]:
    recipe = reader.load(workshop.recipe)
    candidate = plan.expand(recipe).baselines[0]
    source = transform.take_source(recipe, workshop.store, (workshop.root,))
    model = transform.run_steps(candidate, source, workshop.store, {}, lambda _text: None)
    packages = Packages(recipe, workshop.store, (workshop.root,))
    packages.prepare(candidate)
    return packages, recipe, packages.pack(candidate, model, SAMPLE)


def test_what_is_needed_is_pinned_whole_and_not_resolved_again(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("kit", "1.0", needs=("part>=1",))
    sha256 = index.add("part", "1.5")
    lock = pinned(Lock(), wanted("kit"))
    assert [(pin.name, pin.version) for pin in lock.requirements["3.13-x86_64 kit"]] == [("kit", "1.0"), ("part", "1.5")]
    assert lock.requirements["3.13-x86_64 kit"][1].sha256s == (sha256,)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    assert pinned(lock, wanted("kit")) is lock
    with pytest.raises(ServiceError):
        pinned(lock, wanted("kit>=1"))


def test_pins_of_requirements_are_written_and_read_back(index: Index, tmp_path: Path) -> None:
    index.add("kit", "1.0")
    lock = pinned(Lock(), wanted("kit"))
    wheels.write_lock(tmp_path / "mlpack.lock", lock)
    assert wheels.read_lock(tmp_path / "mlpack.lock") == lock
    wheels.write_lock(tmp_path / "mlpack.lock", Lock())
    assert "requirements" not in json.loads((tmp_path / "mlpack.lock").read_text())


def test_a_wheel_of_mlpacks_own_gets_its_version(index: Index) -> None:
    for version in ("1.0", "2.0", "3.0"):
        index.add("engine-like", version)
    index.add("kit", "1.0", needs=("engine-like",))
    pins = pinned(Lock(), wanted("kit")).requirements["3.13-x86_64 kit"]
    assert {pin.name: pin.version for pin in pins} == {"kit": "1.0", "engine-like": "2.0"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("engine-like>=3",), r"ask for engine-like 3\.0, and the package has engine-like 2\.0 for the runtime's own work"),
        (("sourced",), r"sourced has no wheel for Python 3\.13 on x86_64.*pip wheel sourced.*UV_FIND_LINKS"),
        (("windows",), r"windows 1\.0 has wheels for win_amd64, and none for Python 3\.13 on x86_64"),
        (("elder",), r"elder 1\.0 has wheels for cp38, and none for Python 3\.13"),
        (("nowhere",), r"no distribution nowhere in the index: is that its name, which need not be its module's\? uv"),
        (("sklearn",), r"no distribution sklearn in the index: .*; is scikit-learn meant\? uv says"),
        (('kit ; sys_platform == "win32"',), r"none of them is for Python 3\.13 on x86_64, by their markers"),
        (("kit>=9",), r"no versions of them go together"),
        (("onnxruntime",), r"they bring onnxruntime, which the package has already"),
    ],
)
def test_what_cannot_be_had_is_told_with_advice(index: Index, lines: tuple[str, ...], said: str) -> None:
    index.add("engine-like", "2.0")
    index.add("engine-like", "3.0")
    index.add("onnxruntime", "1.31.1")
    index.add("kit", "1.0")
    index.add_source("sourced", "1.0")
    index.add("windows", "1.0", tag="py3-none-win_amd64")
    index.add("elder", "1.0", tag="cp38-cp38-manylinux_2_28_x86_64")
    asked = Wanted(lines=lines, python="3.13", arch="x86_64", own=(*OWN, "onnxruntime==1.31.1"))
    with pytest.raises(RecipeError, match=said):
        pinned(Lock(), asked)


def test_hashes_that_a_file_names_hold(index: Index) -> None:
    sha256 = index.add("kit", "1.0")
    line = f"kit==1.0 --hash=sha256:{sha256}"
    assert pinned(Lock(), wanted(line)).requirements["3.13-x86_64 kit==1.0"][0].sha256s == (sha256,)
    with pytest.raises(RecipeError, match=r"none of the hashes that they name for kit is one of version 1\.0"):
        pinned(Lock(), wanted(f"kit==1.0 --hash=sha256:{'0' * 64}"))


def test_hashes_that_come_later_hold_against_the_lock(index: Index) -> None:
    sha256 = index.add("kit", "1.0", needs=("part",))
    index.add("part", "1.0")
    lock = pinned(Lock(), wanted("kit==1.0"))
    assert pinned(lock, wanted(f"kit==1.0 --hash=sha256:{sha256}")) is lock
    assert pinned(lock, wanted(f"kit==1.0 --hash=sha256:{sha256} --hash=sha256:{'1' * 64}")) is lock
    with pytest.raises(RecipeError, match=r"none of the hashes that they name for kit is one of version 1\.0"):
        pinned(lock, wanted(f"kit==1.0 --hash=sha256:{'0' * 64}"))


def test_a_package_carries_them_slimmed_counted_and_told(index: Index, workshop: Workshop) -> None:
    tests = {"kit_extra/__init__.py": "", "kit_extra/tests/test_it.py": "x = 1\n" * 1000, "kit_extra/bad.py": "def (:\n"}
    index.add("kit", "1.0", tests, needs=("part",))
    index.add("part", "1.5", said="Classifier: License :: OSI Approved :: BSD License\n")
    (workshop.root / "app.py").write_text("def best(outputs):\n    import kit\n    return {}\n")
    plain = packed_size(workshop, "serve: {postprocess: 'app:best'}\n")
    workshop.edit(lambda text: text.replace("app:best'}", "app:best', requirements: [kit], preload: [part]}"))
    packages, _, package = packed(workshop)
    described = json.loads((package.dir / "package.json").read_text())
    paths = {each["path"] for each in described["files"]}
    assert {"site/kit.py", "site/part.py", "licenses/part/METADATA", "licenses/requirements.json", "site/kit_extra/bad.py"} <= paths
    assert "site/kit_extra/tests/test_it.py" not in paths
    assert [(each["name"], each["license"]) for each in described["requirements"]] == [("kit", "MIT"), ("part", "")]
    assert package.artifact.size_bytes > plain
    (note,) = [note for note in package.artifact.notes if note.startswith("requirements")]
    assert note.startswith("requirements of hooks, ")
    assert "kit 1.0, part 1.5; left out of them: " in note
    assert "tests that nothing outside them imports 6.00 kB" in note
    packages.keep_lock()
    assert [pin["name"] for pin in json.loads((workshop.root / "mlpack.lock").read_text())["requirements"]["3.13-x86_64 kit"]] == [
        "kit",
        "part",
    ]


def packed_size(workshop: Workshop, serve: str) -> int:
    workshop.edit(lambda text: text + serve)
    return packed(workshop)[2].artifact.size_bytes


@pytest.mark.parametrize("slim", [True, False])
def test_files_of_several_wheels_are_the_last_ones(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slim: bool
) -> None:
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    names = [f"kit-{letter}" for letter in "dbac"]
    scripts = "[console_scripts]\nkit = shared:A\n"
    for name in names:
        info = f"{name.replace('-', '_')}-1.0.dist-info"
        own = {"shared/__init__.py": f"A = {name!r}\n", f"shared/{name[-1]}.py": "", "shared/same.py": "B = 1\n"}
        more = {"shared/two.py": f"C = {name!r}\n"} if name < "kit-c" else {}
        index.add(name, "1.0", {**own, **more, f"{info}/entry_points.txt": scripts})
    asked = Wanted(lines=tuple(names), python="3.13", arch="x86_64", own=(), slim=slim)
    pins = pinned(Lock(), asked).requirements[asked.key]
    for at in range(3):
        out = tmp_path / str(at)
        out.mkdir()
        wheels_tree(pins, asked, out)
        assert sorted(path.name for path in out.iterdir()) == ["licenses", "site"]
        assert (out / "site/shared/__init__.py").read_text() == "A = 'kit-d'\n"
        assert (out / "site/shared/two.py").read_text() == "C = 'kit-b'\n"
        assert {path.name for path in (out / "site/shared").iterdir()} >= {"a.py", "b.py", "c.py", "d.py", "same.py"}
        assert not (out / "site/bin").exists()
        assert not list(out.rglob("*.pyc"))


def test_a_licence_that_binds_is_a_finding_until_accepted(index: Index, workshop: Workshop) -> None:
    index.add("kit", "1.0", needs=("copied", "unsaid"), said="License-Expression: MIT OR GPL-2.0-only\n")
    index.add("copied", "2.0", said="License-Expression: AGPL-3.0-or-later\n")
    index.add("unsaid", "3.0", said="")
    (workshop.root / "app.py").write_text("def best(outputs):\n    return {}\n")
    workshop.edit(lambda text: text + "serve: {postprocess: 'app:best', requirements: [kit]}\n")
    with pytest.raises(RecipeError) as caught:
        packed(workshop)
    assert str(caught.value).count("accept_licenses") == 2
    assert "copied 2.0 comes under AGPL-3.0-or-later, which binds whoever distributes it" in str(caught.value)
    assert "unsaid 3.0 comes under no licence that its metadata name" in str(caught.value)
    workshop.edit(lambda text: text + "accept_licenses: ['wheel:copied', 'wheel:unsaid']\n")
    assert "copied 2.0" in "".join(packed(workshop)[2].artifact.notes)


def test_a_plan_tells_the_pins_and_asks_nobody(index: Index, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("kit", "1.0")
    (workshop.root / "app.py").write_text("def best(outputs):\n    return {}\n")
    workshop.edit(lambda text: text + "serve: {postprocess: 'app:best', requirements: ['kit>=1']}\n")
    rows = foresee(workshop.recipe, workshop.store, (workshop.root,), None)
    told = "requirements: kit>=1, not pinned for Python 3.13 on x86_64 yet; a build resolves and pins them"
    assert {row.requirements for row in rows} == {told}
    packed(workshop)[0].keep_lock()
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9")
    (row, *_) = foresee(workshop.recipe, workshop.store, (workshop.root,), None)
    assert row.as_json()["requirements"] == "requirements: kit>=1, pinned for Python 3.13 on x86_64 as kit 1.0"


def test_packages_of_several_models_tell_all_their_wheels(index: Index, tmp_path: Path) -> None:
    index.add("kit", "1.0", {"kit_extra/__init__.py": "", "kit_extra/core.pyi": "x = 1\n" * 9})
    index.add("part", "1.5", {"part_extra/__init__.py": "", "part_extra/core.pyi": "x = 1\n"})
    trees = [tmp_path / name for name in ("kit", "part", "none")]
    for tree in trees:
        tree.mkdir()
    for tree in trees[:2]:
        asked = wanted(tree.name)
        wheels_tree(pinned(Lock(), asked).requirements[asked.key], asked, tree)
    merge_summaries(trees, tmp_path / "made")
    summary = read_summary(tmp_path / "made")
    assert [each["name"] for each in summary["wheels"]] == ["kit", "part"]
    assert {each["reason"]: each["size_bytes"] for each in summary["left_out"]}["types, for checkers"] == 54
    merge_summaries(trees[2:], tmp_path / "bare")
    assert not (tmp_path / "bare").exists()
