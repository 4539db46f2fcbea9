"""`serve.urls`: the keys as a typed model, and what model.json says of them.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field  # noqa: TID253

from mlpack.core.serving import Urls
from mlpack.recipe.units import Duration, Keys, Size, Text

_LABEL = 63
_LONGEST = 253


def host(text: str) -> str:
    """A row of `hosts` in ASCII and lower case. Raises ValueError, whose message says what is right."""
    name, colon, port = text.strip().partition(":")
    if "/" in text or "@" in text or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is no host: images.example.org, *.example.org or images.example.org:8443 is needed")
    below = name.startswith("*.")
    try:
        ascii_name = name.removeprefix("*.").encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        ascii_name = ""
    labels = ascii_name.split(".")
    plain = all(0 < len(label) <= _LABEL and label.replace("-", "a").replace("_", "a").isalnum() for label in labels)
    if not plain or len(ascii_name) > _LONGEST or any(label[0] == "-" or label[-1] == "-" for label in labels):
        raise ValueError(f"{text!r} is no host: images.example.org, *.example.org or images.example.org:8443 is needed")
    if below and len(labels) < 2:
        raise ValueError(f"{text!r} would allow half of the internet: name the domain, as in *.example.org")
    if _is_address(ascii_name) or labels[-1].isdecimal():
        raise ValueError(f"{text!r} is an IP address: name the host, as its certificate does")
    if ascii_name == "localhost" or ascii_name.endswith(".localhost"):
        raise ValueError(f"{text!r} is this machine: only hosts of the public internet are fetched from")
    return f"{'*.' if below else ''}{ascii_name}{colon}{port}"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class UrlKeys(Keys):
    """Pictures and sounds that a request names by a URL."""

    hosts: Annotated[tuple[Annotated[Text, AfterValidator(host)], ...], Field(min_length=1, max_length=100)] = Field(
        description="hosts that are fetched from: `images.example.org`; `*.example.org` for all below it; `:8443` after a name "
        "for another port"
    )
    max_bytes: Annotated[Size, Field(ge=1)] = Field(
        default=10 << 20,
        json_schema_extra={"default": "10MiB"},
        description="bytes behind all URLs of one request; never more than a request's body may have",
    )
    timeout: Annotated[Duration, Field(gt=0, le=300_000)] = Field(
        default=10_000.0,
        json_schema_extra={"default": "10s"},
        description="time for all URLs of one request, from the name's resolution to the last byte",
    )
    redirects: Annotated[int, Field(ge=0, le=10)] = Field(
        default=3, description="how many redirects are followed, each to a host of the list"
    )
    schemes: Annotated[tuple[Literal["https", "http"], ...], Field(min_length=1)] = Field(
        default=("https",),
        description="schemes that are fetched: `https`, and `http`, which anybody on the way can read and change",
    )

    def record(self) -> Urls:
        """What the recipe's record has of these keys."""
        return Urls(
            hosts=tuple(dict.fromkeys(self.hosts)),
            max_bytes=self.max_bytes,
            timeout_ms=self.timeout,
            redirects=self.redirects,
            schemes=tuple(dict.fromkeys(self.schemes)),
        )
