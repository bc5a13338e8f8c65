"""What an examination of a file finds, as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Verdict(enum.Enum):
    """What a finding asks for."""

    OK = "ok"
    """Nothing."""
    ADVICE = "advice"
    """An improvement. No data is lost or in danger."""
    PROBLEM = "problem"
    """Attention, soon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the check's name, such as `integrity`. A check may have several findings.
        verdict: what the finding asks for.
        message: what was found and, for a problem, what to do.
        values: the same as values, for scripts: numbers, texts, None, and lists of these.
    """

    check: str
    verdict: Verdict
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All findings of an examination.

    Attributes:
        path: the file that was examined.
        findings: the results, in the order of the checks.
    """

    path: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no finding is a problem."""
        return not self.count(Verdict.PROBLEM)

    def count(self, verdict: Verdict) -> int:
        """Return the number of findings with this verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)
