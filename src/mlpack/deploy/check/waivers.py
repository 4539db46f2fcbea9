"""Opinions of checkov that mlpack does not share, each with its reason. A table."""

from __future__ import annotations

from collections.abc import Mapping

WAIVERS: Mapping[str, str] = {
    "CKV_AWS_18": "the bucket for access logs is the team's to give; CloudTrail records who reads where the account asks it to",
    "CKV_AWS_21": "results are written once under a name of their own and expire; older versions of them would only cost",
    "CKV_AWS_26": "a topic takes alarms: AWS's own key would keep CloudWatch out, and a key of the account is the team's to give",
    "CKV_AWS_27": "queues are encrypted by SqsManagedSseEnabled, which this check does not know",
    "CKV_AWS_28": "a table whose rows end by themselves has nothing to bring back; our own rule asks it of every other",
    "CKV_AWS_91": "the bucket for a balancer's access logs is the team's to give; requests are counted and traced without them",
    "CKV_AWS_116": "a function that is asked synchronously answers its caller with the error; queues have dead-letter queues",
    "CKV_AWS_117": "a function that reaches AWS's own services needs no network of the account's, and starts faster without one",
    "CKV_AWS_119": "tables are encrypted by DynamoDB; a key of the account is the team's to give",
    "CKV_AWS_120": "answers are cached beside the model, by the digests of model and input, where the recipe asks for it",
    "CKV_AWS_158": "log groups are encrypted by CloudWatch; a key of the account is the team's to give",
    "CKV_AWS_173": "variables of a function hold no secrets, and are encrypted by Lambda's own key",
    "CKV_AWS_258": "an open address is refused by the plan unless the recipe says `accept: public`",
    "CKV_AWS_260": "port 80 of a balancer answers with the way to port 443 and with nothing else",
}
"""By checkov's id."""
