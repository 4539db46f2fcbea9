"""Writes `pairs.jsonl` beside this file: 1,024 definitions, each with the words that it defines.

    python -m sample_models.minilm.make_pairs

Reads the nouns of WordNet 3.0 where Debian's package `wordnet-base` puts them (format: wndb(5WN), senseidx(5WN)). A
concept is taken when people do use the word in that sense (it was met in WordNet's tagged texts), when it has two words or
more, and when its definition does not give them away. No two concepts share a word, so each query has one right answer.
Which of those that remain: the lowest SHA-256 of the line's number in WordNet, so the choice is the same anywhere and
favours no subject.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/usr/share/wordnet")
PAIRS = Path(__file__).with_name("pairs.jsonl")
COUNT = 1024
WORDS_IN_QUERY = range(4, 31)
NOUN = 1  # the digit for nouns in a sense key


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A synset: its place in WordNet, its words as written there, its sense keys and its definition."""

    offset: str
    words: tuple[str, ...]
    senses: tuple[str, ...]
    definition: str


def concepts(directory: Path = DIRECTORY) -> Iterator[Concept]:
    """Every noun of WordNet, in its order. Raises FileNotFoundError, which says what to install."""
    for line in _lines(directory / "data.noun"):
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        offset, file_number, _, word_count, *rest = fields.split(" ")
        words, numbers = rest[: 2 * int(word_count, 16) : 2], rest[1 : 2 * int(word_count, 16) : 2]
        senses = (
            f"{word.lower()}%{NOUN}:{file_number}:{int(number, 16):02}::"
            for word, number in zip(words, numbers, strict=True)
        )
        # Examples are quoted and come last; a remark in brackets at the front names the field ("(botany) ...").
        definition = re.sub(r"^\([^)]*\)\s*", "", gloss.partition('"')[0]).strip(" ;:\n")
        yield Concept(
            offset=offset,
            words=tuple(word.replace("_", " ") for word in words),
            senses=tuple(senses),
            definition=definition,
        )


def pairs(directory: Path = DIRECTORY) -> list[dict[str, str]]:
    """`COUNT` lines of `query` (a definition) and `document` (its words, with commas between), in order of choice."""
    met = {line.partition(" ")[0] for line in _lines(directory / "cntlist.rev")}
    fit = [each for each in concepts(directory) if met.intersection(each.senses) and _is_fair(each)]
    chosen: list[dict[str, str]] = []
    taken: set[str] = set()
    for each in sorted(fit, key=lambda each: hashlib.sha256(each.offset.encode()).digest()):
        names = {each.definition, *(word.lower() for word in each.words)}
        if taken.isdisjoint(names):
            taken |= names
            chosen.append({"query": each.definition, "document": ", ".join(each.words)})
    return chosen[:COUNT]


def _is_fair(concept: Concept) -> bool:
    """Whether the definition is neither a word or two nor an essay, and contains no word (nor its stem) of the answer."""
    said = re.findall(r"[a-z]+", concept.definition.lower())
    stems = {part[:5] for word in concept.words for part in re.findall(r"[a-z]+", word.lower()) if len(part) > 2}
    return len(concept.words) > 1 and len(said) in WORDS_IN_QUERY and stems.isdisjoint(word[:5] for word in said)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `apt-get install wordnet-base`")
    return path.read_text(encoding="utf-8").splitlines()


def main() -> None:
    try:
        lines = [json.dumps(pair) + "\n" for pair in pairs()]
    except FileNotFoundError as error:
        raise SystemExit(f"make_pairs: {error}") from error
    partial = PAIRS.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(PAIRS)


if __name__ == "__main__":
    main()
