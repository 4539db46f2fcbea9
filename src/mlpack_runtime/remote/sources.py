"""Where weights come from: an object of S3 under its digest, or a file behind an address of HTTP, in ranges.

    s3://bucket/prefix            PREFIX/DIGEST, with signed requests
    https://host/prefix           PREFIX/DIGEST: CloudFront, any server that takes ranges
    ADDRESS/DIGEST                this very object, such as a registry's blob
    .../{digest:2}/{digest}       with the digest, and its first two digits, put in: the blobs of a registry
    https://host/path?signature   this very object: a presigned address

Promises: any thread may read; what could pass is told apart from what could not. A signature never stands in a message.
Will not: verify what came. `download` does.
"""

from time import monotonic

from mlpack_runtime.aws import AwsError, credentials, is_passing, split_uri, wire
from mlpack_runtime.remote.manifest import WeightsError, object_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from mlpack_runtime.remote.manifest import Weights

    class Landing(Protocol):
        """Where bytes go. `received`: how many have come."""

        received: int

        def __call__(self, piece: bytes | memoryview) -> None:
            """The next ones."""

    class Source(Protocol):
        """An object that is read in ranges. `where`: its address, for messages."""

        where: str

        def read(self, first: int, size: int, landing: "Landing") -> None:
            """Exactly these bytes, in order, a piece at a time. Raises WeightsError (`passing` where trying again may help), and
            what `landing` raises."""

        def close(self) -> None:
            """Close connections that nobody uses."""


CONNECT_S = 5.0
READ_S = 30.0
"""How long one range may take: 4 MB at 1.1 Mbit/s."""
_ERROR_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)


class S3Object:
    """`key` in `bucket`, by signed requests."""

    def __init__(self, address: str, digest: str, hint: str) -> None:
        from mlpack_runtime.aws import signed

        try:
            _, self._bucket, key = split_uri(object_address(address, digest), "s3")
            if self._bucket.startswith("arn:"):
                raise AwsError(f"{address!r} is an ARN: name an access point by its alias, which ends in -s3alias")
            self._client = signed.S3(attempts=1)  # `download` tries again, and knows how often
        except AwsError as error:
            raise WeightsError(f"the weights' address: {error}") from None
        self._key = key
        self._hint = hint
        self.where = f"s3://{self._bucket}/{self._key}"

    def read(self, first: int, size: int, landing: "Landing") -> None:
        """As Source's."""
        from mlpack_runtime.aws import signed

        try:
            self._client.get(self._bucket, self._key, first, first + size - 1, within_s=READ_S, sink=landing)
        except signed.ServiceError as error:
            passing = not error.status or is_passing(error.code, error.status)
            raise WeightsError(_refusal(self.where, error.status, str(error), self._hint), passing=passing) from None
        except AwsError as error:  # no credentials
            raise WeightsError(f"{self.where} cannot be read: {error}") from None
        _check_whole(landing, size, self.where)

    def close(self) -> None:
        """As Source's."""
        self._client.close()


class HttpObject:
    """The object at an address of HTTP."""

    def __init__(self, address: str, digest: str, hint: str) -> None:
        self._hint = hint
        self._place = _place(object_address(address, digest))
        scheme, host, port, path = self._place
        self.where = f"{scheme}://{credentials.host_header(host, port, scheme)}{path.partition('?')[0]}"
        self._idle: list[wire.Connection] = []

    def read(self, first: int, size: int, landing: "Landing") -> None:
        """As Source's."""
        until, place = monotonic() + READ_S, self._place
        for _ in range(4):
            try:
                answer = self._ask(place, first, size, until, landing)
            except OSError as error:
                if "are read at most" in str(error):  # the whole object in the place of a range
                    raise WeightsError(
                        _refusal(self.where, 200, "it answered with more than it was asked for", self._hint)
                    ) from None
                raise WeightsError(f"{self.where} cannot be reached: {error or type(error).__name__}", passing=True) from None
            if answer.status not in _REDIRECTS or not answer.headers.get("location", "").startswith("http"):
                break
            place = _place(answer.headers["location"])
            if self._place[0] == "https" and place[0] != "https":
                raise WeightsError(f"{self.where} leads from https to http, where anybody could read the weights")
        if answer.status != 206 and not (answer.status == 200 and landing.received == size):  # what came is verified anyway
            message = _refusal(self.where, answer.status, f"it answered with status {answer.status}", self._hint)
            raise WeightsError(message, passing=answer.status in (408, 429) or answer.status >= 500)
        _check_whole(landing, size, self.where)

    def close(self) -> None:
        """As Source's."""
        while self._idle:
            self._idle.pop().close()

    def _ask(self, place: "tuple[str, str, int, str]", first: int, size: int, until: float, landing: "Landing") -> wire.Answer:
        scheme, host, port, path = place
        headers = {"host": credentials.host_header(host, port, scheme), "range": f"bytes={first}-{first + size - 1}"}
        asked, own = wire.Asked("GET", path, headers), place is self._place
        try:
            connection = self._idle.pop() if own else wire.Connection(host, port, tls=scheme == "https", connect_s=CONNECT_S)
        except IndexError:
            connection = wire.Connection(host, port, tls=scheme == "https", connect_s=CONNECT_S)
        answer = connection.request(asked, until=until, most=max(size, _ERROR_BYTES), sink=landing)
        if own and connection.is_open:
            self._idle.append(connection)
        else:
            connection.close()
        return answer


def open_source(weights: "Weights") -> "Source":
    """The object at `weights.source`. Nothing is sent yet. Raises WeightsError for an address that is none."""
    if weights.source.startswith("s3://"):
        return S3Object(weights.source, weights.digest, weights.hint)
    if weights.source.startswith(("https://", "http://")):
        return HttpObject(weights.source, weights.digest, weights.hint)
    shown = weights.source.partition("?")[0][:100]
    raise WeightsError(f"the weights' address is {shown!r}: s3://bucket/prefix or https://host/prefix is needed")


def _place(address: str) -> "tuple[str, str, int, str]":
    try:
        return credentials.split_url(address)
    except ValueError:
        shown = address.partition("?")[0][:100]
        raise WeightsError(f"the weights' address {shown!r} is none: https://HOST/PATH is needed") from None


def _check_whole(landing: "Landing", size: int, where: str) -> None:
    if landing.received != size:
        raise WeightsError(f"{where} gave {landing.received} of {size} bytes", passing=True)


def _refusal(where: str, status: int, told: str, hint: str) -> str:
    """Why a range was refused, with what is likely behind it."""
    why = {
        200: "it does not take ranges, which are needed to fetch parts side by side: take another server",
        403: "either this role may not read it (s3:GetObject), or it is not there and the role may not list the bucket; or a "
        "presigned address has ended",
        404: f"nothing is there under the weights' digest: {hint}",
        416: "what is there is shorter than the weights: it is another file, or was not written whole",
    }.get(status)
    return f"{where} cannot be read: {told}" + (f"; {why}" if why else "")
