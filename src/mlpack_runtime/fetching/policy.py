"""Which URLs a package fetches: the recipe's settings, and the parts of a URL that is allowed. Pure.

Promises: the host that is compared is the host that is asked: both are the same string, in ASCII and lower case. What URL readers
understand differently (backslashes, control characters, users before the host, several readings of a host) is refused.
"""

from urllib.parse import quote, urljoin, urlsplit

from mlpack_runtime.limits import RequestError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PORTS = {"https": 443, "http": 80}
"""Schemes, each with the port where no other is written."""
MAX_BYTES, TIMEOUT_S, REDIRECTS, SCHEMES = 10 << 20, 10.0, 3, ("https",)
LONGEST_URL = 8192
_LONGEST_HOST = 253
_PLAIN = "/%:@!$&'()*+,;=~-._"
"""Characters that stay as they are in a path; in a query also `?`."""


class Location:
    """Where one request goes. `target`: path and query, as they are sent."""

    __slots__ = ("host", "port", "scheme", "target")

    def __init__(self, scheme: str, host: str, port: int, target: str) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.target = target

    @property
    def authority(self) -> str:
        """The host, with its port where that is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def url(self) -> str:
        """The whole of it."""
        return f"{self.scheme}://{self.authority}{self.target}"


class Policy:
    """What the recipe allows.

    `hosts`: `images.example.org`, `*.example.org` for every host below it (not for itself), each with `:PORT` where it is not the
    scheme's own. `max_bytes`, `timeout_s`: of all URLs of one request together.
    """

    def __init__(self, settings: "Mapping[str, Any]") -> None:
        """`settings`: model.json's `urls`. Raises ModelError where they are none."""
        from mlpack_runtime.model import ModelError

        try:
            self.schemes = tuple(settings.get("schemes") or SCHEMES)
            self.max_bytes = int(settings.get("max_bytes") or MAX_BYTES)
            self.timeout_s = float(settings.get("timeout_s") or TIMEOUT_S)
            self.redirects = int(settings.get("redirects", REDIRECTS))
            self._hosts = frozenset(_entry(each) for each in settings["hosts"])
            if not self._hosts or not set(self.schemes) <= PORTS.keys() or self.max_bytes < 1 or not 0 < self.timeout_s < 3600:
                raise ValueError("a value is out of its bounds")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"model.json's urls are not what this runtime knows ({error}): rebuild the package") from None

    def locate(self, url: str, beside: "Location | None" = None) -> Location:
        """The parts of a URL that is allowed. `beside`: where a redirect came from, to which it may be relative.

        Raises:
            RequestError: 400 for what is no URL, 403 for one that is not allowed.
        """
        if len(url) > LONGEST_URL:
            raise RequestError(f"the URL has {len(url)} characters; at most {LONGEST_URL} are taken")
        if (
            "\\" in url
            or url != url.strip(" ")
            or any(ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in url)
        ):
            what = "control characters, backslashes, halves of surrogate pairs, or spaces around it"
            raise RequestError(f"the URL has {what}: send it as browsers show it")
        shown = quoted(url) if beside is None else "what the URL leads on to"  # which may be a name of a network of its own
        try:
            parts = urlsplit(url if beside is None else urljoin(beside.url(), url))
            port = parts.port
            if parts.scheme not in self.schemes:
                raise _refused(f"URLs are fetched by {' or '.join(self.schemes)} here, not by {quoted(parts.scheme)}", "schemes")
            host = ascii_host(parts.hostname or "")
        except ValueError as error:
            raise RequestError(f"{shown} is no URL: {error if beside is None else 'its form is wrong'}") from None
        if "@" in parts.netloc:
            raise _refused("a URL with a user or a password before the host is not fetched: sign the URL itself", "")
        default = PORTS[parts.scheme]
        if not self._allows(host, default if port is None else port, default):
            what = "host" if beside is None else "host that the URL leads on to"
            raise _refused(f"the {what} is none that this package fetches from", "hosts")
        query = f"?{quote(parts.query, safe=_PLAIN + '?')}" if parts.query else ""
        return Location(parts.scheme, host, port or default, (quote(parts.path, safe=_PLAIN) or "/") + query)

    def _allows(self, host: str, port: int, default: int) -> bool:
        labels = host.split(".")
        names = [host, *(f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))]
        return any((name, port) in self._hosts or (port == default and (name, None) in self._hosts) for name in names)


def ascii_host(host: str) -> str:
    """A host's name in lower case, international names in their ASCII form. Raises ValueError for what is none."""
    if ":" in host:  # IPv6: `urlsplit` has taken the brackets off
        if not set(host) <= set("0123456789abcdef:."):
            raise ValueError("the host is no name")
        return host
    # Python's codec knows the names of 2003. A name of 2008 that it reads differently is another host to it, before and after.
    name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    if not name or len(name) > _LONGEST_HOST or not all(_is_label(label) for label in name.split(".")):
        raise ValueError("the host is no name")
    return name


def _is_label(label: str) -> bool:
    return 0 < len(label) < 64 and label.replace("-", "a").replace("_", "a").isalnum() and label[0] != "-" != label[-1]


def _entry(text: str) -> "tuple[str, int | None]":
    """A row of `hosts`."""
    name, _, port = text.partition(":")
    below = name.startswith("*.")
    return ("*." if below else "") + ascii_host(name[2:] if below else name), int(port) if port else None


def _refused(message: str, key: str) -> RequestError:
    more = f" (serve.urls.{key} in the recipe)" if key else ""
    return RequestError(f"{message}{more}", 403, "FetchRefused")
