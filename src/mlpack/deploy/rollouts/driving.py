"""Leads a rollout from this machine, in the place of the state machine: the same controller, the same order, the same ends.

Promises:
- Whatever fails for good, and whoever interrupts, ends in a roll-back; where somebody else moved the traffic nothing is touched.

Will not: outlive this process. The dead man's rule belongs to the state machine; a process that is killed leaves the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlpack_control.failures import NotReady, Overtaken
from mlpack_control.records import ENDED

Document = dict[str, Any]
Send = Callable[[str, Mapping[str, Any]], Document]
_READY_S = 10
_TRIES = 180
"""Half an hour for a version, or its environments, to be ready: as the state machine."""


def drive(document: Document, send: Send, sleep: Callable[[float], None], told: Callable[[str], None]) -> Document:
    """The document at the end. `send`: one event to the controller; `told`: what was decided, and why.

    Raises what made it roll back, after that.
    """
    while True:
        try:
            document = _patient("decide", document, send, sleep)
            action = document["action"]
            if action["kind"] in ("hold", "ask"):
                told(document["why"])
                sleep(action["seconds"])
            elif action["kind"] != "end":
                told(f"{_words(action)}: {document['why']}")
                document = _patient(action["kind"], document, send, sleep)
            if document["state"]["phase"] in ENDED:
                return document
        except Overtaken:
            raise
        except BaseException as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            _patient("roll_back", {**document, "why": why}, send, sleep)
            raise


def _patient(do: str, document: Mapping[str, Any], send: Send, sleep: Callable[[float], None]) -> Document:
    for _ in range(_TRIES):
        try:
            return send(do, document)
        except NotReady:
            sleep(_READY_S)
    return send(do, document)


def _words(action: Mapping[str, Any]) -> str:
    return f"shift to {action['percent']} %" if action["kind"] == "shift" else str(action["kind"]).replace("_", " ")
