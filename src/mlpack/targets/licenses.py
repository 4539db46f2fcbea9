"""Licences that somebody has to accept before a package redistributes what they cover, each with our summary.

Promises:
- A target that needs one is refused before any work unless the recipe accepts it by name (`accept_licenses`).
- An accepted licence is printed, and recorded with the package.

The summaries are ours, short and dated. They are no legal advice and replace no reading: the text itself is in the package, where
`files` says. Open-source licences (MIT, Apache-2.0, BSD) ask for no acceptance: their texts lie in licenses/ and have no row here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """A licence that has to be accepted: a row of the table, or one of a target's own. `name`: by which a recipe accepts it.
    `needs`: the names in `wheel_rules.NEEDS` that bring it. `files`: its text, below /var/task."""

    name: str
    title: str
    needs: tuple[str, ...]
    files: tuple[str, ...]
    sha256: str
    """The hash of the text that we read. With another hash the text has to be read again."""
    summary: str
    read_on: str

    def as_json(self) -> dict[str, Any]:
        """The licence's entry in package.json."""
        return {
            "name": self.name,
            "title": self.title,
            "files": list(self.files),
            "sha256": self.sha256,
            "summary": self.summary,
            "read_on": self.read_on,
        }


_SLA = "NVIDIA Software License Agreement with the TensorRT Supplement"
_SLA_SHA256 = "64bd290f0251405f783ba1d2e155c500542be69795e51147a1d9f11a57bda8cc"
_SLA_DISTRIBUTION = (
    "The supplement (§12.1) lets you distribute libnvinfer and libnvinfer_plugin, in binary form and as part of an application of "
    "your own"
)
_SLA_HOSTING = (
    "§2.1 (iii) forbids making the software or its functionality available to third parties as a service bureau, by hosting or by "
    "means of the internet unless expressly authorised"
)
_SLA_REST = (
    "§12.2: a licence of one year, renewed unless NVIDIA gives notice. Have somebody with authority read it before the image "
    "leaves your house or serves anybody else. A summary by mlpack, no legal advice."
)

_ROWS = (
    License(
        name="nvidia-tensorrt-rtx",
        title=f"{_SLA}, as it came with TensorRT for RTX 1.7.1.116",
        needs=("tensorrt-rtx",),
        files=("licenses/tensorrt_rtx_libs/LICENSE.txt", "licenses/tensorrt_rtx_bindings/LICENSE.txt"),
        sha256=_SLA_SHA256,
        summary=(f"{_SLA_DISTRIBUTION}; it does not name libtensorrt_rtx, which this image holds. {_SLA_HOSTING}. {_SLA_REST}"),
        read_on="2026-11-25",
    ),
    License(
        name="nvidia-tensorrt",
        title=f"{_SLA}, as it came with the lean runtime of TensorRT 11.4.0.106",
        needs=("tensorrt-lean",),
        files=("licenses/tensorrt_lean_libs/LICENSE.txt", "licenses/tensorrt_lean_bindings/LICENSE.txt"),
        sha256=_SLA_SHA256,
        summary=(
            f"{_SLA_DISTRIBUTION}; whether that covers libnvinfer_lean, which this image holds, it does not say. "
            f"{_SLA_HOSTING}. {_SLA_REST}"
        ),
        read_on="2026-11-25",
    ),
)
LICENSES: dict[str, License] = {row.name: row for row in _ROWS}


def for_needs(needs: Iterable[str]) -> tuple[License, ...]:
    """The licences for these names of `wheel_rules.NEEDS`, in the table's order."""
    names = set(needs)
    return tuple(row for row in _ROWS if names.intersection(row.needs))


def refusal(row: License) -> str:
    """Why a target that needs this licence is not built without its acceptance, and what to do."""
    return (
        f"needs what comes under the licence {row.name} ({row.title}), which this recipe does not accept. It lies in the package "
        f"as {row.files[0]}, and in the wheel that it is from. What it says, as read on {row.read_on}: {row.summary} "
        f"If that is agreed to: accept_licenses: [{row.name}]"
    )


def notice(row: License) -> str:
    """The message when a package gets content under this licence, which the recipe accepts."""
    return f"licence {row.name}, accepted by the recipe: {row.title}; its text is {row.files[0]} in the package. {row.summary}"
