"""A package as a container that serves HTTP: `bootstrap.py serve`. docs/serving.md says what each platform asks of it.

Exit status: 0 ended as asked; 1 cannot start; 2 settings; 70 the device was lost, or does not come back (`EX_SOFTWARE`).
"""

import sys

from mlpack_runtime.hosting.process import Process, failed, host
from mlpack_runtime.hosting.settings import Settings, SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def main(arguments: "list[str]") -> int:
    """Serve until told to end; the exit status. SageMaker says `serve` once more after an image's own arguments."""
    if arguments not in ([], ["serve"]):
        sys.stderr.write(
            f"a container takes no arguments but `serve`, not {' '.join(arguments)}: its settings are in the environment\n"
        )
        return 2
    return host(_settings, Process, failed)


def _settings(environment: "Mapping[str, str]", packaged: "Mapping[str, Any]") -> Settings:
    if environment.get("MLPACK_QUEUE_URL"):
        raise SettingsError("MLPACK_QUEUE_URL is set, and a container serves HTTP alone: build the target cpu-worker for a queue")
    return Settings(environment, packaged)
