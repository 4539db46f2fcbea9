"""Which task an architecture's name stands for, which directories are asked about, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack.passes.export import tasks


def said(architecture: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": architecture.partition("For")[0].lower(), **more}


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertModel", "feature-extraction"), ("T5EncoderModel", "feature-extraction"), ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"), ("BertForMaskedLM", "fill-mask"), ("XLMWithLMHeadModel", "fill-mask"),
        ("BertForSequenceClassification", "text-classification"), ("Wav2Vec2ForSequenceClassification", "audio-classification"),
        ("HubertForSequenceClassification", "audio-classification"), ("WavLMForXVector", "audio-xvector"),
        ("ASTForAudioClassification", "audio-classification"), ("Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("Data2VecAudioForAudioFrameClassification", "audio-frame-classification"),
        ("DeiTForImageClassificationWithTeacher", "image-classification"), ("YolosForObjectDetection", "object-detection"),
        ("SegformerForSemanticSegmentation", "semantic-segmentation"), ("RobertaForMultipleChoice", "multiple-choice"),
        ("CLIPVisionModelWithProjection", "feature-extraction"), ("CLIPModel", "feature-extraction"),
        ("LongformerForQuestionAnswering", "question-answering"), ("Swin2SRForImageSuperResolution", "image-to-image"),
    ],
)  # fmt: skip
def test_the_task_follows_the_architectures_name(architecture: str, task: str) -> None:
    config = said(architecture)
    assert tasks.refusal(config, None) is None
    assert tasks.task_of(config, None, pooled=False) == task
    assert tasks.own(config, task)


def test_timms_repositories_have_the_wrappers_task() -> None:
    config: dict[str, Any] = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 8, 8]}}
    assert (tasks.refusal(config, None), tasks.task_of(config, None, pooled=False)) == (None, "image-classification")
    assert tasks.own(config, "image-classification")
    assert tasks.task_of({**config, "num_classes": 0}, None, pooled=False) == "feature-extraction"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (said("BertForPreTraining"), "fill-mask"), ({}, "names no architecture"), ({"architectures": []}, "names no architecture"),
        ({"architectures": [7]}, "names no architecture"), (said("GPT2DoubleHeadsModel"), "GPT2DoubleHeadsModel"),
        (said("PatchTSTForPrediction"), "PatchTSTForPrediction"), ({"architectures": "BertModel"}, "names no architecture"),
    ],
)  # fmt: skip
def test_an_unknown_head_is_asked_about(config: dict[str, Any], words: str) -> None:
    refused = tasks.refusal(config, None)
    assert refused is not None
    assert words in refused
    assert "export: {task: ...}" in refused
    assert tasks.refusal(config, "feature-extraction") is None
    assert tasks.refusal(config, None, pooled=True) is None


@pytest.mark.parametrize(
    "config",
    [
        said("T5ForConditionalGeneration", is_encoder_decoder=True), said("BartModel", is_encoder_decoder=True),
        said("WhisperForConditionalGeneration", is_encoder_decoder=True), said("T5Model", is_encoder_decoder=True),
        said("VisionEncoderDecoderModel"), said("SpeechEncoderDecoderModel"), said("MarianMTModel", is_encoder_decoder=True),
        said("LlavaForConditionalGeneration"), said("MBartForConditionalGeneration", is_encoder_decoder=True),
    ],
)  # fmt: skip
def test_encoder_decoders_are_refused_with_what_to_do(config: dict[str, Any]) -> None:
    refused = tasks.refusal(config, None)
    assert refused is not None
    assert "Encoder-decoder models are not supported" in refused
    assert tasks.refusal(config, "text2text-generation") is not None


def test_what_an_encoder_decoder_can_be_is_taken() -> None:
    assert tasks.refusal(said("BartForSequenceClassification", is_encoder_decoder=True), None) is None
    assert tasks.refusal(said("T5EncoderModel", is_encoder_decoder=True), None) is None
    assert tasks.refusal(said("WhisperForAudioClassification", is_encoder_decoder=True), None) is None
    assert tasks.refusal(said("T5ForConditionalGeneration", is_encoder_decoder=True), "feature-extraction") is None


def test_a_task_that_does_not_exist_is_named_with_the_nearest() -> None:
    refused = tasks.refusal(said("BertModel"), "text-clasification")
    assert refused is not None
    assert "text-classification" in refused
    assert tasks.refusal(said("BertModel"), "sequence-classification") is None


def test_a_sound_models_text_classification_is_its_own() -> None:
    config = said("Wav2Vec2ForSequenceClassification")
    assert tasks.task_of(config, "text-classification", pooled=False) == "audio-classification"
