"""Torch directories: factories that fail, weights that do not fit, and pickles that would run code."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.models.small_models import torch_dir

from mlpack.core import digest
from mlpack.core.files import bounded
from mlpack.errors import PassError
from mlpack.passes.export import torch_model


def opened(model_dir: Path) -> torch.nn.Module:
    with torch_model.opened(model_dir) as (module, _):
        return module


def test_opened_loads_weights_in_evaluation_mode(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    before = digest.of_tree(model_dir)
    module = opened(model_dir)
    assert not module.training
    stored = load_file(model_dir / "weights.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in module.state_dict().items())
    assert digest.of_tree(model_dir) == before, "bytecode or something else was written into the source"


def test_opened_leaves_modules_and_path_as_they_were(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    path, modules = list(sys.path), set(sys.modules)
    opened(model_dir)
    assert sys.path == path
    assert "net" not in set(sys.modules) - modules


def test_opened_takes_the_factory_of_its_own_directory(tmp_path: Path) -> None:
    first, second = torch_dir(tmp_path / "a", weights=False), torch_dir(tmp_path / "b", weights=False)
    code = second / "code" / "net.py"
    code.write_text(code.read_text().replace("nn.Linear(64, 10)", "nn.Linear(64, 3)"))
    assert opened(first).classify.out_features == 10
    assert opened(second).classify.out_features == 3


def test_opened_without_weights_is_the_same_every_time(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m", weights=False)
    assert torch.equal(opened(model_dir).classify.weight, opened(model_dir).classify.weight)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("net:broken", "raised ZeroDivisionError: no classes"),
        ("net:absent", "cannot be imported: AttributeError"),
        ("absent:build", "cannot be imported: ModuleNotFoundError"),
        ("net", "module:function"),
    ],
)
def test_opened_refuses_factories_that_fail(tmp_path: Path, factory: str, words: str) -> None:
    with pytest.raises(PassError, match=words):
        opened(torch_dir(tmp_path / "m", factory=factory))


def test_opened_refuses_what_is_no_module(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    (model_dir / "code" / "net.py").write_text("def build():\n    return 3\n")
    with pytest.raises(PassError, match=r"returned int, not a torch\.nn\.Module"):
        opened(model_dir)


@pytest.mark.parametrize(("change", "words"), [("missing", "Missing key"), ("extra", "Unexpected key"), ("shape", "size mismatch")])
def test_opened_refuses_weights_that_do_not_fit(tmp_path: Path, change: str, words: str) -> None:
    model_dir = torch_dir(tmp_path / "m")
    weights = load_file(model_dir / "weights.safetensors")
    if change == "missing":
        del weights["classify.bias"]
    elif change == "extra":
        weights["module.classify.bias"] = torch.zeros(10)
    else:
        weights["classify.bias"] = torch.zeros(11)
    save_file(weights, model_dir / "weights.safetensors")
    with pytest.raises(PassError, match=f"(?is){words}.*classify.bias"):
        opened(model_dir)


def test_opened_refuses_truncated_weights(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    path = model_dir / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PassError, match="cut off"):
        opened(model_dir)


def test_opened_takes_a_pickled_state_dict(tmp_path: Path) -> None:
    model_dir = torch_dir(tmp_path / "m")
    torch.save(load_file(model_dir / "weights.safetensors"), model_dir / "weights.pt")
    (model_dir / "weights.safetensors").unlink()
    assert not opened(model_dir).training


class Malicious:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_opened_never_executes_a_pickle(tmp_path: Path, how: str) -> None:
    model_dir, mark = torch_dir(tmp_path / "m"), tmp_path / "executed"
    (model_dir / "weights.safetensors").unlink()
    if how == "torch":
        torch.save({"classify.bias": Malicious(mark)}, model_dir / "weights.pt")
    else:
        (model_dir / "weights.pt").write_bytes(pickle.dumps({"classify.bias": Malicious(mark)}))
    with pytest.raises(PassError, match=r"weights\.pt"):
        opened(model_dir)
    assert not mark.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"factory": "net:build"}', '{"factory": "net:build", "inputs": []}'])
def test_describe_refuses_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "torch.json").write_text(text)
    with pytest.raises(PassError, match=r"torch\.json"):
        torch_model.describe(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"removals": [{"module": "stem.0"}]}'])
def test_read_edits_refuses_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "edits.json").write_text(text)
    with pytest.raises(PassError, match=r"edits\.json"):
        torch_model.read_edits(tmp_path)


def test_replay_refuses_a_factory_that_has_changed(tmp_path: Path) -> None:
    module = opened(torch_dir(tmp_path / "m"))
    with pytest.raises(PassError, match="the factory has changed"):
        torch_model.replay(module, [{"module": "gone.0", "kind": "out", "indices": [1]}])


def checkpoint(path: Path, change: str) -> Path:
    """What torch would read into memory whole, or never asked for."""
    if change == "expanded":
        torch.save({"w": torch.zeros(1).expand(1 << 45)}, path)
        return path
    torch.save({"w": torch.zeros(4)}, path)
    if change == "entries":
        directory = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, *[0] * 16) * 70_000
        path.write_bytes(directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(directory), 0, 0))
    elif change == "directory":
        with path.open("wb") as file:
            file.truncate(2 << 30)
            file.seek(2 << 30)
            file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 2 << 30, 0, 0))
    elif change == "inflates":
        data = bytearray(path.read_bytes())
        start = data.rindex(b"PK\x01\x02") + 24
        data[start : start + 4] = struct.pack("<I", 0xFFFFFFF0)
        path.write_bytes(data)
        bounded.configure({"MLPACK_MAX_DATA_MB": "1000"})
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("expanded", "MB of memory"),
        ("entries", "more than 65,535 entries"),
        ("directory", "more than the 16,777,216 bytes"),
        ("inflates", "MB of memory"),
        ("cut", "cannot be read"),
    ],
)
def test_a_hostile_checkpoint_is_refused_before_torch_reads_it(tmp_path: Path, change: str, words: str) -> None:
    try:
        with pytest.raises(PassError, match=words):
            torch_model.read_pickled(checkpoint(tmp_path / "weights.pt", change))
    finally:
        bounded.configure({})
