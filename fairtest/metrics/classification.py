"""Fairness of a fine-tuned classifier: rates and AUCs by group, and how far groups are apart.

Inputs are columns of equal length, one entry an item: true labels, predicted labels or scores, and groups. Rates and
AUCs are shares from 0 to 1, as in their sources. What is undefined (the true positive rate of a group without
positives) is None with a reason in a report, and an error where a single number was asked for; it is never NaN, and
never the 0 that fairlearn puts in its place.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fairtest.errors import ComparisonError, MetricError

Rate = Literal["accuracy", "selection_rate", "true_positive_rate", "false_positive_rate"]
Auc = Literal["subgroup_auc", "bpsn_auc", "bnsp_auc"]
Mask = npt.NDArray[np.bool_]
OVERALL = "(all items)"


@dataclass(frozen=True)
class GroupReport:
    """A statistic of all items and of each group.

    Args:
        metric: its name.
        overall: its value over all items; None where undefined.
        by_group: its value by group in sorted order; None where undefined.
        counts: number of items by group and true class.
        undefined: why a value is None, by group; `OVERALL` stands for all items.
    """

    metric: str
    overall: float | None
    by_group: Mapping[str, float | None]
    counts: Mapping[str, Mapping[str, int]]
    undefined: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The value of every group.

        Raises:
            MetricError: a group's value is undefined, or there is one group only: nothing to compare.
        """
        values = {group: value for group, value in self.by_group.items() if value is not None}
        for group in self.by_group:
            if group not in values:
                raise MetricError(
                    f"{self.metric} of group {group!r} is undefined: {self.undefined[group]}",
                    where=f"{self.metric}, group {group!r}",
                    fix="add such items, or leave the group out",
                )
        if len(values) < 2:
            raise MetricError(
                f"there is one group only, {', '.join(values)!r}, so {self.metric} has nothing to compare with",
                where=self.metric,
                fix="give items of at least two groups",
            )
        return values

    @property
    def gap(self) -> float:
        """Largest minus smallest value over groups: 0 to 1, target 0. Raises as `values`."""
        values = self.values
        return max(values.values()) - min(values.values())

    @property
    def worst_group(self) -> str:
        """The group with the smallest value, of false positive rates the largest; the first where several share it.

        Raises as `values`.
        """
        values, sign = self.values, -1 if self.metric == "false_positive_rate" else 1
        return min(values, key=lambda group: sign * values[group])


@dataclass(frozen=True)
class GroupChange:
    """Candidate minus baseline, overall and by group; `beyond_overall` is a group's change minus the overall one.

    Private fine-tuning moves all groups; a group bears more of it than others where it moves beyond them. None where a
    value of either side is undefined, with the reason in `undefined`.
    """

    metric: str
    overall: float | None
    by_group: Mapping[str, float | None]
    beyond_overall: Mapping[str, float | None]
    undefined: Mapping[str, str] = field(default_factory=dict)


def group_change(baseline: GroupReport, candidate: GroupReport) -> GroupChange:
    """What changed from one model to another on the same items.

    Raises:
        ComparisonError: another metric, or other numbers of items by group and class.
    """
    if (baseline.metric, baseline.counts) != (candidate.metric, candidate.counts):
        raise ComparisonError(
            f"{baseline.metric} of {dict(baseline.counts)} does not compare with {candidate.metric} of"
            f" {dict(candidate.counts)}",
            where="group_change",
            fix="report the same metric on the same items for both models",
        )
    overall = _minus(candidate.overall, baseline.overall)
    changes = {group: _minus(candidate.by_group[group], value) for group, value in baseline.by_group.items()}
    return GroupChange(
        metric=baseline.metric,
        overall=overall,
        by_group=changes,
        beyond_overall={group: _minus(change, overall) for group, change in changes.items()},
        undefined={**baseline.undefined, **candidate.undefined},
    )


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def rate_by_group(
    y_true: Sequence[Any], y_pred: Sequence[Any], groups: Sequence[Any], rate: Rate = "accuracy"
) -> GroupReport:
    """A rate over all items and over each group's.

    "accuracy": P(prediction = label), of labels of any kind; "selection_rate": P(prediction = 1);
    "true_positive_rate": P(prediction = 1 | label = 1); "false_positive_rate": P(prediction = 1 | label = 0), the last
    three of labels 0 and 1. Range 0 to 1. Target: 1 for accuracy and true positives, 0 for false positives, none for
    selection; and equal for all groups.

    Raises:
        MetricError: an unknown rate, no item, columns of different length, an item without a label or group, or labels
            other than 0 and 1 where the rate needs them.
    """
    if rate not in get_args(Rate):
        raise MetricError(f"unknown rate {rate!r}", where="rate", fix=f"known rates: {', '.join(get_args(Rate))}")
    truth, predicted, names = _columns(y_true=y_true, y_pred=y_pred, groups=groups)
    everyone = np.ones(len(names), dtype=np.bool_)
    if rate == "accuracy":
        event, counted = np.array([true == found for true, found in zip(truth, predicted, strict=True)]), everyone
    else:
        positive, event = _binary(truth, "y_true"), _binary(predicted, "y_pred")
        counted = {"true_positive_rate": positive, "false_positive_rate": ~positive}.get(rate, everyone)
    condition = "positive" if rate == "true_positive_rate" else "negative"

    def value(member: Mask) -> float | str:
        chosen = member & counted
        return float(event[chosen].mean()) if chosen.any() else f"no {condition} among its items"

    return _report(rate, value(everyone), value, truth, names)


def accuracy_gap(y_true: Sequence[Any], y_pred: Sequence[Any], groups: Sequence[Any]) -> float:
    """Largest minus smallest accuracy over groups.

    Range 0 to 1, target 0; larger is less fair, whichever group it is that loses (`rate_by_group(...).worst_group`).
    Source: the gap that DP widens in Bagdasaryan and Shmatikov 2019 (arXiv 1905.12101).

    Raises:
        MetricError: as `rate_by_group`, or one group only.
    """
    return rate_by_group(y_true, y_pred, groups).gap


def demographic_parity_difference(y_true: Sequence[Any], y_pred: Sequence[Any], groups: Sequence[Any]) -> float:
    """Largest minus smallest selection rate over groups, through fairlearn; true labels play no part in it.

    The selection rate is P(prediction = 1 | group). Range 0 to 1, target 0; larger is less fair.
    Source: fairlearn's `demographic_parity_difference`, after Agarwal et al. 2018 (arXiv 1803.02453).

    Raises:
        MetricError: as `rate_by_group`, one group only, or fairlearn is not installed.
    """
    return _difference("demographic_parity_difference", y_true, y_pred, groups, ("selection_rate",))


def equalized_odds_difference(y_true: Sequence[Any], y_pred: Sequence[Any], groups: Sequence[Any]) -> float:
    """The larger of two gaps between groups, of true positive rates and of false positive rates, through fairlearn.

    Range 0 to 1, target 0; larger is less fair. Source: fairlearn's `equalized_odds_difference` (worst case of the
    two), after Hardt, Price and Srebro 2016 (arXiv 1610.02413). Fairlearn counts the true positive rate of a group
    without positives as 0, a gap of up to 1 that no item shows: here it is an error.

    Raises:
        MetricError: as `rate_by_group`, a group without positives or without negatives, one group only, or fairlearn
            is not installed.
    """
    rates: tuple[Rate, ...] = ("true_positive_rate", "false_positive_rate")
    return _difference("equalized_odds_difference", y_true, y_pred, groups, rates)


def _difference(
    name: str, y_true: Sequence[Any], y_pred: Sequence[Any], groups: Sequence[Any], rates: tuple[Rate, ...]
) -> float:
    for rate in rates:  # refuses whatever has no difference, before fairlearn makes a number of it
        _ = rate_by_group(y_true, y_pred, groups, rate).values
    if importlib.util.find_spec("fairlearn") is None:
        raise MetricError(
            f"{name} needs the package fairlearn, and it is not installed",
            where=name,
            fix='pip install "fairtest[classification]"',
        )
    truth, predicted, names = _columns(y_true=y_true, y_pred=y_pred, groups=groups)
    function: Callable[..., Any] = getattr(importlib.import_module("fairlearn.metrics"), name)
    binary = _binary(truth, "y_true").astype(int), _binary(predicted, "y_pred").astype(int)
    return float(function(*binary, sensitive_features=[str(group) for group in names]))


def subgroup_auc(y_true: Sequence[Any], scores: Sequence[float], member: Sequence[bool]) -> float:
    """P(score of a positive > score of a negative), both from the subgroup; a tie counts one half.

    `member` says which items [N] are the subgroup; the others are its background. Range 0 to 1, target 1, chance 0.5;
    below the AUC of all items, the model ranks the subgroup's own items worse than it ranks in general. Source: Borkan
    et al. 2019 (arXiv 1903.04561).

    Raises:
        MetricError: no such pair of items, a score that is not finite, labels other than 0 and 1, or columns of
            different length.
    """
    return _auc("subgroup_auc", y_true, scores, member)


def bpsn_auc(y_true: Sequence[Any], scores: Sequence[float], member: Sequence[bool]) -> float:
    """Background positive, subgroup negative: P(score of a background positive > score of a subgroup negative).

    A tie counts one half. Range 0 to 1, target 1, chance 0.5; low where the subgroup's negatives get scores as high as
    positives elsewhere, so that a common threshold gives the subgroup more false positives. Source and errors as
    `subgroup_auc`.
    """
    return _auc("bpsn_auc", y_true, scores, member)


def bnsp_auc(y_true: Sequence[Any], scores: Sequence[float], member: Sequence[bool]) -> float:
    """Background negative, subgroup positive: P(score of a subgroup positive > score of a background negative).

    A tie counts one half. Range 0 to 1, target 1, chance 0.5; low where the subgroup's positives get scores as low as
    negatives elsewhere, so that a common threshold gives the subgroup more false negatives. Source and errors as
    `subgroup_auc`.
    """
    return _auc("bnsp_auc", y_true, scores, member)


def auc_by_group(
    y_true: Sequence[Any], scores: Sequence[float], groups: Sequence[Any], auc: Auc = "subgroup_auc"
) -> GroupReport:
    """One of the three AUCs with each group as the subgroup and all others as its background; overall: AUC of all.

    For groups that overlap (a text may name two), call the three functions with a mask for each.

    Raises:
        MetricError: an unknown AUC, a score that is not finite, labels other than 0 and 1, an item without a group, or
            columns of different length.
    """
    if auc not in get_args(Auc):
        raise MetricError(f"unknown AUC {auc!r}", where="auc", fix=f"known AUCs: {', '.join(get_args(Auc))}")
    truth, numbers, names = _columns(y_true=y_true, scores=scores, groups=groups)
    positive, values = _binary(truth, "y_true"), _finite(numbers)
    overall = _auc_of("subgroup_auc", positive, values, np.ones(len(names), dtype=np.bool_))
    return _report(auc, overall, lambda member: _auc_of(auc, positive, values, member), truth, names)


def _auc(name: Auc, y_true: Sequence[Any], scores: Sequence[float], member: Sequence[bool]) -> float:
    truth, numbers, members = _columns(y_true=y_true, scores=scores, member=member)
    found = _auc_of(name, _binary(truth, "y_true"), _finite(numbers), _binary(members, "member"))
    if isinstance(found, str):
        raise MetricError(f"{name} is undefined: {found}", where=name, fix="add such items, or leave the subgroup out")
    return found


def _auc_of(name: Auc, positive: Mask, scores: npt.NDArray[np.float64], member: Mask) -> float | str:
    """The AUC, or why there is none."""
    from scipy.stats import rankdata

    of_positives = ~member if name == "bpsn_auc" else member
    of_negatives = ~member if name == "bnsp_auc" else member
    for wanted, side, word in ((positive, of_positives, "positive"), (~positive, of_negatives, "negative")):
        if not (wanted & side).any():
            return f"no {word} in the {'subgroup' if side is member else 'background'}"
    high, low = scores[positive & of_positives], scores[~positive & of_negatives]
    # Mann-Whitney: with mid-ranks a tie counts one half, and ranks are exact in float64.
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def _report(
    metric: str, overall: float | str, value: Callable[[Mask], float | str], truth: list[Any], groups: list[Any]
) -> GroupReport:
    names = [str(group) for group in groups]
    column = np.array(names)
    found = {name: value(column == name) for name in sorted(set(names))}
    counts: dict[str, Counter[str]] = {name: Counter() for name in found}
    for name, label in zip(names, truth, strict=True):
        counts[name][str(label)] += 1
    return GroupReport(
        metric=metric,
        overall=None if isinstance(overall, str) else overall,
        by_group={name: None if isinstance(one, str) else one for name, one in found.items()},
        counts={name: dict(sorted(classes.items())) for name, classes in counts.items()},
        undefined={name: one for name, one in {OVERALL: overall, **found}.items() if isinstance(one, str)},
    )


def _columns(**columns: Any) -> tuple[list[Any], ...]:
    """The columns as lists of plain values, once they are as long as each other and nothing is missing."""
    shapes = {name: np.shape(column) for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or shape[0] == 0 for shape in shapes.values()):
        raise MetricError(
            "columns are not of one length, or empty: "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            where=", ".join(columns),
            fix="give one entry per item in every column; predicted labels are not logits",
        )
    # Arrays and tensors hand out plain numbers, which compare and print alike.
    lists = {name: column.tolist() if hasattr(column, "tolist") else list(column) for name, column in columns.items()}
    for name, entries in lists.items():
        for index, entry in enumerate(entries):
            if entry is None or entry != entry:  # noqa: PLR0124 - NaN, which is how tables write a missing entry
                raise MetricError(
                    f"item {index} has no entry in {name}, but {entry}",
                    where=f"{name}[{index}]",
                    fix="leave the item out, and check the model's weights if it is a score",
                )
    return tuple(lists.values())


def _binary(entries: list[Any], name: str) -> Mask:
    for index, entry in enumerate(entries):
        if entry not in (0, 1):
            raise MetricError(
                f"item {index} has {entry!r} in {name}, which is neither 0 nor 1",
                where=f"{name}[{index}]",
                fix="write the positive class as 1 and the other as 0",
            )
    return np.array(entries).astype(np.bool_)


def _finite(scores: list[Any]) -> npt.NDArray[np.float64]:
    for index, score in enumerate(scores):
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise MetricError(
                f"the score of item {index} is {score!r}",
                where=f"scores[{index}]",
                fix="give one finite number per item; a diverged model gives NaN",
            )
    return np.array(scores, dtype=np.float64)
