"""An object of S3 as a file that can seek: each read is a request for a range."""

from io import SEEK_CUR, SEEK_END, RawIOBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class RangedFile(RawIOBase):
    """`size` bytes, of which `read_range(begin, end)` gives some. Put a buffer before it."""

    def __init__(self, size: int, read_range: "Callable[[int, int], bytes]") -> None:
        super().__init__()
        self._size = size
        self._read_range = read_range
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go there."""
        self._at = max(0, offset + {SEEK_CUR: self._at, SEEK_END: self._size}.get(whence, 0))
        return self._at

    def readinto(self, buffer: "Any") -> int:
        """Some bytes."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._read_range(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
