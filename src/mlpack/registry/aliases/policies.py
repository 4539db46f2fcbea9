"""The policy of an alias: its own budgets, and which regressions against the live release refuse a promotion.

Promises:
- The row of NAME:ALIAS decides, else the row of *:ALIAS, else there are no budgets and every regression refuses.
- A policy changes only by compare-and-set.

Will not: judge a release. `gates` does that.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpack.core.records import Budgets
from mlpack.core.stages import STAGES
from mlpack.errors import RecipeError
from mlpack.recipe import reader
from mlpack.registry import ConflictError, DamagedHead, Delete, Key, Place, Put, Row, audit
from mlpack.registry.aliases import alias_names
from mlpack.registry.fields import FieldError, Fields, shown
from mlpack.registry.reading import Damaged, whole
from mlpack.registry.rows import rows
from mlpack.registry.rows.manifest import is_name

REGRESSIONS = ("size", "latency", "cold_start", "accuracy")
"""The measures in which a promotion is compared with the live release; each may refuse."""

EVERY = "*"
_AGAIN = "set it again, or remove it, with `mlpack registry policy`"
_BUDGETS = {each.name for each in dataclasses.fields(Budgets)}
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?|\.[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy. `subject`: NAME:ALIAS or *:ALIAS. `revision` 0: it was never set, and these are the defaults."""

    subject: str
    budgets: Budgets = dataclasses.field(default_factory=Budgets)
    refuses: tuple[str, ...] = REGRESSIONS
    revision: int = 0


def parse_subject(text: str) -> str:
    """Parse NAME:ALIAS, or *:ALIAS for every model. RecipeError for anything else."""
    name, _, alias = text.partition(":")
    if not is_name(alias) or not (name == EVERY or is_name(name)):
        raise RecipeError(f"{text!r} is not the subject of a policy: write NAME:ALIAS as in minilm:prod, or *:prod for every model")
    return text


def parse_budgets(options: Sequence[str]) -> Budgets:
    """Parse budgets in the recipe's words, KEY=VALUE each: `latency_p95=20ms`, `package_size=65MB`, `accuracy_drop=0.005`."""
    written: dict[str, Any] = {}
    for each in options:
        path, is_pair, value = each.partition("=")
        group, of_stages, key = path.partition(".")
        held = written.setdefault(group, {}) if of_stages and group == "stages" else written
        key = key if held is not written else path
        if not is_pair or not isinstance(held, dict) or key in held:
            raise RecipeError(f"{each!r} is not a budget: write KEY=VALUE, each key once, as in latency_p95=20ms")
        held[key] = float(value) if _NUMBER.fullmatch(value) else {"true": True, "false": False}.get(value, value)
    return reader.budgets(written)


def parse_refuses(options: Sequence[str]) -> tuple[str, ...]:
    """Parse the regressions that refuse: some of `REGRESSIONS`, or `none` alone; an empty list means all of them."""
    if not options:
        return REGRESSIONS
    if list(options) == ["none"]:
        return ()
    if unknown := sorted(set(options) - set(REGRESSIONS)):
        raise RecipeError(f"{', '.join(unknown)}: not a regression; there are {', '.join(REGRESSIONS)}, or none alone")
    return tuple(each for each in REGRESSIONS if each in options)


def of_alias(place: Place, name: str, alias: str) -> Policy:
    """The policy that applies to moves of this alias."""
    for subject in (f"{name}:{alias}", f"{EVERY}:{alias}"):
        if (row := place.table.get(_key(subject))) is not None:
            return decode(row, place.where)
    return Policy(subject=f"{name}:{alias}")


def listed(place: Place, damaged: Damaged | None = None) -> Iterator[Policy]:
    """Every policy that was set, by subject. `damaged` is called with each that cannot be read, which is then skipped; without
    `damaged` the first one raises DamagedError."""
    return whole(place.table.query(rows.POLICIES), lambda row: decode(row, place.where), damaged)


def get(place: Place, subject: str) -> Policy:
    """The policy that was set for exactly this subject. RecipeError when there is none."""
    row = place.table.get(_key(parse_subject(subject)))
    if row is None:
        raise RecipeError(f"{place.where}: no policy was set for {subject}; see `mlpack registry policy show`")
    return decode(row, place.where)


def put(place: Place, policy: Policy, who: str | None, expect: int | None = None) -> Policy:
    """Set a whole policy in place of the current one, at revision `expect` if given (0: none). ConflictError when another writer
    was first."""
    key = _key(parse_subject(policy.subject))
    alias_names.check(policy.subject.partition(":")[2])
    row = place.table.get(key)
    revision = row.revision if row else 0
    _check_expected(policy.subject, key, revision, expect)
    head = put_of(policy).head
    if row is None or isinstance(row.head, DamagedHead) or dict(row.head) != head:
        entry = audit.entry_put(place, "policy set", who, {"subject": policy.subject, **head})
        place.table.commit(Put(key=key, head=head, expect=revision), entry)
        revision += 1
    return dataclasses.replace(policy, revision=revision)


def put_of(policy: Policy) -> Put:
    """The write that sets a policy where there is none."""
    body = as_json(policy)
    return Put(key=_key(policy.subject), head={name: body[name] for name in ("budgets", "refuses")})


def remove(place: Place, subject: str, who: str | None, expect: int | None = None) -> bool:
    """Remove a policy. Returns whether it existed. ConflictError as `put`."""
    key = _key(parse_subject(subject))
    row = place.table.get(key)
    _check_expected(subject, key, row.revision if row else 0, expect)
    if row is None:
        return False
    was = {"damaged": str(row.head.error)} if isinstance(row.head, DamagedHead) else dict(row.head)
    entry = audit.entry_put(place, "policy removed", who, {"subject": subject, **was})
    place.table.commit(Delete(key=key, expect=row.revision), entry)
    return True


def as_json(policy: Policy) -> dict[str, Any]:
    """A policy as JSON for other programs: the budgets that are set, by the keys and units of build.json."""
    written = dataclasses.asdict(policy.budgets)
    return {
        "subject": policy.subject,
        "budgets": {key: value for key, value in written.items() if value is not None and value is not False and value != {}},
        "refuses": list(policy.refuses),
        "revision": policy.revision,
    }


def _check_expected(subject: str, key: Key, revision: int, expect: int | None) -> None:
    if expect is not None and expect != revision:
        raise ConflictError(f"the policy of {subject} is at revision {revision}, not {expect}: look at it, then decide again", key)


def _key(subject: str) -> Key:
    return Key(rows.POLICIES, subject)


def decode(row: Row, where: str) -> Policy:
    """The policy of a row. DamagedError when it cannot be read, because a damaged policy must not let anything pass."""
    with rows.reading(row.key, where, _AGAIN):
        fields, subject = Fields(row.head), row.key.sort
        try:
            parse_subject(subject)
            refuses = parse_refuses([each if isinstance(each, str) else "" for each in fields.each("refuses")] or ["none"])
        except RecipeError as error:
            raise FieldError(shown(error, 300)) from None
        if row.body:
            raise FieldError("it has a body")
        numbers = {key: _budget(fields.inside("budgets"), key) for key in fields.inside("budgets")}
        return Policy(subject=subject, budgets=Budgets(**numbers), refuses=refuses, revision=row.revision)


def _budget(values: Mapping[str, Any], key: str) -> Any:
    """A budget as `put` writes it: a number that is not below 0, a flag, or the one word of `isa`."""
    if key not in _BUDGETS:
        raise FieldError(f"{shown(key, 40)!r} is no budget")
    if key == "accept_estimates":
        return Fields(values, "budgets").flag(key)
    value = values[key]
    if key == "stages_ms":
        if not isinstance(value, Mapping) or not value.keys() <= set(STAGES):
            raise FieldError(f"budgets: {key} is {shown(value, 40)}, which are no stages of a request")
        return {stage: _limit(value[stage], f"{key}.{stage}") for stage in value}
    if key == "isa" and value == "proven":
        return value
    if key == "isa":
        raise FieldError(f"budgets: {key} is {shown(value, 40)}, which is no limit")
    return _limit(value, key)


def _limit(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise FieldError(f"budgets: {key} is {shown(value, 40)}, which is no limit")
    return int(value) if key.endswith("_bytes") else float(value)
