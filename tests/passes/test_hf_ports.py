"""What Hugging Face models take and give: heads, pictures, sounds, caches, tokenizers, and what the recipe says of inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from mlpack.errors import PassError
from mlpack.passes.export import hf_tokenizer, huggingface, ports

# Loads some twenty small models: 15 s of CPU.
pytestmark = pytest.mark.slow
WIDE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT: dict[str, Any] = {**WIDE, "vocab_size": 50, "max_position_embeddings": 32}
PICTURE: dict[str, Any] = {**WIDE, "image_size": 32, "patch_size": 8, "num_labels": 5}
SPEECH: dict[str, Any] = {**WIDE, "vocab_size": 20, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4,
                          "num_conv_pos_embedding_groups": 2}  # fmt: skip
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
XVECTOR: dict[str, Any] = {"tdnn_dim": (8, 8, 8), "tdnn_kernel": (1, 1, 1), "tdnn_dilation": (1, 1, 1), "xvector_output_dim": 8}
T5: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
GPT2: dict[str, Any] = {"vocab_size": 50, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}


def saved(folder: Path, architecture: str, config: str, **sizes: Any) -> Path:
    torch.manual_seed(0)
    getattr(transformers, architecture)(getattr(transformers, config)(**sizes)).save_pretrained(folder)
    return folder


def shapes(model: huggingface.LoadedModel) -> dict[str, tuple[Any, ...]]:
    return {spec.name: spec.shape for spec in model.inputs}


@pytest.mark.parametrize(
    ("architecture", "config", "sizes", "inputs", "outputs"),
    [
        ("ViTForImageClassification", "ViTConfig", PICTURE, {"pixel_values": ("batch", 3, 32, 32)}, ("logits",)),
        ("ViTForImageClassification", "ViTConfig", {**PICTURE, "num_channels": 1, "image_size": [16, 24]},
         {"pixel_values": ("batch", 1, 16, 24)}, ("logits",)),
        ("ResNetForImageClassification", "ResNetConfig", {**RESNET, "num_channels": 4},
         {"pixel_values": ("batch", 4, "height", "width")}, ("logits",)),
        ("YolosForObjectDetection", "YolosConfig", {**PICTURE, "image_size": [32, 16], "num_detection_tokens": 3},
         {"pixel_values": ("batch", 3, 32, 16)}, ("logits", "pred_boxes")),
        ("Wav2Vec2ForCTC", "Wav2Vec2Config", SPEECH, {"input_values": ("batch", "samples")}, ("logits",)),
        ("WavLMForXVector", "WavLMConfig", {**SPEECH, **XVECTOR}, {"input_values": ("batch", "samples")}, ("logits", "embeddings")),
        ("BertForMultipleChoice", "BertConfig", TEXT, dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"),
                                                                    ("batch", "num_choices", "sequence")), ("logits",)),
        ("BertForQuestionAnswering", "BertConfig", TEXT, dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"),
                                                                       ("batch", "sequence")), ("start_logits", "end_logits")),
    ],
)  # fmt: skip
def test_inputs_and_outputs_follow_the_config(
    architecture: str, config: str, sizes: dict[str, Any], inputs: dict[str, Any], outputs: tuple[str, ...], tmp_path: Path
) -> None:
    model = huggingface.load(saved(tmp_path / "hf", architecture, config, **sizes), None)
    assert (shapes(model), model.outputs) == (inputs, outputs)
    feeds, answers = ports.fitting(lambda feed: huggingface.eager(model, feed), model.invention)
    assert len(feeds) == len(answers) == 3


def test_processor_says_size_that_free_pictures_are_tried_on(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "ResNetForImageClassification", "ResNetConfig", **RESNET)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 24}})
    )
    model = huggingface.load(folder, None)
    assert model.invention.side == (40, 24)
    pinned = huggingface.pinned(folder, model)
    assert pinned is not None
    assert shapes(pinned) == {"pixel_values": ("batch", 3, 40, 24)}
    assert huggingface.pinned(folder, pinned) is None
    given = [{"pixel_values": np.zeros((1, 3, *sides), np.float32)} for sides in ((32, 48), (32, 48), (48, 48))]
    by_calls = huggingface.pinned(folder, model, given[:2])
    assert by_calls is not None
    assert shapes(by_calls) == {"pixel_values": ("batch", 3, 32, 48)}
    assert huggingface.pinned(folder, model, given) is None  # no one size fits them


def asked(folder: Path, **inputs: list[Any]) -> Path:
    rows = [{"name": name, "dtype": "float32", "shape": shape} for name, shape in inputs.items()]
    (folder / huggingface.INPUTS).write_text(json.dumps(rows))
    return folder


def test_the_recipes_inputs_go_before_the_config(tmp_path: Path) -> None:
    resnet = saved(tmp_path / "r", "ResNetForImageClassification", "ResNetConfig", **RESNET)
    assert shapes(huggingface.load(asked(resnet, pixel_values=["batch", 3, 40, 40]), None)) == {
        "pixel_values": ("batch", 3, 40, 40)
    }
    speech = saved(tmp_path / "s", "Wav2Vec2ForCTC", "Wav2Vec2Config", **SPEECH)
    model = huggingface.load(asked(speech, input_values=[1, 4000], attention_mask=[1, 4000]), None)
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.inputs] == [
        ("input_values", "float32", (1, 4000)), ("attention_mask", "int64", (1, 4000)),
    ]  # fmt: skip
    bert = saved(tmp_path / "b", "BertModel", "BertConfig", **TEXT)
    model = huggingface.load(asked(bert, input_ids=["batch", 8], attention_mask=["batch", 8], token_type_ids=["batch", 8]), None)
    assert {(spec.dtype, spec.shape) for spec in model.inputs} == {("int64", ("batch", 8))}
    with pytest.raises(PassError, match="takes no 'pixels'"):
        huggingface.load(asked(bert, pixels=["batch", 8]), None)
    with pytest.raises(PassError, match="the model itself fails on inputs of shapes"):
        huggingface.load(asked(resnet, pixel_values=["batch", 1, 40, 40]), None)


def test_a_head_that_the_weights_lack_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "BertForMaskedLM", "BertConfig", **TEXT)
    with pytest.raises(PassError, match=r"no weights for .*classifier"):
        huggingface.load(folder, "text-classification")
    model = huggingface.load(folder, "feature-extraction")  # its pooler is not there either, and is no output
    assert model.outputs == ("last_hidden_state",)


def test_the_encoder_alone_of_an_encoder_decoder(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "T5ForConditionalGeneration", "T5Config", **T5)
    with pytest.raises(PassError, match="Encoder-decoder models are not supported"):
        huggingface.load(folder, None)
    model = huggingface.load(folder, "feature-extraction")
    assert (set(shapes(model)), model.outputs) == ({"input_ids", "attention_mask"}, ("last_hidden_state",))


def words(folder: Path) -> Path:
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat"]
    (folder / "vocab.txt").write_text("\n".join(listed) + "\n")
    return folder


def test_positions_are_counted_from_mask_where_texts_are_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "GPT2LMHeadModel", "GPT2Config", **GPT2)
    assert "position_ids" in shapes(huggingface.load(folder, None))
    words(folder)
    model = huggingface.load(folder, None)
    assert set(shapes(model)) == {"input_ids", "attention_mask"}
    whole = {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]]}
    padded = {"input_ids": [[0, 5, 6, 7]], "attention_mask": [[0, 1, 1, 1]]}
    answers = [
        huggingface.eager(model, {n: torch.tensor(v).numpy() for n, v in feed.items()})["logits"] for feed in (whole, padded)
    ]
    torch.testing.assert_close(torch.tensor(answers[0][0]), torch.tensor(answers[1][0, 1:]), atol=1e-5, rtol=0)


def test_a_vocabulary_becomes_a_tokenizer(tmp_path: Path) -> None:
    folder = words(saved(tmp_path / "hf", "BertModel", "BertConfig", **TEXT))
    hf_tokenizer.write(folder, tmp_path, 50, 6)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode("The cats").ids == [2, 5, 6, 7, 3]
    assert made.encode("the cat", "sat").type_ids == [0, 0, 0, 0, 1, 1]
    assert len(made.encode("the " * 20).ids) == 6


def test_a_vocabulary_and_merges_become_a_tokenizer(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "RobertaModel", "RobertaConfig", **{**TEXT, "type_vocab_size": 1})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "ab", "\u0120", "\u0120a"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n\u0120 a\n")
    hf_tokenizer.write(folder, tmp_path, 50, None)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode("ab a").ids == [0, 7, 9, 2]
    assert [row.ids for row in made.encode_batch(["ab a", "b"])] == [[0, 7, 9, 2], [0, 6, 2, 1]]


@pytest.mark.parametrize("name", ["vocab.json", "spiece.model", "tokenizer.model"])
def test_vocabulary_that_is_damaged_or_cut_is_refused_in_words(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "T5EncoderModel", "T5Config", **T5)
    (folder / name).write_bytes(b"\x00damaged")
    with pytest.raises(PassError, match="cannot make a fast tokenizer"):
        hf_tokenizer.write(folder, tmp_path, 50, None)


def test_a_cache_is_inputs_and_outputs(tmp_path: Path) -> None:
    folder = saved(tmp_path / "hf", "GPT2LMHeadModel", "GPT2Config", **GPT2)
    model = huggingface.load(folder, "text-generation-with-past")
    assert "past_key_values.0.key" in shapes(model)
    assert model.outputs == ("logits", "present.0.key", "present.0.value")
    assert shapes(model)["attention_mask"] == ("batch", "past + sequence")
    ports.fitting(lambda feed: huggingface.eager(model, feed), model.invention)


def test_the_names_of_classes_are_kept(tmp_path: Path) -> None:
    labels = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
    folder = saved(tmp_path / "hf", "BertForSequenceClassification", "BertConfig", **TEXT, **labels)
    huggingface.write_labels(tmp_path, huggingface.load(folder, None))
    assert json.loads((tmp_path / "labels.json").read_text()) == {"0": "neg", "1": "pos"}
