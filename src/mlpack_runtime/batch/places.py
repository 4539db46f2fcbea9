"""Objects that a manifest points at: in S3, or files beside a manifest that is a file.

Promises: a file is read only below the manifest's own folder; no more is read than the package takes. Will not: list.
"""

# ruff: noqa: PTH123 - pathlib is nothing that this runtime needs

import os

from mlpack_runtime.aws import objects
from mlpack_runtime.limits import quoted, too_large
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.limits import Limits

_SCHEME = "s3://"


class Places:
    """Those of one manifest. `files`: whether files may be read."""

    def __init__(self, manifest: str, client: "Callable[[], Any]", limits: "Limits", *, files: bool) -> None:
        self._folder = manifest.rpartition("/")[0] + "/"
        self._client = client
        self._limits = limits
        self._files = files

    def fetch(self, place: str, admit: "Callable[[int], None]") -> "tuple[bytes, dict[str, str]]":
        """An object's bytes, and what is known of them as headers. `admit` is told how many they are before they are read, and may
        wait. Raises RequestError, OSError, `aws.failures()`."""
        uri = place if "://" in place or (self._files and place.startswith("/")) else self._folder + place
        if uri.startswith(_SCHEME):
            at = objects.place_at(uri)
            if at is None:
                raise RequestError(f"the object {quoted(place)} is no address: s3://bucket/key, or a key beside the manifest")
            return objects.fetch(self._client(), at, self._limits, admit)
        if "://" in uri or not self._files:
            raise RequestError(f"the object {quoted(place)} is no address: s3://bucket/key is needed")
        return self._read(place, os.path.realpath(uri), admit)

    def _read(self, place: str, path: str, admit: "Callable[[int], None]") -> "tuple[bytes, dict[str, str]]":
        from mimetypes import guess_type

        if not path.startswith(os.path.realpath(self._folder) + os.sep):
            raise RequestError(f"the object {quoted(place)} is not below the manifest's folder, and no other file is read")
        size, most = os.path.getsize(path), self._limits.body_bytes
        if size > most:
            raise too_large("body_bytes", "bytes of the object:", size, self._limits)
        admit(size)
        with open(path, "rb") as stream:
            data = stream.read(most + 1)
        kind, coding = guess_type(path)
        told = {"content-type": kind, "content-encoding": coding}
        return data, {name: value for name, value in told.items() if value}
