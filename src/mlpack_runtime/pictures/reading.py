"""A picture file's bytes to its pixels, as Hugging Face's pipelines read it: turned as its EXIF data say, the first frame, RGB.

Promises: how many pixels there are is compared with the limit before memory is taken for them, and how many parts a file has before
they are read (`parts`); what is damaged, cut off or of another format is refused with a sentence. Large pictures are read one at a
time, so that memory for one is memory for all threads.
Will not: import anything of Pillow before a picture comes, or more of it than the picture's format needs, which of most JPEGs is
the extension alone (`planes`).

Sources: transformers' `load_image`; Exif 2.32, 4.6.4 (orientation); RFC 9649 (WebP); Pillow's plug-ins.
"""

import sys
from _thread import allocate_lock

from mlpack_runtime import hooks, media
from mlpack_runtime.limits import RequestError, too_large, variable
from mlpack_runtime.pictures import parts
from mlpack_runtime.pictures.planes import Pixels, jpeg_header, jpeg_pixels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.limits import Limits
    from mlpack_runtime.pictures.planes import Header

FORMATS = "JPEG, PNG, WebP and GIF"
_PLUGINS = {
    b"\xff\xd8\xff": ("JpegImagePlugin", "JpegImageFile"),
    b"\x89PNG": ("PngImagePlugin", "PngImageFile"),
    b"RIFF": ("WebPImagePlugin", "WebPImageFile"),
    b"GIF8": ("GifImagePlugin", "GifImageFile"),
}
"""By a file's first bytes. `Image.open` would import all that Pillow has, or five of them."""
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF's orientation to Pillow's transposition."""
_ORIENTATION = 0x0112
_SHARE = 64
"""A picture with more than this part of the pixels that one may have is read alone."""
_ONE = allocate_lock()
_PILLOWS_LIMIT = allocate_lock()
"""Whose it is to change: hooks may use Pillow, too."""
_READY: "dict[str, Any]" = {}


def pixels_of(data: bytes, name: str, limits: "Limits", work: "Callable[[Pixels], Pixels] | None" = None) -> Pixels:
    """A picture in RGB.

    Args:
        data: the file.
        name: what its sender calls it, for messages.
        limits: the package's.
        work: what makes it smaller, before another large picture may be read; its result is given back.

    Raises:
        RequestError: 400 for what cannot be read, 413 for more pixels or parts than one picture may have; what `work` raises.
    """
    media.refuse_text(data, "picture")
    row = _PLUGINS.get(data[:3]) or _PLUGINS.get(data[:4])
    if row is None or (data[:4] == b"RIFF" and data[8:12] != b"WEBP"):
        raise RequestError(f"{name!r} is no picture that is read here ({FORMATS}): it begins with {data[:8]!r}")
    if much := parts.too_many(data):
        raise RequestError(f"{name!r} has {much}, which no ordinary encoder writes: save it anew", 413, "PayloadTooLarge")
    header = jpeg_header(data) if data[:2] == b"\xff\xd8" else None
    if header is not None:
        size, decode = header.size, lambda: _from_jpeg(data, header)
    elif data[:4] == b"RIFF":  # opening one takes memory for a whole canvas
        size, decode = _size_of_webp(data), lambda: _from_plugin(_plugin(*row)(_stream(data)))
    else:
        opened = _safely(name, lambda: _opened(_plugin(*row), data, limits))
        size, decode = opened.size, lambda: _from_plugin(opened)
    _check(size, name, limits)
    is_large = size[0] * size[1] * _SHARE > limits.image_pixels
    if is_large:
        _ONE.acquire()
    try:
        pixels: Pixels = _safely(name, decode)
        return pixels if work is None else work(pixels)
    finally:
        if is_large:
            _ONE.release()


def _safely(name: str, work: "Callable[[], Any]") -> "Any":
    try:
        return work()
    except MemoryError:
        raise RequestError(f"{name!r} needs more memory than there is: send it smaller", 413, "PayloadTooLarge") from None
    except Exception as error:  # noqa: BLE001  (Pillow raises a dozen types for damaged files)
        if type(error).__name__ == "DecompressionBombError":  # a GIF's first frame, which may be larger than its canvas
            what = f"{name!r} has a first frame with more pixels than are taken here ({variable('image_pixels')})"
            raise RequestError(what, 413, "PayloadTooLarge") from None
        raise _damaged(name, error) from None


def _from_jpeg(data: bytes, header: "Header") -> Pixels:
    pixels, turn = jpeg_pixels(data, header), _TURNS.get(orientation_of(header.exif))
    return (pixels if turn is None else pixels.turned(turn)).convert("RGB")


def _from_plugin(opened: "Any") -> Pixels:
    opened.load()
    turn = _TURNS.get(_orientation(opened))
    turned = opened if turn is None else opened.transpose(turn)
    return Pixels(turned.convert("RGB").im)


def _damaged(name: str, error: Exception) -> RequestError:
    return RequestError(f"{name!r} is damaged or not whole: {error}" if str(error) else f"{name!r} is damaged or not whole")


def _check(size: "tuple[int, int]", name: str, limits: "Limits") -> None:
    width, height = size
    if width * height > limits.image_pixels:
        what = f"{name!r} has {width} x {height} pixels, which are"
        raise too_large("image_pixels", what, width * height, limits)
    if not width or not height:
        raise RequestError(f"{name!r} has {width} x {height} pixels")


def _stream(data: bytes) -> "Any":
    from io import BytesIO

    return BytesIO(data)


def _opened(plugin: "Any", data: bytes, limits: "Limits") -> "Any":
    """A file with its size known, and no pixels yet: but Pillow takes memory for a GIF's first frame, which may be larger than its
    canvas, and asks only its own limit before. The double of that is an error."""
    if data[:3] != b"GIF":
        return plugin(_stream(data))
    pillow: Any = sys.modules["PIL.Image"]
    with _PILLOWS_LIMIT:
        before, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, limits.image_pixels
        try:
            return plugin(_stream(data))
        finally:
            pillow.MAX_IMAGE_PIXELS = before


def _plugin(module: str, name: str) -> "Any":
    if name not in _READY:
        hooks.extend_path()
        __import__(f"PIL.{module}")
        sys.modules["warnings"].filterwarnings(
            "ignore", module=r"PIL\."
        )  # of odd palettes and EXIF, which would be bare lines in a log
        _READY[name] = getattr(sys.modules[f"PIL.{module}"], name)
    return _READY[name]


def _orientation(opened: "Any") -> int:
    """1 to 8; 1 where nothing says it. Pillow's own reading of EXIF imports its TIFF plug-in, a third of its cold start."""
    info = opened.info
    exif = info.get("exif")
    if type(exif) is bytes:
        turn = orientation_of(exif)
        if turn:
            return turn
    if "Raw profile type exif" in info or any(b"tiff:Orientation" in _bytes(info.get(key)) for key in _XMP):
        turn = opened.getexif().get(_ORIENTATION, 1)
        return turn if type(turn) is int else 1
    return 1


_XMP = ("xmp", "XML:com.adobe.xmp")


def _bytes(value: object) -> bytes:
    return value if type(value) is bytes else value.encode("utf-8", "replace") if type(value) is str else b""


def orientation_of(exif: bytes) -> int:
    """The orientation in EXIF data; 0 where they do not say it, or are damaged."""
    body = exif[6:] if exif[:6] == b"Exif\0\0" else exif
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(body[:4])
    if order is None:
        return 0

    def number(at: int, size: int) -> int:
        return int.from_bytes(body[at : at + size], order)  # type: ignore[arg-type]

    start = number(4, 4)
    for at in range(start + 2, min(start + 2 + 12 * number(start, 2), len(body) - 11), 12):
        if number(at, 2) == _ORIENTATION and number(at + 2, 2) == 3 and number(at + 4, 4) == 1:
            return number(at + 8, 2)
    return 0


def _size_of_webp(data: bytes) -> "tuple[int, int]":
    """Width and height by the first chunk; 1 x 1 for what is none, which its decoder refuses."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    kind = data[12:16]
    if kind == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if kind == b"VP8L":
        bits = number(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF) if kind == b"VP8 " else (1, 1)
