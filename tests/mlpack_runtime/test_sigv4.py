"""Signatures are botocore's own, for whatever HTTP can carry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Botocores
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.aws import sigv4
from mlpack_runtime.aws.credentials import Credentials
from mlpack_runtime.aws.wire import Asked

NOW = 1_795_991_383.0
ODD = (
    "",
    "/",
    "//",
    "a//b",
    "a/../b",
    "./x",
    "..",
    "a b",
    "a+b",
    "ä/ö",
    "日本/語",
    "%41",
    "%2F",
    "~-_.",
    "a&b=c?d#e",
    "\x00\x7f",
    "é",
    "🤖",
    "trailing/",
)
KEYS = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(("Range", "Content-Type", "X-Amz-Target", "x-amz-meta-a", "User-Agent", "traceparent", "If-None-Match")), VALUES
)


def _botocores(service: str, method: str, url: str, headers: dict[str, str], body: bytes, token: str) -> str:
    asked = AWSRequest(method=method, url=url, headers=headers, data=body)
    keys = Botocores("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token or None)
    at = datetime.fromtimestamp(NOW, UTC)
    signer: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(keys, service, "eu-central-1")
    with mock.patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)):
        signer.add_auth(asked)
    return str(asked.headers["Authorization"])


def _ours(service: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes, token: str) -> str:
    keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    scope = sigv4.Scope(service, "eu-central-1", NOW)
    return sigv4.signed(Asked(method, path, headers, body, query), keys, scope).headers["authorization"]


@given(
    service=st.sampled_from(("s3", "dynamodb", "firehose")),
    method=st.sampled_from(("GET", "PUT", "POST", "HEAD")),
    key=KEYS,
    pairs=st.lists(st.tuples(KEYS.filter(bool), KEYS), max_size=4),
    headers=HEADERS,
    body=st.binary(max_size=40),
    token=st.sampled_from(("", "a/token+with=signs")),
)
def test_a_signature_is_the_one_botocore_makes(
    service: str, method: str, key: str, pairs: list[tuple[str, str]], headers: dict[str, str], body: bytes, token: str
) -> None:
    path, query = f"/bucket/{sigv4.quoted(key, slashes=True)}", sigv4.query_string(pairs)
    url = f"https://{service}.eu-central-1.amazonaws.com{path}" + (f"?{query}" if query else "")
    headers = {name: value for name, value in headers.items() if name != "traceparent"}
    sent = {**headers, "host": f"{service}.eu-central-1.amazonaws.com"}
    assert _ours(service, method, path, query, sent, body, token) == _botocores(service, method, url, headers, body, token)


def test_what_may_change_on_the_way_is_not_signed() -> None:
    sent = {"host": "h", "traceparent": "00-1", "X-Amzn-Trace-Id": "Root=1", "User-Agent": "me", "x-amz-target": "T"}
    text = _ours("dynamodb", "POST", "/", "", sent, b"", "")
    assert "SignedHeaders=host;x-amz-date;x-amz-target," in text


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("a b/ä", "a%20b%2F%C3%A4"), ("*'()!", "%2A%27%28%29%21"), ("~-_.", "~-_."), ("\ud800", "%ED%A0%80"), ("", "")],
)
def test_names_are_encoded_byte_by_byte(text: str, encoded: str) -> None:
    assert sigv4.quoted(text) == encoded
    assert sigv4.quoted(text, slashes=True) == encoded.replace("%2F", "/")
