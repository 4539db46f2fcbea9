"""The metric that a first recipe proposes: one that sees the model's job, by its outputs or architecture and the labels there are.

Promises: top1 and f1 only for classifiers with labels to hold them against, agreement only where the largest value is a
decision; where the job cannot be told, fidelity, which sees every channel. What had to be guessed is said beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Signature, TensorSpec
from mlpack.core.text.sinks import yaml_text
from mlpack.recipe.first.labels import Kind, Labels, words_in

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_DECISIONS = {"Softmax", "LogSoftmax", "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier", "Normalizer"}
_PASSED = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "ZipMap"}
_NORMALIZED = "LpNormalization"
_LENGTH_PASSED = {"Clip", "Max", "Add", "Expand", "Sqrt", "Identity", "Unsqueeze", "Reshape"}
_LENGTH_NODES = 6
_LOGIT_WORDS = {"logit", "logits"}
_CLASS_WORDS = {"prob", "probs", "probability", "probabilities", "class", "classes", "softmax", "label", "labels"} | _LOGIT_WORDS
_VECTOR_WORDS = {"embedding", "embeddings", "embed", "embeds", "pooler", "pooled", "pooling", "feature", "features"}
_LARGEST_DECIDES = ("CausalLM", "MaskedLM", "LMHeadModel", "CTC", "QuestionAnswering", "NextSentencePrediction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """`metric` as a recipe has it (one line of YAML), why, and the accuracy that may be lost, in its unit; None: not known."""

    metric: str
    why: str
    drop: float | None = 0.01


FIDELITY = Proposal(metric="fidelity", why="of each channel to the float model's, by its own scale; the worst counts", drop=0.02)
_AGREEMENT = Proposal(metric="agreement", why="with the float model's decisions, because the data has no labels", drop=0.02)
_COSINE = Proposal(metric="cosine", why="to the float model's vectors; recall_at_1 where labels say what belongs together")
_TOP1 = "share of samples whose largest output is the label"
_ITS_OWN = "share of samples whose class, as the model says it, is the label"
ABSOLUTE = "mean absolute error, in the unit of the labels"
_RECALL = "share of queries with one of their own label among the five nearest"
_SEVERAL_METRIC = "{name: multilabel_f1, threshold: 0}"
_TOKENS = Proposal(metric="f1", why="macro F1 over the tokens; those labelled -100 do not count")


_SEVERAL = Proposal(metric=_SEVERAL_METRIC, why="macro F1 of the classes whose logit is above 0: a sample has several")
_MAPS = Proposal(metric="mean_iou", why="mean over the classes of intersection over union; labels of the output's size")


def of_spread(labels: Labels) -> float | None:
    """A loss in the labels' own unit: a fiftieth of their spread."""
    return float(f"{0.02 * labels.spread:.1g}") if labels.spread > 0 else None


def keyed(name: str, **keys: str) -> str:
    """`{name: f1, output: p, threshold: 0.5}`, or the bare name."""
    return name if not keys else "{" + ", ".join(f"{key}: {value}" for key, value in ({"name": name} | keys).items()) + "}"


# --- ONNX -------------------------------------------------------------------------------------------------------------


def for_onnx(model: ModelProto, signature: Signature, labels: Labels) -> Proposal:
    """For a graph, by the shapes and names of its outputs and by what makes them."""
    outputs = _Outputs(signature=signature, makers=_makers(model))
    by_kind = {
        Kind.CLASSES: _for_classes,
        Kind.NAMES: _for_names,
        Kind.NUMBERS: _for_numbers,
        Kind.TOKENS: _for_tokens,
        Kind.FLAGS: _for_flags,
        Kind.MAPS: _for_maps,
        Kind.BOXES: _for_boxes,
        Kind.UNKNOWN: _for_unknown,
    }
    return by_kind.get(labels.kind, _for_none)(outputs, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outputs:
    """A graph's outputs by what they may hold. `makers`: the operator that computes each, behind those that only reshape."""

    signature: Signature
    makers: Mapping[str, str]

    @property
    def direct(self) -> list[TensorSpec]:
        """A class a sample: whole numbers or strings."""
        return [o for o in self.signature.outputs if not _real(o) and o.dtype != "bool" and _single(o)]

    @property
    def wide(self) -> list[TensorSpec]:
        """A row of columns a sample."""
        return [o for o in self.signature.outputs if _real(o) and len(o.shape) == 2 and o.shape[1] != 1]

    @property
    def single(self) -> list[TensorSpec]:
        """One number a sample."""
        return [o for o in self.signature.outputs if _real(o) and _single(o)]

    def decides(self, output: TensorSpec) -> bool:
        """Whether the largest column is a decision, as far as can be seen."""
        return self.makers.get(output.name) in _DECISIONS or bool(words_in(output.name) & _CLASS_WORDS)

    def vector(self, output: TensorSpec) -> bool:
        return bool(words_in(output.name) & _VECTOR_WORDS) or self.makers.get(output.name) == _NORMALIZED

    @property
    def vectors(self) -> bool:
        """Whether nothing comes out but embeddings, as far as can be seen."""
        return bool(self.wide) and len(self.wide) == len(self.signature.outputs) and all(map(self.vector, self.wide))

    def named(self, metric: str, output: TensorSpec, **more: str) -> str:
        """The metric, with the output where the graph has several."""
        several = {"output": yaml_text(output.name)} if len(self.signature.outputs) > 1 else {}
        return keyed(metric, **several, **more)


def _real(output: TensorSpec) -> bool:
    return output.dtype.startswith(("float", "bfloat"))


def _single(output: TensorSpec) -> bool:
    return len(output.shape) == 1 or (len(output.shape) == 2 and output.shape[1] == 1)


def _makers(model: ModelProto) -> dict[str, str]:
    nodes = {name: node for node in model.graph.node for name in node.output}
    operators = {}
    for output in model.graph.output:
        node = nodes.get(output.name)
        for _ in range(len(_PASSED)):
            if node is None or node.op_type not in _PASSED or not node.input:
                break
            node = nodes.get(node.input[0], node)
        operators[output.name] = "" if node is None else _NORMALIZED if _normalizes(node, nodes) else node.op_type
    return operators


def _normalizes(node: NodeProto, makers: Mapping[str, NodeProto]) -> bool:
    """Whether this is a division by a vector's own length, as exporters write it."""
    if node.op_type != "Div" or len(node.input) != 2:
        return False
    below, rooted = makers.get(node.input[1]), False
    for _ in range(_LENGTH_NODES):
        if below is None or not below.input:
            return False
        rooted = rooted or below.op_type == "Sqrt"
        if below.op_type == "ReduceL2" or (rooted and below.op_type in ("ReduceSumSquare", "ReduceSum")):
            return True
        if below.op_type not in _LENGTH_PASSED:
            return False
        below = makers.get(below.input[0])
    return False


def _for_classes(outputs: _Outputs, labels: Labels) -> Proposal:
    if outputs.vectors:
        return _recall(outputs)
    fits = [o for o in outputs.wide if isinstance(o.shape[1], str) or set(labels.classes) <= set(range(o.shape[1]))]
    if len(outputs.direct) == 1 and len(outputs.wide) <= 1 and not outputs.single:
        return Proposal(metric="top1", why=_ITS_OWN)
    if fits:
        best = next((o for o in fits if outputs.decides(o)), fits[0])
        why = _TOP1 if len(fits) == 1 else f"{_TOP1}; others fit too: is this the one?"
        return Proposal(metric=outputs.named("top1", best), why=why)
    if outputs.single and set(labels.classes) <= {0, 1}:
        best = outputs.single[0]
        probable = outputs.makers.get(best.name) == "Sigmoid" or bool(words_in(best.name) & _CLASS_WORDS - _LOGIT_WORDS)
        what = "a probability" if probable else "a logit; 0.5 if it is a probability"
        metric = outputs.named("f1", best, threshold="0.5" if probable else "0")
        return Proposal(metric=metric, why=f"macro F1 of above and below the threshold, taken for {what}")
    return _for_numbers(outputs, labels) if outputs.single else FIDELITY


def _recall(outputs: _Outputs) -> Proposal:
    return Proposal(metric=outputs.named("recall_at_5", outputs.wide[0]), why=_RECALL)


def _for_names(outputs: _Outputs, labels: Labels) -> Proposal:
    if outputs.direct:
        return Proposal(metric=outputs.named("top1", outputs.direct[0]), why=_ITS_OWN)
    if outputs.vectors:
        return _recall(outputs)
    fits = [o for o in outputs.wide if o.shape[1] == len(labels.classes)]
    if not fits:
        return FIDELITY
    names = f"[{', '.join(yaml_text(str(name)) for name in labels.classes)}]"
    why = f"{_TOP1}; the order of the classes is guessed: is it the model's?"
    return Proposal(metric=outputs.named("top1", fits[0], classes=names), why=why)


def _for_numbers(outputs: _Outputs, labels: Labels) -> Proposal:
    fits = [o for o in outputs.signature.outputs if _real(o) and (_width(o) == labels.width or _open_row(o))]
    if not fits:
        return FIDELITY
    return Proposal(metric=outputs.named("mae", fits[0]), why=ABSOLUTE, drop=of_spread(labels))


def _open_row(output: TensorSpec) -> bool:
    """A row of columns a sample, of which the graph does not say how many."""
    return len(output.shape) == 2 and isinstance(output.shape[1], str)


def _width(output: TensorSpec) -> int | None:
    """Numbers a sample; None where that varies."""
    width = 1
    for axis in output.shape[1:]:
        if isinstance(axis, str):
            return None
        width *= axis
    return width


def _for_tokens(outputs: _Outputs, _labels: Labels) -> Proposal:
    fits = [o for o in outputs.signature.outputs if _real(o) and len(o.shape) == 3]
    if not fits:
        return FIDELITY
    return Proposal(metric=outputs.named("f1", fits[0]), why=_TOKENS.why)


def _for_flags(outputs: _Outputs, labels: Labels) -> Proposal:
    """A yes or no a column; of token classifiers a class a token, and of other widths numbers."""
    if any(_real(o) and len(o.shape) == 3 for o in outputs.signature.outputs):
        return _for_tokens(outputs, labels)
    fits = [o for o in outputs.wide if o.shape[1] == labels.width or isinstance(o.shape[1], str)]
    if fits:
        probable = outputs.makers.get(fits[0].name) == "Sigmoid"
        what = "probabilities" if probable else "logits; 0.5 if they are probabilities"
        metric = outputs.named("multilabel_f1", fits[0], threshold="0.5" if probable else "0")
        return Proposal(metric=metric, why=f"macro F1 of columns above the threshold, taken for {what}")
    flat = [o for o in outputs.signature.outputs if not _real(o) and len(o.shape) == 2 and o.shape[1] == labels.width]
    if flat:
        return Proposal(metric=outputs.named("multilabel_f1", flat[0]), why="macro F1 of the columns, as the model says them")
    return _for_numbers(outputs, labels)


def _for_maps(outputs: _Outputs, labels: Labels) -> Proposal:
    places = [o for o in outputs.signature.outputs if len(o.shape) == (4 if _real(o) else 3)]
    if not places:
        return _for_numbers(outputs, labels)
    ignored = {} if 255 in labels.classes or max(labels.classes, default=0) < 255 else {"ignore_index": str(max(labels.classes))}
    one = _real(places[0]) and 1 in places[0].shape[1:]
    threshold = {"threshold": "0.5" if outputs.makers.get(places[0].name) == "Sigmoid" else "0"} if one else {}
    metric = outputs.named("mean_iou", places[0], **threshold, **ignored)
    return Proposal(metric=metric, why="mean over the classes of intersection over union; places labelled 255 do not count")


def _for_boxes(outputs: _Outputs, _labels: Labels) -> Proposal:
    shapes = [o.shape[-1] for o in outputs.signature.outputs if o.shape]
    if shapes.count(4) == 1 and len(shapes) == 3:
        return Proposal(metric="map_50", why="mean average precision of boxes at an IoU of 0.5")
    return Proposal(
        metric=FIDELITY.metric, why=f"{FIDELITY.why}; map_50 with a decode hook sees the boxes (docs/recipe.md)", drop=FIDELITY.drop
    )


def _for_none(outputs: _Outputs, _labels: Labels) -> Proposal:
    if len(outputs.signature.outputs) == len(outputs.direct) or (outputs.wide and _all_decide(outputs)):
        return _AGREEMENT
    if outputs.vectors:
        return _COSINE
    more = "; agreement if it is a classifier" if outputs.wide else ""
    return Proposal(metric=FIDELITY.metric, why=FIDELITY.why + more, drop=FIDELITY.drop)


def _all_decide(outputs: _Outputs) -> bool:
    return len(outputs.wide) + len(outputs.direct) == len(outputs.signature.outputs) and all(map(outputs.decides, outputs.wide))


def _for_unknown(outputs: _Outputs, labels: Labels) -> Proposal:
    """There is no data yet: what its labels would be is told by what a classifier looks like."""
    decides = [o for o in outputs.wide if not outputs.vector(o) and isinstance(o.shape[1], int)]
    if len(outputs.wide) == 1 and decides and len(outputs.signature.outputs) == 1 + len(outputs.direct):
        return Proposal(metric="top1", why=_TOP1)
    return _for_none(outputs, labels)


# --- Hugging Face and torch -------------------------------------------------------------------------------------------


def for_huggingface(
    architectures: Sequence[str], config: Mapping[str, Any], labels: Labels, *, embeds: bool, texts: bool
) -> Proposal:
    """For a Hugging Face model, by the name of its architecture and the number of its classes."""
    head = next((name.rpartition("For")[2] for name in architectures), "")
    if embeds:
        return _for_vectors(labels, texts=texts)
    if head in ("SequenceClassification", "ImageClassification"):
        names_by_id = config.get("id2label")
        count = len(names_by_id) if isinstance(names_by_id, dict) else config.get("num_labels", 2)
        if config.get("problem_type") == "multi_label_classification" or labels.kind in (Kind.FLAGS, Kind.TOKENS):
            return _AGREEMENT if labels.kind is Kind.NONE else _SEVERAL
        if count == 1:
            numbers = labels.kind in (Kind.NUMBERS, Kind.CLASSES) and labels.spread > 0
            return Proposal(metric="mae", why=ABSOLUTE, drop=of_spread(labels)) if numbers else FIDELITY
        return _AGREEMENT if labels.kind is Kind.NONE else Proposal(metric="top1", why="share of samples classified as labelled")
    if head == "SemanticSegmentation":
        # Its classes are smaller maps than the pictures: labels have to be of that size.
        return _MAPS if labels.kind is Kind.MAPS else FIDELITY
    if head == "TokenClassification":
        return _AGREEMENT if labels.kind is Kind.NONE else _TOKENS
    if any(name.endswith(_LARGEST_DECIDES) for name in architectures):
        return Proposal(metric="agreement", why="with the float model's decisions, token by token", drop=0.02)
    return FIDELITY


def _for_vectors(labels: Labels, *, texts: bool) -> Proposal:
    if labels.kind in (Kind.CLASSES, Kind.NAMES):
        return Proposal(metric="recall_at_5", why=_RECALL)
    if texts and labels.kind in (Kind.PAIRS, Kind.UNKNOWN):
        return Proposal(metric="recall_at_1", why="share of queries whose own document is nearest")
    return _COSINE


def for_torch(labels: Labels) -> Proposal:
    """For a module of which nothing is seen but its weights: by the labels alone."""
    if labels.kind is Kind.TOKENS:
        return _TOKENS
    if labels.kind is Kind.FLAGS:
        return Proposal(metric=_SEVERAL_METRIC, why="macro F1 of columns above the threshold, taken for logits")
    if labels.kind is Kind.MAPS:
        return _MAPS
    if labels.kind is Kind.NUMBERS and labels.spread > 0:
        return Proposal(metric="mae", why=ABSOLUTE, drop=of_spread(labels))
    if labels.kind in (Kind.CLASSES, Kind.UNKNOWN):
        return Proposal(metric="top1", why=_TOP1)
    return FIDELITY
