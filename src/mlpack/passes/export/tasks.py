"""The task of a Hugging Face directory, from the name of the architecture in its config.json. Pure.

Promises:
- A head is never dropped in silence. A name that ends like one of `_HEADS` has that task, a bare model or encoder gives
  features, and any other name is refused with a question (`refusal`).
- A model that generates text with an encoder and a decoder is refused here, before anything is exported.
- It imports no framework, since `mlpack plan` calls it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack.core.entrypoint import suggestion

FEATURES = "feature-extraction"
GENERATION = "text-generation"
WITH_PAST = "-with-past"
GENERATED = ("text2text-generation", "image-to-text", "image-text-to-text", "text-to-audio")
"""Tasks of models with an encoder and a decoder, run in turns."""

_HEADS: tuple[tuple[str, str], ...] = (
    ("ForCausalLM", GENERATION),
    ("WithLMHeadModel", "fill-mask"),
    ("LMHeadModel", GENERATION),
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForQuestionAnsweringSimple", "question-answering"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForNextSentencePrediction", "next-sentence-prediction"),
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
    ("ForVideoClassification", "video-classification"),
    ("ForMaskedImageModeling", "masked-im"),
    ("ForSemanticSegmentation", "semantic-segmentation"),
    ("ForUniversalSegmentation", "image-segmentation"),
    ("ForInstanceSegmentation", "image-segmentation"),
    ("ForObjectDetection", "object-detection"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForImageSuperResolution", "image-to-image"),
    ("ForKeypointDetection", "keypoint-detection"),
    ("ForPoseEstimation", "keypoint-detection"),
    ("ForCTC", "automatic-speech-recognition"),
    ("ForAudioClassification", "audio-classification"),
    ("ForAudioFrameClassification", "audio-frame-classification"),
    ("ForXVector", "audio-xvector"),
    ("ForSpeechSeq2Seq", "text2text-generation"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("EncoderDecoderModel", "text2text-generation"),
)
_BARE = ("Model", "EncoderModel", "Encoder", "ModelWithProjection", "Transformer", "Backbone")

AUTO: Mapping[str, str] = {
    FEATURES: "AutoModel",
    GENERATION: "AutoModelForCausalLM",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "image-classification": "AutoModelForImageClassification",
    "video-classification": "AutoModelForVideoClassification",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
    "masked-im": "AutoModelForMaskedImageModeling",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
    "image-segmentation": "AutoModelForUniversalSegmentation",
    "object-detection": "AutoModelForObjectDetection",
    "depth-estimation": "AutoModelForDepthEstimation",
    "image-to-image": "AutoModelForImageToImage",
    "keypoint-detection": "AutoModelForKeypointDetection",
    "automatic-speech-recognition": "AutoModelForCTC",
    "audio-classification": "AutoModelForAudioClassification",
    "audio-frame-classification": "AutoModelForAudioFrameClassification",
    "audio-xvector": "AutoModelForAudioXVector",
}
"""transformers' class for a task that is not the architecture's own."""

_SYNONYMS: Mapping[str, str] = {
    "default": FEATURES, "sentence-similarity": FEATURES, "masked-lm": "fill-mask", "causal-lm": GENERATION,
    "causal-lm-with-past": GENERATION + WITH_PAST, "sequence-classification": "text-classification", "seq2seq-lm":
    "text2text-generation", "sentiment-analysis": "text-classification", "ner": "token-classification", "translation":
    "text2text-generation", "summarization": "text2text-generation", "text-ranking": "text-classification",
    "zero-shot-classification": "text-classification", "audio-ctc": "automatic-speech-recognition",
    "speech2seq-lm": "text2text-generation", "vision2seq-lm":
    "image-to-text", "default-with-past": FEATURES,
}  # fmt: skip
_AUDIO = ("wav2vec2", "hubert", "wavlm", "unispeech", "sew", "data2vec-audio", "whisper", "audio-spectrogram-transformer", "clap",
          "mctct", "seamless", "mimi", "encodec")  # fmt: skip


def architecture(described: Mapping[str, Any]) -> str:
    """The first of config.json's `architectures`, empty where it names none. timm's repositories name transformers' class for none
    of their models: it wraps them all."""
    listed = described.get("architectures")
    if listed is None and isinstance(described.get("pretrained_cfg"), dict) and isinstance(described.get("architecture"), str):
        return "TimmWrapperForImageClassification" if described.get("num_classes", 1) else "TimmWrapperModel"
    return str(listed[0]) if isinstance(listed, list) and listed and isinstance(listed[0], str) else ""


def of_architecture(described: Mapping[str, Any]) -> str | None:
    """The task that the architecture's name stands for; None for an unknown one."""
    name, kind = architecture(described), str(described.get("model_type", ""))
    task = next((task for suffix, task in _HEADS if name.endswith(suffix)), None)
    if task == "text-classification" and kind.startswith(_AUDIO):
        return "audio-classification"
    if task is None and "For" not in name and "Head" not in name and name.endswith(_BARE):
        return FEATURES
    return task


def normalised(task: str) -> str:
    """The name that a task has here: libraries have several names for some."""
    return _SYNONYMS.get(task, task)


def task_of(described: Mapping[str, Any], task: str | None, *, pooled: bool) -> str:
    """The task of a directory that `refusal` accepts. `pooled`: a sentence-transformers directory."""
    if task is not None:
        task = normalised(task)
        # text-classification is what transformers' own class is called for sounds as well.
        own = of_architecture(described)
        return own if own == "audio-classification" and task == "text-classification" else task
    return FEATURES if pooled else of_architecture(described) or FEATURES


def own(described: Mapping[str, Any], task: str) -> bool:
    """Whether the architecture's own class is the one for this task."""
    return of_architecture(described) == task.removesuffix(WITH_PAST)


def encoder_decoder(described: Mapping[str, Any]) -> bool:
    """Whether the model has a decoder that an encoder feeds."""
    name = architecture(described)
    if name.endswith(("EncoderModel", "Encoder")) and not name.endswith("EncoderDecoderModel"):
        return False
    return described.get("is_encoder_decoder") is True or name.endswith("EncoderDecoderModel")


def refusal(described: Mapping[str, Any], requested: str | None, *, pooled: bool = False) -> str | None:
    """The reason why this directory cannot be exported as requested, and what to do; None if it can."""
    name, task = architecture(described), None if requested is None else normalised(requested)
    if task is not None and task not in GENERATED and task.removesuffix(WITH_PAST) not in AUTO:
        tasks = tuple(AUTO)
        return f"there is no task {requested!r}{suggestion(task, tasks)} (known: {', '.join(tasks)})"
    if task is None and not pooled:
        task = of_architecture(described)
        if task is None:
            return _ask(name)
    if task in GENERATED or (task == "automatic-speech-recognition" and encoder_decoder(described)):
        return _two_graphs(name, encoder_decoder(described))
    if requested is None and not pooled and task == FEATURES and encoder_decoder(described):
        return _two_graphs(name, True)
    return None


def _ask(name: str) -> str:
    if not name:
        return (
            "config.json names no architecture, so nothing says which head the model has. Say it: source: {huggingface: ..., task: "
            f"...}} or export: {{task: ...}}, with one of {', '.join(AUTO)} ({FEATURES} is the model without a head)"
        )
    likely = ["fill-mask", "next-sentence-prediction"] if name.endswith("PreTraining") else list(AUTO)[1:]
    return (
        f"config.json names the architecture {name}, whose head is not known here, and a head is never dropped in silence. Say "
        f"the task: source: {{huggingface: ..., task: ...}} or export: {{task: ...}}, with one of {', '.join(likely)}, or "
        f"{FEATURES} for the model without its head; or export the model yourself and give the ONNX file"
    )


def _two_graphs(name: str, has_encoder: bool) -> str:
    alone = (
        f" Its encoder alone can be built (vectors of a text or a sound): source: {{huggingface: ..., task: {FEATURES}}}, or save "
        "it by itself (T5EncoderModel, ...)." if has_encoder else ""
    )  # fmt: skip
    return (
        f"{name or 'the model'} generates step by step from an encoder and a decoder, or from pictures and texts: several graphs "
        f"that a loop runs in turns, and a package runs one graph a request. Encoder-decoder models are not supported.{alone} "
        "Otherwise export encoder and decoder yourself and build each ONNX file as a package of its own"
    )
