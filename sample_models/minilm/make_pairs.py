"""Writes `pairs.jsonl` beside this file: 1,024 definitions, each with the words that it defines.

    python -m sample_models.minilm.make_pairs

Reads the nouns of WordNet 3.0 where Debian's package `wordnet-base` puts them (formats: wndb(5WN), senseidx(5WN)). A
concept is taken when people do use a word in that sense (it was met in WordNet's tagged texts), when it has two words
or more, and when its definition is a phrase rather than a synonym. No two concepts share a word, so each query has one
right answer. Which of those that remain: the lowest SHA-256 of the concept's number in WordNet, so the choice is the
same anywhere and favours no subject.
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
QUERY_WORDS = range(8, 31)
NOUN = 1  # the digit for nouns in a sense key


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A synset: its number, its words, their sense keys, the number of its kind ("" at the top), its definition."""

    number: str
    words: tuple[str, ...]
    senses: tuple[str, ...]
    kind: str
    definition: str


def concepts(directory: Path = DIRECTORY) -> Iterator[Concept]:
    """Every noun of WordNet, in its order. Raises FileNotFoundError, which says what to install."""
    for line in _lines(directory / "data.noun"):
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        number, file_number, _, word_count, *rest = fields.split(" ")
        count = int(word_count, 16)
        words, ids, pointers = rest[: 2 * count : 2], rest[1 : 2 * count : 2], rest[2 * count + 1 :]
        # A pointer is four fields: what it says ("@": is a kind of, "@i": is a case of), to which number, two more.
        kinds = (to for says, to in zip(pointers[::4], pointers[1::4], strict=False) if says in ("@", "@i"))
        # Examples are quoted and come last; a remark in brackets at the front names the field ("(botany) ...").
        definition = re.sub(r"^\([^)]*\)\s*", "", gloss.partition('"')[0]).strip(" ;:\n")
        yield Concept(
            number=number,
            words=tuple(word.replace("_", " ") for word in words),
            senses=tuple(f"{w.lower()}%{NOUN}:{file_number}:{int(i, 16):02}::" for w, i in zip(words, ids, strict=True)),
            kind=next(kinds, ""),
            definition=definition,
        )


def pairs(directory: Path = DIRECTORY) -> list[dict[str, str]]:
    """`COUNT` lines of `query` (a definition) and `document` (its words, and in brackets what kind of thing it is)."""
    known = {each.number: each for each in concepts(directory)}
    met = {line.partition(" ")[0] for line in _lines(directory / "cntlist.rev")}
    chosen: list[dict[str, str]] = []
    taken: set[str] = set()
    for each in sorted(known.values(), key=lambda each: hashlib.sha256(each.number.encode()).digest()):
        names = {each.definition, *(word.lower() for word in each.words)}
        if met.isdisjoint(each.senses) or not _is_fair(each) or not taken.isdisjoint(names):
            continue
        taken |= names
        chosen.append({"query": each.definition, "document": f"{', '.join(each.words)} ({known[each.kind].words[0]})"})
    return chosen[:COUNT]


def _is_fair(concept: Concept) -> bool:
    """Whether there is something to find it by, and more than one word to find."""
    said = re.findall(r"[a-z]+", concept.definition.lower())
    return len(concept.words) > 1 and concept.kind != "" and len(said) in QUERY_WORDS


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
