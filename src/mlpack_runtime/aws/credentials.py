"""Who calls AWS: credentials of the environment, of a container's role, or for a web identity.

    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN               a Lambda function's, and yours
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI                       ECS, EKS pod identity, Lambda with SnapStart
    AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN                              EKS with roles for service accounts
    profiles, SSO, EC2's instance role                                        by botocore, where the package or its Python has it

Promises: they are read when they are needed, kept until five minutes before they end, and never logged; a token goes over plain
HTTP to this machine's and the platform's own link-local addresses alone.
"""

import os
from time import monotonic, time

from mlpack_runtime import jsontext
from mlpack_runtime.aws import AwsError, own_region, wire
from mlpack_runtime.aws.sigv4 import Credentials, query_string
from mlpack_runtime.starting import AFTER_RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TASKS_HOST = "169.254.170.2"
_LOCAL_HOSTS = (_TASKS_HOST, "169.254.170.23", "fd00:ec2::23", "localhost", "::1")
_CALL_S = 5.0
_MOST_BYTES = 1 << 20
_EARLY_S = 300  # before they end, as botocore does it
_BLANK = "no credentials for AWS"
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


_KEPT: "list[Credentials]" = []
AFTER_RESTORE.append(_KEPT.clear)  # another instance of a snapshot has others


def provide(*, anew: bool = False) -> Credentials:
    """The credentials to sign with. `anew`: the service says that the last ones have ended. Raises AwsError without any."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN", ""))
    if anew:
        _KEPT.clear()
    for kept in _KEPT:  # other threads may clear it meanwhile
        if kept.is_fresh(_EARLY_S):
            return kept
    try:
        fetched = _fetch()
    except (OSError, ValueError, KeyError, TypeError) as error:
        for kept in _KEPT:
            if (kept.ends or 0) > time():
                return kept  # what nearly ended is better than nothing, while it holds
        raise AwsError(f"{_BLANK}: {type(error).__name__}: {error}") from None
    _KEPT[:] = [fetched]
    return fetched


def _fetch() -> Credentials:
    environment = os.environ
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environment.get("AWS_ROLE_ARN"):
        return _web_identity()
    if environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return _container()
    return _botocores()


def _container() -> Credentials:
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    address = f"http://{_TASKS_HOST}{relative}" if relative else os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    scheme, host, _, _ = split_url(address)
    is_loopback = host.startswith("127.") and host.replace(".", "").isdecimal()  # and no name that begins so
    if scheme == "http" and host not in _LOCAL_HOSTS and not is_loopback:
        raise ValueError(f"AWS_CONTAINER_CREDENTIALS_FULL_URI names {host}, which is neither this machine nor the platform")
    headers = {"accept": "application/json"}
    token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if file := os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = _text(file)
    if token:
        headers["authorization"] = token
    answer = _ask("GET", split_url(address), headers)
    document: Any = jsontext.loads(answer.body)
    return Credentials(
        document["AccessKeyId"], document["SecretAccessKey"], document.get("Token") or "", _ends(document["Expiration"])
    )


def _web_identity() -> Credentials:
    region = own_region()
    if not region:
        raise ValueError("AWS_REGION is not set, and a web identity is exchanged in a region")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    given = os.environ.get("AWS_ENDPOINT_URL_STS") or os.environ.get("AWS_ENDPOINT_URL") or f"https://sts.{region}.{domain}"
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": os.environ["AWS_ROLE_ARN"],
        "RoleSessionName": os.environ.get("AWS_ROLE_SESSION_NAME") or f"mlpack-{os.getpid()}",
        "WebIdentityToken": _text(os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = _ask("POST", split_url(given), headers, query_string(form.items()).encode())
    text = answer.body.decode("utf-8", "replace")
    return Credentials(
        tag(text, "AccessKeyId"), tag(text, "SecretAccessKey"), tag(text, "SessionToken"), _ends(tag(text, "Expiration"))
    )


def _botocores() -> Credentials:
    from mlpack_runtime import aws

    nobody = "neither AWS_ACCESS_KEY_ID, nor a container's role, nor a web identity is set, nor does botocore know any"
    try:
        session, _, error_of_botocore = aws._botocore()
    except AwsError:
        raise ValueError(nobody) from None
    try:
        given = session().get_credentials()
        if given is None:
            raise ValueError(nobody)
        frozen = given.get_frozen_credentials()
    except error_of_botocore as error:  # a profile that is not there, a service that gives them and cannot be asked
        raise ValueError(f"botocore: {error}") from None
    # botocore renews what it can when it is asked again.
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "", time() + _EARLY_S + 60)


def _ask(method: str, address: "tuple[str, str, int, str]", headers: "dict[str, str]", body: bytes = b"") -> "wire.Answer":
    scheme, host, port, path = address
    connection = wire.Connection(host, port, tls=scheme == "https", connect_s=_CALL_S)
    asked = wire.Asked(method, path, {"host": host_header(host, port, scheme), **headers}, body)
    try:
        answer = connection.request(asked, until=monotonic() + _CALL_S, most=_MOST_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"{host} answered with status {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")
    return answer


def split_url(address: str) -> "tuple[str, str, int, str]":
    """(scheme, host, port, path with a slash at its begin) of an http(s) address. Raises ValueError for another one."""
    scheme, mark, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.lstrip(":")
    elif ":" in place:
        host, _, port = place.rpartition(":")
    plain = port == "" or (port.isascii() and port.isdecimal() and len(port) < 6)
    if scheme.lower() not in ("http", "https") or not mark or not host or "@" in place or not plain:
        raise ValueError(f"{address!r} is no address of a service: http://HOST:PORT or https://HOST is needed")
    return scheme.lower(), host, int(port or (443 if scheme.lower() == "https" else 80)), slash + path or "/"


def host_header(host: str, port: int, scheme: str) -> str:
    """The Host header: without the scheme's own port."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port == (443 if scheme == "https" else 80) else f"{shown}:{port}"


def tag(text: str, name: str) -> str:
    """What stands in the first XML element of a name; "" where there is none."""
    inner = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        inner = inner.replace(entity, character)
    return inner


def seconds(year: int, month: int, day: int, clock: str) -> float:
    """Seconds since 1970 of a day and HH:MM:SS, both in UTC."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 - 719162 + sum(_MONTHS[: month - 1]) + (leap and month > 2) + day - 1
    hour, minute, second = clock.split(":")
    return days * 86400 + int(hour) * 3600 + int(minute) * 60 + float(second)


def _ends(text: str) -> float:
    """Of 2026-11-30T22:29:43Z."""
    day, _, clock = text.partition("T")
    year, month, number = day.split("-")
    return seconds(int(year), int(month), int(number), clock.partition("+")[0].rstrip("Z"))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123  (the runtime does without pathlib)
        return stream.read(1 << 16).strip()
