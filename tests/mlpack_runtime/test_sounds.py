"""WAV files of every form, other rates and channels, and what is refused; tasks for sounds over all forms of requests."""

from __future__ import annotations

import base64
import json
import math
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.support.runtime.functions import function
from tests.support.runtime.sounds import (
    RATIO,
    SOUND,
    TOKENS,
    Samples,
    chunk,
    file,
    form,
    hearing,
    logits,
    pcm,
    tone,
    wave,
)
from tests.support.runtime.url_hosts import PUBLIC, LocalNetwork, answered, serving

from mlpack.graphs import sounds
from mlpack_runtime import model
from mlpack_runtime.backend import open_backend
from mlpack_runtime.limits import Limits, RequestError
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
from mlpack_runtime.sounds.resampling import Filter
from mlpack_runtime.sounds.wave import decode, read_form
from mlpack_runtime.tasks.transcripts import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TONE = tone(0.5)
WAVE = wave(TONE)
FMT = chunk(b"fmt ", form(1, 16))
DATA = chunk(b"data", pcm(TONE))
SIXTEEN = np.frombuffer(pcm(TONE), "<i2") / np.float32(32768)


def samples(content: bytes) -> Samples:
    """[frames, channels] of a file, as the graph scales them."""
    read = decode(read_form(content, "audio"))
    kind = {"INT16": "<i2", "INT32": "<i4", "FP32": "<f4"}[read.samples.datatype]
    return (np.frombuffer(bytes(read.samples.data), kind).astype(np.float32) * np.float32(read.scale)).reshape(-1, read.channels)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("bits", "step"), [(8, 2**-7), (16, 2**-15), (24, 2**-23), (32, 2**-23)])
def test_pcm_is_read(bits: int, step: float, extensible: bool) -> None:
    head = chunk(b"fmt ", form(1, bits, extensible=extensible))
    read = samples(file(head, chunk(b"data", pcm(TONE, bits))))
    assert np.abs(read[:, 0] - TONE).max() <= step / 2 + 1e-7
    loud = samples(file(head, chunk(b"data", pcm(np.array([-1.0, 0.0, 0.5]), bits))))
    assert loud[:, 0].tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("bits", "kind"), [(32, "<f4"), (64, "<f8")])
def test_floats_are_read(bits: int, kind: str, extensible: bool) -> None:
    content = file(chunk(b"fmt ", form(3, bits, extensible=extensible)), chunk(b"data", TONE.astype(kind).tobytes()))
    assert (samples(content)[:, 0] == TONE).all()


def test_g711_is_read() -> None:
    """Numbers of ITU-T G.711, and every other value beside its formula."""

    def read(tag: int, *values: int) -> list[float]:
        return (samples(file(chunk(b"fmt ", form(tag, 8)), chunk(b"data", bytes(values))))[:, 0] * 32768).tolist()

    assert read(7, 0xFF, 0x7F, 0x00, 0x80, 0xFE, 0x7E, 0xEF) == [0, 0, -32124, 32124, 8, -8, 132]
    assert read(6, 0xD5, 0x55, 0x2A, 0xAA, 0xD4, 0x54, 0xC5) == [8, -8, -32256, 32256, 24, -24, 264]
    mu = np.array(read(7, *range(256)))
    formula = np.sign(np.arange(256) - 127.5) * (256.0 ** ((255 - np.arange(256) % 128 * 2) / 255) - 1) / 255 * 32124
    assert np.abs(mu - np.where(np.arange(256) < 128, -np.abs(formula), np.abs(formula))).max() < 0.05 * 32124
    assert (np.diff(mu[:128]) >= 0).all()
    assert (mu[128:] == -mu[:128]).all()
    a = np.array(read(6, *(value ^ 0x55 for value in range(256))))
    assert (np.diff(a[128:]) > 0).all()
    assert (a[128:] == -a[:128]).all()


def test_chunks_stand_in_any_order() -> None:
    odd = chunk(b"LIST", b"INFOISFT\x05\0\0\0abcde")
    assert len(odd) % 2 == 0
    for content in (
        file(odd, FMT, odd, DATA, odd),
        file(DATA, FMT),
        file(FMT, chunk(b"fact", bytes(4)), DATA),
        file(FMT, DATA) + b"tail",
    ):
        assert (samples(content)[:, 0] == SIXTEEN).all()
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(pcm(TONE)), 0, 0))
    large = file(ds64, FMT, chunk(b"data", pcm(TONE), 0xFFFFFFFF), odd, kind=b"RF64")
    assert (samples(large)[:, 0] == SIXTEEN).all()


def test_chunks_of_very_many_kinds_take_no_memory() -> None:
    def of(number: int) -> bytes:
        return file(FMT, b"".join(chunk(f"{at:04x}".encode(), b"") for at in range(number)), DATA)

    assert (samples(of(4000))[:, 0] == SIXTEEN).all()
    content = of(65_000)
    tracemalloc.start()
    with pytest.raises(RequestError, match=r"more than 4096 chunks") as caught:
        read_form(content, "audio")
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert caught.value.status == 413


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF - 44])
def test_lengths_that_were_not_known_yet(size: int) -> None:
    """What a recorder writes into a pipe."""
    content = b"RIFF" + struct.pack("<I", size) + b"WAVE" + FMT + chunk(b"data", pcm(TONE), size)
    assert (samples(content)[:, 0] == SIXTEEN).all()


@pytest.mark.parametrize("more", [8, 36, 44])
def test_headers_that_count_themselves(more: int) -> None:
    content = file(FMT, chunk(b"data", pcm(TONE), len(pcm(TONE)) + more))
    assert (samples(content)[:, 0] == SIXTEEN).all()


def test_a_moment_that_is_not_whole_is_left_out() -> None:
    content = file(chunk(b"fmt ", form(1, 16, 2)), chunk(b"data", pcm(TONE)[: 4 * 99 + 3]))
    assert samples(content).shape == (99, 2)


def test_bits_stand_at_the_top_of_their_bytes() -> None:
    twenty = chunk(b"fmt ", form(1, 20, size=3))
    assert samples(file(twenty, chunk(b"data", pcm(np.array([0.5]), 24))))[0, 0] == 0.5
    wide = chunk(b"fmt ", form(1, 24, size=4))
    assert samples(file(wide, chunk(b"data", pcm(np.array([-0.25]), 32))))[0, 0] == -0.25


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 415, "no WAV file"), (b"RIFF", 415, "no WAV file"), (b"fLaC0000", 415, "FLAC"), (b"OggS", 415, "Ogg"),
        (b"ID3\x03", 415, "MP3"), (b"\xff\xfb\x90d", 415, "MP3"), (b"\0\0\0 ftypM4A ", 415, "MP4"), (b"\x1aE\xdf\xa3", 415, "WebM"),
        (b"<html>", 415, "HTML"), (b"RIFX\0\0\0\0WAVE", 415, "large bytes first"), (b"RIFF\0\0\0\0AVI LIST", 415, "no WAV file"),
        (b"RIFF\0\0\0\0WAVE", 400, "no fmt chunk"), (file(FMT), 400, "no data chunk"), (file(DATA), 400, "no fmt chunk"),
        (file(chunk(b"fmt ", form(1, 16)[:14]), DATA), 400, "16 are needed"), (file(FMT, chunk(b"data", b"")), 400, "no samples"),
        (file(FMT, chunk(b"data", b"1")), 400, "no samples"), (WAVE[:-100], 400, "cut off"), (WAVE[:30], 400, "no fmt chunk"),
        (file(chunk(b"fmt ", form(2, 4, size=1)), DATA), 415, "ADPCM"), (file(chunk(b"fmt ", form(0x55, 16)), DATA), 415, "MP3"),
        (file(chunk(b"fmt ", form(0x1234, 16)), DATA), 415, "0x1234"),
        (file(chunk(b"fmt ", form(0xFFFE, 16)), DATA), 415, "extensible"),
        (file(chunk(b"fmt ", form(1, 16, 0)), DATA), 400, "0 channels"),
        (file(chunk(b"fmt ", form(1, 16, 33)), DATA), 400, "33 channels"),
        (file(chunk(b"fmt ", form(1, 16, rate=0)), DATA), 400, "at 0 Hz"),
        (file(chunk(b"fmt ", form(1, 64)), DATA), 400, "64 bits"),
        (file(chunk(b"fmt ", form(1, 0, size=2)), DATA), 200, ""), (file(chunk(b"fmt ", form(3, 16)), DATA), 400, "16 bits"),
        (WAVE.decode("utf-8", "replace").encode(), 400, "binaryMediaTypes"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_told(content: bytes, status: int, message: str) -> None:
    if status == 200:
        assert samples(content).shape == (8000, 1)
        return
    with pytest.raises(RequestError) as caught:
        read_form(content, "audio")
    assert (caught.value.status, message in str(caught.value)) == (status, True), str(caught.value)


def test_bytes_that_became_text_are_told() -> None:
    with pytest.raises(RequestError, match="binaryMediaTypes"):
        read_form(b"\xef\xbf\xbd" + WAVE, "audio")


def reference(values: Samples, old: int, new: int) -> Samples:
    """torchaudio's formula for every sample by itself, in double precision."""
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    base = min(old, new) * 0.99
    width = math.ceil(6 * old / base)
    number = math.ceil(new * len(values) / old)
    padded = np.pad(values.astype(np.float64), (width, width + old + 1))
    resampled = np.zeros(number)
    for at in range(number):
        first = at // new * old
        places = np.arange(-width, width + old)
        times = ((places / old - at % new / new) * base).clip(-6, 6)
        kernel = np.sinc(times) * np.cos(times * math.pi / 12) ** 2 * base / old
        resampled[at] = padded[first : first + len(places)] @ kernel
    return resampled


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """A service of each task."""
    opened = {}
    patch = pytest.MonkeyPatch()
    for name in ("audio-classification", "automatic-speech-recognition"):
        patch.setattr(model, "ROOT", str(hearing(tmp_path_factory.mktemp(name) / "package", name, memory_mb=256)))
        opened[name] = open_service()
    patch.undo()
    return opened


def ask(service: Service, body: object, status: int = 200, **headers: str) -> Any:
    """The answer over HTTP. A body that is no object is sent as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = service.http("POST", "/", {name.replace("_", "-"): value for name, value in headers.items()}, content)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled(services: dict[str, Service], rate: int) -> None:
    task: Any = services["automatic-speech-recognition"]._task
    values = tone(0.4, rate)
    content = wave(values, rate, bits=32)
    (heard,) = task.listener.hear([content], ["audio"])
    got, wanted = np.frombuffer(heard, "<f4"), reference(values, rate, 16_000)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-6


def test_channels_are_mixed_and_rates_have_a_ratio(services: dict[str, Service]) -> None:
    task: Any = services["automatic-speech-recognition"]._task
    stereo = np.stack([TONE, tone(0.5, seed=1)], axis=1)
    (heard,) = task.listener.hear([wave(stereo, bits=32)], ["audio"])
    assert np.abs(np.frombuffer(heard, "<f4") - stereo.mean(axis=1)).max() < 1e-6
    for rate in range(8000, 9000, 80):  # more than are kept
        (heard,) = task.listener.hear([wave(tone(0.1, rate), rate)], ["audio"])
        assert len(heard) == 4 * math.ceil(16_000 * (rate // 10) / rate)
    with pytest.raises(RequestError, match="no short ratio") as caught:
        Filter(44_101, 16_000)
    assert caught.value.status == 422


def test_labels_of_a_sound(services: dict[str, Service]) -> None:
    service = services["audio-classification"]
    numbers = logits(SIXTEEN).mean(axis=0)
    scores = np.exp(numbers) / np.exp(numbers).sum()
    names = ["u", "v", "w", "LABEL_3", "LABEL_4", "LABEL_5"]
    wanted = [{"label": names[at], "score": pytest.approx(scores[at], abs=1e-5)} for at in np.argsort(-scores)]
    assert ask(service, {"audio": text(WAVE)}) == {**wanted[0], "labels": wanted[:5]}
    assert ask(service, WAVE, content_type="audio/wav") == {**wanted[0], "labels": wanted[:5]}
    assert ask(service, {"inputs": text(WAVE), "parameters": {"top_k": "all"}}) == wanted
    two = ask(service, {"audios": [text(WAVE), {"url": f"data:audio/wav;base64,{text(wave(tone(0.7, seed=2)))}"}], "top_k": 1})
    assert two["results"][0] == {**wanted[0], "labels": wanted[:1]}
    assert two["results"][1] != two["results"][0]
    assert ask(service, {"audio": text(WAVE), "threshold": 2}) == {"label": None, "score": None, "labels": []}
    assert "at most 3 s" in ask(service, {"audio": text(wave(tone(3.1)))}, 413)["error"]
    assert "needs at least 0.025 s" in ask(service, {"audio": text(wave(tone(0.02)))}, 422)["error"]


def said(content: Samples) -> list[int]:
    return [int(at) for at in logits(content).argmax(axis=1)]


def transcript(tokens: list[int]) -> str:
    parts = [at for place, at in enumerate(tokens) if place == 0 or at != tokens[place - 1]]
    return "".join({0: "", 2: " "}.get(at, TOKENS[at]) for at in parts).strip()


def test_a_transcript(services: dict[str, Service]) -> None:
    service = services["automatic-speech-recognition"]
    wanted = transcript(said(SIXTEEN))
    assert ask(service, {"audio": text(WAVE)}) == {"text": wanted}
    assert ask(service, {"inputs": text(WAVE)}) == {"text": wanted}
    assert ask(service, {"inputs": [text(WAVE)]}) == [{"text": wanted}]
    assert ask(service, {"audios": [text(WAVE), text(WAVE)]}) == {"results": 2 * [{"text": wanted}]}
    form = b'--xx\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + WAVE
    form += b'\r\n--xx\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1'
    end, multipart = b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"  # as OpenAI's client sends it
    assert ask(service, form + end, content_type=multipart) == {"text": wanted}
    for name, value in ((b"timestamp_granularities[]", b"word"), (b"response_format", b"verbose_json")):
        form += b'\r\n--xx\r\ncontent-disposition: form-data; name="' + name + b'"\r\n\r\n' + value
    verbose = ask(service, form + end, content_type=multipart)
    assert (verbose["text"], verbose["duration"]) == (wanted, 0.5)
    assert [word["word"] for word in verbose["words"]] == wanted.split()
    numbers = {"array": SIXTEEN.tolist(), "sampling_rate": 16_000, "path": None}
    assert ask(service, {"audio": numbers}) == ask(service, {"inputs": [{"raw": numbers["array"], "sampling_rate": 16_000}]})[0]
    assert ask(service, {"audio": numbers}) == {"text": wanted}
    for wrong in (
        {"array": "x"},
        {"array": [["x"]]},
        {"array": []},
        {"array": [1e999]},
        {"sampling_rate": 1.5},
        {"sampling_rate": 10},
    ):
        assert ask(service, {"audio": {**numbers, **wrong}}, 400)
    timed = ask(service, {"audio": text(WAVE), "return_timestamps": True})
    assert timed["text"] == wanted
    assert " ".join(part["text"] for part in timed["chunks"]) == " ".join(wanted.split())
    letters = ask(service, {"audio": text(WAVE), "return_timestamps": "char"})["chunks"]
    assert "".join(part["text"] for part in letters).strip() == wanted
    starts = [part["timestamp"][0] for part in letters]
    assert starts == sorted(starts)
    assert letters[-1]["timestamp"][1] <= 0.5


def test_each_window_counts_in_the_log(services: dict[str, Service], capfd: pytest.CaptureFixture[str]) -> None:
    ask(services["automatic-speech-recognition"], {"audios": [text(wave(tone(7.3, seed=4))), text(WAVE)]})
    line = json.loads(capfd.readouterr().out)
    assert line["batch"] == 5
    assert set(line["stages_ms"]) >= {"decode", "preprocess", "infer", "postprocess"}


def test_long_sounds_are_read_in_windows(services: dict[str, Service]) -> None:
    service = services["automatic-speech-recognition"]
    long = np.frombuffer(pcm(tone(7.3, seed=4)), "<i2") / np.float32(32768)
    window, side = 48_000, 8_000
    tokens: list[int] = []
    for begin in range(0, len(long), window - 2 * side):
        piece = long[begin : begin + window]
        is_last = begin + window >= len(long)
        frames = said(piece)
        tokens += frames[side // RATIO if begin else 0 : round(len(piece) / RATIO) - (0 if is_last else side // RATIO)]
        if is_last:
            break
    content = text(wave(tone(7.3, seed=4)))
    assert ask(service, {"audio": content}) == {"text": transcript(tokens)}
    asked = {"audio": content, "chunk_length_s": 3, "stride_length_s": [0.5, 0.5]}
    assert ask(service, asked) == {"text": transcript(tokens)}
    assert ask(service, {**asked, "chunk_length_s": 2}) != {"text": transcript(tokens)}
    for wrong in ({"chunk_length_s": 0.5}, {"chunk_length_s": 9}, {"stride_length_s": 1.5}, {"stride_length_s": [1]},
                  {"stride_length_s": -1}, {"return_timestamps": "line"},
                  {"response_format": "srt"}, {"top_k": 1}, {"chunk_length_s": "x"}):  # fmt: skip
        assert ask(service, {"audio": content, **wrong}, 400)["error_type"] == "InvalidRequest"


@pytest.mark.parametrize("name", ["audio-classification", "automatic-speech-recognition"])
def test_requests_without_a_sound_are_told(services: dict[str, Service], name: str) -> None:
    service = services[name]
    for body, message in (({"audio": [text(WAVE)]}, "'audios'"), ({"audios": text(WAVE)}, "a list is needed"),
                          ({"audios": []}, "empty"), ({"audio": 7}, "is 7"), ({"audio": "?"}, "not base64"),
                          ({"audio": "https://a.example/"}, "fetches none"),
                          ({"text": "hello"}, '{"audio":')):  # fmt: skip
        assert message in ask(service, body, 400)["error"]
    large = wave(np.zeros((3_000_000, 2)), 384_000, bits=8)
    assert "MLPACK_LIMIT_SOUND_SAMPLES" in ask(service, {"audio": text(large)}, 413)["error"]
    assert "FLAC" in ask(service, {"audio": text(b"fLaC and more")}, 415)["error"]
    broken = file(chunk(b"fmt ", form(3, 32)), chunk(b"data", np.full(9000, np.nan, "<f4").tobytes()))
    assert "not finite" in ask(service, {"audio": text(broken)}, 422)["error"]
    tensors = {"inputs": {"input_values": [TONE.tolist()]}}
    assert [row["name"] for row in ask(service, tensors)["outputs"]] == ["logits", "scores"]


def test_every_entrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "sounds.example.org"
    urls = {"hosts": [host], "schemes": ["http"]}
    root = hearing(tmp_path / "package", "automatic-speech-recognition", urls=urls)
    handler: Callable[[Any], Any] = function(root, monkeypatch)
    wanted = {"text": transcript(said(SIXTEEN))}
    direct = handler({"audio": text(WAVE)})
    assert direct.pop("trace_id")
    assert direct == wanted
    event = {"requestContext": {"http": {"method": "POST"}}, "rawPath": "/", "headers": {"content-type": "audio/x-wav"}}
    assert json.loads(handler({**event, "body": text(WAVE), "isBase64Encoded": True})["body"]) == wanted
    with serving() as server:
        server.pages["/a.wav"] = answered(WAVE, content_type="audio/vnd.wave")
        monkeypatch.setattr("mlpack_runtime.fetching.download._INTERNET", LocalNetwork(server, {host: [PUBLIC]}))
        fetched = handler({"audio": {"url": f"http://{host}/a.wav"}})
    assert fetched["text"] == wanted["text"]


@pytest.mark.parametrize("name", ["audio-classification", "automatic-speech-recognition"])
def test_a_worker_answers_as_a_function_does(
    services: dict[str, Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = {"audios": [text(WAVE), text(wave(tone(0.7, seed=2))), text(WAVE)]}
    monkeypatch.setattr(model, "ROOT", str(hearing(tmp_path / "package", name)))
    loaded = model.load(lambda place, settings: open_backend(place, settings, lambda _: None))
    probed = probe(loaded, loaded.session)
    batcher = Batcher(loaded.session, probed.layout, max_batch=2, max_wait_s=0.0, breaker=Breaker(5, 1.0), sample=probed.sample)
    batcher.hold_to(loaded.limits)
    batcher.start()
    try:
        answers = ask(Service(loaded, Batched(loaded, batcher)), asked)["results"]
    finally:
        batcher.stop()
        loaded.session.close()
    for answer, wanted in zip(answers, ask(services[name], asked)["results"], strict=True):
        assert answer == {
            **wanted,
            **({"score": pytest.approx(wanted["score"]), "labels": answer["labels"]} if "score" in wanted else {}),
        }


HOOK = "def answer(outputs):\n    return {'frames': outputs['logits'].shape[1]}\n"


def test_a_hook_answers_for_one_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = hearing(tmp_path / "package", "automatic-speech-recognition", postprocess="sound_hook:answer")
    (root / "app/sound_hook.py").write_text(HOOK)
    monkeypatch.syspath_prepend(str(root / "app"))
    monkeypatch.setattr(model, "ROOT", str(root))
    service = open_service()
    assert ask(service, {"audio": text(WAVE)}) == {"frames": 24}
    assert "one by one" in ask(service, {"audios": [text(WAVE), text(WAVE)]}, 400)["error"]


def test_a_package_without_graphs_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = hearing(tmp_path / "package", "audio-classification")
    (root / "model/sounds/features.onnx").unlink()
    monkeypatch.setattr(model, "ROOT", str(root))
    with pytest.raises(model.ModelError, match=r"features.onnx is not there"):
        open_service()


def test_tokens_become_words() -> None:
    names = ["<pad>", "<unk>", "|", "A", "B", ".", "'", "N", "T"]
    settings = {"tokens": names, "unknown": "<unk>", "blank": "<pad>", "delimiter": "|", "space": " ", "lower": True, "clean": True}
    vocabulary = Vocabulary(settings)
    tokens = [0, 2, 2, 3, 3, 0, 3, 2, 0, 2, 4, 9, 2, 5, 0]
    parts = vocabulary.parts(tokens)
    assert parts == [(" ", 1, 3), ("A", 3, 5), ("A", 6, 7), (" ", 7, 8), (" ", 9, 10), ("B", 10, 11), ("<unk>", 11, 12),
                     (" ", 12, 13), (".", 13, 14)]  # fmt: skip
    assert vocabulary.text(parts) == "aa  b<unk>."
    assert vocabulary.words(parts) == [("AA", 3, 7), ("B<unk>", 10, 12), (".", 13, 14)]
    assert vocabulary.parts([]) == vocabulary.parts([0, 0]) == []
    assert (vocabulary.text([]), vocabulary.words([])) == ("", [])
    assert vocabulary.text(vocabulary.parts([3, 2, 7, 6, 8])) == "an't"


def test_graphs_are_the_same_on_every_machine() -> None:
    fbank = {"kind": "filter-banks", "input": "x", "dtype": "float32", "rate": 16_000, "normalize": True, "mels": 8, "frames": 9,
             "mean": -4.0, "std": 4.0, "least": 400}  # fmt: skip
    for sound in (SOUND, fbank):
        assert sounds.graphs(sound, "float16") == sounds.graphs(sound, "float16")
    assert "best.onnx" not in sounds.graphs(SOUND, None)
    assert Limits({}, {"memory_mb": 4800}).sound_samples == 100 * 2**20
