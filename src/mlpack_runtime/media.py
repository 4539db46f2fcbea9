"""Bodies that are no JSON: pictures, sounds, and forms with them; and the same in JSON, as base64 or a data: URL.

Promises: a body that is a file becomes the plain value that its JSON form would be, `{"image": bytes}` or `{"audio": bytes}`, and a
form's further fields stand beside it; sizes are held against the limits of any body. What is cut off or malformed is refused with a
sentence. Will not: look into a picture or a sound beyond its first bytes, or be loaded by a package that takes neither.

Sources: RFC 7578 and RFC 2046, 5.1.1 (multipart/form-data), RFC 2397 (data: URLs), RFC 4648 (base64).
"""

from mlpack_runtime import jsontext
from mlpack_runtime.limits import RequestError, quoted, too_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.limits import Limits

    Files = list[tuple[str, bytes]]

KINDS = {"image": "images", "audio": "audios"}
"""What files are, by the first half of their content type, which is the key of one; and the key of several."""
BYTES = ("application/octet-stream", "binary/octet-stream")
"""Types of content that say nothing. The second is S3's, of an object whose type nobody told it."""
_FORM = "multipart/form-data"
_MAGICS = {
    "image": (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    "audio": (b"fLaC", b"OggS", b"ID3"),
}
"""How files begin. No JSON begins so: they are known whatever a sender says that they are, as `curl --data-binary` does."""
_HUB = "hf_hub/"
_RIFF = {b"WEBP": "image", b"WAVE": "audio"}
_REPLACED = b"\xef\xbf\xbd"
"""What stands for a byte that is no UTF-8."""
_PARTS, _HEADER_BYTES, _BOUNDARY_CHARS = 1000, 4096, 70
_CODED = ("", "binary", "8bit", "7bit")


def read(
    headers: "Mapping[str, str]", body: "bytes | bytearray | memoryview", kind: str, limits: "Limits"
) -> "dict[str, Any] | None":
    """The value that a body stands for, or None where it is JSON.

    Args:
        headers: by lower-case names.
        body: what came, without its compression.
        kind: of `KINDS`, what the package takes; "" for a hook, which is given either, as its sender calls it.
        limits: the package's.

    Raises:
        RequestError: 413 for more than a body may have, 400 for what is not what its content type says.
    """
    stated, _, parameters = headers.get("content-type", "").partition(";")
    stated = stated.strip().lower()
    view = memoryview(body).cast("B")
    if stated == _FORM and bytes(view[:2]) in (b"--", b"\r\n"):
        _check_size(view, limits)
        return _form(bytes(view), _boundary(parameters), kind, limits)
    of = stated.partition("/")[0]
    begun = kind_of(view)
    if of not in KINDS and begun is not None:
        of = begun
    elif stated in BYTES and kind and bytes(view[:1]) not in (b"{", b"["):
        of = kind
    if of not in KINDS:
        return None
    if kind and of != kind:
        if begun != kind:
            raise RequestError(f"the body is of the type {quoted(stated)}; this package takes {_in_words(kind)}")
        of = kind
    _check_size(view, limits)
    if not view:
        raise RequestError(f"the body is empty; its bytes are {_in_words(of)} here")
    # Hugging Face's client sends a file so where it has no parameters, and reads the answer that `inputs` has.
    return {"inputs" if kind and _HUB in headers.get("user-agent", "") else of: bytes(view)}


def of_task(task: "Mapping[str, Any]") -> "str | None":
    """What files a task reads, of `KINDS`, by its settings in model.json; None for tasks of texts."""
    return "image" if "image" in task else "audio" if "sound" in task else None


def kind_of(view: "bytes | memoryview") -> "str | None":
    """Of `KINDS`, what a file's first bytes say that it is; None for others."""
    head = bytes(view[:12])
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:])
    return next((kind for kind, magics in _MAGICS.items() if head.startswith(magics)), None)


def content(value: object, name: str, limits: "Limits") -> bytes:
    """The bytes of a file in a plain value: bytes of a body, or a string with base64 or a data: URL.

    Args:
        value: what stands under the key.
        name: the key, for messages.
        limits: the package's.

    Raises:
        RequestError: it is none of these, or too large.
    """
    if type(value) is bytes:
        if not value:
            raise RequestError(f"{name!r} is empty")
        return value
    if type(value) is dict and len(value) == 1:  # {"url": "..."}, and TensorFlow Serving's {"b64": "..."}
        ((key, inside),) = value.items()
        if key in ("url", "b64") and type(inside) is str:
            if key == "url" and not inside.startswith(("data:", "https://", "http://")):
                raise RequestError(f"{name!r} has the URL {quoted(inside)}, which begins with neither https:// nor data:")
            value = inside
    if type(value) is not str:
        raise RequestError(f"{name!r} is {quoted(value)}; a string with base64 or a data: URL is needed")
    if value.startswith(("https://", "http://")):
        raise RequestError(f"{name!r} is a URL, and this package fetches none: send the bytes, or base64 (serve: {{urls: ...}})")
    text = _of_data_url(value, name) if value[:5].lower() == "data:" else value
    data = _base64(text, name)
    if len(data) > limits.body_bytes:
        raise too_large("body_bytes", f"bytes of {name!r}:", len(data), limits)
    return data


def _of_data_url(url: str, name: str) -> str:
    head, comma, text = url[5:].partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RequestError(f"{name!r} is a data: URL that is not in base64: data:image/png;base64,... is needed")
    return text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=") if "%" in text else text


def _base64(text: str, name: str) -> bytes:
    """With line breaks and without padding, as senders write it, and in the alphabet of URLs."""
    from binascii import Error, a2b_base64

    if not text.isascii():
        raise RequestError(f"{name!r} is {quoted(text)}, which is not base64")
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    if not plain:
        raise RequestError(f"{name!r} is empty")
    try:
        return a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except (Error, ValueError) as error:
        raise RequestError(f"{name!r} is {quoted(text)}, which is not base64: {error}") from None


def refuse_text(data: bytes, what: str) -> None:
    """Raise RequestError for bytes that somebody on the way took for text, so that nothing can read them any more."""
    if _REPLACED in data[:64]:
        raise RequestError(
            f"the bytes of the {what} were turned into text on their way, and cannot be turned back. A REST API of API Gateway"
            ' needs binaryMediaTypes: ["*/*"]; otherwise send base64 in JSON'
        )


def _check_size(view: memoryview, limits: "Limits") -> None:
    if len(view) > limits.body_bytes:
        raise too_large("body_bytes", "bytes of the body:", len(view), limits)


def _in_words(kind: str) -> str:
    return {"image": "a picture", "audio": "a sound"}[kind]


def _boundary(parameters: str) -> bytes:
    boundary = _parameters(parameters).get("boundary", "")
    if not 0 < len(boundary) <= _BOUNDARY_CHARS or not boundary.isascii() or not boundary.isprintable() or boundary[-1] == " ":
        raise RequestError(
            f"Content-Type is {_FORM} with the boundary {quoted(boundary)}; 1 to {_BOUNDARY_CHARS} letters are needed"
        )
    return boundary.encode()


def _parameters(text: str) -> "dict[str, str]":
    """`name=value` and `name="value"`, apart by semicolons. In quotes, a backslash stands before a quote or a backslash alone:
    Internet Explorer's file names have others."""
    pairs: dict[str, str] = {}
    rest = text
    while rest:
        name, equals, rest = rest.partition("=")
        if not equals:
            break
        name, rest = name.strip(" \t;").lower(), rest.lstrip()
        if rest[:1] == '"':
            value, at = "", 1
            while at < len(rest) and rest[at] != '"':
                at += rest[at] == "\\" and rest[at + 1 : at + 2] in ('"', "\\")
                value += rest[at : at + 1]
                at += 1
            rest = rest[at + 1 :].partition(";")[2]
        else:
            value, _, rest = rest.partition(";")
            value = value.strip()
        pairs.setdefault(name, value)
    return pairs


def _form(body: bytes, boundary: bytes, kind: str, limits: "Limits") -> "dict[str, Any]":
    """Fields by their names, and files under the package's own key."""
    mark = b"\r\n--" + boundary
    whole = body if body[:2] == b"\r\n" else b"\r\n" + body
    if not whole.startswith(mark):
        raise RequestError(f"the form does not begin with its boundary {quoted(boundary.decode())}")
    most, at = min(_PARTS, limits.rows + 64), len(mark)
    files: Files = []
    value: dict[str, Any] = {}
    lists, texts_bytes = set[str](), 0
    for _ in range(most):
        if whole[at : at + 2] == b"--":
            if whole[at + 2 :].strip(b"\r\n"):
                raise RequestError(f"{len(whole) - at - 2} bytes are behind the form's end")
            made = _of_files(files, kind)
            if both := value.keys() & made.keys():
                raise RequestError(f"the form has {quoted(min(both))} as a text and as a file: send one of them")
            return {**value, **made}
        end = whole.find(mark, at)
        head = whole.find(b"\r\n\r\n", at, at + _HEADER_BYTES)
        if whole[at : at + 2] != b"\r\n" or head < 0 or (0 <= end < head):
            raise RequestError(f"a part of the form has no headers, or more than {_HEADER_BYTES} bytes of them")
        if end < 0:
            raise RequestError("the form ends in the middle of a part: its last boundary is missing")
        name, stated, is_file = _told(whole[at:head].decode("utf-8", "replace"))
        data = whole[head + 4 : end]
        if is_file:
            if not data:
                raise RequestError(f"the form's file {quoted(name)} is empty")
            files.append((name, data))
        else:
            texts_bytes += len(data)  # they are read as JSON is, which takes many times its bytes
            if texts_bytes > limits.json_bytes:
                raise too_large("json_bytes", "bytes of the form's fields that are no files:", texts_bytes, limits)
            _take(name, stated, data, value, lists)
        at = end + len(mark)
    raise RequestError(f"the form has more than {most} parts", 413, "PayloadTooLarge")


def _told(head: str) -> "tuple[str, str, bool]":
    """What a part says of itself: its name, its type of content, and whether it is a file."""
    lines = [line.partition(":") for line in head.split("\r\n") if line]
    headers = {name.strip().lower(): text.strip() for name, _, text in lines}
    disposition, _, parameters = headers.get("content-disposition", "").partition(";")
    told = _parameters(parameters)
    name = told.get("name", "")
    if disposition.strip().lower() != "form-data" or not name:
        raise RequestError('a part of the form says no name: Content-Disposition: form-data; name="..." is needed')
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding not in _CODED:
        raise RequestError(f"the form's field {quoted(name)} is in {quoted(coding)}; send its bytes as they are")
    stated = headers.get("content-type", "").partition(";")[0].strip().lower()
    named = "filename" in told or "filename*" in told
    return name, stated, named or stated in BYTES or stated.partition("/")[0] in KINDS


def _take(name: str, stated: str, data: bytes, value: "dict[str, Any]", lists: "set[str]") -> None:
    """A field of text. `lists`: names that came more than once."""
    if name in value and not name.endswith("[]"):
        raise RequestError(f"the form has the field {quoted(name)} twice")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RequestError(f"the form's field {quoted(name)} is no UTF-8; a file has a filename") from None
    read = _simple(text, name) if stated == "application/json" or _looks_simple(text) else text
    if name not in value:
        value[name] = read
    elif name in lists:
        value[name].append(read)
    else:  # as clients write a list: OpenAI's `timestamp_granularities[]`
        lists.add(name)
        value[name] = [value[name], read]


def _looks_simple(text: str) -> bool:
    """Whether a field's text is meant as a number, true, false, null, an object or a list: forms know texts alone."""
    return text in ("true", "false", "null") or text[:1] in ("{", "[") or (text[:1] in "-0123456789" and 0 < len(text) < 30)


def _simple(text: str, name: str) -> object:
    try:
        return jsontext.loads(text.encode())
    except ValueError as error:
        if text[:1] in ("{", "["):
            raise RequestError(f"the form's field {quoted(name)} is not JSON: {error}") from None
        return text


def _of_files(files: "Files", kind: str) -> "dict[str, Any]":
    """A package's own files, whatever a form calls them; a hook's by their names, several of one name as a list."""
    if kind:
        several = len(files) > 1 or any(name.removesuffix("[]") == KINDS[kind] for name, _ in files)
        return {} if not files else {KINDS[kind]: [data for _, data in files]} if several else {kind: files[0][1]}
    by_name: dict[str, Any] = {}
    for name, data in files:
        before = by_name.get(name)
        by_name[name] = data if before is None else [*(before if type(before) is list else [before]), data]
    return by_name
