"""Situations that strangers met with other tools, each rebuilt as a small model of our own: what a build of it must give.

Every build measures the least. Float answers are held against the engine on the source file without optimisation, or against
eager torch; what int8 must do is said with each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_models.zoo import by_the_engine
from tests.support.models import foreign_classical, foreign_graphs, foreign_hf, foreign_torch
from tools import tryout
from tools.tryout import Tried

from mlpack.store.local import Store

SAME = 2e-4
Maker = Callable[[Path], None]
Build = Callable[..., Tried]

ORT = "{onnx: model.onnx}"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Maker], Path]:
    """The folder that a maker filled, once."""
    made: dict[str, Path] = {}

    def find(maker: Maker) -> Path:
        if maker.__name__ not in made:
            path = tmp_path_factory.mktemp(maker.__name__)
            maker(path)
            made[maker.__name__] = path
        return made[maker.__name__]

    return find


@pytest.fixture
def build(store: Store, folder_of: Callable[[Maker], Path], request: pytest.FixtureRequest) -> Build:
    """Build a recipe of these lines over a maker's files."""

    def run(maker: Maker, source: str = ORT, *, data: str = "eval.npz", more: str = "", variants: str = "{fp32: []}") -> Tried:
        folder = folder_of(maker)
        path = folder / f"{request.node.name.replace('[', '-').replace(']', '')}.yaml"
        calibration = f", calibration: {data.partition(' ')[2]}" if " " in data else ""
        lines = ["name: foreign", f"source: {source}", f"data: {{evaluation: {data.partition(' ')[0]}{calibration}}}", more]
        lines += [f"variants: {variants}", "targets: {lambda-zip: {arch: x86_64}}"]
        path.write_text("\n".join(line for line in lines if line) + "\n", "utf-8")
        return tryout.try_out(path, store)

    return run


def right(tried: Tried, answers: Any) -> None:
    """Exit 0, and float answers equal to these: the path of an ONNX file, or arrays by output, a row a call."""
    assert tried.code == 0, tried.error
    if isinstance(answers, Path):
        wanted = by_the_engine(answers, tried.calls)
        assert tryout.difference(tried.float_answers, wanted) <= SAME
        return
    for name, whole in answers.items():
        got = np.concatenate([call[name] for call in tried.float_answers])
        assert got.shape == whole.shape
        assert np.abs(got - whole).max() <= SAME * max(1.0, np.abs(whole).max())


def accuracy(tried: Tried, variant: str = "fp32") -> float:
    """A candidate's metric."""
    assert tried.code == 0, tried.error
    return float(tried.candidate(variant)["accuracy"]["value"])


def not_failed(tried: Tried, variant: str) -> None:
    """A candidate that was made and measured, within budget or not."""
    assert tried.code == 0, tried.error
    row = tried.candidate(variant)
    assert row["status"] in ("ok", "over_budget"), row["reasons"]


def reasons(tried: Tried, variant: str) -> str:
    """What is said of a candidate, or of the whole build when it ended before there were any."""
    return " ".join(tried.candidate(variant)["reasons"]) if tried.record else tried.error


def detections(answers: Any, *, transposed: bool) -> Any:
    """[pictures, anchors, classes] of what is there: where the detector is sure."""
    rows = np.concatenate([call["output0"] for call in answers])
    rows = rows.transpose(0, 2, 1) if transposed else rows
    return (rows[..., 4:5] > 0.5) & (rows[..., 5:] == rows[..., 5:].max(-1, keepdims=True))


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("metric", ["init", "cosine"])
def test_detector_ships_nothing_that_is_blind(
    layout: str, metric: str, folder_of: Callable[[Maker], Path], store: Store, request: pytest.FixtureRequest
) -> None:
    """The recipe that `init` writes, as it stands, and one that asks for a metric which cannot see the scores."""
    folder = folder_of(foreign_torch.detectors)

    def changed(text: str) -> str:
        if metric == "init":
            return text
        kept = [line for line in text.splitlines() if not line.startswith("metric:")]
        return "\n".join([*kept, f"metric: {metric}"]) + "\n"

    path = tryout.write_recipe(folder / f"{layout}.onnx", changed).replace(folder / f"{layout}-{metric}.yaml")
    tried = tryout.try_out(path, store)
    assert tried.code == 0, tried.error
    found = detections(tried.float_answers, transposed=layout == "columns")
    assert found.sum() >= 190
    shipped = detections(tried.chosen_answers, transposed=layout == "columns")
    assert (found & shipped).sum() >= 0.98 * found.sum(), request.node.name


def test_raw_sound_of_any_length(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    right(build(foreign_torch.speech, data="eval.npz calib.npz", variants="auto"), folder_of(foreign_torch.speech) / "model.onnx")


def test_raw_sound_from_torch(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    tried = build(foreign_torch.speech, '{torch: "build_torch:build"}', more="inputs: {input_values: {shape: [batch, samples]}}")
    wanted = by_the_engine(folder_of(foreign_torch.speech) / "model.onnx", tried.calls)
    right(tried, {next(iter(tried.float_answers[0])): np.concatenate([call["logits"] for call in wanted])})


@pytest.mark.parametrize("more", ["", "inputs: {input_values: {shape: [batch, 4000]}}"])
def test_speech_recogniser(build: Build, folder_of: Callable[[Maker], Path], more: str) -> None:
    right(build(foreign_hf.ctc, "{huggingface: model}", more=more), np.load(folder_of(foreign_hf.ctc) / "answers.npz"))


def test_speech_recogniser_by_its_task(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    tried = build(foreign_hf.ctc, "{huggingface: model, task: automatic-speech-recognition}")
    right(tried, np.load(folder_of(foreign_hf.ctc) / "answers.npz"))


def test_sound_into_classes(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    tried = build(foreign_hf.audio, "{huggingface: model}", more="metric: top1")
    right(tried, np.load(folder_of(foreign_hf.audio) / "answers.npz"))
    assert accuracy(tried) == 1.0


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_vision(build: Build, name: str) -> None:
    assert accuracy(build(foreign_hf.vision, f"{{huggingface: {name}}}", data=f"{name}.npz calib.npz", more="metric: top1")) == 1.0


def test_vision_with_its_size_said(build: Build) -> None:
    more = "metric: top1\ninputs: {pixel_values: {shape: [batch, 3, 32, 32]}}"
    assert accuracy(build(foreign_hf.vision, "{huggingface: vit}", data="vit.npz calib.npz", more=more)) == 1.0


@pytest.mark.parametrize("maker", ["gnn", "unet64", "seg_origsize", "nms"])
def test_inputs_that_cannot_be_invented(build: Build, folder_of: Callable[[Maker], Path], maker: str) -> None:
    made = getattr(foreign_graphs, maker)
    data = "eval.npz calib.npz" if (folder_of(made) / "calib.npz").exists() else "eval.npz"
    right(build(made, data=data, variants="auto"), folder_of(made) / "model.onnx")


def test_decoder_with_a_cache(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    right(build(foreign_torch.kv_decoder, variants="auto"), folder_of(foreign_torch.kv_decoder) / "model.onnx")


@pytest.mark.parametrize("data", ['"judge:data"', "eval.npz"])
@pytest.mark.parametrize("metric", ["top1", "f1"])
def test_tags_of_sentences(build: Build, data: str, metric: str) -> None:
    """One sentence a call or all padded to one length; -100 is no label."""
    assert accuracy(build(foreign_hf.tagger, "{huggingface: model}", data=data, more=f"metric: {metric}")) == 1.0


def test_tags_as_lists_beside_texts(build: Build) -> None:
    assert accuracy(build(foreign_hf.tagger, "{huggingface: model}", data="eval.jsonl", more="metric: top1")) == 1.0


def test_texts_for_a_tagger_without_tags(build: Build) -> None:
    tried = build(foreign_hf.tagger, "{huggingface: model}", data="texts.jsonl")
    assert tried.code == 0, tried.error


@pytest.mark.parametrize("task", ["", ", task: text-generation"])
def test_head_of_a_language_model(build: Build, folder_of: Callable[[Maker], Path], task: str) -> None:
    """The head is in the package, or the build asks which task is meant."""
    tried = build(foreign_hf.generator, f"{{huggingface: raw{task}}}")
    if tried.code == 2 and not task:
        assert "task" in tried.error
    else:
        right(tried, np.load(folder_of(foreign_hf.generator) / "answers.npz"))


def test_language_model_over_texts(build: Build) -> None:
    tried = build(foreign_hf.generator, "{huggingface: text}", data="eval.jsonl")
    assert tried.code == 0, tried.error
    assert all(call["logits"].shape[-1] == 256 for call in tried.float_answers)


@pytest.mark.parametrize("task", ["", ", task: text2text-generation"])
def test_encoder_decoder(build: Build, task: str) -> None:
    """Both graphs in a package, or a refusal before any work that says what to do."""
    tried = build(foreign_hf.translator, f"{{huggingface: model{task}}}", data="eval.jsonl")
    assert tried.code == 0 or (tried.code == 2 and "encoder" in tried.error and "decoder" in tried.error), tried.error


def test_reranker(build: Build) -> None:
    """Pairs are tokenised as pairs: its own scores come back."""
    tried = build(foreign_hf.reranker, "{huggingface: model}", data="eval.jsonl", more="metric: mae")
    assert abs(accuracy(tried)) < 1e-3
    assert any(np.any(call["token_type_ids"]) for call in tried.calls)


def test_reranker_by_arrays(build: Build) -> None:
    assert abs(accuracy(build(foreign_hf.reranker, "{huggingface: model}", more="metric: mae"))) < 1e-3


def test_reranker_is_not_judged_by_single_texts(build: Build) -> None:
    """A line of query and document is one pair for it, or is refused; never two texts."""
    tried = build(foreign_hf.reranker, "{huggingface: model}", data="pairs.jsonl")
    assert tried.code == 2 or (tried.code == 0 and len(tried.calls) == 40), tried.error


def test_tokenizer_of_a_vocabulary(build: Build) -> None:
    """`vocab.txt` alone, and labels by the names that the config gives the classes."""
    tried = build(foreign_hf.slow_tokenizer, "{huggingface: model}", data="eval.jsonl", more="metric: top1")
    assert accuracy(tried) == 1.0


@pytest.mark.parametrize(("data", "metric"), [("eval", "top1"), ("all", "top1"), ("eval", "f1")])
def test_classes_that_do_not_start_at_0(build: Build, folder_of: Callable[[Maker], Path], data: str, metric: str) -> None:
    """Judged by what the model says itself, or refused with a reason; never by another number."""
    tried = build(foreign_classical.ratings, data=f"{data}.npz", more=f"metric: {metric}")
    truth = float(np.load(folder_of(foreign_classical.ratings) / "answers.npz")[data])
    if tried.code == 2:
        assert "label" in tried.error
    else:
        assert accuracy(tried) == pytest.approx(truth, abs=0.002 if metric == "top1" else 0.03)


@pytest.mark.parametrize("data", ["eval", "words"])
def test_classes_that_are_words(build: Build, folder_of: Callable[[Maker], Path], data: str) -> None:
    tried = build(foreign_classical.animals, data=f"{data}.npz", more="metric: top1")
    truth = np.load(folder_of(foreign_classical.animals) / "answers.npz")
    assert accuracy(tried) == pytest.approx(float(truth["score"]), abs=0.011)
    said = np.concatenate([np.asarray(call["label"]).reshape(-1) for call in tried.float_answers])
    assert (said.astype("U") == truth["said"]).mean() > 0.99


@pytest.mark.parametrize("name", ["model", "zipmap"])
def test_words_among_the_outputs(build: Build, name: str) -> None:
    tried = build(foreign_classical.animals, f"{{onnx: {name}.onnx}}", data="eval.npz calib.npz", variants="auto")
    assert tried.code == 0, tried.error


def test_column_of_words(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    tried = build(foreign_classical.cities, more="metric: top1")
    truth = float(np.load(folder_of(foreign_classical.cities) / "answers.npz")["score"])
    assert accuracy(tried) == pytest.approx(truth, abs=0.004)


@pytest.mark.parametrize("name", ["model", "named"])
def test_nodes_without_names(build: Build, folder_of: Callable[[Maker], Path], name: str) -> None:
    """One node too small for int8 among those without names costs the others nothing."""
    tried = build(foreign_graphs.nameless, f"{{onnx: {name}.onnx}}", data="eval.npz calib.npz", variants="auto")
    right(tried, folder_of(foreign_graphs.nameless) / f"{name}.onnx")
    not_failed(tried, "int8")


def test_old_opset(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    """Opset 9: weights are not asked for, and int8 with a scale a channel is made all the same."""
    tried = build(foreign_graphs.old_opset, data="eval.npz calib.npz", variants="{fp32: [], int8: [quantize]}")
    right(tried, folder_of(foreign_graphs.old_opset) / "model.onnx")
    not_failed(tried, "int8")


@pytest.mark.parametrize("name", ["model", "newest", "functions"])
def test_new_opset(build: Build, folder_of: Callable[[Maker], Path], name: str) -> None:
    """The standard Attention is not com.microsoft's; files newer than the engine; local functions."""
    said = {"data": "eval.npz calib.npz", "more": "metric: cosine", "variants": "auto"}
    tried = build(foreign_graphs.new_opset, f"{{onnx: {name}.onnx}}", **said)
    assert tried.code == 0, tried.error
    not_failed(tried, "int8")
    if name != "newest":
        right(tried, folder_of(foreign_graphs.new_opset) / f"{name}.onnx")
    else:
        assert (
            tryout.difference(tried.float_answers, by_the_engine(folder_of(foreign_graphs.new_opset) / "model.onnx", tried.calls))
            <= SAME
        )


@pytest.mark.parametrize("name", ["model", "unk"])
def test_loop(build: Build, folder_of: Callable[[Maker], Path], name: str) -> None:
    right(
        build(foreign_graphs.loop_seq, f"{{onnx: {name}.onnx}}", variants="auto"),
        folder_of(foreign_graphs.loop_seq) / f"{name}.onnx",
    )


def test_names_that_trip_tools(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    tried = build(foreign_graphs.names, "{onnx: my model.onnx}", data="calls.npz", variants="auto")
    right(tried, folder_of(foreign_graphs.names) / "my model.onnx")
    not_failed(tried, "int8")


@pytest.mark.parametrize("name", ["model", "only"])
def test_weights_that_are_shared(build: Build, folder_of: Callable[[Maker], Path], name: str) -> None:
    """A table of two uses; a 3-d weight costs the others nothing."""
    tried = build(foreign_graphs.tied, f"{{onnx: {name}.onnx}}", variants="auto")
    right(tried, folder_of(foreign_graphs.tied) / f"{name}.onnx")
    not_failed(tried, "int8")


def test_dynamic_beside_a_convolution(build: Build) -> None:
    """The products are quantized, the one convolution stays float."""
    said = {"more": "inputs: {image: {shape: [batch, 3, 32, 32]}}", "data": "eval.npz calib.npz"}
    tried = build(foreign_torch.seer, '{torch: "nets:attention"}', variants="{fp32: [], dyn: [{quantize: dynamic}]}", **said)
    not_failed(tried, "dyn")
    notes = next(step["notes"] for step in tried.candidate("dyn")["steps"] if step["pass"] == "quantize")
    assert notes["quantized"]["MatMul"] + notes["quantized"].get("Gemm", 0) > 4
    assert notes["kept_float"]["Conv"] == 1


_METHODS = ", ".join(f"{name}: [{{quantize: {{method: static, calibration_method: {name}}}}}]" for name in ("minmax", "entropy"))


def test_one_broken_pixel_in_the_calibration_data(build: Build) -> None:
    """`entropy` is there for this."""
    said = {"more": "metric: top1", "variants": f"{{fp32: [], {_METHODS}}}"}
    tried = build(foreign_torch.calibrations, data="eval.npz outlier.npz", **said)
    assert accuracy(tried) > 0.9
    assert accuracy(tried, "entropy") > accuracy(tried) - 0.1
    assert "outlier" in json.dumps(tried.candidate("minmax")) or accuracy(tried, "minmax") > accuracy(tried) - 0.1


def test_nan_in_the_calibration_data(build: Build) -> None:
    tried = build(foreign_torch.calibrations, data="eval.npz nan.npz", more="metric: top1", variants="{fp32: [], int8: [quantize]}")
    assert tried.code in (0, 2)
    assert "NaN" in reasons(tried, "int8")
    assert "5" in reasons(tried, "int8")


@pytest.mark.parametrize("name", ["one", "zeros"])
def test_calibration_data_that_says_nothing(build: Build, name: str) -> None:
    """Said where its candidate is said, whatever comes of it."""
    said = {"more": "metric: top1", "variants": "{fp32: [], int8: [quantize]}"}
    tried = build(foreign_torch.calibrations, data=f"eval.npz {name}.npz", **said)
    assert tried.code == 0, tried.error
    assert "calibration" in json.dumps(tried.candidate("int8"))


def test_one_column_of_probabilities(build: Build, folder_of: Callable[[Maker], Path]) -> None:
    """f1 alone cannot know what the column is: it says so; with a threshold it is right."""
    tried = build(foreign_torch.binary, more="metric: f1")
    assert tried.code == 2
    assert "threshold" in tried.error
    tried = build(foreign_torch.binary, more="metric: {name: f1, output: p, threshold: 0.5}")
    kept = np.load(folder_of(foreign_torch.binary) / "eval.npz")
    (said,) = (
        np.concatenate([call["p"] for call in by_the_engine(folder_of(foreign_torch.binary) / "model.onnx", [{"x": kept["x"]}])]),
    )
    guessed, truth = said[:, 0] > 0.5, kept["labels"] == 1
    scores = [
        2 * (guessed & truth).sum() / (guessed.sum() + truth.sum()),
        2 * (~guessed & ~truth).sum() / ((~guessed).sum() + (~truth).sum()),
    ]
    assert accuracy(tried) == pytest.approx(np.mean(scores), abs=1e-3)


def test_second_head(build: Build) -> None:
    assert accuracy(build(foreign_torch.two_heads, more="metric: {name: top1, output: kind}")) == 1.0


def test_random_numbers_in_the_graph(build: Build) -> None:
    """Built, and the output that does not depend on them is right."""
    tried = build(foreign_graphs.noise, variants="auto")
    assert tried.code == 0, tried.error
    assert all("mean" in call for call in tried.float_answers)
