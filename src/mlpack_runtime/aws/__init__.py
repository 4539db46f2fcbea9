"""AWS, through botocore: clients with time-outs, addresses, and what an error says. The only module that knows botocore; `signed`
beside it is a small client for calls that a request waits for.

Promises: nothing is imported before a client is asked for; endpoint, credentials and profile are botocore's own (environment, task
role, instance role); every call ends: 5 s to connect, then `read_s` for an answer, tried again five times where that can help.
Will not: be imported by a Lambda function before an event of a source comes that needs it.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ATTEMPTS = 5
CONNECT_S = 5
READ_S = 15
CONNECTIONS = 64
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_PASSING = (
    "Throttl",
    "TooMany",
    "LimitExceeded",
    "ThroughputExceeded",
    "SlowDown",
    "Expired",
    "Timeout",
    "Unavailable",
    "TokenRefresh",
    "Internal",
)
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class AwsError(RuntimeError):
    """A service cannot be used: no address of that form, no botocore in the package, no region."""


def client(service: str, **overrides: "Any") -> "Any":
    """A botocore client, safe to use from any thread. `overrides`: region_name, endpoint_url,
    connect_s, read_s or attempts (after the first). Raises AwsError."""
    session, config, errors = _botocore()
    settings = config(
        connect_timeout=overrides.pop("connect_s", CONNECT_S),
        read_timeout=overrides.pop("read_s", READ_S),
        retries={"mode": "standard", "max_attempts": overrides.pop("attempts", ATTEMPTS)},
        max_pool_connections=CONNECTIONS,
        user_agent_extra="mlpack",
        s3={"addressing_style": "path"} if overrides.get("endpoint_url") or any(map(os.environ.get, _ENDPOINTS)) else None,
    )
    region = overrides.pop("region_name", None) or own_region()
    try:
        made = session().create_client(service, region_name=region, config=settings, **overrides)
    except errors as error:
        raise AwsError(f"no client for {service}: {told(error)}. Is AWS_REGION set?") from None
    if service == "s3":
        _send_at_once(made)
    return made


def _send_at_once(s3: "Any") -> None:
    """Without `Expect: 100-continue`: answers are small, and to ask before sending one costs a round trip."""
    from botocore import handlers

    ask_first = getattr(handlers, "add_expect_header", None)  # Lambda's own botocore may be any
    if ask_first is not None:
        s3.meta.events.unregister("before-call.s3", ask_first)


def failures() -> "tuple[type[Exception], ...]":
    """What a call of a client raises when it fails, for `except`."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def code(error: BaseException) -> str:
    """The service's own word for an error ("NoSuchKey"); "" where no service answered."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if type(answer) is dict else ""


def is_final(error: BaseException) -> bool:
    """Whether a service refused a call in a way that asking again does not change: a 4xx that is neither about its pace nor about
    credentials that are renewed."""
    answer = getattr(error, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if type(answer) is dict else 0
    word = code(error)
    return 400 <= status < 500 and bool(word) and not is_passing(word, status)


def is_passing(word: str, status: int) -> bool:
    """Whether a refusal, by its code and HTTP's status, is about a service's pace or state, or credentials that are renewed."""
    return status in (408, 429) or status >= 500 or any(part in word for part in _PASSING)


def is_malformed(error: BaseException) -> bool:
    """Whether botocore refused the call itself: what was asked for cannot be said to the service."""
    from botocore.exceptions import ParamValidationError

    return isinstance(error, ParamValidationError)


def told(error: BaseException) -> str:
    """An error in one line: the service's code and message, or what went wrong on the way to it."""
    answer = getattr(error, "response", None)
    if type(answer) is dict and "Error" in answer:
        return f"{code(error)}: {answer['Error'].get('Message', '')}".rstrip(": ")
    return f"{type(error).__name__}: {error}"


def split_uri(uri: str, *schemes: str) -> "tuple[str, str, str]":
    """("s3", bucket, prefix without slashes at its ends) of s3://bucket/prefix, likewise dynamodb://table. Raises AwsError for an
    address of another form, or whose scheme is none of `schemes`."""
    scheme, mark, rest = uri.partition("://")
    place, _, prefix = rest.partition("/")
    if not mark or not place or (schemes and scheme not in schemes):
        wanted = " or ".join(f"{scheme}://..." for scheme in schemes or ("s3", "dynamodb"))
        raise AwsError(f"{uri!r} is no address: {wanted} is needed")
    return scheme, place, prefix.strip("/")


def own_region() -> "str | None":
    """The region that the environment names: ECS and Lambda say AWS_REGION, and botocore reads only AWS_DEFAULT_REGION."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def region_of(queue_url: str) -> "str | None":
    """The region in a queue's address, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME; None where it says none."""
    host = queue_url.partition("://")[2].partition("/")[0].split(".")
    return host[1] if len(host) > 3 and host[0] == "sqs" and "amazonaws" in host else None


def _botocore() -> "tuple[Any, Any, Any]":
    site = os.path.join(_ROOT, "site")
    if os.path.isdir(site) and site not in sys.path:
        sys.path.append(site)
    try:
        try:
            import botocore  # noqa: F401
        except ImportError:
            # A function's own client of Lambda starts without site-packages, where AWS's runtimes and base images have botocore.
            sys.path.extend(place for place in _elsewhere() if os.path.isdir(place) and place not in sys.path)
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session
    except ImportError as error:
        raise AwsError(
            f"botocore is neither in this package nor in its Python ({error}): queues, buckets and tables need it. AWS's own"
            " runtimes and base images have it, and a layer may bring it (/opt/python)"
        ) from None
    return get_session, Config, BotoCoreError


def _elsewhere() -> "tuple[str, ...]":
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return (f"{sys.base_prefix}/lib/{version}/site-packages", "/opt/python", "/var/runtime")
