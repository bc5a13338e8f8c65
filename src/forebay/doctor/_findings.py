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
    """Something could be better; nothing is lost or about to be."""
    PROBLEM = "problem"
    """A person, soon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the check's name, such as `integrity`; a check may have several findings.
        verdict: what it asks for.
        message: what was found, and for a problem what to do, in words.
        values: the same in values, for scripts: numbers, texts, None, and lists of them.
    """

    check: str
    verdict: Verdict
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All that an examination found.

    Attributes:
        path: the file that was examined.
        findings: the results, in the order of the checks.
    """

    path: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing that was found is a problem."""
        return not self.count(Verdict.PROBLEM)

    def count(self, verdict: Verdict) -> int:
        """Tell how many findings have this verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)
