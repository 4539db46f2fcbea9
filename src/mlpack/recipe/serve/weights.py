"""`serve.weights`: the keys as a typed model. Imported with the other keys (`schema`), which says what they promise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field  # noqa: TID253

from mlpack.core.serving import OutsideWeights
from mlpack.recipe.units import Keys, Size, Text


def _address(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("s3", "https") or not rest.strip("/") or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is no address: s3://bucket/prefix or https://host/prefix is needed")
    if "?" in text or "#" in text or "@" in rest.partition("/")[0]:
        raise ValueError(
            "a signature or a password does not belong in a recipe: set the variable MLPACK_WEIGHTS where the package runs"
        )
    return text.rstrip("/")


def _directory(text: str) -> str:
    if text != "memory" and (not text.startswith("/") or ":" in text or ".." in text.split("/")):
        raise ValueError(f"{text!r} is no absolute path: /tmp, a mount such as /mnt/efs, or memory")
    return text if text == "memory" else text.rstrip("/") or "/"


class WeightKeys(Keys):
    """Weights outside the package, which each process fetches when it starts."""

    source: Annotated[Text, AfterValidator(_address)] = Field(
        alias="from", description="where you put them, under their digest: `s3://bucket/prefix`, or `https://host/prefix`"
    )
    cache: Annotated[tuple[Annotated[Text, AfterValidator(_directory)], ...], Field(min_length=1, max_length=8)] = Field(
        default=("/tmp",),
        description="where a process looks for them and keeps them: directories, the first one first, and `memory`",
    )
    cache_size: Size | None = Field(
        default=None,
        description="the most that weights may take in one directory; the least recently used are removed [all the room there is]",
    )
    when: Literal["always", "too-large"] = Field(
        default="always", description="`too-large`: only where the package with its weights would exceed its target's limit"
    )

    def record(self) -> OutsideWeights:
        """As the records have it."""
        size = self.cache_size
        return OutsideWeights(
            source=self.source, cache=self.cache, cache_mb=0 if size is None else max(1, size >> 20), always=self.when == "always"
        )
