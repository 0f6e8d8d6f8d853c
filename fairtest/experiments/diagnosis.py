"""What was seen of groups of units while the runs of an arm were trained, over seeds, as series and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, Protocol

import numpy as np

from fairtest.errors import MetricError
from fairtest.statistics.intervals import Interval, mean_interval

FEWEST_SEEDS = 3
Over = Literal["end", "run"]


@dataclass(frozen=True)
class Quantity:
    """A measured quantity. `served` says of a group with the larger value what that means; `reads_private` that it is
    computed from the training batch before noise; `blocks` that its single values are of blocks of units.
    """

    title: str
    unit: str
    served: str
    reads_private: bool = False
    blocks: bool = True


_LARGER, _CLOSER = "has the larger gradients", "is closer to what training does"
QUANTITIES: Mapping[str, Quantity] = {
    "loss": Quantity("loss", "nats a token", "is served later", blocks=False),
    "norm_low": Quantity("gradient norm, 10% quantile", "", _LARGER),
    "norm_median": Quantity("gradient norm, median", "", _LARGER),
    "norm_high": Quantity("gradient norm, 90% quantile", "", _LARGER),
    "clipped_share": Quantity("clipped share", "share of units", "is clipped more often", blocks=False),
    "clip_factor": Quantity(
        "mean clip factor", "1: nothing is clipped away", "keeps more of its gradients", blocks=False
    ),
    "cosine_clipped": Quantity(
        "cosine with the batch's clipped mean", "1: same direction", _CLOSER, reads_private=True
    ),
    "cosine_update": Quantity("cosine with the update", "1: same direction", _CLOSER),
    "signal_to_noise": Quantity("signal to noise", "", "is heard better through the noise"),
    "excess_direction": Quantity(
        "excess loss of a step, by turned gradients", "nats a token", "loses more by clipping", reads_private=True
    ),
    "excess_magnitude": Quantity(
        "excess loss of a step, by shortened gradients", "nats a token", "loses more by clipping", reads_private=True
    ),
    "excess_noise": Quantity("excess loss of a step, by noise", "nats a token", "loses more by noise"),
}
GAP = "loss gap"


@dataclass(frozen=True)
class Difference:
    """How much larger a quantity is for `larger` than for `smaller`, at the end or over the run. `interval` is over
    seeds and, where single units or blocks of them are known, over these; None where there is too little for one.
    """

    larger: str
    smaller: str
    value: float
    interval: Interval | None

    @property
    def told(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and self.interval.low > 0


@dataclass(frozen=True)
class Diagnosis:
    """Groups of units under training, one entry of `runs` a seed, as `Observations.as_dict` gives it.

    `units` is how many units of each group were looked at, `counts` how many there are, `left_out` how many units have
    no group, by reason. `private`: the training units' own norms were read. `covered`: an epsilon covers all that is in
    here, besides the records of those that were looked at. `drawn`: digest of the units that were looked at.
    """

    arm: str
    by: str
    seeds: tuple[int, ...]
    units: Mapping[str, int]
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    runs: tuple[Mapping[str, Any], ...]
    private: bool
    claims_privacy: bool
    probes: int = 0
    drawn: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups' names."""
        return tuple(self.units)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured."""
        return tuple(name for name in QUANTITIES if all(name in run["values"] for run in self.runs))

    @property
    def covered(self) -> bool:
        """Whether the arm's epsilon covers all of it: nothing was read of the training units before noise. It says
        nothing of the held-out units, and the noise of a run that is diagnosed comes from its seed.
        """
        reads = any(QUANTITIES[name].reads_private for name in self.quantities)
        return self.claims_privacy and not self.private and not reads

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that were looked at in every run."""
        return tuple(sorted(set.intersection(*(set(run["steps"]) for run in self.runs))))

    def series(self, quantity: str, group: str) -> list[tuple[int, float, float | None]]:
        """(step, mean over seeds, its standard error) at each step where all seeds have a value; the error is None with
        one seed.
        """
        self._require(quantity)
        found = []
        for step in self.steps:
            values = [run["values"][quantity][group][run["steps"].index(step)] for run in self.runs]
            if None not in values:
                error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
                found.append((step, fmean(values), error))
        return found

    def gap(self) -> dict[str, list[tuple[int, float]]]:
        """How much larger a group's loss is than the mean of the other groups', by step; of two groups, once."""
        losses = {group: {step: value for step, value, _ in self.series("loss", group)} for group in self.groups}
        if len(losses) == 2:
            first, second = self.groups
            return {f"{first} minus {second}": [(at, x - losses[second][at]) for at, x in losses[first].items()]}
        return {
            group: [(at, x - fmean(losses[other][at] for other in losses if other != group)) for at, x in own.items()]
            for group, own in losses.items()
        }

    def difference(self, quantity: str, over: Over = "end") -> Difference:
        """Between the group with the largest and the one with the smallest value, at the last step or, over="run", on
        average over all.

        The interval of two groups has 95%; the two that are furthest apart of several are held to 95% for all pairs
        (Bonferroni). Groups are equally large and their units drawn independently, so that a unit of one is paired with
        any of the other.
        """
        at = self.steps[-1:] if over == "end" else self.steps
        return furthest_apart(self.values(quantity, at, by_item=self.has_items(quantity, at)))

    def values(
        self, quantity: str, steps: Sequence[int], *, by_item: bool
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Of each group the mean over `steps`, as [seeds, items] where single units or blocks of them are known
        (`by_item`), else as [seeds, 1].

        Raises:
            MetricError: it was not measured, or not at these steps.
        """
        self._require(quantity)
        measured = {group: {step for step, _, _ in self.series(quantity, group)} for group in self.groups}
        if not all(found.intersection(steps) for found in measured.values()):
            raise MetricError(
                f"{QUANTITIES[quantity].title} was not measured at the last step",
                where=f"diagnosis of arm {self.arm}",
                fix='ask for over="run"',
            )
        if by_item:
            found = {group: self._items(quantity, group, steps) for group in self.groups}
            return {group: rows for group, rows in found.items() if rows is not None}
        return {group: np.array([[_at(run, quantity, group, steps)] for run in self.runs]) for group in self.groups}

    def has_items(self, quantity: str, steps: Sequence[int]) -> bool:
        """Whether single units or blocks of them are known, equally many in every group."""
        found = [self._items(quantity, group, steps) for group in self.groups]
        return len({None if rows is None else rows.shape for rows in found}) == 1 and found[0] is not None

    def _items(self, quantity: str, group: str, steps: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        rows = []
        for run in self.runs:
            known = run["items"].get(quantity, {}).get(group)
            if known is None:
                return None
            at = [known[run["steps"].index(step)] for step in steps]
            at = [values for values in at if values]
            if not at:
                return None
            rows.append(np.mean(np.array(at), axis=0))
        return np.stack(rows) if len({len(row) for row in rows}) == 1 else None

    def finding(self, quantity: str = "loss", over: Over = "end") -> str:
        """Which group has more of a quantity, and what that means, in words.

        Raises:
            MetricError: it was not measured.
        """
        found = self.difference(quantity, over)
        about, seeds = QUANTITIES[quantity], len(self.seeds)
        when = f"at step {self.steps[-1]}" if over == "end" else f"over {len(self.steps)} observed steps"
        unit = f" {about.unit}" if about.unit == "nats a token" else ""
        title = about.title[0].upper() + about.title[1:]
        if about.blocks and not self.private:
            title += " (in blocks of units)"
        more = f"{title}: {found.larger!r} is {found.value:.3g}{unit} above {found.smaller!r} {when}"
        means = f"{found.smaller!r} is served first" if quantity == "loss" else f"{found.larger!r} {about.served}"
        if seeds < FEWEST_SEEDS or found.interval is None:
            these = "this run" if seeds == 1 else f"these {seeds} runs"
            return f"{more}. In {these} {means}; of other runs nothing is said."
        over_what = f"{seeds} seeds" if self.private else f"{seeds} seeds and the units looked at"
        told = f"95% interval over {over_what} [{found.interval.low:.3g}, {found.interval.high:.3g}]"
        if not found.told:
            return f"{more}, which is not told from none ({told})."
        return f"{more} ({told}): {means}."

    def as_dict(self) -> dict[str, Any]:
        """What a report keeps of an arm: `diagnostics`, a series a quantity; notes on how it was looked at; and the
        findings in words.
        """
        series = []
        by = f"{self.by}, training units" if self.private else self.by
        for name in self.quantities:
            about = QUANTITIES[name]
            points = {group: [[step, value] for step, value, _ in self.series(name, group)] for group in self.groups}
            errors = {
                group: [[step, error] for step, _, error in self.series(name, group) if error is not None]
                for group in self.groups
            }
            if not any(points.values()):
                continue
            one: dict[str, Any] = {"name": about.title, "unit": about.unit, "by": by, "groups": points}
            if any(errors.values()):
                one["standard_errors"] = errors
            one["covered_by_epsilon"] = self.claims_privacy and not self.private and not about.reads_private
            series.append(one)
            if name == "loss":
                gap = {label: [list(point) for point in found] for label, found in self.gap().items()}
                series.append({**one, "name": GAP, "groups": gap})
                series[-1].pop("standard_errors", None)
        return {
            "diagnostics": series,
            "diagnostics_notes": [self.note],
            "diagnostics_note": self.note,
            "diagnostics_findings": self.findings,
        }

    @property
    def findings(self) -> list[str]:
        """What each quantity says of the groups: the loss at the end, all others on average over the run."""
        return findings_of(self)

    @property
    def note(self) -> str:
        """What was looked at and how, and what may not be released."""
        sizes = ", ".join(f"{name} {self.units[name]} of {self.counts[name]}" for name in self.groups)
        lines = [f"Groups by {self.by}, units looked at: {sizes}."]
        if self.left_out:
            lines.append("Left out: " + ", ".join(f"{n} ({reason})" for reason, n in self.left_out.items()) + ".")
        shown = ", ".join(map(str, self.steps))
        mean = f"mean of {len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed"
        lines.append(f"Before the update of steps {shown} (counted from 0), {mean}.")
        if self.private:
            lines.append("Read from the training units' own gradients: reads private units: not for release.")
            return " ".join(lines)
        lines.append("Held-out units, without dropout.")
        cost = fmean(run["cost"] for run in self.runs)
        lines.append(f"By count of tokens, looking added {cost:.0%} to training.")
        if "excess_noise" in self.quantities:
            lines.append(
                "Excess losses are of one plain gradient step at the run's learning rate, to second order; traces from"
                f" {self.probes} random directions."
            )
        if not self.claims_privacy:
            lines.append("The arm claims no privacy, so nothing here is covered by an epsilon.")
        elif reading := [QUANTITIES[name].title for name in self.quantities if QUANTITIES[name].reads_private]:
            lines.append(f"Read private batches before noise, and are not for release: {', '.join(reading)}.")
            lines.append("The rest is covered by the arm's epsilon, for whoever does not know the seed of its noise.")
        return " ".join(lines)

    def _require(self, quantity: str) -> None:
        if quantity not in self.quantities:
            raise MetricError(
                f"{quantity!r} was not measured",
                where=f"diagnosis of arm {self.arm}",
                fix=f"measured: {', '.join(self.quantities)}",
            )


def _at(run: Mapping[str, Any], quantity: str, group: str, steps: Sequence[int]) -> float:
    values = [run["values"][quantity][group][run["steps"].index(step)] for step in steps]
    return fmean(value for value in values if value is not None)


class Comparison(Protocol):
    """Groups of units, told apart in several quantities."""

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured."""

    def difference(self, quantity: str, over: Over = "end") -> Difference:
        """Between the groups that are furthest apart."""

    def finding(self, quantity: str = "loss", over: Over = "end") -> str:
        """The same in words."""


def findings_of(comparison: Comparison) -> list[str]:
    """What each quantity says: the loss at the end, all others on average over the run."""
    found = []
    for name in comparison.quantities:
        over: Over = "end" if name == "loss" else "run"
        try:
            apart = comparison.difference(name, over).value
        except MetricError:  # a group had no value there
            continue
        if apart > 0:
            found.append(comparison.finding(name, over))
    return found


def furthest_apart(values: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]) -> Difference:
    """The group with the largest mean against the one with the smallest, from each group's [seeds, items]."""
    level = {group: float(found.mean()) for group, found in values.items()}
    larger, smaller = max(level, key=level.__getitem__), min(level, key=level.__getitem__)
    apart = values[larger] - values[smaller]
    pairs = math.comb(len(values), 2)
    return Difference(larger, smaller, float(apart.mean()), _interval(apart, 1 - 0.05 / pairs))


def _interval(apart: np.ndarray[Any, np.dtype[np.float64]], confidence: float) -> Interval | None:
    seeds, items = apart.shape
    if items > 1:
        return mean_interval(apart, None, confidence=confidence)
    # Without single units the seeds are all there is: each is then an item of one run.
    return mean_interval(apart.T, None, confidence=confidence) if seeds > 1 else None
