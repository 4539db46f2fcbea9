"""Why a package does not start, or not yet, in the words of the log and of the platform.

Promises: one line of JSON with `level` ERROR, `error_type` and a sentence that says what to do, whatever stops a start; what no
code of ours lives to see (a signal, memory taken back by the kernel) is told by Python's fault handler or the platform alone.
"""

import faulthandler
import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread

from mlpack_runtime import telemetry
from mlpack_runtime.limits import TRACEBACK, cut
from mlpack_runtime.starting import has_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

PATIENCE_S = 9.0
"""After how long a start is told to be slow: Lambda gives it 10 s."""
_OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "Cannot allocate")


class Watched:
    """A start, for `with`: what stops it is told in the log and raised, with a sentence that says what to do; a fault of native
    code leaves its signal and its place on stderr; one that takes long is told while it goes on."""

    def __enter__(self) -> None:
        if not faulthandler.is_enabled():
            faulthandler.enable(2)
        self._done, self._thread = allocate_lock(), get_ident()
        self._done.acquire()
        if has_seconds():
            start_new_thread(self._watch, ())

    def __exit__(self, kind: object, error: "BaseException | None", trace: object) -> None:
        self._done.release()
        if error is None:
            return
        tell(error)
        made = explained(error)
        if made is not error:
            raise made from error

    def _watch(self) -> None:
        if not self._done.acquire(timeout=PATIENCE_S):
            tell_slow(PATIENCE_S, self._thread)


def explained(error: BaseException) -> BaseException:
    """The error to raise in the place of `error`: the same, or one whose type and sentence say more."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        has = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        made = f"the package does not fit into {f'{has} MB' if has else 'the memory that it has'}: give the function more"
        return MemoryError(f"{made} (the build's report has the package's peak). {type(error).__name__}: {error}".rstrip(": "))
    if isinstance(error, SystemExit):
        return RuntimeError(f"code of the package ended the process (SystemExit: {error.code}) while it was loaded")
    if isinstance(error, ImportError) and str(error.name or "").startswith("mlpack_runtime"):
        return ImportError(f"{error}: a file of the package is missing. Was it unpacked whole, and its layer attached?")
    return error


def tell(error: BaseException) -> None:
    """Write the line of a start that failed."""
    from traceback import format_exception

    made = explained(error)
    kind = type(made).__name__
    text = telemetry.event(
        None,
        "ERROR",
        f"the package cannot start: {kind}: {cut(str(made))}",
        error_type=kind,
        error_message=cut(str(made)),
        traceback=cut("".join(format_exception(error)), TRACEBACK),
    )
    telemetry.emit(text)


def tell_slow(seconds: float, thread: int) -> None:
    """Write the line of a start that is not done after `seconds`, with the place where its thread is."""
    frame = sys._current_frames().get(thread)
    text = telemetry.event(
        None,
        "WARNING",
        f"still loading after {seconds:g} s, {_place(frame)}: Lambda gives an initialisation 10 s, and then begins anew within the"
        " first invocation and its time-out. More memory brings more processor; a smaller model, or a hook that imports less when"
        " it is loaded, starts sooner",
        error_type="SlowStart",
    )
    telemetry.emit(text)


def _place(frame: "FrameType | None") -> str:
    while frame is not None and frame.f_code.co_filename.startswith("<frozen "):  # Python's own code, on its way to a module
        frame = frame.f_back  # whoever imports it
    if frame is None:
        return "in a place that is not known"
    code = frame.f_code
    return f"in {code.co_name} ({code.co_filename.rpartition('/')[2]}, line {frame.f_lineno})"
