"""Let a package answer a manifest of many requests on this machine.

Promises:
- How the process of the package ends says whose fault it was: the manifest's, the package's, a service's.
- Progress is told in items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlpack.core import distribution
from mlpack.core.progress import Progress
from mlpack.errors import MlpackError, PackError, RecipeError, ServiceError
from mlpack.pipeline import output
from mlpack.targets import shipped
from mlpack.targets.boot.batch import Conversation, Order

Columns = Mapping[str, str | Sequence[str]]

_STOPPED = 75
_FAULTS: Mapping[int, type[MlpackError]] = {2: RecipeError, 3: PackError, 4: ServiceError}
_S3 = "s3://"


def words_of(
    manifest: str,
    results: str | None,
    columns: Columns,
    format: str | None,  # noqa: A002 - its name in the interface
    model: str | None = None,
) -> tuple[str, ...]:
    """The package's command line for a manifest. RecipeError where this installation lacks what the manifest needs."""
    if (manifest.startswith(_S3) or (results or "").startswith(_S3)) and find_spec("botocore") is None:
        raise RecipeError(f"{manifest}: S3 needs botocore, which is not installed here: {distribution.install('aws')}")
    if (format == "parquet" or manifest.endswith(".parquet")) and find_spec("pyarrow") is None:
        raise RecipeError(f"{manifest}: Parquet needs pyarrow, which is not installed here: {distribution.install('parquet')}")
    told = {name: names if isinstance(names, str) else list(names) for name, names in columns.items()}
    words = [_place(manifest)]
    words += ["--results", _place(results)] if results else []
    words += ["--columns", json.dumps(told)] if told else []
    words += ["--format", format] if format else []
    words += ["--model", model] if model else []
    return tuple(words)


def answer(package: Path, order: Order, progress: Progress) -> dict[str, Any]:
    """Let a build's package, by its own directory or the build's, answer a manifest. Returns the state that it ended with.

    Raises:
        RecipeError: The manifest, or what was asked for, is wrong.
        PackError: The package fails.
        ServiceError: S3 fails.
    """
    with shipped.answering(output.artifact_dir(package), order) as conversation:
        end, complaint = _listen(conversation, progress)
        if end is not None and conversation.status == 0:
            return end
        raise _error(conversation, complaint)


def _listen(conversation: Conversation, progress: Progress) -> tuple[dict[str, Any] | None, str]:
    """The last state, and what kept the batch from going on."""
    end: dict[str, Any] | None = None
    complaint = ""
    with ExitStack() as stack:
        advance, done = None, 0
        for line in conversation.lines():
            message, level = str(line.get("message", "")), line.get("level")
            if message == "batch ended":
                end = line["batch"]
            elif message == "batch progress":
                state = line["batch"]
                if advance is None:
                    advance = stack.enter_context(progress.progress(f"answer {state['items']:,} items", state["items"]))
                    if already := state["done"]:
                        progress.note(f"{already:,} of {state['items']:,} items have a result already")
                advance(max(0, state["done"] - done))
                done = max(done, state["done"])
            elif level == "CRITICAL":
                complaint = message
            elif level in ("WARNING", "ERROR") and message:
                progress.warn(message)
    return end, complaint


def _error(conversation: Conversation, complaint: str) -> MlpackError:
    status = conversation.status
    if complaint:
        return _FAULTS.get(status, PackError)(complaint)
    if status == _STOPPED:
        return PackError("the batch was stopped by a signal; what was answered is written. Run it again, and it goes on")
    how = f"a signal ({-status})" if status < 0 else f"exit status {status}"
    tail = conversation.complaint
    return PackError(
        f"the package's process ended with {how}{'' if tail else ' and no word'}: run it again, and it goes on. {tail}".rstrip()
    )


def _place(text: str) -> str:
    return text if text.startswith(_S3) else str(Path(text).absolute())
