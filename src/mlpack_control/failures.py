"""What the controller ends an event with that it cannot do. A state machine catches each by its name."""

from __future__ import annotations

from typing import Any


class NotReady(Exception):  # noqa: N818 - the state machine's names
    """Something starts and is not there yet: try again after some seconds."""


class Overtaken(Exception):  # noqa: N818
    """Somebody else moved the traffic: it is theirs now, and nothing is done."""


class Refused(Exception):  # noqa: N818
    """It will not do, however often it is tried. The message says why, and what to do."""


def code_of(error: Exception) -> str:
    """The code in AWS's answer; "" of any other exception."""
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
