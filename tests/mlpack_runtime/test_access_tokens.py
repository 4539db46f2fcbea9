"""Tokens and their keys: signatures against cryptography's, and every way that we know to be let in without the right."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.support.runtime.token_issuer import CLAIMS, NOW, Signer, b64, forged_with_public_key, number, unsigned

from mlpack_runtime.access import signatures
from mlpack_runtime.access.key_sets import KeySet, parsed
from mlpack_runtime.access.signatures import Key, KeyUnfitError, verify
from mlpack_runtime.access.tokens import Tokens
from mlpack_runtime.limits import RequestError
from mlpack_runtime.model import ModelError

SETTINGS = {"jwks": "https://issuer.example/keys", "issuer": ["https://issuer.example"], "audience": ["mlpack", "other"]}


@functools.cache
def signer(algorithm: str, kid: str | None = "one") -> Signer:
    return Signer(algorithm, kid)


class Shown:
    """The issuer's key set, and how often it was fetched."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.fetches, self.now_s, self.away = list(keys), 0, 1000.0, False

    def fetch(self, _url: str, _timeout_s: float) -> bytes:
        self.fetches += 1
        if self.away:
            raise OSError("no route to host")
        return json.dumps({"keys": self.keys}).encode()

    def tokens(self, **settings: Any) -> Tokens:
        told = {**SETTINGS, **settings}
        return Tokens(told, KeySet(told, self.fetch, lambda: self.now_s), lambda: NOW)


def ask(tokens: Tokens, token: str) -> str | None:
    return tokens.identify("POST", "/", {"authorization": f"Bearer {token}"})


def refused(tokens: Tokens, token: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(tokens, token)
    return caught.value


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384"])
def test_signatures_are_those_of_cryptography(algorithm: str) -> None:
    made = signer(algorithm)
    key, data = Key(made.jwk()), b"signed bytes"
    for _ in range(5):
        signature = made.sign(data)
        assert verify(key, algorithm, data, signature)
        assert not verify(key, algorithm, data + b".", signature)
        for at in range(0, len(signature), max(1, len(signature) // 7)):
            assert not verify(key, algorithm, data, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])
        assert not verify(key, algorithm, data, signature[:-1])
        assert not verify(key, algorithm, data, b"\0" + signature)
    assert not verify(Key(Signer(algorithm).jwk()), algorithm, data, signature)
    assert not verify(key, "RS256" if algorithm != "RS256" else "ES256", data, signature)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384"])
def test_numbers_out_of_range_are_no_signature(algorithm: str) -> None:
    made = signer(algorithm)
    key, size = Key(made.jwk()), (made.key.curve.key_size + 7) // 8
    order = signatures._CURVES[key.family].n
    r, s = made.sign(b"x")[:size], made.sign(b"x")[size:]
    for left, right in ((bytes(size), s), (r, bytes(size)), (order.to_bytes(size, "big"), s), (r, order.to_bytes(size, "big"))):
        assert not verify(key, algorithm, b"x", left + right)
    assert not verify(key, algorithm, b"x", bytes(2 * size))


def test_an_rsa_block_is_compared_whole() -> None:
    """Bleichenbacher's forgery of 2006 leaves bytes behind the digest, which a parser passes over."""
    private = signer("RS256").key.private_numbers()
    n, d = private.public_numbers.n, private.d
    digest = __import__("hashlib").sha256(b"x").digest()
    told = signatures._DIGEST_INFO["sha256"] + digest
    for block in (
        b"\x00\x01" + b"\xff" * 8 + b"\x00" + told + b"\x00" * (256 - 11 - len(told)),
        b"\x00\x02" + b"\xff" * (253 - len(told)) + b"\x00" + told,
        b"\x00\x01" + b"\xfe" * (253 - len(told)) + b"\x00" + told,
        b"\x00\x01" + b"\xff" * (253 - len(digest)) + b"\x00" + digest,
    ):
        signature = pow(int.from_bytes(block, "big"), d, n).to_bytes(256, "big")
        assert not verify(Key(signer("RS256").jwk()), "RS256", b"x", signature)


@pytest.mark.parametrize(
    "told",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": number(2**1023 + 1), "e": "AQAB"},
        {"kty": "RSA", "n": number(2**2047 + 1), "e": "AQ"},
        {"kty": "RSA", "n": "not base64!", "e": "AQAB"},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-256", "x": number(1, 32), "y": number(1, 32)},
        {"kty": "EC", "crv": "secp256k1", "x": number(1, 32), "y": number(1, 32)},
        {"kty": "OKP", "crv": "Ed25519", "x": number(1, 32)},
    ],
)
def test_weak_or_unknown_keys_verify_nothing(told: dict[str, Any]) -> None:
    with pytest.raises(KeyUnfitError):
        Key(told)
    assert parsed(json.dumps({"keys": [told, signer("RS256").jwk()]}).encode())[0][0] == "one"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_the_issuer_is_let_in(algorithm: str) -> None:
    tokens = Shown(signer(algorithm).jwk()).tokens()
    assert ask(tokens, signer(algorithm).token()) == "team-a"
    assert ask(tokens, signer(algorithm).token(aud=["x", "other"], sub=7)) == "7"
    assert ask(tokens, signer(algorithm).token(exp=NOW - 59, nbf=NOW + 59)) == "team-a"
    assert tokens.identify("POST", "/", {"authorization": "Basic abc"}) is None
    assert tokens.identify("POST", "/", {}) is None


@pytest.mark.parametrize(
    ("claims", "header", "said"),
    [
        ({"exp": NOW - 61}, None, "has expired"),
        ({"exp": None}, None, "never expires"),
        ({"exp": "soon"}, None, "exp is no time"),
        ({"exp": True}, None, "exp is no time"),
        ({"exp": 1e300}, None, "exp is no time"),
        ({"nbf": NOW + 61}, None, "not valid yet"),
        ({"iss": "https://evil.example"}, None, "issuer is 'https://evil.example'"),
        ({"iss": None}, None, "issuer is None"),
        ({"aud": "somebody"}, None, "another audience"),
        ({"aud": None}, None, "another audience"),
        ({"aud": {"mlpack": 1}}, None, "another audience"),
        ({}, {"alg": "none"}, "algorithm is 'none'"),
        ({}, {"alg": "HS256"}, "algorithm is 'HS256'"),
        ({}, {"alg": "RS512"}, "algorithm is 'RS512'; RS256 and ES256 are taken"),
        ({}, {"alg": ["RS256"]}, "algorithm is"),
        ({}, {"crit": ["exp"]}, "`crit`"),
        ({}, {"kid": "another"}, "a key that its issuer does not show: 'another'"),
        ({}, {"kid": 7}, "key id is no text"),
        ({}, {"alg": "ES256"}, "a key that its issuer does not show"),
        ({}, {"jwk": {"kty": "oct"}, "kid": "evil"}, "a key that its issuer does not show"),
    ],
)
def test_a_token_is_refused_for_what_is_wrong(claims: dict[str, Any], header: dict[str, Any] | None, said: str) -> None:
    error = refused(Shown(signer("RS256").jwk()).tokens(), signer("RS256").token(header, **claims))
    assert (error.status, error.kind) == (401, "Unauthorized")
    assert said in str(error)
    assert error.headers["www-authenticate"].startswith('Bearer error="invalid_token", error_description="')


@pytest.mark.parametrize(
    "token",
    [
        unsigned(),
        unsigned() + "AAAA",
        forged_with_public_key(signer("RS256")),
        signer("RS256").token().rpartition(".")[0] + ".",
        signer("RS256").token()[:-4] + "AAAA",
        Signer("RS256").token(),
        signer("RS256").token() + ".x",
        signer("RS256").token() + "=",
        "a.b.c",
        "...",
        "",
        "\u00e9.\u00e9.\u00e9",
        "A" * 20_000,
        f"{b64(b'[]')}.{b64(b'{}')}.AAAA",
        f"{b64(b'{' * 5000)}.{b64(b'{}')}.AAAA",
    ],
)  # fmt: skip
def test_forgeries_and_noise_are_refused(token: str) -> None:
    assert refused(Shown(signer("RS256").jwk()).tokens(), token).status == 401


def test_changed_claims_under_an_old_signature_are_refused() -> None:
    good = signer("ES256").token()
    head, _, signature = good.split(".")
    changed = f"{head}.{b64(json.dumps({**CLAIMS, 'sub': 'admin'}).encode())}.{signature}"
    tokens = Shown(signer("ES256").jwk()).tokens()
    assert ask(tokens, good) == "team-a"
    assert "signature is wrong" in str(refused(tokens, changed))


def test_a_token_without_rights_is_forbidden() -> None:
    tokens = Shown(signer("ES256").jwk()).tokens(require={"scope": ["predict"], "client_id": ["a", "b"]})
    assert ask(tokens, signer("ES256").token(scope="read predict", client_id="b")) == "team-a"
    for claims in ({"scope": "predictable", "client_id": "a"}, {"scope": "predict"}, {"scope": "predict", "client_id": ["c"]}):
        error = refused(tokens, signer("ES256").token(**claims))
        assert (error.status, error.kind) == (403, "Forbidden")
        assert "insufficient_scope" in error.headers["www-authenticate"]


@pytest.mark.parametrize(("claim", "wanted"), [(True, "true"), (False, "false"), (7, "7"), (["a", 7], "7"), ("7", "7")])
def test_claims_that_are_no_texts_are_compared_as_written(claim: object, wanted: str) -> None:
    tokens = Shown(signer("ES256").jwk()).tokens(require={"level": [wanted]})
    assert ask(tokens, signer("ES256").token(level=claim)) == "team-a"
    for other in (not claim, None, {"a": wanted}, 7.5, [[wanted]]):
        assert refused(tokens, signer("ES256").token(level=other)).status == 403


def test_verified_tokens_are_remembered_until_they_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, times = Shown(signer("ES256").jwk()), [float(NOW)]
    tokens = Tokens(SETTINGS, KeySet(SETTINGS, shown.fetch, lambda: shown.now_s), lambda: times[0])
    token = signer("ES256").token(exp=NOW + 100)
    assert ask(tokens, token) == "team-a"
    monkeypatch.setattr("mlpack_runtime.access.tokens.verify", lambda *_: pytest.fail("verified again"))
    assert ask(tokens, token) == "team-a"
    times[0] = NOW + 161
    monkeypatch.undo()
    assert "has expired" in str(refused(tokens, token))


def test_wrong_signatures_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, times, looked = Shown(signer("ES256").jwk()), [float(NOW)], list[bytes]()
    tokens = Tokens(SETTINGS, KeySet(SETTINGS, shown.fetch, lambda: shown.now_s), lambda: times[0])

    def look(*told: Any) -> bool:
        looked.append(told[2])
        return verify(*told)

    monkeypatch.setattr("mlpack_runtime.access.tokens.verify", look)
    forged = Signer("ES256").token()
    for _ in range(3):
        assert "signature is wrong" in str(refused(tokens, forged))
    assert len(looked) == 1
    assert ask(tokens, signer("ES256").token()) == "team-a"
    times[0] += 6  # keys may have changed
    refused(tokens, forged)
    assert len(looked) == 3
    monkeypatch.setattr("mlpack_runtime.access.tokens._REMEMBERED_MOST", 2)
    for at in range(9):
        refused(tokens, f"{forged[:-9]}{at:09d}"[: len(forged)])
    assert len(tokens._forged) <= 2  # others' do not fill the memory


def test_keys_rotate_with_bounded_fetches() -> None:
    shown = Shown(signer("ES256").jwk())
    tokens = shown.tokens()
    assert ask(tokens, signer("ES256").token()) == "team-a"
    new = signer("ES256", "two")
    shown.keys = [new.jwk()]
    for _ in range(50):
        refused(tokens, new.token())
    assert shown.fetches == 1
    shown.now_s += 31
    assert ask(tokens, new.token()) == "team-a"
    for at in range(50):
        refused(tokens, Signer("ES256", f"unknown {at}").token())
    assert shown.fetches == 2
    shown.now_s += 601
    assert ask(tokens, new.token(sub="b")) == "b"
    assert shown.fetches == 3


def test_keys_that_cannot_be_fetched_count_for_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Shown(signer("ES256").jwk())
    tokens, token = shown.tokens(), signer("ES256").token
    shown.away = True
    error = refused(tokens, token())
    assert (error.status, error.kind, error.headers["retry-after"]) == (503, "Unavailable", "1")
    assert "no route to host" in str(error)
    shown.away, shown.now_s = False, shown.now_s + 2
    assert ask(tokens, token()) == "team-a"
    shown.away = True
    shown.now_s += 3600
    assert ask(tokens, token(sub="b")) == "b"
    shown.now_s += 86_400
    assert refused(tokens, token(sub="c")).status == 503
    assert "cannot be fetched: OSError: no route to host" in capfd.readouterr().out


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b'{"keys": []}', b'{"keys": [{"kty": "oct"}]}'])
def test_what_is_no_key_set_lets_nobody_in(data: bytes) -> None:
    keys = KeySet(SETTINGS, lambda _url, _timeout_s: data)
    with pytest.raises(RequestError) as caught:
        keys.keys("one", "RS256")
    assert caught.value.status == 503


def test_keys_for_other_uses_verify_nothing() -> None:
    made = signer("RS256")
    for more in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}):
        assert refused(Shown(made.jwk(**more), signer("ES256", "x").jwk()).tokens(), made.token()).status == 401


NULLS = {"use": None, "key_ops": None, "alg": None, "x5c": None, "x5t": None}


@pytest.mark.parametrize("more", [NULLS, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"], "use": None}])
def test_members_that_are_null_are_as_left_out(more: dict[str, Any]) -> None:
    assert ask(Shown(signer("RS256").jwk(**more)).tokens(), signer("RS256").token()) == "team-a"


ODD = [
    {"key_ops": 7}, {"key_ops": "verify"}, {"use": ["sig"]}, {"kty": ["RSA"]}, {"crv": ["P-256"], "kty": "EC"},
    {"crv": {}, "kty": "EC"}, {"n": 7}, {"n": None}, {"e": [1]}, {"kty": None},
]  # fmt: skip


@pytest.mark.parametrize("more", ODD)
def test_an_odd_key_of_a_set_does_not_take_the_others_along(more: dict[str, Any]) -> None:
    shown = Shown(signer("RS256", "odd").jwk(**more), signer("RS256").jwk())
    assert ask(shown.tokens(), signer("RS256").token()) == "team-a"
    assert refused(shown.tokens(), signer("RS256", "odd").token()).status == 401


def test_a_fetch_that_fails_in_any_way_is_not_repeated_at_once() -> None:
    fetched: list[str] = []

    def fetch(url: str, _timeout_s: float) -> bytes:
        fetched.append(url)
        raise LookupError("a codec that nobody knows")

    keys = KeySet(SETTINGS, fetch, lambda: 5.0)
    with pytest.raises(LookupError):
        keys.keys("one", "RS256")
    for _ in range(5):
        with pytest.raises(RequestError):
            keys.keys("one", "RS256")
    assert len(fetched) == 1


def test_a_token_without_a_key_id_is_tried_with_every_key() -> None:
    nameless = Signer("ES256", None)
    shown = Shown(signer("ES256").jwk(), signer("RS256").jwk(), nameless.jwk())
    assert ask(shown.tokens(), nameless.token()) == "team-a"


@pytest.mark.parametrize(("algorithm", "most"), [("RS256", 8), ("ES256", 2)])
def test_few_keys_are_tried_for_a_token_that_names_none(algorithm: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Key] = []

    def counted(key: Key, *rest: Any) -> bool:
        tried.append(key)
        return verify(key, *rest)

    monkeypatch.setattr("mlpack_runtime.access.tokens.verify", counted)
    other, own = signer(algorithm, "one"), signer(algorithm, None)
    shown = Shown(*[{**other.jwk(), "kid": f"{number}"} for number in range(most - 1)], own.jwk())
    assert ask(shown.tokens(), own.token()) == CLAIMS["sub"]
    assert len(tried) == most
    shown.keys.append({**other.jwk(), "kid": "more"})
    told = refused(shown.tokens(), own.token())
    assert (told.status, len(tried)) == (401, most)  # refused before any is tried
    assert f"its issuer shows {most + 1} that may have signed it, and {most} are tried for {algorithm}" in str(told)
    assert ask(shown.tokens(), other.token({"kid": "more"})) == CLAIMS["sub"]


def test_unknown_algorithms_keep_a_package_from_starting() -> None:
    with pytest.raises(ModelError, match="'HS256' is none of RS256"):
        Tokens({**SETTINGS, "algorithms": ["HS256"]})


def test_curves_are_those_of_the_standards() -> None:
    for name, curve in (("P-256", ec.SECP256R1()), ("P-384", ec.SECP384R1())):
        own = signatures._CURVES[name]
        numbers = ec.derive_private_key(1, curve).public_key().public_numbers()
        assert own.g == (numbers.x, numbers.y)
        negative = ec.derive_private_key(own.n - 1, curve).public_key().public_numbers()
        assert (negative.x, own.p - negative.y) == own.g
    assert rsa.RSAPublicNumbers(65537, signer("RS256").key.public_key().public_numbers().n)
