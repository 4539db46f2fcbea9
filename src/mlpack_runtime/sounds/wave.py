"""WAV files: their samples as a tensor that a graph reads, without a loop over them. Pure.

Promises: PCM of 8, 16, 24 and 32 bits, floats of 32 and 64, mu-law and A-law, also as WAVE_FORMAT_EXTENSIBLE and RF64, chunks in
any order. A header that was written before the length was known (0 or very large) is read to the end of the file; a length that is
larger than what came is refused, because the upload was cut off. What is no WAV is told by its name.

Sources: Microsoft, Multimedia Programming Interface and Data Specifications 1.0; RFC 2361; EBU Tech 3306 (RF64); ITU-T G.711.
"""

from array import array
from struct import unpack_from

from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.tensor import Tensor

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_NAMES = {2: "Microsoft's ADPCM", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3", 0xFF: "AAC", 0x161: "WMA"}
_GUID = bytes.fromhex("000000001000800000aa00389b71")
"""The end of an extensible format's GUID; before it is the tag that an ordinary header would have."""
_UNKNOWN_BYTES = 0x7FFF_0000
"""A length from here on was not known when it was written: 0x7FFFFFFF, 0xFFFFFFFF, and what is left of them after a header."""
_HEAD_BYTES = 64
"""What a header may say too much: some writers count the header as samples."""
_MOST_CHUNKS = 4096
"""Of a file. Editors and broadcasters write some dozen."""
_LEAST_HZ, _MOST_HZ = 1_000, 768_000
_CHANNELS = 32
_OTHERS = (
    (b"fLaC", 0, "a FLAC file"), (b"OggS", 0, "an Ogg file"), (b"ID3", 0, "an MP3 file"), (b"ftyp", 4, "an MP4 or M4A file"),
    (b"\x1aE\xdf\xa3", 0, "a WebM or Matroska file"), (b"FORM", 0, "an AIFF file"), (b".snd", 0, "an AU file"),
    (b"RIFX", 0, "a WAV file with the large bytes first"), (b"#!AMR", 0, "an AMR file"), (b"\xff\xd8\xff", 0, "a JPEG"),
    (b"\x89PNG", 0, "a PNG"), (b"<", 0, "HTML or XML"), (b"{", 0, "JSON"),
)  # fmt: skip


class Wave:
    """Samples, those of one moment side by side. `samples`: INT16, INT32 or FP32 [frames x channels]; `scale`: what makes numbers
    from -1 to 1 of them."""

    __slots__ = ("channels", "samples", "scale")

    def __init__(self, channels: int, samples: Tensor, scale: float) -> None:
        self.channels = channels
        self.samples = samples
        self.scale = scale


class Form:
    """What a WAV file's header says. `size`: bytes of a sample of one channel; `data`: the samples' bytes."""

    __slots__ = ("channels", "data", "rate", "size", "tag")

    def __init__(self, tag: int, channels: int, rate: int, size: int, data: memoryview) -> None:
        self.tag = tag
        self.channels = channels
        self.rate = rate
        self.size = size
        self.data = data

    @property
    def samples(self) -> int:
        """How many there are, of all channels: whole moments."""
        return len(self.data) // (self.size * self.channels) * self.channels


def read_form(content: bytes, name: str) -> Form:
    """The header of a file, and where its samples are.

    Args:
        content: The file.
        name: What it is called in the request, for messages.

    Raises:
        RequestError: 415 for another kind of file, 400 for one that is cut off or contradicts itself.
    """
    if content[:4] not in (b"RIFF", b"RF64", b"BW64") or content[8:12] != b"WAVE":
        raise _no_wave(content, name)
    chunks = _chunks(memoryview(content), name)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise RequestError(
            f"the WAV file in {name!r} has no {'data' if b'fmt ' in chunks else 'fmt'} chunk: it is cut off or damaged"
        )
    tag, channels, rate, size = _format(chunks[b"fmt "], name)
    data = chunks[b"data"]
    if len(data) < size * channels:
        raise RequestError(f"the WAV file in {name!r} has no samples")
    return Form(tag, channels, rate, size, data)


def of_numbers(value: "dict[str, object]", name: str) -> Form:
    """Samples as JSON has them, `{"array": [...], "sampling_rate": 16000}`, as the `datasets` library and pipelines do.

    Raises:
        RequestError: They are no numbers, or their rate is none.
    """
    numbers, rate = value.get("array", value.get("raw")), value["sampling_rate"]
    if type(rate) is not int or not _LEAST_HZ <= rate <= _MOST_HZ:
        raise RequestError(f"the 'sampling_rate' of {name!r} is {quoted(rate)}; Hz from {_LEAST_HZ} to {_MOST_HZ} are needed")
    try:
        samples = array("f", numbers if type(numbers) is list else [])
    except (TypeError, OverflowError):
        samples = array("f")
    if not samples:
        raise RequestError(f"the 'array' of {name!r} is {quoted(numbers)}; a list of numbers is needed, for one channel")
    return Form(_FLOAT, 1, rate, samples.itemsize, memoryview(samples).cast("B"))


def decode(form: Form) -> Wave:
    """The samples of a file."""
    data = form.data[: form.samples * form.size]
    if form.tag == _FLOAT:
        floats = data if form.size == 4 else memoryview(array("f", data.cast("d")))
        return _wave(form, "FP32", floats.cast("B"), 1.0)
    if form.tag in (_ALAW, _MULAW):
        wide = bytearray(2 * len(data))
        low, high = _law(form.tag)
        wide[0::2], wide[1::2] = bytes(data).translate(low), bytes(data).translate(high)
        return _wave(form, "INT16", wide, 2.0**-15)
    if form.size == 2:
        return _wave(form, "INT16", data, 2.0**-15)
    if form.size == 4:
        return _wave(form, "INT32", data, 2.0**-31)
    if form.size == 1:  # without a sign: 128 is silence
        wide = bytearray(2 * len(data))
        wide[1::2] = bytes(data).translate(_WITH_SIGN)
        return _wave(form, "INT16", wide, 2.0**-15)
    wide = bytearray(4 * (len(data) // 3))
    wide[1::4], wide[2::4], wide[3::4] = data[0::3], data[1::3], data[2::3]
    return _wave(form, "INT32", wide, 2.0**-31)


def _wave(form: Form, datatype: str, data: "bytearray | memoryview", scale: float) -> Wave:
    return Wave(form.channels, Tensor(datatype, (form.samples,), data), scale)


def _chunks(view: memoryview, name: str) -> "dict[bytes, memoryview]":
    """The first chunk of each kind that is read."""
    chunks: dict[bytes, memoryview] = {}
    at, told, number = 12, -1, 0
    while at + 8 <= len(view):
        number += 1
        if number > _MOST_CHUNKS:
            raise RequestError(
                f"the WAV file in {name!r} has more than {_MOST_CHUNKS} chunks, which no ordinary writer makes: save it anew",
                413,
                "PayloadTooLarge",
            )
        kind, size = bytes(view[at : at + 4]), unpack_from("<I", view, at + 4)[0]
        begin, rest = at + 8, len(view) - at - 8
        if kind == b"ds64" and size >= 16 and rest >= 16:
            told = unpack_from("<Q", view, begin + 8)[0]
        if kind == b"data":
            if size == 0xFFFF_FFFF and 0 < told < 1 << 62:
                size = told
            if size >= _UNKNOWN_BYTES or (size == 0 and not _follows(view, begin)):
                size = rest
        if kind == b"data" and 0 < size - rest <= _HEAD_BYTES:
            size = rest
        if size > rest:
            if kind == b"data":
                raise RequestError(f"the WAV file in {name!r} is cut off: it says {size} bytes of samples, and {rest} came")
            break
        if kind in (b"fmt ", b"data"):  # of others a file may have as many kinds as it has bytes
            chunks.setdefault(kind, view[begin : begin + size])
        at = begin + size + size % 2
    return chunks


def _follows(view: memoryview, at: int) -> bool:
    """Whether another chunk, or nothing, is there. Behind a data chunk of no length there may be samples instead."""
    if at + 8 > len(view):
        return True
    kind, size = bytes(view[at : at + 4]), unpack_from("<I", view, at + 4)[0]
    return (kind.isalnum() and size <= len(view) - at - 8) or kind in (b"fmt ", b"LIST", b"bext")


def _format(chunk: memoryview, name: str) -> "tuple[int, int, int, int]":
    """Tag, channels, rate, and bytes of a sample."""
    if len(chunk) < 16:
        raise RequestError(f"the WAV file in {name!r} has a fmt chunk of {len(chunk)} bytes; 16 are needed")
    tag, channels, rate, _, block, bits = unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or bytes(chunk[26:40]) != _GUID:
            raise RequestError(
                f"the WAV file in {name!r} has an extensible format that is not read here", 415, "UnsupportedMediaType"
            )
        tag = unpack_from("<H", chunk, 24)[0]
    size = -(-bits // 8)
    if channels and block % channels == 0 and block // channels > size:
        size = block // channels  # 20 bits in four bytes, say: they stand at the top
    sizes = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8), _ALAW: (1,), _MULAW: (1,)}.get(tag)
    if sizes is None:
        what = _NAMES.get(tag, f"format {tag:#06x}")
        raise RequestError(f"the WAV file in {name!r} holds {what}: {_ADVICE}", 415, "UnsupportedMediaType")
    if size not in sizes or not 1 <= channels <= _CHANNELS or not _LEAST_HZ <= rate <= _MOST_HZ:
        raise RequestError(
            f"the WAV file in {name!r} says {channels} channels of {bits} bits at {rate} Hz; 1 to {_CHANNELS} channels at"
            f" {_LEAST_HZ} to {_MOST_HZ} Hz are read, of {', '.join(str(8 * each) for each in sizes)} bits"
        )
    return tag, channels, rate, size


_ADVICE = "send PCM, such as ffmpeg -i FILE -ac 1 -c:a pcm_s16le OUT.wav makes it"


def _no_wave(content: bytes, name: str) -> RequestError:
    from mlpack_runtime.media import refuse_text

    refuse_text(content, "sound")
    mp3 = len(content) > 1 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0
    known = next(
        (what for magic, at, what in _OTHERS if content[at : at + len(magic)] == magic), "an MP3 or AAC file" if mp3 else None
    )
    what = f"is {known}" if known else f"begins with {quoted(content[:8].hex(' '))}, which is no WAV file"
    return RequestError(f"the sound in {name!r} {what}; WAV files are read here: {_ADVICE}", 415, "UnsupportedMediaType")


_WITH_SIGN = bytes(value ^ 0x80 for value in range(256))


def _law(tag: int) -> "tuple[bytes, bytes]":
    """The low and the high bytes of G.711's numbers."""
    numbers = [_a_law(value) if tag == _ALAW else _mu_law(value) for value in range(256)]
    return bytes(number & 0xFF for number in numbers), bytes(number >> 8 & 0xFF for number in numbers)


def _mu_law(value: int) -> int:
    value ^= 0xFF
    number = (((value & 0x0F) << 3) + 0x84 << (value >> 4 & 7)) - 0x84
    return -number if value & 0x80 else number


def _a_law(value: int) -> int:
    value ^= 0x55
    segment, number = value >> 4 & 7, (value & 0x0F) << 4
    number = number + 8 if segment == 0 else number + 0x108 << segment - 1
    return number if value & 0x80 else -number
