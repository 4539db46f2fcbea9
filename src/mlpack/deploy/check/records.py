"""What a check of a deployment says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "failed", "could not run"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What is wrong: in which file, at which key, and why."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.reason) if part)


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof: its name, what it holds against what, and how it ended. `why`: why it could not run, and what to do."""

    name: str
    status: Status
    findings: tuple[Finding, ...] = ()
    why: str = ""


def proof(name: str, findings: tuple[Finding, ...]) -> Proof:
    """A proof that ran."""
    return Proof(name, "failed" if findings else "ok", tuple(sorted(set(findings))))


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """All proofs of a directory, in the order in which they ran."""

    directory: str
    proofs: tuple[Proof, ...]

    @property
    def ok(self) -> bool:
        """Whether no proof failed. One that could not run is no failure."""
        return all(each.status != "failed" for each in self.proofs)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong."""
        return tuple(finding for each in self.proofs for finding in each.findings)

    def text(self) -> str:
        """A line for each proof, and one for each finding."""
        lines = []
        for each in self.proofs:
            lines.append(f"{each.status:<13} {each.name}" + (f": {each.why}" if each.why else ""))
            lines += [f"    {finding}" for finding in each.findings]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "directory": self.directory,
            "ok": self.ok,
            "proofs": [
                {
                    "name": each.name,
                    "status": each.status,
                    "why": each.why,
                    "findings": [{"file": one.file, "key": one.key, "reason": one.reason} for one in each.findings],
                }
                for each in self.proofs
            ],
        }
