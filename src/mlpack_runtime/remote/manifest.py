"""weights.json: where a package's weights are, how they are cut into parts, and the SHA-256 of the whole and of each part.

    {"schema": 1, "name": "model.onnx.data", "digest": HEX, "size_bytes", "part_bytes", "parts": [HEX, ...],
     "from": "s3://bucket/prefix", "cache": ["/tmp"], "cache_mb": 0}

Promises: what is read is whole and fits together, or a WeightsError names the file. The environment comes before the file:
MLPACK_WEIGHTS (from), MLPACK_WEIGHTS_CACHE (directories with colons between them), MLPACK_WEIGHTS_CACHE_MB.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import os

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FILE = "weights.json"
SCHEMA = 1
MEMORY = "memory"
"""Among cache directories: anonymous memory of this process, where no directory has room."""
_HEX = frozenset("0123456789abcdef")


class WeightsError(RuntimeError):
    """The weights cannot be had. The message says which, why, and what to do. `passing`: trying again later may help."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Weights:
    """The file of weights that a graph names `name`: its digest and size, its parts, and where it is looked for."""

    def __init__(self, row: "Mapping[str, Any]", environment: "Mapping[str, str]") -> None:
        """Raises ValueError, KeyError or TypeError for what is no such row, WeightsError for a variable that is no number."""
        self.name: str = row["name"]
        self.digest: str = row["digest"]
        self.size_bytes: int = row["size_bytes"]
        self.part_bytes: int = row["part_bytes"]
        self.parts: list[str] = row["parts"]
        if not self.name or self.name.strip(".") == "" or "/" in self.name or "\0" in self.name:
            raise ValueError(f"{self.name!r} is no name of a file")
        if not all(type(number) is int and number > 0 for number in (self.size_bytes, self.part_bytes)):
            raise ValueError("its sizes are no positive numbers")
        if not all(len(each) == 64 and _HEX.issuperset(each) for each in (self.digest, *self.parts)):
            raise ValueError("a digest is not 64 hexadecimal digits")
        if len(self.parts) != -(-self.size_bytes // self.part_bytes):
            raise ValueError(f"{len(self.parts)} parts of {self.part_bytes} bytes are not {self.size_bytes} bytes")
        self.source: str = environment.get("MLPACK_WEIGHTS", "").strip() or row["from"]
        told = [place for place in environment.get("MLPACK_WEIGHTS_CACHE", "").split(":") if place]
        self.cache: list[str] = told or list(row["cache"])
        if strange := next((place for place in self.cache if place != MEMORY and not os.path.isabs(place)), None):
            raise WeightsError(f"the cache {strange!r} is no absolute path: name a directory such as /tmp, or {MEMORY}")
        self.limit_bytes = _number(environment, "MLPACK_WEIGHTS_CACHE_MB", row.get("cache_mb", 0), 1 << 40) << 20
        self.connections = max(1, _number(environment, "MLPACK_WEIGHTS_CONNECTIONS", 8, 64))
        self.patience_s = _number(environment, "MLPACK_WEIGHTS_TIMEOUT_S", 300, 86_400)

    @property
    def hint(self) -> str:
        """The command that puts them where they are looked for, where that is a bucket."""
        if self.source.startswith("s3://"):
            return f"put them there with `aws s3 cp weights/{self.digest} {object_address(self.source, self.digest)}`"
        return f"put the build's file weights/{self.digest} there"

    def span(self, index: int) -> "tuple[int, int]":
        """Where a part begins, and its bytes."""
        start = index * self.part_bytes
        return start, min(self.part_bytes, self.size_bytes - start)


def object_address(source: str, digest: str) -> str:
    """The address of the object with this digest, by what `from` says (`sources` has the forms)."""
    if "{digest" in source:
        return source.replace("{digest:2}", digest[:2]).replace("{digest}", digest)
    path, mark, _ = source.partition("?")
    return source if mark or path.endswith(digest) else f"{path.rstrip('/')}/{digest}"


def _number(environment: "Mapping[str, str]", name: str, default: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise WeightsError(f"{name} is {text[:40]!r}: a whole number from 0 to {most} is needed")
    return int(text)


def read(place: str, environment: "Mapping[str, str] | None" = None) -> "Weights | None":
    """What weights.json of the model's directory `place` says; None where there is no such file, or the weights lie in the package.
    Raises WeightsError."""
    path = os.path.join(place, FILE)
    try:
        with open(path, "rb") as stream:
            row = jsontext.loads(stream.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): build the package again") from None
    try:
        if row["schema"] != SCHEMA:
            raise ValueError(f"it has schema {row['schema']!r}, and this runtime reads {SCHEMA}")
        found = Weights(row, os.environ if environment is None else environment)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged ({type(error).__name__}: {error}): build the package again") from None
    return None if os.path.exists(os.path.join(place, found.name)) else found
