"""Queues, buckets, tables, topics and log groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlpack.deploy.check.facts.reading import Facts, Part, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, number, said, within

RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


def queue(facts: Facts) -> Iterator[Finding]:
    """Times, dead letters and encryption of queues."""
    dead = {meant(part["redrive"].get("deadLetterTargetArn")) for part in facts.of("queue") if isinstance(part["redrive"], Mapping)}
    dead |= {meant(part["dead"]) for part in facts.of("function")}
    for part in facts.of("queue"):
        yield from within(facts, part, "visibility", 0, 43_200)
        yield from within(facts, part, "retention", 60, 1_209_600)
        if part["key"] is None and part["encrypted"] is not True:
            yield said(facts, part, "encrypted", "is not encrypted: SSE of SQS costs nothing")
        if bool(part["fifo"]) != str(part["name"]).endswith(".fifo"):
            yield said(facts, part, "name", "a FIFO queue's name, and no other, ends in .fifo")
        if part["redrive"] is not None:
            yield from _redrive(facts, part)
        elif part.id not in dead and not _is_dead_letters(part):
            yield said(facts, part, "redrive", "has no dead-letter queue: a message that always fails comes again for days")


def _is_dead_letters(part: Part) -> bool:
    return any(word in part.id.lower() for word in ("dead", "dlq"))


def _redrive(facts: Facts, part: Part) -> Iterator[Finding]:
    redrive = part["redrive"]
    if not isinstance(redrive, Mapping):
        yield said(facts, part, "redrive", f"is {redrive!r}")
        return
    receives = number(redrive.get("maxReceiveCount"))
    if receives is None or not 1 <= receives <= 1000:
        yield said(facts, part, "redrive", f"maxReceiveCount {redrive.get('maxReceiveCount')} is outside 1 to 1000")
    elif receives > 100:
        yield said(
            facts, part, "redrive", f"maxReceiveCount {receives:g}: a message that always fails is worked on {receives:g} times"
        )
    target = facts.get(redrive.get("deadLetterTargetArn"), "queue")
    if target is None:
        yield said(facts, part, "redrive", f"{redrive.get('deadLetterTargetArn')} is no queue of this deployment")
        return
    if target.id == part.id:
        yield said(facts, part, "redrive", "is its own dead-letter queue")
    if bool(target["fifo"]) != bool(part["fifo"]):
        yield said(
            facts, part, "redrive", f"{target.id} is of another kind: the dead letters of a FIFO queue are FIFO, and no others"
        )
    kept, longer = number(part["retention"]), number(target["retention"])
    if kept is not None and longer is not None and longer < kept:
        yield said(
            facts, target, "retention", f"keeps {longer:g} s, less than {part.id}: dead letters go before anybody reads them"
        )


def bucket(facts: Facts) -> Iterator[Finding]:
    """That a bucket is encrypted and nobody's outside."""
    policies = {meant(part["bucket"]) for part in facts.of("bucket policy")}
    for part in facts.of("bucket"):
        if part["encryption"] not in ("AES256", "aws:kms", "aws:kms:dsse"):
            yield said(facts, part, "encryption", f"{part['encryption']} is no encryption")
        for name in (f"private {each}" for each in range(4)):
            if part[name] is not True:
                yield said(facts, part, name, "has to be true: nothing of a deployment is public")
        if part.id not in policies:
            yield said(facts, part, "", "has no policy that asks for TLS")


def table(facts: Facts) -> Iterator[Finding]:
    """That a table whose rows stay can be brought back, and its keys are declared."""
    for part in facts.of("table"):
        if part["recovery"] is not True and part["ttl"] is None:
            yield said(facts, part, "recovery", "cannot be brought back to a point in time")
        if not part["hash"]:
            yield said(facts, part, "hash", "has no key")
        if part["ttl"] is not None and part["ttl"] in (part["hash"], part["range"]):
            yield said(facts, part, "ttl", f"{part['ttl']} is a key: rows of a table do not end by their key")


def logs(facts: Facts) -> Iterator[Finding]:
    """That lines are forgotten after a time."""
    for part in facts.of("logs"):
        kept = number(part["retention"])
        if not kept:
            yield said(facts, part, "retention", "lines are kept, and paid for, for ever")
        elif kept not in RETENTIONS:
            yield said(facts, part, "retention", f"{kept:g} days is none of those that CloudWatch takes: {RETENTIONS}")


def topic(facts: Facts) -> Iterator[Finding]:
    """That a topic has a policy, so that alarms can reach it."""
    policies = {meant(part["topic"]) for part in facts.of("topic policy")}
    for part in facts.of("topic"):
        if part.id not in policies:
            yield said(facts, part, "", "has no policy: budgets and anomalies could not publish to it")
        if "alias/aws/sns" in str(part["key"]):
            yield said(facts, part, "key", "AWS's own key keeps alarms out: use a key of the account")


def money(facts: Facts) -> Iterator[Finding]:
    """That a budget is one."""
    for part in facts.of("budget"):
        amount: Any = number(part["amount"])
        if amount is None or amount <= 0:
            yield said(facts, part, "amount", f"{part['amount']} is no budget")


RULES: tuple[Rule, ...] = (queue, bucket, table, logs, topic, money)
