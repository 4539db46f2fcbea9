"""Signatures of tokens, verified with public keys: RSA (PKCS #1 v1.5) and ECDSA on P-256 and P-384.

Promises: a signature counts only where it is the one that the standard describes: for RSA the whole padded block is compared, and
nothing of it is parsed; for ECDSA both numbers are in range and the key is a point of the curve. Nothing secret takes part, so
times tell nothing.
Will not: sign, or know tokens.

Sources: RFC 8017, 8.2.2 and 9.2; FIPS 186-5, 6.4.2; SEC 1, 4.1.4; curves of SEC 2; RFC 7518, 3.3 and 3.4; formulas of the
Explicit-Formulas Database (dbl-2001-b, add-2007-bl).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Point = tuple[int, int, int]

ALGORITHMS = {
    "RS256": ("RSA", "sha256"), "RS384": ("RSA", "sha384"), "RS512": ("RSA", "sha512"),
    "ES256": ("P-256", "sha256"), "ES384": ("P-384", "sha384"),
}  # fmt: skip
"""By name: the family or the curve of its keys, and its hash. HMAC and `none` are not among them, so that no public key can be
taken for a secret, and no absence for a signature."""
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192


class _Curve:
    """y² = x³ - 3x + b over the field of p, with the base point g of order n."""

    __slots__ = ("b", "g", "n", "p", "size")

    def __init__(self, p: int, b: int, n: int, g: "tuple[int, int]") -> None:
        self.p, self.b, self.n, self.g = p, b, n, g
        self.size = (n.bit_length() + 7) // 8


_CURVES = {
    "P-256": _Curve(
        0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        (
            0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        ),
    ),
    "P-384": _Curve(
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        (
            0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
            0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
        ),
    ),
}


class KeyUnfitError(ValueError):
    """A key that cannot verify anything here. The message says why."""


class Key:
    """One public key of a JSON Web Key. Raises KeyUnfitError where it is none that is known, or a weak one."""

    __slots__ = ("family", "numbers")

    def __init__(self, told: "dict[str, Any]") -> None:
        self.numbers: tuple[int, int]
        if told.get("kty") == "RSA":
            n, e = _integer(told.get("n")), _integer(told.get("e"))
            if not _LEAST_RSA_BITS <= n.bit_length() <= _MOST_RSA_BITS or not n & 1 or not e & 1 or not 3 <= e < 1 << 33:
                raise KeyUnfitError(f"an RSA key of {n.bit_length()} bits with the exponent {e}")
            self.family, self.numbers = "RSA", (n, e)
            return
        curve = _CURVES.get(str(told.get("crv"))) if told.get("kty") == "EC" else None
        if curve is None:
            raise KeyUnfitError("a key that is neither RSA nor on P-256 or P-384")
        x, y = _integer(told.get("x")), _integer(told.get("y"))
        if x >= curve.p or y >= curve.p or (y * y - (x * x * x - 3 * x + curve.b)) % curve.p:
            raise KeyUnfitError("a point that is not on its curve")
        self.family, self.numbers = told["crv"], (x, y)


def verify(key: Key, algorithm: str, signed: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature of these bytes by one of ALGORITHMS, whose family the key has to have."""
    family, name = ALGORITHMS[algorithm]
    if key.family != family:
        return False
    import hashlib

    digest = hashlib.new(name, signed).digest()
    if family == "RSA":
        return _verify_rsa(key.numbers, name, digest, signature)
    return _verify_ecdsa(_CURVES[family], key.numbers, digest, signature)


def _verify_rsa(numbers: "tuple[int, int]", name: str, digest: bytes, signature: bytes) -> bool:
    n, e = numbers
    size = (n.bit_length() + 7) // 8
    value = int.from_bytes(signature, "big")
    if len(signature) != size or value >= n:
        return False
    told = _DIGEST_INFO[name] + digest
    expected = b"\x00\x01" + b"\xff" * (size - len(told) - 3) + b"\x00" + told
    return pow(value, e, n).to_bytes(size, "big") == expected


def _verify_ecdsa(curve: _Curve, public: "tuple[int, int]", digest: bytes, signature: bytes) -> bool:
    if len(signature) != 2 * curve.size:
        return False
    r, s = int.from_bytes(signature[: curve.size], "big"), int.from_bytes(signature[curve.size :], "big")
    if not (0 < r < curve.n and 0 < s < curve.n):
        return False
    value = int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - curve.n.bit_length())
    inverse = pow(s, -1, curve.n)
    x, _, z = _both(curve, value * inverse % curve.n, r * inverse % curve.n, public)
    return z != 0 and (x * pow(z * z, -1, curve.p)) % curve.p % curve.n == r


def _both(curve: _Curve, u1: int, u2: int, public: "tuple[int, int]") -> "Point":
    """u1 times the base point and u2 times the key, in Jacobian coordinates: both at once, a bit at a time."""
    base, key = (*curve.g, 1), (*public, 1)
    table = (None, base, key, _added(curve, base, key))
    total: Point = (1, 1, 0)
    for at in range(max(u1.bit_length(), u2.bit_length()) - 1, -1, -1):
        total = _doubled(curve, total)
        chosen = table[(u1 >> at & 1) | (u2 >> at & 1) << 1]
        if chosen is not None:
            total = _added(curve, total, chosen)
    return total


def _doubled(curve: _Curve, point: "Point") -> "Point":
    x, y, z = point
    p = curve.p
    delta, gamma = z * z % p, y * y % p
    beta = x * gamma % p
    alpha = 3 * (x - delta) * (x + delta) % p
    x3 = (alpha * alpha - 8 * beta) % p
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % p, ((y + z) * (y + z) - gamma - delta) % p


def _added(curve: _Curve, one: "Point", other: "Point") -> "Point":
    x1, y1, z1 = one
    x2, y2, z2 = other
    if z1 == 0:
        return other
    if z2 == 0:
        return one
    p = curve.p
    z1z1, z2z2 = z1 * z1 % p, z2 * z2 % p
    u1, u2 = x1 * z2z2 % p, x2 * z1z1 % p
    s1, s2 = y1 * z2 * z2z2 % p, y2 * z1 * z1z1 % p
    h, r = (u2 - u1) % p, 2 * (s2 - s1) % p
    if h == 0:
        return _doubled(curve, one) if r == 0 else (1, 1, 0)
    i = 4 * h * h % p
    j, v = h * i % p, u1 * i % p
    x3 = (r * r - j - 2 * v) % p
    return x3, (r * (v - x3) - 2 * s1 * j) % p, ((z1 + z2) * (z1 + z2) - z1z1 - z2z2) * h % p


def unpadded(text: str) -> bytes:
    """base64url without padding, strictly. Raises ValueError."""
    from binascii import Error, a2b_base64

    if not text.isascii() or "+" in text or "/" in text or "=" in text:
        raise ValueError("not base64url")
    try:
        return a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), strict_mode=True)
    except Error as error:
        raise ValueError(f"not base64url: {error}") from None


def _integer(text: object) -> int:
    try:
        return int.from_bytes(unpadded(text), "big")  # type: ignore[arg-type]  # told by the error
    except (ValueError, AttributeError, TypeError):
        raise KeyUnfitError("a key whose numbers are not base64url") from None
