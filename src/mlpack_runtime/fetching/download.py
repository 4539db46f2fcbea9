"""One URL to its bytes: requests, redirects, and an answer's body within its limits.

Promises: the whole of it ends in time, however slowly a server sends; no more than `most` bytes are kept, however many come or
come out of a compressed body; a body that is shorter than its server said is a failure.
"""

import io
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import monotonic

from mlpack_runtime.encodings import decoded
from mlpack_runtime.fetching.network import Network
from mlpack_runtime.fetching.policy import Location
from mlpack_runtime.limits import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.fetching.policy import Policy

_PIECE_BYTES = 1 << 16
_HEAD_BYTES = 1 << 20
"""What an answer may have beside its body: its head, and what stands around chunks."""
_LEADS_ON = (301, 302, 303, 307, 308)
_MAY_PASS = (408, 425, 429)
"""Of the 4xx of a host, those that another try may mend."""
_AGAIN_S = 1.0
_INTERNET = Network()


class Line:
    """A connection as http.client has it, whose every wait ends at one moment, and which brings so many bytes in all."""

    def __init__(self, connection: socket.socket, until_s: float, most: int) -> None:
        self._connection = connection
        self._until_s = until_s
        self._most = most

    def sendall(self, sent: bytes) -> None:
        """Send all of it. Raises OSError."""
        self._connection.settimeout(left(self._until_s))
        self._connection.sendall(sent)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes, to read."""
        del mode  # http.client asks for "rb" alone
        return io.BufferedReader(_Incoming(self._connection, self._until_s, self._most), _PIECE_BYTES)

    def close(self) -> None:
        """Nothing: http.client closes a connection that is not kept as soon as the head is read, and then reads the body."""


class _Incoming(io.RawIOBase):
    """What comes. Each wait has the time that is left, so that a byte a second does not keep a fetch alive. Bytes are counted
    here, too: http.client reads a chunk of -1 bytes to the end, however far that is."""

    def __init__(self, connection: socket.socket, until_s: float, most: int) -> None:
        self._connection = connection
        self._until_s = until_s
        self._most = most
        self._left = 2 * most + _HEAD_BYTES

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, room: "Any") -> int:
        """Bytes that came. Raises OSError."""
        self._connection.settimeout(left(self._until_s))
        size = self._connection.recv_into(room)
        self._left -= size
        if self._left < 0:
            raise _too_large(self._most)
        return size


def left(until_s: float) -> float:
    """The time that is left. Raises TimeoutError where there is none."""
    seconds = until_s - monotonic()
    if seconds <= 0:
        raise TimeoutError("time is over")
    return seconds


def download(url: str, policy: "Policy", most: int, until_s: float, network: "Network | None" = None) -> "tuple[bytes, str]":
    """The bytes behind a URL, and their type of content in lower case without its parameters, empty where nobody says it.

    Args:
        url: What the request has.
        policy: Which hosts, schemes and ports are allowed, and how many redirects.
        most: Bytes that may come, and come out.
        until_s: The moment, of `monotonic`, when it has to be over.
        network: How hosts are reached.

    Raises:
        RequestError: What went wrong, as `mlpack_runtime.fetching` says.
    """
    location = policy.locate(url)
    for _ in range(policy.redirects + 1):
        try:
            answer, body = _exchange(location, most, until_s, network or _INTERNET)
        except TimeoutError:
            raise _failed(f"what is behind the URL did not come within {policy.timeout_s:g} s") from None
        except HTTPException as error:
            raise _failed(f"the URL's host did not answer as HTTP has it ({type(error).__name__})") from None
        except OSError as error:
            # The system's own words would say which address was asked, and how it answered.
            raise _failed(f"the URL's host {_why(error, network or _INTERNET)}") from None
        if answer.status not in _LEADS_ON:
            return body, (answer.getheader("content-type") or "").partition(";")[0].strip().lower()
        location = policy.locate(_place(answer), location)
    raise RequestError(f"the URL leads on more than {policy.redirects} times (serve.urls.redirects)", 403, "FetchRefused")


def _exchange(location: Location, most: int, until_s: float, network: Network) -> "tuple[HTTPResponse, bytes]":
    """One request and its answer."""
    addresses = network.addresses(location.host, location.port, until_s)
    if not addresses:
        raise RequestError("the URL's host has no address in the public internet, so it is not asked", 403, "FetchRefused")
    connection = _connect(location, addresses, until_s, network)
    try:
        asking = HTTPConnection(location.host, location.port)
        asking.sock = Line(connection, until_s, most)  # it has what http.client uses
        asking.putrequest("GET", location.target, skip_host=True, skip_accept_encoding=True)
        headers = {"host": location.authority, "accept": "*/*", "accept-encoding": "identity", "user-agent": "mlpack"}
        for name, value in {**headers, "connection": "close"}.items():
            asking.putheader(name, value)
        asking.endheaders()
        answer = asking.getresponse()
        if answer.status in _LEADS_ON:
            return answer, b""
        if answer.status != 200:
            raise _status(answer.status)
        return answer, _body(answer, most)
    finally:
        connection.close()


def _connect(location: Location, addresses: "list[str]", until_s: float, network: Network) -> socket.socket:
    """A connection to the first address that takes one; each has its share of the time."""
    for at, address in enumerate(addresses):
        try:
            connection = network.connect(address, location.port, left(until_s) / (len(addresses) - at))
        except OSError:
            if at + 1 == len(addresses):
                raise
            continue
        try:
            connection.settimeout(left(until_s))
            return network.secure(connection, location.host) if location.scheme == "https" else connection
        except BaseException:
            connection.close()
            raise
    raise OSError("no address")


def _body(answer: HTTPResponse, most: int) -> bytes:
    """The body without its encoding."""
    if answer.length is not None and answer.length > most:
        raise _too_large(most)
    body = bytearray()
    while piece := answer.read(min(_PIECE_BYTES, most + 1 - len(body))):
        body += piece
        if len(body) > most:
            raise _too_large(most)
    if answer.length:  # http.client tells a body that ended early only where all of it is read at once
        raise _failed("the URL's host sent less than it said")
    coding = answer.getheader("content-encoding")
    if not coding:
        return bytes(body)
    try:
        return bytes(decoded(coding, body, most))
    except RequestError as error:
        raise (
            _too_large(most)
            if error.status == 413
            else RequestError(
                "what is behind the URL has a Content-Encoding that is not read here, or is damaged", 422, "Unprocessable"
            )
        ) from None


def _place(answer: HTTPResponse) -> str:
    place = answer.getheader("location")
    if not place:
        raise _failed("the URL's host leads on to nowhere: its answer has no Location")
    # A server sends UTF-8 there; http.client reads Latin-1.
    return place.encode("latin-1", "replace").decode("utf-8", "replace")


def _status(status: int) -> RequestError:
    """The failure of a host that answered with this status."""
    message = f"the URL's host answered {status}, not 200"
    if status < 500 and status not in _MAY_PASS:
        return RequestError(
            f"{message}: look whether it is right, and whether it may be fetched without a cookie", 424, "FetchFailed"
        )
    return _failed(message)


def _failed(message: str) -> RequestError:
    return RequestError(message, 502, "FetchFailed", _AGAIN_S)


def _too_large(most: int) -> RequestError:
    return RequestError(
        f"what is behind the URLs of the request has more than {most} bytes (serve.urls.max_bytes, MLPACK_LIMIT_BODY_BYTES)",
        413,
        "PayloadTooLarge",
    )


def _why(error: OSError, network: Network) -> str:
    from ssl import SSLCertVerificationError

    if not isinstance(error, SSLCertVerificationError):
        return "could not be reached"
    if network.trusts_nobody():
        return "cannot be trusted: this machine has no certificate authorities (SSL_CERT_FILE names a file of them)"
    return "has no certificate for its name that is trusted here"
