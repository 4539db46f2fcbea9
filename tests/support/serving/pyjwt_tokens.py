"""Tokens as PyJWT makes them, and the key set that their issuer would show: JSON on stdout. Run with the clients' interpreter."""

from __future__ import annotations

import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

KEYS = {
    "RS256": (rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "ES384": (ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
}
NOW = int(time.time())
CLAIMS = {"iss": "https://issuer.example", "aud": ["mlpack"], "sub": "team-a", "iat": NOW, "nbf": NOW, "exp": NOW + 600}


def token(algorithm: str, **claims: object) -> str:
    """One signed by the key of an algorithm."""
    return jwt.encode({**CLAIMS, **claims}, KEYS[algorithm][0], algorithm=algorithm, headers={"kid": algorithm})


print(
    json.dumps(
        {
            "keys": [
                {**json.loads(form.to_jwk(key.public_key())), "kid": name, "use": "sig", "alg": name}
                for name, (key, form) in KEYS.items()
            ],
            "good": [token(name) for name in KEYS],
            "bad": [
                token("RS256", exp=NOW - 600),
                token("ES256", aud="somebody"),
                token("ES384", iss="https://evil.example"),
                jwt.encode(CLAIMS, None, algorithm="none"),
                jwt.encode(CLAIMS, "a secret that is long enough for this hash", algorithm="HS256", headers={"kid": "RS256"}),
            ],
        }
    )
)
