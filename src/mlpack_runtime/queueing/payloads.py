"""Where a message's request lies, when it is not in the message."""

from mlpack_runtime import aws
from mlpack_runtime.aws.objects import Place
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def stated(attributes: "Mapping[str, str]", otherwise: "Place | None") -> "Place | None":
    """Where a message's attribute `payload` says that its request lies, or else what its envelopes say. Raises RequestError."""
    uri = attributes.get("payload")
    if not uri:
        return otherwise
    try:
        _, bucket, key = aws.split_uri(uri, "s3")
    except aws.AwsError as error:
        raise RequestError(f"payload: {error}") from None
    return Place(bucket, key)
