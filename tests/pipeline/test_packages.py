"""Packages: made once for what they are made of, the lock shared by builds beside one another, bases said wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support import workshop as workshop_
from tests.support.images import layouts
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.records import Candidate, Target
from mlpack.errors import RecipeError
from mlpack.pipeline import plan, transform
from mlpack.pipeline.packing import pack, unpacked, wheels
from mlpack.pipeline.packing.packages import Package, Packages
from mlpack.pipeline.packing.unpacked import TASK
from mlpack.pipeline.packing.wheels import Lock
from mlpack.recipe import reader
from mlpack.targets import LambdaImage
from mlpack.targets.format.contents import Facts

SAMPLE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}


def made(workshop: Workshop, **options: object) -> tuple[Packages, Candidate, Package]:
    """The float package of the project, as a build of its own would make it."""
    wanted = reader.load(workshop.recipe)
    candidate = plan.expand(wanted).baselines[0]
    source = transform.take_source(wanted, workshop.store, (workshop.root,))
    model = transform.run_steps(candidate, source, workshop.store, {}, lambda _text: None)
    packages = Packages(wanted, workshop.store, (workshop.root,), **options)  # type: ignore[arg-type]
    return packages, candidate, packages.pack(candidate, model, SAMPLE)


def test_equal_inputs_give_the_package_that_is_there(workshop: Workshop) -> None:
    first, again = made(workshop)[2], made(workshop)[2]
    assert again == first
    assert again.memory_mb == 1769


def test_a_hook_changes_what_is_measured_and_what_ships(workshop: Workshop) -> None:
    (workshop.root / "app.py").write_text("def best(outputs):\n    return {}\n")
    workshop.edit(lambda text: text + "serve: {postprocess: 'app:best'}\n")
    first = made(workshop)[2]
    (workshop.root / "app.py").write_text("def best(outputs):\n    return {'a': 1}\n")
    second = made(workshop)[2]
    assert second.content != first.content
    assert second.artifact.digest != first.artifact.digest


def test_labels_are_for_images_alone(workshop: Workshop) -> None:
    with pytest.raises(RecipeError, match="no target of this recipe is one"):
        made(workshop, facts=Facts(created_s=1))


@pytest.mark.slow
def test_what_is_said_of_an_image_is_part_of_its_package(workshop: Workshop, tmp_path: Path) -> None:
    base = small_packages.base(tmp_path / "rootfs", tmp_path / "cache").name
    image = Target(kind="lambda-image", arch=small_packages.HERE, config=LambdaImage(arch=small_packages.HERE))  # type: ignore[arg-type]
    workshop_.seed_runtime(workshop.root, workshop.store, arch=small_packages.HERE, target=image, python=small_packages.PYTHON)
    workshop.edit(lambda text: text.replace("lambda-zip", "lambda-image"))
    facts = Facts(labels=(("io.example.a", "b"),))
    plain, said, again = (made(workshop, base=base, facts=each)[2] for each in (Facts(), facts, facts))
    assert said == again
    assert said.artifact.digest != plain.artifact.digest
    assert said.content == plain.content


def test_another_sample_is_another_tree_of_the_same_bytes(workshop: Workshop) -> None:
    packages, candidate, first = made(workshop)
    model = transform.run_steps(
        candidate,
        transform.take_source(reader.load(workshop.recipe), workshop.store, (workshop.root,)),
        workshop.store,
        {},
        lambda _text: None,
    )
    other = packages.pack(candidate, model, {"inputs": [{**SAMPLE["inputs"][0], "data": [1.0] * 64}]})
    assert other.artifact.digest == first.artifact.digest
    assert other.artifact.tree != first.artifact.tree
    assert other.content == first.content


def test_laid_out_is_what_would_be_unpacked(workshop: Workshop) -> None:
    packages, candidate, packed = made(workshop)
    wanted = reader.load(workshop.recipe)
    source = transform.take_source(wanted, workshop.store, (workshop.root,))
    model = transform.run_steps(candidate, source, workshop.store, {}, lambda _text: None)
    bare = packages.lay_out(candidate, model, SAMPLE)
    assert bare.content == packed.content
    with packages.trees.of({"zip": packed, "bare": bare}) as folders:
        assert folders["bare"].name == TASK
        assert _files(folders["bare"]) == _files(folders["zip"])
        assert bare.artifact.size_bytes == packed.artifact.size_bytes
    assert not list((workshop.store.root / "temporary").iterdir())


@pytest.mark.parametrize(("most", "times"), [(1 << 30, 1), (0, 3)])
def test_a_package_is_unpacked_once_a_build(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, most: int, times: int) -> None:
    packages, _, packed = made(workshop)
    calls, unpack = [], pack.unpack
    monkeypatch.setattr(unpacked, "_KEPT_BYTES", most)
    monkeypatch.setattr(pack, "unpack", lambda folder, out: (calls.append(folder), unpack(folder, out))[1])
    with packages.trees.kept():
        trees = []
        for _ in range(3):
            with packages.trees.of({"zip": packed}) as folders:
                trees.append(_files(folders["zip"]))
    assert trees[0] == trees[1] == trees[2] != {}
    assert len(calls) == times
    with packages.trees.of({"zip": packed}) as folders:  # after it, as before
        assert _files(folders["zip"]) == trees[0]
    assert not list((workshop.store.root / "temporary").iterdir())


def _files(root: Path) -> dict[str, Digest]:
    return {name: digest.of_file(Path(entry.path)) for name, entry in digest.entries(root) if entry.is_file()}


def test_pins_that_another_build_wrote_meanwhile_stay(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workshop.root / wheels.LOCK_NAME
    pins = wheels.read_lock(path).wheels
    path.unlink()
    packages = Packages(reader.load(workshop.recipe), workshop.store, (workshop.root,))
    wheels.write_lock(path, Lock(wheels={"3.12-arm64": next(iter(pins.values()))}))
    monkeypatch.setattr(wheels, "resolve", lambda *_: pins["3.13-x86_64"])
    wanted = reader.load(workshop.recipe)
    candidate = plan.expand(wanted).baselines[0]
    source = transform.take_source(wanted, workshop.store, (workshop.root,))
    packages.pack(candidate, transform.run_steps(candidate, source, workshop.store, {}, lambda _text: None), SAMPLE)
    assert set(wheels.read_lock(path).wheels) == {"3.12-arm64"}  # until the build has ended
    packages.keep_lock()
    assert set(wheels.read_lock(path).wheels) == {"3.12-arm64", "3.13-x86_64"}
    assert [each.name for each in workshop.root.glob(".mlpack.lock*")] == []


@pytest.mark.parametrize(("base", "said"), [("./typo", "there is no base image at"), ("UPPER CASE", "not the name of an image")])
def test_a_base_that_is_said_wrong_is_the_command_lines_fault(workshop: Workshop, base: str, said: str) -> None:
    packages = Packages(reader.load(workshop.recipe), workshop.store, (workshop.root,), base=base)
    with pytest.raises(RecipeError, match=f"--base: .*{said}"):
        packages.base_of(Target(kind="lambda-image", arch="x86_64", config=LambdaImage()))


def test_a_base_beside_the_recipe_may_be_one_image_of_several(workshop: Workshop) -> None:
    maker = layouts.Maker(workshop.root / "bases")
    lines = [layouts.called(maker.image(mark=name), name) for name in ("v1", "v2")]
    maker.done(*lines)
    packages = Packages(reader.load(workshop.recipe), workshop.store, (workshop.root,))
    for text in ("bases:v2", "./bases:v2", f"bases@{lines[1]['digest']}", "oci:bases:v2"):
        found = packages.base_of(Target(kind="lambda-image", arch="x86_64", config=LambdaImage(base=text)))
        assert str(found and found.digest) == lines[1]["digest"]
    with pytest.raises(RecipeError, match=r"targets\.lambda-image\.base: .*2 images for linux/amd64"):
        packages.base_of(Target(kind="lambda-image", arch="x86_64", config=LambdaImage(base="./bases")))


def test_hooks_of_two_directories_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    (workshop.root / "app.py").write_text("def a(body):\n    return body\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/other.py").write_text("def b(body):\n    return body\n")
    (workshop.root / "request.json").write_text("{}")
    wanted = reader.load(workshop.recipe)
    serve = type(wanted.serve)(preprocess="app:a", postprocess="other:b", example="request.json")
    import dataclasses

    with pytest.raises(RecipeError, match="different directories"):
        Packages(dataclasses.replace(wanted, serve=serve), workshop.store, (workshop.root, tmp_path / "elsewhere"))


def test_the_seeded_python_is_the_recipes(workshop: Workshop) -> None:
    assert made(workshop)[2].python == workshop_.PYTHON
