"""Answers in fewer bytes, for callers who say that they read them (RFC 9110, 12.5.3).

Promises: nobody gets a coding that was not asked for; what is short, or became no shorter, stays as it is; a cache between is told
that the answer depends on `Accept-Encoding`. Will not: read bodies that come in a coding, or know any coding but gzip and deflate.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Answer = tuple[int, dict[str, str], bytes]

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's `wbits` of each coding: gzip's own frame; zlib's, which is what HTTP calls deflate."""
_LEVEL = 1  # tensors as text shrink to 45 % at level 1 and to 43 % at 6, which takes four times as long
_LONGEST = 1024  # of a header that is looked at


def compressed(answer: "Answer", accepted: str, least: int) -> "Answer":
    """An answer as a caller reads it.

    Args:
        answer: Status, headers and body.
        accepted: The caller's `Accept-Encoding`; nothing where there was none.
        least: Bytes that a body has to have; 0: no answer is compressed.
    """
    status, headers, body = answer
    if not least or len(body) < least or "content-encoding" in headers:
        return answer
    headers = {**headers, "vary": "accept-encoding"}
    coding = chosen(accepted) if accepted else ""
    if coding:
        from zlib import DEFLATED, compressobj

        squeeze = compressobj(_LEVEL, DEFLATED, _WINDOWS[coding])
        shorter = squeeze.compress(body) + squeeze.flush()
        if len(shorter) < len(body):
            return status, {**headers, "content-encoding": coding.removeprefix("x-")}, shorter
    return status, headers, body


def chosen(accepted: str) -> str:
    """The coding that a caller likes best, of those that we have; nothing where it takes none, or likes the plain body better."""
    weights = {}
    for part in accepted[:_LONGEST].lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = _weight(parameter)
    others = weights.get("*", 0.0)
    best, most = "", max(weights.get("identity", 0.0), 0.0)
    for coding in _WINDOWS:
        weight = weights.get(coding, others if coding != "x-gzip" else 0.0)
        if weight > most or (weight == most and weight > 0 and not best):
            best, most = coding, weight
    return best


def _weight(parameter: str) -> float:
    """`q=0.5` as a number from 0 to 1; 1 where nothing is said, 0 for what is none."""
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
