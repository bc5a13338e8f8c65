"""The results of a run: samples, medians, quartiles, ratios within a round, and the JSON file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """A quantity: its name, its unit, and whether a larger value is better."""

    name: str
    unit: str
    more_is_better: bool


RATE = Measure("rate", "rows/s", more_is_better=True)


class Spread(NamedTuple):
    """The median and the quartiles of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Return the median and the quartiles of the samples."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class CaseResult:
    """The samples of one case: for each contestant, one sample per round.

    Attributes:
        reference: the contestant that each other one is compared with; None if the first one is
            compared with each other one.
    """

    question: str
    name: str
    measures: tuple[Measure, ...]
    samples: Mapping[str, Sequence[Mapping[str, float]]]
    reference: str | None = None

    def values(self, contestant: str, measure: str) -> list[float]:
        """Return the samples of one measure, in the order of the rounds."""
        return [sample[measure] for sample in self.samples[contestant]]

    def spread(self, contestant: str, measure: str) -> Spread:
        """Return the median and the quartiles of one measure."""
        return Spread.of(self.values(contestant, measure))

    def ratio(self, contestant: str, other: str, measure: str) -> Spread:
        """Return the ratio of one contestant to another, computed round by round."""
        pairs = zip(self.values(contestant, measure), self.values(other, measure), strict=True)
        return Spread.of([mine / theirs for mine, theirs in pairs])

    @property
    def comparison(self) -> str:
        """What `compare` returns, as the heading of a column."""
        if self.reference is None:
            return f"{next(iter(self.samples))} is better by"
        return f"better than {self.reference} by"

    def compare(self, contestant: str, measure: Measure) -> Spread | None:
        """Return how many times better a contestant is, or the first one: above 1 is better.

        Returns:
            The ratio, as `comparison` describes it; None for the contestant that the others are
            compared with.
        """
        first = next(iter(self.samples))
        if contestant == (self.reference or first):
            return None
        better, worse = (contestant, self.reference) if self.reference else (first, contestant)
        if not measure.more_is_better:
            better, worse = worse, better
        return self.ratio(better, worse, measure.name)


@dataclass(frozen=True)
class Results:
    """A run: the facts about it, and its cases."""

    facts: Mapping[str, Any]
    cases: Sequence[CaseResult]

    def find(self, question: str, name: str) -> CaseResult | None:
        """Return the result of a case; None if the run did not have it."""
        for case in self.cases:
            if (case.question, case.name) == (question, name):
                return case
        return None

    def save(self, path: Path) -> None:
        """Write the run to a JSON file, and create its folder if necessary."""
        cases = [
            {
                "question": case.question,
                "name": case.name,
                "measures": [measure._asdict() for measure in case.measures],
                "samples": case.samples,
                "reference": case.reference,
            }
            for case in self.cases
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"facts": self.facts, "cases": cases}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Return the run that `save` wrote to a file."""
        saved = json.loads(path.read_text())
        cases = [
            CaseResult(
                case["question"],
                case["name"],
                tuple(Measure(**measure) for measure in case["measures"]),
                case["samples"],
                case.get("reference"),  # results of earlier versions have none
            )
            for case in saved["cases"]
        ]
        return cls(saved["facts"], cases)
