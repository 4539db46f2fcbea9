"""One damaged row is one named error, whatever the verb: never exit 1, never a wrong value. Every verb × every row × every damage.

Among the fast tests each row meets a sixth of the damages, in turns, under one verb each; among the slow ones all of them under
three, and registries of random damages. All verbs and thousands of registries are `make soak`'s.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
from tests.support.registry import damages
from tests.support.registry.damages import DAMAGES, FILES, KINDS, READING, VERBS, Answer, answers, problems

SEEDS = 90


def wrong(folder: Path, found: list[Answer]) -> list[str]:
    said = ((answer, problems(answer)) for answer in found)
    return [f"{folder.name}: {answer.verb}: {', '.join(each)}\n{answer.err[-500:]}" for answer, each in said if each]


def test_a_whole_registry_answers_with_0(tmp_path: Path) -> None:
    root = damages.fresh(tmp_path)
    before = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    for answer in answers(root, READING):
        assert (answer.code, problems(answer)) == (0, []), answer
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == before
    for answer in answers(root, tuple(name for name in VERBS if name not in READING)):
        assert (answer.code, problems(answer)) == (0, []), answer


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_and_every_damage(tmp_path: Path, kind: str) -> None:
    """Each under one verb that reads, in turns."""
    verbs = itertools.cycle(READING[sorted(KINDS).index(kind) % len(READING) :] + READING)
    found = []
    for number, (name, change) in enumerate(DAMAGES.items()):
        if number % 6 != sorted(KINDS).index(kind) % 6:
            continue  # a sixth of the damages: the whole table is slow
        root = damages.fresh(tmp_path / str(number))
        damages.damage(root, kind, change, number)
        found += wrong(Path(name), answers(root, (next(verbs),)))
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_and_every_damage_and_every_verb(tmp_path: Path, kind: str) -> None:
    """Three verbs a damage, in turns, so that each verb meets the row some times; with MLPACK_SOAK=1 all of them."""

    def verbs(number: int) -> tuple[str, ...]:
        return tuple(VERBS) if os.environ.get("MLPACK_SOAK") else damages.verbs_of(number, 3)

    found, first = [], len(DAMAGES) * sorted(KINDS).index(kind)
    for number, (name, change) in enumerate(DAMAGES.items()):
        root = damages.fresh(tmp_path / str(number))
        damages.damage(root, kind, change, number)
        found += wrong(Path(name), answers(root, verbs(first + number)))
    for number, other in enumerate(KINDS.values()):
        root = damages.fresh(tmp_path / f"swap{number}")
        damages.swap(root, kind, other)
        found += wrong(Path(f"swap {other}"), answers(root, verbs(first + number)))
    root = damages.fresh(tmp_path / "gone")
    damages.remove(root, kind)
    found += wrong(Path("gone"), answers(root))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", FILES)
def test_a_database_that_is_none(tmp_path: Path, name: str) -> None:
    root = damages.fresh(tmp_path)
    FILES[name](root, random.Random(1))
    found = answers(root, ("list", "show version", "verify", "publish"))
    assert not wrong(Path(name), found)


@pytest.mark.parametrize(
    "name", ["a view", "an endless view", "a trigger", "an index", "no table", "a loose table", "a directory", "a pipe", "a link"]
)
def test_nothing_is_read_from_or_written_to_what_is_no_registry(tmp_path: Path, name: str) -> None:
    root = damages.fresh(tmp_path)
    FILES[name](root, random.Random(1))
    path = root / ("elsewhere.sqlite" if name in ("a link", "a directory", "a pipe") else "registry.sqlite")
    before = path.read_bytes()
    found = answers(root)
    assert [(answer.verb, answer.code, answer.err) for answer in found if answer.code != 4] == []
    assert path.read_bytes() == before


def test_list_goes_on_after_a_damaged_row_and_ends_with_4(tmp_path: Path) -> None:
    root = damages.fresh(tmp_path)
    damages.damage(root, "head", DAMAGES["the head is cut off"], 3)
    for verb in ("list", "audit"):
        (found,) = answers(root, (verb,))
        assert found.code == 4
        assert "the record name/minilm/heads/000000002 is damaged" in found.err
        assert "minilm@1" in found.out
        assert "minilm@3" in found.out


@pytest.mark.parametrize("field", ["digest", "size_bytes", "created", "kind", "who"])
def test_a_list_shows_no_forged_field(tmp_path: Path, field: str) -> None:
    """Well formed, and not what the record says."""
    forged = {"digest": damages.FOREIGN, "size_bytes": 7, "created": "2020-01-01T00:00:00.000Z", "kind": "layer-zip", "who": "eve"}

    def change(_draw: random.Random, row: dict[str, bytes]) -> None:
        import json

        row["head"] = json.dumps(json.loads(row["head"]) | {field: forged[field]}).encode()

    for kind in ("head", "release"):
        root = damages.fresh(tmp_path / kind)
        damages.damage(root, kind, change)
        (found,) = answers(root, ("list",))
        assert found.code == 4
        assert "it is not what the record says" in found.err
        assert [line.split()[0] for line in found.out.splitlines()] == ["fashion@1", "minilm@1", "minilm@3"]


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"release", "newest", "head", "move", "last move"}))
def test_verify_names_every_row(tmp_path: Path, kind: str) -> None:
    root = damages.fresh(tmp_path)
    damages.damage(root, kind, DAMAGES["the head is cut off"], 1)
    (found,) = answers(root, ("verify",))
    assert found.code == 4
    assert f"{KINDS[kind][0]}/" in found.out
    assert found.out.count("\n") == 1, found.out


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_registries_of_random_damages(tmp_path: Path, part: int) -> None:
    found = []
    for seed in range(part, int(os.environ.get("MLPACK_DAMAGES", SEEDS)), 3):
        root = damages.damaged(seed, tmp_path / str(seed))
        found += wrong(tmp_path / str(seed), answers(root, damages.verbs_of(seed)))
    assert not found, "\n".join(found)
