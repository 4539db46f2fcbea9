"""Opinions of checkov that mlpack does not share, each with its reason. A table."""

from __future__ import annotations

from collections.abc import Mapping

WAIVERS: Mapping[str, str] = {
    "CKV_AWS_26": "a topic takes alarms: AWS's own key would keep CloudWatch out, and a key of the account is the team's to give",
    "CKV_AWS_27": "queues are encrypted by SqsManagedSseEnabled, which this check does not know",
    "CKV_AWS_91": "the bucket for a balancer's access logs is the team's to give; requests are counted and traced without them",
    "CKV_AWS_116": "a function that is asked synchronously answers its caller with the error; queues have dead-letter queues",
    "CKV_AWS_117": "a function that reaches AWS's own services needs no network of the account's, and starts faster without one",
    "CKV_AWS_158": "log groups are encrypted by CloudWatch; a key of the account is the team's to give",
    "CKV_AWS_173": "variables of a function hold no secrets, and are encrypted by Lambda's own key",
    "CKV_AWS_260": "port 80 of a balancer answers with the way to port 443 and with nothing else",
}
"""By checkov's id."""
