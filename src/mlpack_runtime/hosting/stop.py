"""When a process has to end: whoever asks first gives the reason.

Promises: asking is safe from a signal handler and from any thread. Will not: end anything itself.
"""

import signal
import threading


class Stop:
    """Whether the end has been asked for; `reason` in words, `code` the exit status; `hurried`: nobody is to wait for it."""

    def __init__(self) -> None:
        # Of a lock that its own thread may take again: a second signal may come while the first is being dealt with.
        self._changed = threading.Condition(threading.RLock())
        self._asked = False
        self.hurried = False
        self.reason = ""
        self.code = 0

    def ask(self, reason: str, code: int = 0, *, hurried: bool = False) -> None:
        """End soon. The first reason stays, and the first status that is not 0."""
        self.reason = self.reason or reason
        self.code = self.code or code
        with self._changed:
            self._asked = True
            self.hurried = self.hurried or hurried or bool(code)
            self._changed.notify_all()

    @property
    def asked(self) -> bool:
        """Whether anybody has."""
        return self._asked

    def wait(self, seconds: "float | None" = None) -> bool:
        """Until somebody asks, or for so long; whether somebody has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked, seconds)

    def wait_hurried(self, seconds: float) -> bool:
        """Until somebody is in a hurry, or for so long; whether somebody is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.hurried, seconds)


def ignore_signals() -> None:
    """From now on no signal asks for anything: the end is here. An interpreter that ends would take the next one for a reason to
    die of it, with another status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT ask for the end; SIGINT comes from a terminal, where somebody waits. From the main thread only."""

    def asked(number: int, _: object) -> None:
        stop.ask(signal.Signals(number).name, hurried=number == signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
