"""A Spot instance's notice that it will be taken away, which ends a worker like a signal.

Will not: end anything itself.

Source: Amazon EC2 user guide, "Spot Instance interruption notices" (two minutes ahead, best effort; look every 5 s) and "Use the
Instance Metadata Service" (version 2: a token for each session).
"""

import threading
from http.client import HTTPConnection, HTTPException

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpack_runtime.hosting.stop import Stop

EVERY_S = 5.0
_TIMEOUT_S = 2.0
_TOKEN_S = 21600


class SpotWatch:
    """Looks every `every_s` whether this Spot instance is to be taken away, at IMDSv2's `endpoint` ("http://169.254.169.254")."""

    def __init__(self, stop: "Stop", endpoint: str, say: "Callable[[str], None]", every_s: float = EVERY_S) -> None:
        self._stop = stop
        self._address = endpoint.partition("://")[2].rstrip("/") or endpoint
        self._say = say
        self._every_s = every_s
        self._token = ""
        self._complained = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._loop, name="spot", daemon=True).start()

    def look(self) -> "str | None":
        """The notice in words, or None while there is none. Raises OSError or HTTPException when the service does not answer."""
        status, body = self._get()
        if status == 401:  # the token has expired
            self._token = ""
            status, body = self._get()
        if status != 200:
            return None
        try:
            notice = jsontext.loads(body)
            return f"Spot notice: {notice['action']} at {notice['time']}"
        except (ValueError, KeyError, TypeError):
            return "Spot notice"

    def _loop(self) -> None:
        while not self._stop.asked:
            try:
                found = self.look()
                if found:
                    self._stop.ask(found)
            except (OSError, HTTPException, ValueError) as error:
                if not self._complained:
                    self._say(f"no Spot notices from http://{self._address}: {type(error).__name__}: {error}")
                self._complained = True
            self._stop.wait(self._every_s)

    def _get(self) -> "tuple[int, bytes]":
        if not self._token:
            head = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
            status, body = self._ask("PUT", "/latest/api/token", head)
            if status != 200:
                raise HTTPException(f"the token was refused with status {status}")
            self._token = body.decode("ascii", "replace")
        return self._ask("GET", "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token})

    def _ask(self, method: str, path: str, headers: "dict[str, str]") -> "tuple[int, bytes]":
        connection = HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
