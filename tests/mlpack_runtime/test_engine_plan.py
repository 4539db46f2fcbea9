"""What is read of an engine's bytes: nothing that is not there, whatever they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.tensorrt import engine_key, engine_plan

VERSION = "1.7.1.116"


def plan(size: int = 200, magic: bytes = b"vtrt", sm: bytes = b"sm89", name: bytes = b"x") -> bytes:
    """Bytes of the form of an engine's header and text."""
    text = b"accelerators={" + sm + b" } " + name
    body = bytes(64 - 28) + text
    return magic + bytes(12) + size.to_bytes(8, "little") + bytes([1, 7, 1, 116]) + body + bytes(size - 28 - len(body))


def test_a_sound_plan_has_no_problems() -> None:
    assert engine_plan.problems(plan(), "rtx", VERSION, "sm89", ["x"]) == ([], [])


def test_each_contradiction_is_named() -> None:
    for data, words in (
        (plan()[:-1], "cut off"),
        (plan(magic=b"none"), "first bytes"),
        (plan(sm=b"sm86"), "for sm86"),
        (plan(sm=b"sm86 sm89"), "for sm86, sm89"),
        (plan(name=b"zz"), "'x'"),
        (b"", "first bytes"),
    ):
        wrong, _ = engine_plan.problems(data, "rtx", VERSION, "sm89", ["x"])
        assert any(words in each for each in wrong), (words, wrong)
    assert engine_plan.problems(plan(), "rtx", "1.7.2.0", "sm89", ["x"])[0] == ["it was made by TensorRT 1.7.1.116, not 1.7.2.0"]


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    assert engine_plan.problems(plan(sm=b""), "rtx", VERSION, "sm89", ["x"])[1] == ["the architecture: its text names none"]
    wrong, unknown = engine_plan.problems(b"????" + bytes(96), "standard", "11.4.0.106", "sm89", ["x"])
    assert wrong == []
    assert "were not read" in unknown[0]


def test_an_engine_for_ampere_and_newer_may_name_any_of_them() -> None:
    for sms, wrong in ((b"sm80 sm89", []), (b"sm75", ["it is for sm75, not for sm80+"])):
        assert engine_plan.problems(plan(sm=sms), "rtx", VERSION, engine_key.AMPERE_PLUS, ["x"])[0] == wrong


@given(st.binary(max_size=400), st.sampled_from(["rtx", "standard", "lean"]))
def test_any_bytes_get_an_answer(data: bytes, flavour: str) -> None:
    wrong, unknown = engine_plan.problems(data, flavour, VERSION, "sm89", ["x"])
    assert wrong or unknown
