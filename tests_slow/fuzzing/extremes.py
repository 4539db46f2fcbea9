"""Values and texts that no client sends by design, and the two ways to put them into a request: into its value, into its bytes."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

_OPEN, _CLOSE = "\ue000raw:", "\ue001"
_LITERAL = re.compile(f'"{_OPEN}(.*?){_CLOSE}"')
_DEEP = 100_000


def raw(text: str) -> str:
    """A value that is written into the JSON as it is, which need not be JSON."""
    return f"{_OPEN}{text}{_CLOSE}"


NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30,
    1.0, 1.5, -0.0, 3.4028235e38, 3.4028236e38, 65504, 65519.99, 65520, 1e-45, 1e308, raw("1e400"), raw("-1e400"), raw("1e-400"),
    raw("-0"), raw("1E5"), raw("1e99999"), raw("0.1e1"), raw("NaN"), raw("Infinity"), raw("-Infinity"), raw("01"), raw("+1"),
    raw(".5"), raw("1."), raw("0x10"), raw("1_000"), raw("9" * 400), raw("9" * 4301), raw("-" + "9" * 20_000),
    raw("1" + "0" * 4300),
    raw("0." + "3" * 5000),
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    "", " ", "a", "cat", "\x00", "a\x00b", "\n", "\r\n", "\t", "\x1b[31m", "\x7f", "\ud800", "\udfff", "a\udc80b", "\U0001f600",
    "é",
    "\u2028", "\ufeff", "\u202e", "e\u0301" * 40, "%s%n{0}", "{}", "[]", "null", "true", "1", "../../etc/passwd", "C:\\", "'",
    '"', "\\",
    "<script>", "::error::", "a" * 127, "a" * 129, "a" * 1000, "cat " * 300, "[MASK]", "[CLS] [SEP]", "x" * 70_000, "\x00" * 600,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [[[]]], [{}], {"": None}, {"name": 1}, [None], [True], ["a"], [0] * 100, [[0] * 4] * 50,
    [0] * 3000, {"a": {"b": {"c": {}}}}, {str(at): at for at in range(100)}, raw("[" * 60 + "]" * 60), raw("[" * 2000 + "]" * 2000),
    raw("[" * 300), raw('{"a":' * 990 + "1" + "}" * 990), raw("[1,]"), raw("tru"), raw('{"a"}'), raw("{'a':1}"), raw("//"), raw(""),
    raw("[1 2]"), raw('{"a":1 "b":2}'),
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    [], [0], [0, 0], [0, 4], [4, 0], [1], [1, 4], [4, 1], [1, 1, 4], [1] * 9, [1] * 70, [0] * 40, [-1, 4], [1, -4], [2**31, 0],
    [0, 2**31], [2**63, 0], [2**63 - 1], [2**62, 2**62], [10**400], [raw("9" * 4400)], [raw("9" * 4400)] * 20, [10**18] * 50,
    [200_000, 0], [1_000_000, 0], [65536, 65536], [1.0, 4], ["1", 4], [True, 4], [None], [[1, 4]], {}, "1,4", 4, None,
    [0, 10**9], [3, 0, 10**6], [10**6, 2, 0, 3], [raw("1e2"), 4], [1, 2, 0, 3], [0, 2, 0, 3], [1, 2, 10**7, 3],
)  # fmt: skip
RARE: tuple[Any, ...] = (
    "a" * 5_000_000, "cat " * 250_000, ["cat"] * 20_000, ["cat " * 2000, *["a"] * 3000], raw("[" * _DEEP + "]" * _DEEP),
    [0] * 200_000,
    [[]] * 100_000, raw("9" * 1_000_000), [raw("9" * 4000)] * 300, {str(at): 0 for at in range(50_000)}, "\ud800" * 100_000,
    "é" * 400_000,
)  # fmt: skip


def value(random: Random) -> Any:
    """One of them; one in 2,000 is megabytes."""
    if random.random() < 0.0005:
        return random.choice(RARE)
    return random.choice(random.choice((NUMBERS, TEXTS, OTHERS, SHAPES)))


def changed(random: Random, whole: Any) -> Any:
    """A copy with one place changed: replaced, removed, renamed, doubled, wrapped."""
    path: list[Any] = []
    at = whole
    while isinstance(at, (dict, list)) and at and (not path or random.random() < 0.8):
        key = random.choice(list(at)) if isinstance(at, dict) else random.randrange(min(len(at), 50))
        path.append(key)
        at = at[key]
    return _at(random, whole, path) if path else value(random)


def _at(random: Random, whole: Any, path: list[Any]) -> Any:
    key, rest = path[0], path[1:]
    made: Any = dict(whole) if isinstance(whole, dict) else list(whole)
    if rest:
        made[key] = _at(random, made[key], rest)
        return made
    how = random.random()
    if key == "shape" and how < 0.7:
        made[key] = random.choice(SHAPES)
    elif how < 0.6:
        made[key] = value(random)
    elif how < 0.75:
        del made[key]
    elif how < 0.85:
        made[key] = [made[key]] if random.random() < 0.5 else {"a": made[key]}
    elif isinstance(made, list):
        made[key:key] = [made[key]] * random.choice((1, 2, 50))
    else:
        made[random.choice(TEXTS[:-8]) if random.random() < 0.5 else f"{key} "] = made.pop(key)
    return made


def written(random: Random, whole: Any) -> bytes:
    """As JSON, in one of the ways that there are; literals as they are, keys sometimes twice."""
    ascii_only = random.random() < 0.7
    text = json.dumps(whole, ensure_ascii=ascii_only, separators=random.choice(((",", ":"), (", ", ": "))), allow_nan=True)
    if _OPEN in text or "\\ue000raw:" in text:
        if ascii_only:
            text = text.replace("\\ue000raw:", _OPEN).replace("\\ue001", _CLOSE)
        # Inside a literal quotes and backslashes were escaped by the encoder.
        text = _LITERAL.sub(lambda found: found[1].replace('\\"', '"').replace("\\\\", "\\"), text)
    if random.random() < 0.02:
        text = (
            text.replace('"name"', '"name":"other","name"', 1) if random.random() < 0.5 else text.replace("}", ',"inputs":[]}', 1)
        )
    if random.random() < 0.02:
        text = random.choice((" \r\n\t", "\ufeff", "\x0b", "")) + text + random.choice(("\n", " ", "\x00", "x", "{}", ""))
    return text.encode("utf-16" if random.random() < 0.003 else "utf-8", "surrogatepass")


def mangled(random: Random, data: bytes) -> bytes:
    """Bytes with some of them changed, removed, repeated, cut off, or put in."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at, how = random.randrange(len(made) + 1), random.random()
        if how < 0.3 and made:
            made[at % len(made)] = random.choice((0, 10, 13, 34, 92, 127, 128, 255, random.randrange(256)))
        elif how < 0.5:
            del made[at : at + random.choice((1, 1, 2, 8, 100))]
        elif how < 0.65:
            made[at:at] = made[max(0, at - random.choice((1, 2, 8, 100))) : at]
        elif how < 0.75:
            del made[at:]
        else:
            made[at:at] = random.choice(
                (b"\x00", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b'"', b"\\u", b"\\ud800", b"1e9", b"[[[[", b"}", b",")
            )
    return bytes(made)


def text(random: Random) -> str:
    """A text for a header, an attribute or a path."""
    chosen = random.choice(TEXTS) if random.random() < 0.7 else str(random.choice(NUMBERS))
    return chosen.removeprefix(_OPEN).removesuffix(_CLOSE)
