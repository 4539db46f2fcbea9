"""An issuer of JSON Web Tokens for tests, with keys of its own: what Cognito, Auth0 or Keycloak are to a package."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}
NAMES = {"ES256": "P-256", "ES384": "P-384"}
NOW = 1_800_000_000
CLAIMS: dict[str, Any] = {"iss": "https://issuer.example", "aud": "mlpack", "sub": "team-a", "exp": NOW + 300, "nbf": NOW - 10}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Signer:
    """A private key for one algorithm, its public half as a JSON Web Key, and tokens."""

    def __init__(self, algorithm: str, kid: str | None = "one", bits: int = 2048) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.key: Any = (
            rsa.generate_private_key(65537, bits) if algorithm.startswith("RS") else ec.generate_private_key(CURVES[algorithm]())
        )

    def jwk(self, **more: Any) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        if self.algorithm.startswith("RS"):
            told = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        else:
            size = (self.key.curve.key_size + 7) // 8
            told = {"kty": "EC", "crv": NAMES[self.algorithm], "x": number(numbers.x, size), "y": number(numbers.y, size)}
        return {**told, "use": "sig", **({"kid": self.kid} if self.kid else {}), **more}

    def sign(self, data: bytes) -> bytes:
        digest = HASHES[self.algorithm[2:]]()
        if self.algorithm.startswith("RS"):
            made: bytes = self.key.sign(data, padding.PKCS1v15(), digest)
            return made
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(digest)))
        size = (self.key.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token with `CLAIMS`, but for these; None takes a claim out."""
        told = {key: value for key, value in {**CLAIMS, **claims}.items() if value is not None}
        head = {"alg": self.algorithm, "typ": "JWT", **({"kid": self.kid} if self.kid else {}), **(header or {})}
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(told).encode())}"
        return f"{signed}.{b64(self.sign(signed.encode()))}"


def forged_with_public_key(signer: Signer) -> str:
    """A token signed by HMAC with the public key for a secret: the classic confusion of algorithms."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secret = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = b64(json.dumps({"alg": "HS256", "kid": signer.kid}).encode())
    signed = f"{head}.{b64(json.dumps(CLAIMS).encode())}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(**claims: Any) -> str:
    """A token with the algorithm `none`."""
    return f"{b64(json.dumps({'alg': 'none'}).encode())}.{b64(json.dumps({**CLAIMS, **claims}).encode())}."
