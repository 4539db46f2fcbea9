"""Which mutants `make mutants` counts, and what it says of those that survive."""

from __future__ import annotations

import pytest
from tools import mutants

MODULE = "mlpack.some.module"
MUTATED = """
@decorated
def f(a: int) -> str:
    return "a"

def x_f__mutmut_orig(a: int) -> str:
    if a > 1:
        return f"{a} more"
    raise ValueError("few")

def x_f__mutmut_1(a: int) -> str:
    if a >= 1:
        return f"{a} more"
    raise ValueError("few")

def x_f__mutmut_2(a: int) -> str:
    if a > 1:
        return f"{a} more"
    raise ValueError("XXfewXX")

def x_f__mutmut_3(a: int) -> str:
    if a > 1:
        return f"{None} more"
    raise ValueError("few")

class C:
    def xǁCǁg__mutmut_orig(self) -> int:
        return 1

    def xǁCǁg__mutmut_1(self) -> int:
        return 2
"""
KNOWN = {MODULE: [{"was": "return 1", "now": "return 2", "why": "nobody reads it"}]}


def drawn() -> list[mutants.Mutant]:
    return list(mutants.mutants(MODULE, MUTATED))


def test_changes_of_words_alone_are_no_mutants() -> None:
    assert [(each.name.removeprefix(f"{MODULE}."), each.was, each.now) for each in drawn()] == [
        ("x_f__mutmut_1", "if a > 1:", "if a >= 1:"),
        ("x_f__mutmut_3", "return f'{a} more'", "return f'{None} more'"),
        ("xǁCǁg__mutmut_1", "return 1", "return 2"),
    ]


@pytest.mark.parametrize(
    ("codes", "enough", "words"),
    [
        ((1, 1, 0), True, "2 of 3 mutants noticed, 1 explained: 100%"),
        ((1, 36, 1), True, "3 of 3 mutants noticed, 0 explained: 100%"),
        ((0, 1, 1), False, "2 of 3 mutants noticed, 0 explained: 67%"),
        ((33, 1, 0), False, "1 of 3 mutants noticed, 1 explained: 50%"),
    ],
)
def test_survivors_count_unless_they_are_explained(codes: tuple[int, ...], enough: bool, words: str) -> None:
    every = drawn()
    text, found = mutants.judge(MODULE, every, dict(zip([each.name for each in every], codes, strict=True)), KNOWN)
    assert found == enough
    assert text.startswith(f"{MODULE}: {words}")
    assert ("- if a > 1:\n    + if a >= 1:" in text) == (not enough)


def test_a_mutant_that_was_not_run_is_an_error() -> None:
    every = drawn()
    with pytest.raises(ValueError, match=r"mutmut did not run mlpack\.some\.module\.x_f__mutmut_1, "):
        mutants.judge(MODULE, every, {each.name: None for each in every}, {})


def test_the_sample_of_a_seed_is_always_the_same() -> None:
    every = drawn()
    assert mutants.sample(every, 2, 1) == mutants.sample(list(every), 2, 1)
    assert len({tuple(each.name for each in mutants.sample(every, 1, seed)) for seed in range(20)}) == 3
    assert mutants.sample(every, 60, 1) == sorted(every, key=lambda each: each.name)


def test_each_explained_survivor_has_a_module_and_a_reason() -> None:
    table = mutants.known()
    assert set(table) <= set(mutants.modules())
    assert all(set(row) == {"was", "now", "why"} and len(row["why"]) > 20 for rows in table.values() for row in rows)


def test_every_module_and_every_test_that_is_named_exists() -> None:
    assert [path for path in mutants.modules().values() if not (mutants.ROOT / path).is_file()] == []
    assert [path for path in mutants.tests() if not (mutants.ROOT / path).exists()] == []
