"""Configs that ask for code or for too much, and models with fewer positions and tokens than the usual example has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models

from mlpack.core.files import bounded
from mlpack.core.records import Signature
from mlpack.errors import PassError
from mlpack.graphs import check, files, trials
from mlpack.passes import export, optimize, simplify
from mlpack.passes.export import huggingface, huggingface_checks

# DeBERTa's own module compiles functions with torch.jit when it is imported.
# Exports and loads small models: 20 s of CPU.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]
SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50,
}  # fmt: skip


def bert(**sizes: Any) -> Any:
    return transformers.BertModel(transformers.BertConfig(**{**SMALL, "max_position_embeddings": 32, **sizes}))


def roberta(**sizes: Any) -> Any:
    config = {**SMALL, "max_position_embeddings": 34, "type_vocab_size": 1, **sizes}
    return transformers.RobertaModel(transformers.RobertaConfig(**config))


def t5() -> Any:
    config = transformers.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5EncoderModel(config)


def deberta() -> Any:
    relative = {"position_biased_input": False, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    return transformers.DebertaV2Model(transformers.DebertaV2Config(**SMALL, max_position_embeddings=16, **relative))


def bloom() -> Any:
    return transformers.BloomModel(transformers.BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=50))


def gpt2(positions: int) -> Any:
    return transformers.GPT2Model(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=positions))


def saved(made: Any, folder: Path) -> Path:
    made.eval().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("make", "positions"),
    [
        (bert, 32), (lambda: bert(max_position_embeddings=1), 1), (lambda: bert(max_position_embeddings=512), 512),
        (roberta, 32), (lambda: roberta(max_position_embeddings=10), 8), (t5, None), (deberta, None), (bloom, None),
        (lambda: gpt2(10), 10),
    ],
)  # fmt: skip
def test_positions_are_counted_in_the_models_own_table(make: Callable[[], Any], positions: int | None) -> None:
    assert huggingface_checks.positions(make()) == positions


def test_a_model_without_a_position_is_refused() -> None:
    with pytest.raises(PassError, match="no row of positions"):
        huggingface_checks.positions(roberta(max_position_embeddings=2))


@pytest.mark.parametrize(
    ("make", "longest", "max_length"),
    [
        (bert, 32, 32), (lambda: bert(max_position_embeddings=8), 8, 8), (lambda: bert(max_position_embeddings=1), 33, 1),
        (lambda: bert(max_position_embeddings=512), 33, 512), (roberta, 32, 32),
        (lambda: roberta(max_position_embeddings=10), 8, 8), (lambda: bert(vocab_size=1), 32, 32),
        (lambda: bert(type_vocab_size=1), 32, 32), (t5, 33, None), (bloom, 33, None),
    ],
)  # fmt: skip
def test_a_model_is_tried_on_inputs_that_it_takes(
    make: Callable[[], Any], longest: int, max_length: int | None, tmp_path: Path
) -> None:
    model = huggingface.load(saved(make(), tmp_path / "hf"), None)
    signature = Signature(inputs=model.inputs, outputs=())
    found = trials.fitting(lambda feed: huggingface.eager(model, feed), signature, dict(model.limits))
    assert len(found.feeds) == len(found.references) == len(check.BATCHES)
    assert max(feed["input_ids"].shape[1] for feed in found.feeds) == longest
    assert model.max_length == max_length


@pytest.mark.parametrize("said", [512, 1e30, 16, 0, -1, True, "64", None])
def test_the_length_that_ships_is_never_more_than_the_positions(said: Any, tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "hf")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
    assert huggingface.load(folder, None).max_length == (16 if said == 16 else 32)


def test_short_positions_pass_through_every_check_of_a_build(tmp_path: Path) -> None:
    source = saved(bert(), tmp_path / "hf")
    for name, run in (
        ("x", lambda out: export.run(source, export.Export(), out)),
        ("s", lambda out: simplify.run(tmp_path / "x", simplify.Simplify(), out)),
        ("o", lambda out: optimize.run(tmp_path / "s", optimize.Optimize(), out)),
    ):
        (tmp_path / name).mkdir()
        run(tmp_path / name)
    feeds = trials.feeds_of(tmp_path / "s", files.load(tmp_path / "s"))
    assert max(feed["input_ids"].shape[1] for feed in feeds) == 32


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"type_vocab_size": 0}, "the model itself fails|transformers cannot load"),
        ({"max_position_embeddings": 0}, "no row of positions|cannot load"),
        ({"vocab_size": 0, "pad_token_id": None}, "the model itself fails|cannot load|cannot be told"),
    ],
)
def test_sizes_of_nothing_are_refused_in_words(sizes: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **sizes}))
    weights = {name: value[:0] if _belongs(name, sizes) else value for name, value in bert().state_dict().items()}
    from safetensors.torch import save_file

    stored = {name: value.contiguous() for name, value in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=told):
        export.run(folder, export.Export(exporter="optimum"), tmp_path / "out")


def _belongs(name: str, sizes: dict[str, Any]) -> bool:
    tables = {"type_vocab_size": "token_type_embeddings", "max_position_embeddings": "position", "vocab_size": "word_embeddings"}
    return any(tables.get(key, "-") in name for key in sizes)


@pytest.mark.parametrize(
    "config",
    [
        {"_attn_implementation_internal": "evil/kernel"},
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "evil/kernel@main:run"},
        {"_experts_implementation_internal": "evil/kernel"},
        {"_attn_implementation": {"text_config": "evil/kernel"}},
        {"text_config": {"_attn_implementation_internal": "evil/kernel"}},
        {"parts": [{"vision": {"_attn_implementation_internal": "evil/kernel"}}]},
        {"_attn_implementation_internal": "paged|evil/kernel"},
        {"auto_map": {"AutoModel": "evil.Model"}},
    ],
)
def test_a_config_that_names_code_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "hf")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | config))
    with pytest.raises(PassError, match="asks for code"):
        huggingface.load(folder, None)


@pytest.mark.parametrize("name", ["eager", "sdpa", "flash_attention_2", None, {"": "sdpa"}])
def test_an_implementation_of_transformers_own_is_no_code(name: Any) -> None:
    huggingface_checks.check_config({"_attn_implementation": name, "_attn_implementation_autoset": True})


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "encoder_layers"])
def test_a_config_of_a_billion_layers_is_refused(key: str) -> None:
    with pytest.raises(PassError, match=f"{key} is 1000000000"):
        huggingface_checks.check_config({key: 1_000_000_000})
    with pytest.raises(PassError, match=f"{key} is 1000"):
        huggingface_checks.check_config({key: 10**4000})


def test_a_config_of_a_model_that_fits_no_machine_is_refused() -> None:
    with pytest.raises(PassError, match=r"config\.json describes would take .* MLPACK_MAX_DATA_MB|MLPACK_MAX_DATA_MB"):
        huggingface_checks.check_config({"hidden_size": 1 << 20, "vocab_size": 1 << 40})
    huggingface_checks.check_config({"hidden_size": "many", "vocab_size": None, "max_position_embeddings": True})


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 70 + "1" + "}" * 70, "[]", "5", "null", '"x"', "{", ""])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "sentence_bert_config.json", "modules.json"])
def test_a_file_that_is_none_is_refused_by_name(name: str, text: str, tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "hf")
    (folder / name).write_text(text)
    if (name, text) == ("modules.json", "[]"):
        return
    with pytest.raises(PassError, match=name):
        huggingface.load(folder, None)


def test_a_sparse_file_is_read_to_the_limit_only(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PassError, match=f"{bounded.DOCUMENT_BYTES:,} bytes"):
        huggingface.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("path", ["../secrets", "/etc", "a/../../b"])
def test_a_module_of_another_directory_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": path}]))
    with pytest.raises(PassError, match="leaves the model's directory"):
        huggingface.read_pooling(tmp_path)


def _with_tokenizer(folder: Path, text: str) -> huggingface.LoadedModel:
    saved(bert(), folder)
    (folder / "tokenizer.json").write_text(text)
    return huggingface.load(folder, None)


@pytest.mark.parametrize("text", ["{}", '{"version": "1.0"}', "[]", '{"model":' * 60 + "1" + "}" * 60, "[" * 100_000, "\x00"])
def test_a_tokenizer_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    model = _with_tokenizer(tmp_path / "hf", text)
    with pytest.raises(PassError, match=r"tokenizer\.json"):
        huggingface.write_tokenizer(tmp_path / "hf", tmp_path, model)


@pytest.mark.parametrize(("largest", "fits"), [(49, True), (50, False)])
def test_a_tokenizer_of_another_model_is_refused(largest: int, fits: bool, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": largest}, unk_token="[UNK]"))
    model = _with_tokenizer(tmp_path / "hf", tokenizer.to_str())
    if fits:
        huggingface.write_tokenizer(tmp_path / "hf", tmp_path, model)
        assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).truncation["max_length"] == 32
    else:
        with pytest.raises(PassError, match="belongs to another model"):
            huggingface.write_tokenizer(tmp_path / "hf", tmp_path, model)


def test_a_padding_token_on_the_left_stays_there(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.enable_padding(direction="left", pad_id=1, pad_token="[PAD]", length=16)
    model = _with_tokenizer(tmp_path / "hf", tokenizer.to_str())
    huggingface.write_tokenizer(tmp_path / "hf", tmp_path, model)
    padding = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).padding
    assert (padding["direction"], padding["pad_id"], padding["length"]) == ("left", 1, None)


@pytest.mark.parametrize("header", [(1 << 60).to_bytes(8, "little"), b"\xff" * 8, b"", b"\x08", (100).to_bytes(8, "little") + b"{"])
def test_a_safetensors_header_that_lies_is_refused(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(header + b"{}")
    with pytest.raises(PassError, match="not a complete safetensors file"):
        huggingface.check_weights(tmp_path)


def test_reference_that_takes_nothing_says_the_first_reason() -> None:
    def run(feed: Any) -> Any:
        raise PassError(f"no {max(array.shape[-1] for array in feed.values())}")

    spec = files.specs_of([{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}])
    with pytest.raises(PassError, match="no 16"):
        trials.fitting(run, Signature(inputs=spec, outputs=()), {}).example(Signature(inputs=spec, outputs=()))
