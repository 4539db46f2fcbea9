"""Pixels in memory: Pillow's C extension without Pillow's Python, whose import would take longer than most pictures.

Promises: what Pillow's own `Image` computes, by the same functions. `PIL.Image` and a format's plug-in take 45 ms to import on one
core, the extension 2; so a package's first JPEG is answered without them. Will not: open files (`reading`).

The extension's functions are Pillow's own business and may change: the release is pinned (`wheel_rules`), and tests hold each of
these against `PIL.Image`.
"""

import sys

from mlpack_runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Size = tuple[int, int]

_DITHER = 3  # Pillow's default, which conversions to few colours alone look at


def core() -> "Any":
    """The extension. Raises ImportError where the package lacks it, which its build does not do."""
    if "PIL._imaging" not in sys.modules:
        hooks.extend_path()
        __import__("PIL._imaging")
    return sys.modules["PIL._imaging"]


class Pixels:
    """A picture in memory. `size`: width and height; `mode`: RGB, L for a plane of bytes, F for one of float32, CMYK."""

    __slots__ = ("im", "mode", "size")

    def __init__(self, im: "Any") -> None:
        self.im = im
        self.mode: str = im.mode
        self.size: Size = im.size

    def convert(self, mode: str) -> "Pixels":
        """In another mode."""
        return self if mode == self.mode else Pixels(self.im.convert(mode, _DITHER))

    def split(self) -> "list[Pixels]":
        """Each channel as a plane."""
        return [self] if self.im.bands == 1 else [Pixels(band) for band in self.im.split()]

    def resize(self, size: "Size", resample: int) -> "Pixels":
        """In another size, by one of Pillow's filters."""
        return self if size == self.size else Pixels(self.im.resize(size, resample, (0, 0, *self.size)))

    def crop(self, box: "tuple[int, int, int, int]") -> "Pixels":
        """What is between left, top, right and bottom; zeros beyond it."""
        return Pixels(self.im.crop(box))

    def turned(self, turn: int) -> "Pixels":
        """By one of Pillow's transpositions."""
        return Pixels(self.im.transpose(turn))

    def scaled(self, factor: float, term: float) -> "Pixels":
        """A plane of float32, each of its numbers times a factor, plus a term."""
        return Pixels(self.im.convert("F", _DITHER).point_transform(factor, term))

    def put(self, other: "Pixels", left: int, top: int) -> None:
        """Another picture at this place, in the place of what was there."""
        self.im.paste(other.im, (left, top, left + other.size[0], top + other.size[1]))

    def tobytes(self) -> bytes:
        """Row by row."""
        width, height = self.size
        encoder = core().raw_encoder(self.mode, self.mode)
        try:
            encoder.setimage(self.im, (0, 0, width, height))
            pieces, status = [], 0
            while not status:
                _, status, piece = encoder.encode(max(65_536, 4 * width * height))
                pieces.append(piece)
        finally:
            encoder.cleanup()
        if status < 0:
            raise MemoryError(f"the pixels cannot be written out ({status})")
        return b"".join(pieces)


def blank(mode: str, size: "Size", colour: "int | tuple[int, int, int]" = 0) -> Pixels:
    """One colour; without one zeros."""
    return Pixels(core().fill(mode, size, colour))


class Header:
    """What a JPEG says before its pixels. `exif`: of all its segments."""

    __slots__ = ("exif", "mode", "size")

    def __init__(self, mode: str, size: "Size", exif: bytes) -> None:
        self.mode = mode
        self.size = size
        self.exif = exif


def jpeg_header(data: bytes) -> "Header | None":
    """What a JPEG says of itself. None for what Pillow's plug-in has to look at: rare kinds, orientation in XMP, and damage."""
    at, exif = 2, b""
    while data[at : at + 1] == b"\xff":
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if length < 2 or len(body) != length - 2:
            return None
        if marker in (b"\xc0", b"\xc1", b"\xc2"):
            mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(body[5]) if len(body) > 5 and body[0] == 8 else None
            return None if mode is None else _before_scan(data, at + 2 + length, Header(mode, _sides(body), exif))
        if not (marker in (b"\xc4", b"\xdb", b"\xdd", b"\xfe") or 0xE0 <= marker[0] <= 0xEF) or b"tiff:Orientation" in body:
            return None
        if marker == b"\xe1" and body[:6] == b"Exif\0\0":
            exif += body if not exif else body[6:]
        at += 2 + length
    return None


def _sides(frame: bytes) -> "Size":
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def _before_scan(data: bytes, at: int, header: Header) -> "Header | None":
    """The same header, where nothing between it and the pixels says more."""
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] in (b"\xc4", b"\xdb", b"\xdd"):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return header if data[at : at + 2] == b"\xff\xda" else None


def jpeg_pixels(data: bytes, header: Header) -> Pixels:
    """The pixels of a JPEG. Raises OSError for damaged ones, and those that end early."""
    extension = core()
    raw = "CMYK;I" if header.mode == "CMYK" else header.mode  # as Adobe writes it, which is how Pillow reads all of them
    decoder = extension.jpeg_decoder(header.mode, raw, "")
    im = extension.new(header.mode, header.size)
    rest: bytes | memoryview = data
    try:
        decoder.setimage(im, (0, 0, *header.size))
        while True:
            taken, status = decoder.decode(bytes(rest))
            if taken < 0:
                break
            if taken == 0 or not rest:
                raise OSError("image file is truncated")
            rest = memoryview(rest)[taken:]
    finally:
        decoder.cleanup()
    if status < 0:
        raise OSError("broken data stream")
    return Pixels(im)
