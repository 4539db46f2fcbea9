"""URLs as inputs: what a plain request names by a URL is fetched, so that tasks and hooks see bytes.

Promises:
- Only hosts that the recipe lists are asked (`serve: {urls: {hosts: [...]}}`), and only at addresses of the public internet. The
  connection is made to the very address that was checked. Each redirect is checked again.
- Time and bytes hold for all URLs of a request together. Nothing of the process's environment (proxies), and nothing of the request
  but the URL itself, is sent on.
- No message names an address, or says what is behind one.

Will not: fetch for a text model, whose inputs may be texts that look like URLs; keep cookies, connections or answers.

What cannot be fetched is a RequestError: 400 where it is no URL, 403 where it is not allowed (`FetchRefused`), 413 above the limit,
422 for another type of content, 424 where the host answers that there is nothing (`FetchFailed`), 502 for what may pass by itself
(`FetchFailed`): a queue tries that again, as it does whatever is 5xx.
"""

from time import monotonic

from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.media import BYTES, KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.fetching.network import Network
    from mlpack_runtime.fetching.policy import Policy
    from mlpack_runtime.limits import Limits

MOST_URLS = 16
"""Of one request: they are fetched one after the other."""


def fetch(url: str, policy: "Policy", kind: str = "", network: "Network | None" = None) -> bytes:
    """The bytes behind a URL.

    Args:
        url: An absolute URL.
        policy: Which URLs are allowed, and how much and how long.
        kind: What the type of content has to begin with: `image/`. One that says nothing is taken, too.
        network: How addresses are resolved and connected to; tests have their own.

    Raises:
        RequestError: As the module says.
    """
    return _Fetches(policy, network, policy.max_bytes).one(url, kind)


def url_in(value: object) -> "str | None":
    """The URL that a value of a plain request stands for: a string that begins like one, or `{"url": "..."}`; None for others."""
    url = value["url"] if type(value) is dict and value.keys() == {"url"} else value
    return url if type(url) is str and url[:8].lower().startswith(("https://", "http://")) else None


class Urls:
    """The URLs in plain requests of one package. `network`: as of `fetch`."""

    def __init__(self, settings: "Mapping[str, Any]", kind: "str | None", limits: "Limits") -> None:
        """Raises ModelError.

        Args:
            settings: model.json's `urls`.
            kind: What the package's task reads, of `media.KINDS`; "" where a hook reads it; None for a package of texts, where
                `image` is no key at all.
            limits: The package's.
        """
        from mlpack_runtime.fetching.policy import Policy

        self.policy = Policy(settings)
        self.network: Network | None = None
        self._most = min(self.policy.max_bytes, limits.body_bytes)
        self._kinds = {key: f"{each}/" for each, several in KINDS.items() if kind in (each, "") for key in (each, several)}
        if kind:  # as Hugging Face's clients send them
            self._kinds["inputs"] = f"{kind}/"

    def fetched(self, value: "dict[str, Any]") -> "dict[str, Any]":
        """A plain request with the bytes in the place of its URLs. Raises RequestError."""
        places = [(key, at, url) for key in value if key in self._kinds for at, url in _urls(value[key])]
        if len(places) > MOST_URLS:
            message = f"the request has {len(places)} URLs; at most {MOST_URLS} are fetched for one"
            raise RequestError(message, 413, "PayloadTooLarge")
        if not places:
            return value
        fetches = _Fetches(self.policy, self.network, self._most)
        filled = {key: list(each) if type(each) is list else each for key, each in value.items()}
        for key, at, url in places:
            body = fetches.one(url, self._kinds[key])
            if at is None:
                filled[key] = body
            else:
                filled[key][at] = body
        return filled


class _Fetches:
    """Fetches of one request, which share its time and its bytes."""

    def __init__(self, policy: "Policy", network: "Network | None", most: int) -> None:
        self._policy = policy
        self._network = network
        self._left = most
        self._until_s = monotonic() + policy.timeout_s

    def one(self, url: str, kind: str) -> bytes:
        """The bytes behind the next URL."""
        from mlpack_runtime.fetching.download import download  # http.client and ssl: only for a request that has a URL

        body, told = download(url, self._policy, self._left, self._until_s, self._network)
        self._left -= len(body)
        if kind and told and not told.startswith(kind) and told not in BYTES:
            raise RequestError(
                f"what is behind the URL is {quoted(told)} by its Content-Type; {kind}* is needed", 422, "Unprocessable"
            )
        return body


def _urls(value: object) -> "list[tuple[int | None, str]]":
    """URLs in the value of a key, each with its place where that is a list."""
    each: list[tuple[int | None, object]] = list(enumerate(value)) if type(value) is list else [(None, value)]
    urls = [(at, url_in(one)) for at, one in each]
    return [(at, url) for at, url in urls if url is not None]
