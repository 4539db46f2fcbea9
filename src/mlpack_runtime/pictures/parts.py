"""How many parts a picture's file has, counted before a reader goes through them one by one.

Promises: a file of very many small parts is refused in the time that it takes to find that out. Readers take each part by itself,
in Python or over the whole picture again: measured, 120,000 empty segments of a JPEG of 1.4 MB take 1.3 s, with the square of their
number, and each scan of a progressive JPEG takes as long as the picture is large. Will not: say that a file is damaged, which its
reader does.

Sources: ITU-T T.81, B.1 (JPEG's markers); PNG, third edition, 5.3 (chunks); libjpeg-turbo's own limit in its fuzzers is 500 scans.
"""

SEGMENTS = 4096
"""Of a JPEG, before its pixels. A colour profile has up to 255, a map of depths in XMP some 200."""
SCANS = 100
"""Of a JPEG. Encoders write 10 or fewer."""
CHUNKS, _CHUNK_BYTES = 4096, 256
"""Of a PNG, and one more for so many of its bytes: encoders write pixels in pieces of 8 KB."""
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))
"""Second bytes of markers without a length: stuffing, TEM, restarts, the beginning and the end."""


def too_many(data: bytes) -> str:
    """What a file has too much of, in words; "" for an ordinary one, and for what is damaged."""
    if data[:2] == b"\xff\xd8":
        return _of_jpeg(data)
    return _of_png(data) if data[:4] == b"\x89PNG" else ""


def _of_jpeg(data: bytes) -> str:
    at = 2
    for _ in range(SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 2 > len(data):
            return ""
        if data[at + 1] == 0xDA:
            return f"more than {SCANS} scans" if _has_many_scans(data, at) else ""
        at = _behind(data, at)
    return f"more than {SEGMENTS} segments before its pixels"


def _has_many_scans(data: bytes, at: int) -> bool:
    if data.count(b"\xff\xda", at) <= SCANS:
        return False
    import re  # of almost no picture: bytes behind the end, as of a video, may look like that, too

    marker, scans = re.compile(rb"\xff[^\x00\xd0-\xd8\xff]"), 0
    while (place := marker.search(data, at)) is not None:
        at = place.start()
        if data[at + 1] == 0xD9:
            return False
        scans += data[at + 1] == 0xDA
        if scans > SCANS:
            return True
        at = _behind(data, at)
    return False


def _behind(data: bytes, at: int) -> int:
    """Where the next marker is looked for: behind this one and what it says that it holds."""
    second = data[at + 1]
    if second == 0xFF:  # filled up
        return at + 1
    return at + 2 if second in _ALONE else at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _of_png(data: bytes) -> str:
    most, at = CHUNKS + len(data) // _CHUNK_BYTES, 8
    for _ in range(most):
        if at + 8 > len(data):
            return ""
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return f"more than {most} chunks" if at + 8 <= len(data) else ""
