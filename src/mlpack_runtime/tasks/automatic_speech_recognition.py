"""Speech recognition by models that say a token a frame (CTC): sounds to texts, with the times of words or letters.

Promises: the texts and times of transformers' own pipeline, without a language model. A sound that is longer than a window is read
in windows that overlap, as the pipeline does with `chunk_length_s`; it is never cut off.
"""

from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.tasks.requests import Asked, choice, ignored, number
from mlpack_runtime.tasks.sounds import Heard, SoundTask
from mlpack_runtime.tasks.transcripts import Vocabulary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.sounds import Ask
    from mlpack_runtime.tensor import Tensor

    Window = tuple[int, int, int, int]

_FLOAT_BYTES = 4
_SHARE = 6
"""A side's overlap is this part of a window, as in transformers."""
_SHORTEST_S = 1.0


def _timestamps(name: str, value: "Any") -> "str | None":
    if value is False:
        return None
    if value is True:  # which names the granularity only for Whisper
        return "word"
    granularity: str = choice("word", "char")(name, value)
    return granularity


def _sides(name: str, value: "Any") -> "tuple[float, float]":
    sides = value if type(value) is list else [value, value]
    if len(sides) != 2:
        raise RequestError(f"{name!r} is {quoted(value)}; seconds are needed, or a list of two")
    left, right = (number(name, side) for side in sides)
    if left < 0 or right < 0:
        raise RequestError(f"{name!r} is {quoted(value)}; seconds of 0 or more are needed")
    return left, right


class SpeechRecognition(SoundTask):
    """Sounds to texts."""

    parameters = {  # noqa: RUF012  (as every task has it)
        "return_timestamps": _timestamps,
        "chunk_length_s": number,
        "stride_length_s": _sides,
        "response_format": choice("json", "verbose_json"),
        # OpenAI's: what a model of one language, which takes no prompt, has no use for
        "timestamp_granularities": ignored,
        "model": ignored,
        "language": ignored,
        "prompt": ignored,
        "temperature": ignored,
    }
    synonyms = {"timestamp_granularities[]": "timestamp_granularities"}  # noqa: RUF012

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output, or the package no graphs for sounds."""
        super().__init__(model, settings)
        self._vocabulary = Vocabulary(settings["vocabulary"])
        self._ratio: int = settings["ratio"]

    def read(self, value: "dict[str, Any]", call: "Call", asked: Asked) -> None:
        """Sounds, at the model's rate."""
        asked.parameters["windows"] = self._cut(asked.parameters)
        super().read(value, call, asked)

    def one(self, samples: memoryview, asked: Asked, ask: "Ask") -> "tuple[Any, Mapping[str, Tensor]]":
        """The tokens of one sound's frames."""
        name, tokens = self.settings["output"], list[int]()
        outputs: Mapping[str, Tensor] = {}
        for begin, end, left, right in self._windows(len(samples) // _FLOAT_BYTES, asked.parameters):
            outputs = ask(self.listener.inputs(samples[begin * _FLOAT_BYTES : end * _FLOAT_BYTES]))
            said = self.listener.tokens(outputs[name], name)
            total = round((end - begin) / self._ratio)
            # As transformers has it, whose roundings are its own.
            first, last = round(left / (end - begin) * total), total - round(right / (end - begin) * total)
            tokens += said[first:last] if left or right or begin else said
        return tokens, outputs

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"text"}`, with `chunks` where times are asked for; `{"results"}` of several; a list for a list of `inputs`."""
        del outputs  # what was made of each is kept
        asked: Asked = call.asked
        heard: Heard = asked.rest
        results = [self._transcript(*each, asked.parameters) for each in zip(heard.results, heard.sounds, strict=True)]
        return self.answered(results, asked)

    def _transcript(self, tokens: "list[int]", samples: memoryview, taken: "Mapping[str, Any]") -> "dict[str, Any]":
        parts, times = self._vocabulary.parts(tokens), taken.get("return_timestamps")
        transcript: dict[str, Any] = {"text": self._vocabulary.text(parts)}
        if taken.get("response_format") == "verbose_json":
            words, rate = self._vocabulary.words(parts), self.listener.rate / self._ratio
            transcript["duration"] = len(samples) / _FLOAT_BYTES / self.listener.rate
            transcript["words"] = [{"word": word, "start": first / rate, "end": behind / rate} for word, first, behind in words]
        if times is not None:
            chunks = self._vocabulary.words(parts) if times == "word" else parts
            rate = self.listener.rate
            transcript["chunks"] = [
                {"text": text, "timestamp": [first * self._ratio / rate, behind * self._ratio / rate]}
                for text, first, behind in chunks
            ]
        return transcript

    def _cut(self, taken: "Mapping[str, Any]") -> "tuple[int, int, int]":
        """A window and what it shares with its neighbours on both sides, in samples of whole frames. Raises RequestError."""
        most_s = self.settings["window_s"]
        window_s = taken.get("chunk_length_s") or most_s
        if not min(_SHORTEST_S, most_s) <= window_s <= most_s:
            raise RequestError(
                f"'chunk_length_s' is {window_s:g}; {_SHORTEST_S:g} to {most_s:g} s are read at a time here (serve.sound.window)"
            )
        left_s, right_s = taken.get("stride_length_s") or (window_s / _SHARE, window_s / _SHARE)
        window, left, right = (round(each * self.listener.rate / self._ratio) * self._ratio for each in (window_s, left_s, right_s))
        if window <= left + right:
            raise RequestError(
                f"'stride_length_s' is {left_s:g} and {right_s:g} of windows of {window_s:g} s, which leaves nothing between"
            )
        return window, left, right

    def _windows(self, frames: int, taken: "Mapping[str, Any]") -> "Iterator[Window]":
        """(begin, end, samples that the window before has, samples that the one behind has)."""
        window, left, right = taken["windows"]
        if frames <= self.window and not taken.get("chunk_length_s"):
            yield 0, frames, 0, 0
            return
        for begin in range(0, frames, window - left - right):
            end, before = min(begin + window, frames), left if begin else 0
            is_last = begin + window >= frames
            if end - begin > before:
                yield begin, end, before, 0 if is_last else right
            if is_last:
                return


TASK = SpeechRecognition
