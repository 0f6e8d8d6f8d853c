"""Two arms' diagnoses of the same units beside each other: which group the one arm's training serves worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairtest.errors import MetricError, SpecError
from fairtest.experiments.diagnosis import (
    FEWEST_SEEDS,
    QUANTITIES,
    Diagnosis,
    Difference,
    Over,
    findings_of,
    furthest_apart,
)

# What of a group's change says in words; of the others the numbers stand alone.
_SERVED = {
    "loss": "of these groups {more} is the one that {arm} leaves furthest behind, and {less} the one it serves first",
    "norm_median": "{more} keeps the larger gradients under {arm}",
}


@dataclass(frozen=True)
class Contrast:
    """What changes for groups of units from arm `against` to arm `of`: as both look at the same units with the same
    seeds, what tells the units themselves apart is on both sides and falls out.
    """

    of: Diagnosis
    against: Diagnosis

    def __post_init__(self) -> None:
        """Raises:
        SpecError: they did not look at the same units with the same seeds.
        """
        for what in ("drawn", "seeds", "private"):
            if getattr(self.of, what) != getattr(self.against, what):
                told = {"drawn": "units", "seeds": "seeds", "private": "kind of units"}[what]
                raise SpecError(
                    f"the diagnoses of {self.of.arm} and {self.against.arm} did not look at the same {told}",
                    where="diagnose(against=)",
                    fix="diagnose both by the same groups, with the same seeds and as many units of each group",
                )

    @property
    def quantities(self) -> tuple[str, ...]:
        """What both measured, without what is the same for all units of one of them (nothing is clipped there)."""
        return tuple(
            name
            for name in self.of.quantities
            if name in self.against.quantities and not any(_constant(one, name) for one in (self.of, self.against))
        )

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that both looked at."""
        return tuple(sorted(set(self.of.steps).intersection(self.against.steps)))

    def difference(self, quantity: str, over: Over = "end") -> Difference:
        """By how much more a quantity changes for the group with the largest change than for the one with the
        smallest; the interval is over seeds and units (or blocks of them), at 95% for all pairs of groups (Bonferroni).

        Raises:
            MetricError: it was not measured in both, at the last step of both or at a common one.
        """
        steps = self._compared(quantity, over)
        by_item = all(one.has_items(quantity, steps) for one in (self.of, self.against))
        mine = self.of.values(quantity, steps, by_item=by_item)
        theirs = self.against.values(quantity, steps, by_item=by_item)
        return furthest_apart({group: mine[group] - theirs[group] for group in mine})

    def finding(self, quantity: str = "loss", over: Over = "end") -> str:
        """The same in words.

        Raises:
            MetricError: as `difference`.
        """
        found, about = self.difference(quantity, over), QUANTITIES[quantity]
        seeds, arm, other = len(self.of.seeds), self.of.arm, self.against.arm
        when = f"at step {self.steps[-1]}" if over == "end" else f"over {len(self.steps)} observed steps"
        unit = f" {about.unit}" if about.unit == "nats a token" else ""
        title = about.title[0].upper() + about.title[1:]
        change = f"{title}, {arm} against {other}: {found.value:.3g}{unit} more for {found.larger!r} than for"
        change += f" {found.smaller!r} {when}"
        meaning = _SERVED.get(quantity, "").format(more=repr(found.larger), less=repr(found.smaller), arm=arm)
        if seeds < FEWEST_SEEDS or found.interval is None:
            these = "this pair of runs" if seeds == 1 else f"these {seeds} pairs of runs"
            return f"{change}, in {these}; of other runs nothing is said."
        over_what = f"{seeds} paired seeds" + ("" if self.of.private else " and the units looked at")
        told = f"95% interval over {over_what} [{found.interval.low:.3g}, {found.interval.high:.3g}]"
        if not found.told:
            return f"{change}, which is not told from none ({told})."
        return f"{change} ({told})" + (f": {meaning}." if meaning else ".")

    @property
    def findings(self) -> list[str]:
        """What each quantity says: the loss at the end, all others on average over the run.

        Raises:
            MetricError: the arms were not trained for as many steps.
        """
        self._compared("loss", "end")
        return findings_of(self)

    @property
    def note(self) -> str:
        """What of the privacy of both arms the findings rest on."""
        silent = [one.arm for one in (self.of, self.against) if not one.claims_privacy]
        if silent:
            return (
                f"What is said against {self.against.arm} reads {' and '.join(silent)}, which claims no privacy: not"
                " for release, as no epsilon covers it."
            )
        return f"What is said against {self.against.arm} reads both arms, whose epsilons add up."

    def _compared(self, quantity: str, over: Over) -> list[int]:
        """The steps at which both are compared: the last of both, or all at which every group has a value in both."""
        if not self.steps:
            raise MetricError(
                f"{self.of.arm} and {self.against.arm} were looked at at no common step",
                where="diagnose(against=)",
                fix="compare arms that are trained for as many steps",
            )
        if over == "run":
            sides = [one.series(quantity, group) for one in (self.of, self.against) for group in one.groups]
            known = set.intersection(*({step for step, _, _ in side} for side in sides))
            return [step for step in self.steps if step in known]
        if self.of.steps[-1] != self.against.steps[-1]:
            raise MetricError(
                f"{self.of.arm} ends with step {self.of.steps[-1]} and {self.against.arm} with step"
                f" {self.against.steps[-1]}, so there is no end of both to compare",
                where="diagnose(against=)",
                fix="compare arms that are trained for as many steps",
            )
        return [self.steps[-1]]


def _constant(diagnosis: Diagnosis, quantity: str) -> bool:
    values = [
        value
        for run in diagnosis.runs
        for group in diagnosis.groups
        for value in _known(run["values"][quantity][group])
    ]
    return len(set(values)) <= 1 and bool(np.isin(values, (0.0, 1.0)).all())


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
