"""The packaged model: found, opened once, and asked.

Promises: everything is loaded by `load`, nothing later; predictions are the engine's, bit for bit; threads follow the memory that
the platform gives, because its CPU share does (1,769 MB is one vCPU on AWS Lambda) while `os.cpu_count()` does not.
Will not: know requests, JSON or the network.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import os
import sys

from mlpack_runtime import jsontext, ort
from mlpack_runtime.limits import Limits, RequestError, SettingsError
from mlpack_runtime.starting import Beside, settle, timed, tune_allocator
from mlpack_runtime.tensor import DATATYPES, Tensor, count, tensor
from mlpack_runtime.texts import PAIR_INPUT, TEXT_INPUT, characters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.backend import Backend
    from mlpack_runtime.texts import Text

    Opener = Callable[[str, Mapping[str, Any]], Backend | ort.Session]

SCHEMA = 1
MB_PER_VCPU = 1769  # AWS: "at 1,769 MB a function has the equivalent of one vCPU"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SHORT = 10_000
"""Characters of one text that is tokenized by itself. A batch starts the tokenizer's threads, but lets Python's own go on."""
_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}  # the library calls them so
PROBE_TEXTS = ("warm", "a somewhat longer text, so that two lengths are known")
"""What a text model is asked with, alone and together, to find out whether it answers rows each by itself."""


class ModelError(RuntimeError):
    """The package is incomplete or its parts do not belong together. The message says which file and why."""


class TextTokenizer:
    """The `tokenizers` package around one tokenizer.json: texts in, int64 tensors out, padded to the longest of the batch.
    A text may be a pair, which the tokenizer joins its own way.

    The padding is ours: the library would fill rows x longest before anybody could look at the product.

    `settings`: "file"; optional "max_length" in tokens; "pad_token" (else the file's own, [PAD] or <pad>); and "wordpiece":
    {"file": "vocab.txt", and WordPiece's own options}, a vocabulary of one word a line in the order of ids, when tokenizer.json
    holds only the special words. The library reads 30,000 words twice as fast from there as from JSON.
    """

    def __init__(self, directory: str, settings: "Mapping[str, Any]") -> None:
        """Load what model.json's "tokenizer" names, relative to `directory`. Raises ModelError."""
        extension = _tokenizers()
        path = os.path.join(directory, settings["file"])
        try:
            self.library = extension.Tokenizer.from_file(path)
            words = settings.get("wordpiece")
            if words:
                options = {key: value for key, value in words.items() if key != "file"}
                vocabulary = os.path.join(directory, words["file"])
                self.library.model = extension.models.WordPiece.from_file(vocabulary, **options)
        except BaseException as error:  # noqa: BLE001  (the extension raises bare Exception for any unreadable file, or panics)
            raise ModelError(f"cannot read the tokenizer {path}: {error}") from None
        if settings.get("max_length"):
            side = (self.library.truncation or {}).get("direction", "right")  # which end of a text is cut off
            self.library.enable_truncation(settings["max_length"], direction=side)
        padding = self.library.padding or self._padding(settings.get("pad_token"))
        self.library.no_padding()  # pad id, side and multiple stay the model's own; a fixed length does not
        self._multiple: int = padding.get("pad_to_multiple_of") or 1
        self.pad_left: bool = padding.get("direction") == "left"
        self.pads: dict[str, int] = {
            "input_ids": padding.get("pad_id", 0),
            "attention_mask": 0,
            "token_type_ids": padding.get("pad_type_id", 0),
        }
        """What stands where a text is shorter than its batch, by input."""

    def _padding(self, chosen: "str | None") -> "dict[str, Any]":
        for token in (chosen, "[PAD]", "<pad>"):
            number = self.library.token_to_id(token) if token else None
            if number is not None:
                return {"pad_id": number, "pad_token": token}
        return {}  # the attention mask hides whatever stands there

    def encode(self, texts: "list[Text]", names: "tuple[str, ...]") -> "dict[str, Tensor]":
        """`names` of input_ids, attention_mask, token_type_ids as [batch, longest] INT64."""
        return self.encode_within(texts, names, None) or {}

    def encode_within(self, texts: "list[Text]", names: "tuple[str, ...]", most: "int | None") -> "dict[str, Tensor] | None":
        """As `encode`; None where it would be more than `most` tokens. Raises RequestError for a text that has none: the engine
        fails on it alone, and beside others its answer would be made of their padding."""
        encodings = self._encodings(texts)
        lengths = [len(encoding) for encoding in encodings]
        if 0 in lengths:
            raise RequestError(
                "a text has no tokens: it is empty, or nothing of it is in the vocabulary, and this model's tokenizer adds none"
            )
        longest = -(-max(lengths, default=0) // self._multiple) * self._multiple
        shape = (len(lengths), longest)
        if most is not None and shape[0] * longest > most:
            return None
        if len(encodings) == 1 and longest == lengths[0]:  # one text, as most requests have: nothing is padded
            return {name: tensor(getattr(encodings[0], _COLUMNS[name]), "INT64", shape) for name in names}
        tensors = {}
        for name in names:
            values: list[int] = []
            pad = [self.pads[name]]
            for encoding, length in zip(encodings, lengths, strict=True):
                if self.pad_left:
                    values += pad * (longest - length)
                values += getattr(encoding, _COLUMNS[name])
                if not self.pad_left:
                    values += pad * (longest - length)
            tensors[name] = tensor(values, "INT64", shape)
        return tensors

    def _encodings(self, texts: "list[Text]") -> "list[Any]":
        text = texts[0] if len(texts) == 1 else None
        try:
            if type(text) is str and len(text) <= _SHORT:
                return [self.library.encode(text)]
            if type(text) is tuple and characters(text) <= _SHORT:
                return [self.library.encode(*text)]
            # Tasks that need places in their texts bring them as tokens.
            return texts if texts and type(texts[0]) not in (str, tuple) else self.library.encode_batch(texts)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust's, which is no Exception, and no reason not to start either
                raise
            raise RequestError(f"the tokenizer's library panics at this text: {error}", 500, "PanicException") from error

    def rows(self, texts: "list[Text]", names: "tuple[str, ...]") -> "list[dict[str, Tensor]]":
        """Each text by itself, as `encode` gives it: [1, its own length]."""
        return [self.encode([text], names) for text in texts]


class Described:
    """A package as model.json tells it. `inputs` and `outputs` are the graph's ports; `has_texts`: whether it tokenizes texts;
    `text_inputs`: the names under which its callers send them by the protocol."""

    def __init__(
        self, directory: str, settings: "Mapping[str, Any]", inputs: "tuple[ort.Port, ...]", outputs: "tuple[ort.Port, ...]"
    ) -> None:
        """Raises ModelError for a limit's variable that is no number."""
        self.directory = directory
        self.settings = settings
        self.inputs = inputs
        self.outputs = outputs
        self.name: str = settings["name"]
        self.version: str = settings["version"]
        self.variant: str = settings["variant"]
        self.target: str = settings["target"]
        self.has_texts = bool(settings.get("tokenizer"))
        paired = self.has_texts and settings["tokenizer"].get("pairs")
        self.text_inputs = (TEXT_INPUT, PAIR_INPUT) if paired else (TEXT_INPUT,) if self.has_texts else ()
        try:
            self.limits = Limits(os.environ, settings)
        except SettingsError as error:
            raise ModelError(str(error)) from None
        self.stages_ms: dict[str, float] = {}


class Model(Described):
    """A loaded package; `stages_ms` says where loading went."""

    def __init__(self, directory: str, settings: "Mapping[str, Any]", session: "ort.Session | Backend") -> None:
        super().__init__(directory, settings, session.inputs, session.outputs)
        self.session = session
        self.tokenizer: TextTokenizer | None = None
        self.portions: dict[str, int] | str | None = None  # what `portions` found out about the graph; None: nobody asked yet

    def predict(self, inputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Every output of the graph. Raises ort.OrtError."""
        return self.session.run(inputs)

    def tokenize(self, texts: "list[Text]") -> "dict[str, Tensor]":
        """The graph's inputs for these texts. Raises RequestError, and ModelError when the package has no tokenizer."""
        return self._texts().encode(texts, tuple(port.name for port in self.inputs))

    def tokenize_within(self, texts: "list[Text]") -> "dict[str, Tensor] | None":
        """As `tokenize`; None where it would be more than the engine is asked for at a time."""
        if len(texts) > 1 and sum(map(characters, texts)) > self.limits.text_chars:
            return None  # each is as long as one may be at most, but not all at once
        return self._texts().encode_within(texts, tuple(port.name for port in self.inputs), self.limits.engine_tokens)

    def _texts(self) -> TextTokenizer:
        if self.tokenizer is None:
            raise ModelError(f"model {self.name!r} has no tokenizer: send its tensors, not texts")
        return self.tokenizer

    def tokens(self, inputs: "Mapping[str, Tensor]") -> int:
        """Rows x length of a text model's call; 0 for any other model, whose axes mean something else."""
        shapes = [made.shape for made in inputs.values()] if self.has_texts else []
        return max((shape[0] * shape[1] for shape in shapes if len(shape) > 1), default=0)

    def predict_texts(self, texts: "list[Text]") -> "dict[str, Tensor]":
        """Every output of the graph for these texts, as one batch."""
        return self.session.run(self.tokenize(texts))

    def warm(self) -> None:
        """Run once on an invented input (one text, or zeros with 1 for every free axis). A model that refuses it stays cold."""
        try:
            if self.tokenizer is not None:
                self.predict_texts(["warm"])
                return
            feeds, least = {}, ((self.settings.get("task") or {}).get("sound") or {}).get("least", 1)
            for port in self.inputs:  # a sound of one sample has no frame
                shape = tuple(size if type(size) is int else least if at else 1 for at, size in enumerate(port.shape))
                feeds[port.name] = Tensor(port.datatype, shape, bytes(count(shape) * DATATYPES[port.datatype][1]))
            self.predict(feeds)
        except (ort.OrtError, RequestError):
            return


def tokenizer_digest(directory: str, settings: "Mapping[str, Any]") -> bytes:
    """Of what makes tokens of texts: a recipe may change it for the same model, whose version stays. `settings`: "tokenizer"."""
    from hashlib import sha256

    digest = sha256(jsontext.dumps(sorted(settings.items())).encode())
    for name in (settings.get("file"), (settings.get("wordpiece") or {}).get("file")):
        if name:
            with open(os.path.join(directory, name), "rb") as stream:
                digest.update(sha256(stream.read()).digest())
    return digest.digest()


def directory() -> str:
    """Where model.json is: MLPACK_MODEL_DIR, or `model` in the function's code, or beside this package. Raises ModelError."""
    chosen = os.environ.get("MLPACK_MODEL_DIR")
    roots = [os.environ.get("LAMBDA_TASK_ROOT"), ROOT]
    places = [chosen] if chosen else [os.path.join(root, "model") for root in roots if root]
    for place in places:
        if os.path.isfile(os.path.join(place, "model.json")):
            return place
    raise ModelError(f"no model.json in {' or '.join(places)}: was the package unpacked whole, and its layer attached?")


def has_several(place: str) -> bool:
    """Whether the package has several models, of which `place` holds the list."""
    return os.path.isdir(os.path.join(os.path.dirname(place), "models"))


def first(place: str) -> str:
    """Where the model is that a process loads first: `place`, or that of the default one of several."""
    if not has_several(place):
        return place
    return os.path.join(os.path.dirname(place), "models", read_settings(place)["default"])


def threads(memory_mb: float) -> int:
    """Engine threads for this much memory: one for each vCPU that comes with it, at least one."""
    return max(1, round(memory_mb / MB_PER_VCPU))


def load(opener: "Opener | None" = None, at: "str | None" = None) -> Model:
    """Open the package in this process, or the model of the directory `at`, behind the backend of `opener` where there is one
    (`backend.open_backend`), else straight behind the CPU engine. Raises ModelError, ort.OrtError, and BackendError where `opener`
    does."""
    stages: dict[str, float] = {}
    tune_allocator()
    place = at or timed(stages, "find", directory)
    settings = timed(stages, "settings", lambda: read_settings(place))
    tokenizer = Beside(lambda: timed(stages, "tokenizer", lambda: _tokenizer(place, settings)))
    if settings.get("tokenizer"):
        tokenizer.start()
    try:
        if opener is None:
            engine = timed(stages, "engine", lambda: ort.Engine(library("lib/libonnxruntime.so", "the engine")))
            session = timed(stages, "session", lambda: open_session(engine, place, settings))
        else:
            session = timed(stages, "session", lambda: opener(place, settings))
        if settings.get("weights"):
            stages["weights"] = _weights().settle(place)
            stages["session"] -= stages["weights"]
    finally:
        tokenizer.wait()
        settle()
    model = Model(place, settings, session)
    try:
        model.tokenizer = tokenizer.result()
        _check(model)
    except BaseException:
        session.close()
        raise
    model.stages_ms = stages
    return model


def describe(at: "str | None" = None) -> Described:
    """What the package (that `at` a directory) says of itself, without its engine and its graph, which need not be there. Raises
    ModelError."""
    place = at or directory()
    path, settings = os.path.join(place, "model.json"), read_settings(place)
    return Described(place, settings, _ports(path, settings, "inputs"), _ports(path, settings, "outputs"))


def _ports(path: str, settings: "Mapping[str, Any]", key: str) -> "tuple[ort.Port, ...]":
    names = {row[3]: name for name, row in DATATYPES.items()}
    try:
        return tuple(ort.Port(port["name"], names[port["dtype"]], tuple(port["shape"])) for port in settings[key])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: {key} is no list of ports with name, dtype and shape ({error!r}): rebuild the package") from None


def _check(model: Model) -> None:
    known = ("input_ids", "attention_mask", "token_type_ids")
    if model.tokenizer is None:
        return
    for port in model.inputs:
        if port.name not in known or port.datatype != "INT64":
            raise ModelError(f"the graph's input {port.name!r} ({port.datatype}) is not from a tokenizer: INT64 {', '.join(known)}")


def read_settings(place: str) -> "dict[str, Any]":
    """model.json of the directory `place`. Raises ModelError."""
    path = os.path.join(place, "model.json")
    try:
        with open(path, "rb") as stream:
            settings = jsontext.loads(stream.read())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from None
    if type(settings) is not dict or settings.get("schema") != SCHEMA:
        found = settings.get("schema") if type(settings) is dict else None
        raise ModelError(f"{path} has schema {found!r}; this runtime reads schema {SCHEMA}: rebuild the package")
    for key in ("name", "version", "variant", "target", "graph"):
        if type(settings.get(key)) is not str:
            raise ModelError(f"{path} has no {key!r}")
    return settings


def open_session(
    engine: ort.Engine,
    place: str,
    settings: "Mapping[str, Any]",
    provider: "Callable[[ort.Engine, Any], None] | None" = None,
) -> ort.Session:
    """The graph that `settings` (model.json) names, with the threads that the memory pays for; `provider` as ort.Session's.
    Weights outside the package are waited for. Raises OrtError, and ModelError where they cannot be had."""
    if settings.get("weights"):
        try:
            provider = _weights().provider(place, settings["weights"], provider)
        except RuntimeError as error:
            raise ModelError(str(error)) from None
    told = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or settings.get("memory_mb") or MB_PER_VCPU
    try:
        memory_mb = float(told)
    except (TypeError, ValueError):
        raise ModelError(f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE, or memory_mb in model.json, is no number of MB: {told!r}") from None
    return ort.Session(
        engine,
        os.path.join(place, settings["graph"]),
        threads=threads(memory_mb),
        level=settings.get("graph_optimization_level", 99),
        config=settings.get("session"),
        provider=provider,
    )


def _weights() -> "Any":
    """The module that gives sessions their weights: no other package has it."""
    __import__("mlpack_runtime.remote.start")
    return sys.modules["mlpack_runtime.remote.start"]


def _tokenizer(place: str, settings: "Mapping[str, Any]") -> "TextTokenizer | None":
    return TextTokenizer(place, settings["tokenizer"]) if settings.get("tokenizer") else None


def library(relative: str, what: str) -> str:
    """Where a file of the package is: beside this package, or in the function's code. Raises ModelError."""
    task = os.environ.get("LAMBDA_TASK_ROOT")
    places = [os.path.join(root, relative) for root in (ROOT, task) if root]
    for path in places:
        if os.path.exists(path):
            return path
    raise ModelError(f"{what} is not in {' or '.join(places)}: was the package unpacked whole, and its layer attached?")


def _tokenizers() -> "Any":
    """The extension module of the `tokenizers` package alone: its Python files import `typing` and `enum` and add nothing here."""
    name = "tokenizers"
    if name not in sys.modules:
        from _imp import create_dynamic, exec_dynamic
        from importlib.machinery import ExtensionFileLoader, ModuleSpec  # already loaded by every interpreter

        path = library("site/tokenizers/tokenizers.abi3.so", "the tokenizer's library")
        if os.path.exists(os.path.join(os.path.dirname(path), "__init__.py")):  # hooks brought it whole, and may import it
            name = "tokenizers.tokenizers"
            if name in sys.modules:
                return sys.modules[name]
        spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
        try:
            module = create_dynamic(spec)
            exec_dynamic(module)
        except ImportError as error:
            raise ModelError(f"cannot load {path}: {error}. Is it built for this machine and Python?") from None
        sys.modules[name] = module
    return sys.modules[name]
