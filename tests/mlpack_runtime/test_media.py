"""Bodies that are no JSON, at each entrance, and the same bytes in JSON."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.functions import function
from tests.support.runtime.tiny_packages import affine, package

from mlpack_runtime import media
from mlpack_runtime.limits import Limits, RequestError

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits({}, {})
SMALL = Limits({"MLPACK_LIMIT_BODY_BYTES": "9"}, {})
JPEG = b"\xff\xd8\xff\xe0 picture \r\n--x \xef\xbf"
PNG = b"\x89PNG\r\n\x1a\n picture"
WAVE = b"RIFF\x04\0\0\0WAVE sound"
FORM = {"content-type": "multipart/form-data; boundary=xx"}


def read(body: bytes, kind: str = "image", **headers: str) -> Any:
    return media.read({name.replace("_", "-"): value for name, value in headers.items()}, body, kind, LIMITS)


def form(*parts: tuple[str, bytes], boundary: str = "xx", end: bytes = b"--\r\n") -> bytes:
    """A form of parts, each its headers and its bytes, as clients write it."""
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts]
    return b"".join(pieces) + f"--{boundary}".encode() + end


def field(name: str, text: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', text.encode()


def file(name: str, data: bytes = JPEG, kind: str = "image/jpeg") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="a \\"b\\".jpg"\r\nContent-Type: {kind}', data


def refusal(work: Any) -> str:
    with pytest.raises(RequestError) as caught:
        work()
    return str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [{"content_type": "image/jpeg"}, {"content_type": "Image/JPEG; q=1"}, {"content_type": "application/octet-stream"},
     {"content_type": "binary/octet-stream"}, {"content_type": "application/x-www-form-urlencoded"},
     {"content_type": "application/json"}, {"content_type": "audio/wav"}, {}],
)  # fmt: skip
def test_a_picture_is_known_by_its_type_or_its_beginning(headers: dict[str, str]) -> None:
    assert read(JPEG, **headers) == {"image": JPEG}


def test_types_decide_where_beginnings_do_not() -> None:
    assert read(b"tiff?", content_type="image/tiff") == {"image": b"tiff?"}
    assert read(b"tiff?", content_type="application/octet-stream") == {"image": b"tiff?"}
    assert read(WAVE, "audio") == {"audio": WAVE}
    assert read(b"..", "", content_type="audio/x-wav") == {"audio": b".."}
    for body, headers in ((b'{"text": 1}', {}), (b"[1]", {"content_type": "application/octet-stream"}), (b"text", {}), (b"", {})):
        assert read(body, **headers) is None
    assert read(b"..", "", content_type="application/octet-stream") is None  # a hook's client may mean JSON


def test_hugging_faces_client_means_inputs() -> None:
    agent = "unknown/None; hf_hub/0.36.0; python/3.11.7"
    assert read(JPEG, user_agent=agent) == {"inputs": JPEG}
    assert read(WAVE, "audio", user_agent=agent) == {"inputs": WAVE}
    assert read(JPEG, "", user_agent=agent) == {"image": JPEG}


def test_what_is_not_taken_is_refused() -> None:
    assert "takes a picture" in refusal(lambda: read(WAVE, content_type="audio/wav"))
    assert "takes a sound" in refusal(lambda: read(PNG, "audio"))
    assert "is empty" in refusal(lambda: read(b"", content_type="image/png"))
    assert "MLPACK_LIMIT_BODY_BYTES" in refusal(lambda: media.read({"content-type": "image/png"}, PNG, "image", SMALL))
    assert "MLPACK_LIMIT_BODY_BYTES" in refusal(lambda: media.read(FORM, form(file("a")), "image", SMALL))


def test_forms_have_files_and_fields() -> None:
    def form_of(*parts: tuple[str, bytes], kind: str = "image", **how: Any) -> Any:
        return media.read(FORM, form(*parts, **how), kind, LIMITS)

    assert form_of(file("file")) == {"image": JPEG}
    assert form_of(file("image"), field("top_k", "3"), field("threshold", "0.5"), field("label", "7 cats")) == {
        "image": JPEG, "top_k": 3, "threshold": 0.5, "label": "7 cats",
    }  # fmt: skip
    assert form_of(field("parameters", '{"top_k": null}'), file("x")) == {"parameters": {"top_k": None}, "image": JPEG}
    assert form_of(file("a"), file("b", PNG)) == {"images": [JPEG, PNG]}
    assert form_of(file("images[]")) == {"images": [JPEG]}
    words = [field("timestamp_granularities[]", each) for each in ("word", "segment", "7")]  # as OpenAI's client sends a list
    assert form_of(*words[:1], file("file"), kind="image") == {"timestamp_granularities[]": "word", "image": JPEG}
    assert form_of(*words, file("file")) == {"timestamp_granularities[]": ["word", "segment", 7], "image": JPEG}
    assert form_of(field("image", "aGVsbG8="), end=b"--") == {"image": "aGVsbG8="}
    assert form_of(file("a", kind="application/octet-stream"), file("a", PNG), file("b"), kind="") == {"a": [JPEG, PNG], "b": JPEG}
    assert media.read(FORM, b"\r\n" + form(file("x")), "image", LIMITS) == {"image": JPEG}
    quoted = {"content-type": 'multipart/form-data; charset=utf-8; boundary="a b:c"'}
    assert media.read(quoted, form(file("x"), boundary="a b:c"), "image", LIMITS) == {"image": JPEG}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (form(file("a"), end=b""), "has no headers"),
        (form(file("a"))[:-20], "ends in the middle"),
        (form(file("a"), end=b"--\r\nmore"), "behind the form's end"),
        (form(("Content-Type: image/png", PNG)), "says no name"),
        (form(("X: " + 5000 * "y", PNG)), "more than 4096 bytes"),
        (form(field("a", "1"), field("a", "2")), "twice"),
        (form(file("a", b"")), "is empty"),
        (form(field("image", "https://a.example/b.png"), file("file")), "'image' as a text and as a file"),
        (form(file("a"), file("b"), field("images", "[]")), "'images' as a text and as a file"),
        (form(('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64', b"")), "in 'base64'"),
        (form(('Content-Disposition: form-data; name="a"', b"\xff")), "no UTF-8"),
        (form(field("a", "{1")), "not JSON"),
        (form(*[field(str(at), "") for at in range(1200)]), "more than 1000 parts"),
        (b"--yy" + form(), "does not begin with its boundary"),
    ],
)
def test_damaged_forms_are_refused(body: bytes, message: str) -> None:
    assert message in refusal(lambda: media.read(FORM, body, "image", LIMITS))


def test_fields_of_a_form_are_bounded_as_json_is() -> None:
    limits = Limits({"MLPACK_LIMIT_JSON_BYTES": "100"}, {})
    large = file("a", JPEG + bytes(5000))
    few = form(large, *[field(name, "[[],[]]") for name in ("b", "c", "d[]", "d[]")])
    assert media.read(FORM, few, "image", limits) == {
        "image": JPEG + bytes(5000),
        "b": [[], []],
        "c": [[], []],
        "d[]": [[[], []], [[], []]],
    }
    for fields in (
        [field("b", "[" + "[]," * 40 + "[]]")],
        [field(str(at), "[[],[]]") for at in range(20)],
        [field("b", 101 * "x")],
    ):
        with pytest.raises(RequestError, match="MLPACK_LIMIT_JSON_BYTES") as caught:
            media.read(FORM, form(large, *fields), "image", limits)
        assert caught.value.status == 413


def test_boundaries_are_bounded() -> None:
    for boundary in ("", "boundary=", f"boundary={71 * 'x'}", 'boundary="x '):
        headers = {"content-type": f"multipart/form-data; {boundary}"}
        assert "the boundary" in refusal(lambda headers=headers: media.read(headers, form(file("a")), "image", LIMITS))


def test_json_holds_base64() -> None:
    text = base64.b64encode(PNG).decode()
    forms = [PNG, text, f"data:image/png;base64,{text}", f"{text[:5]}\r\n{text[5:]}\n", text.rstrip("="), {"b64": text},
             base64.urlsafe_b64encode(PNG).decode(), {"url": f"data:;base64,{text}"}]  # fmt: skip
    assert [media.content(each, "image", LIMITS) for each in forms] == [PNG] * len(forms)
    wrong: list[tuple[object, str]] = [
        ("", "empty"), (b"", "empty"), ("aé", "not base64"), ("a.b", "not base64"), ("abcde", "not base64"), (7, "is 7"),
        ("data:image/png,abc", "not in base64"), ("https://example.com/a", "fetches none"), ({"url": "file:///a"}, "begins with"),
        ({"bytes": text}, "a string with base64"),
    ]  # fmt: skip
    for value, message in wrong:
        assert message in refusal(lambda value=value: media.content(value, "image", LIMITS))
    assert "MLPACK_LIMIT_BODY_BYTES" in refusal(lambda: media.content(text, "image", SMALL))


def test_bytes_that_became_text_are_told() -> None:
    assert "binaryMediaTypes" in refusal(lambda: media.refuse_text(JPEG.decode("utf-8", "replace").encode(), "picture"))
    media.refuse_text(PNG, "picture")


HOOK = """
def decode(value):
    image = value["image"]
    return {"pixels": [[len(image), image[0], value.get("top", 0), 0]], "marks": [len(image)]}

def answer(outputs):
    return {"bytes": outputs["count"].flat()[0]}
"""


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    root = package(tmp_path / "package", affine, preprocess="media_hook:decode", postprocess="media_hook:answer")
    (root / "app/media_hook.py").write_text(HOOK)
    monkeypatch.syspath_prepend(str(root / "app"))
    return function(root, monkeypatch)


def test_functions_read_them_in_every_form_of_http(handler: Any) -> None:
    """What a hook is given is what its caller sent, through each gateway."""
    body, headers = base64.b64encode(JPEG).decode(), {"Content-Type": "image/jpeg"}
    whole = form(file("image"), field("top", "1"))
    events: list[dict[str, Any]] = [
        {"requestContext": {"http": {"method": "POST"}}, "rawPath": "/", "headers": headers},
        {"requestContext": {}, "httpMethod": "POST", "path": "/", "headers": headers},
        {"requestContext": {"elb": {}}, "httpMethod": "POST", "path": "/", "headers": headers},
        {"requestContext": {"elb": {}}, "httpMethod": "POST", "path": "/", "multiValueHeaders": {"Content-Type": ["image/jpeg"]}},
    ]
    for event in events:
        answer = handler({**event, "body": body, "isBase64Encoded": True})
        assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"bytes": len(JPEG)})
    answer = handler({**events[0], "headers": FORM, "body": base64.b64encode(whole).decode(), "isBase64Encoded": True})
    assert json.loads(answer["body"]) == {"bytes": len(JPEG)}
    answer = handler({**events[0], "body": "", "isBase64Encoded": False})
    assert (answer["statusCode"], "is empty" in answer["body"]) == (400, True)
