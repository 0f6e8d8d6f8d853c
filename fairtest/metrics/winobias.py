"""WinoBias as a language model's preference between two sentences (Zhao et al. 2018, arXiv 1804.06876).

"winobias.preference" is the share of pairs whose pro-stereotypical line is likelier, "winobias.log_ratio" by how many
nats (formulas, ranges and directions: `fairtest.metrics.pairs`); targets 50 points and 0 nats. Half of the pro lines
are about men and half about women, so "he is likelier than she" alone moves neither.

The published score is another quantity: F1 of a coreference system on the pro lines less its F1 on the anti lines, that
is how often it finds the right occupation. A preference does not ask whether the model knows to whom the pronoun
refers: it can prefer every pro line and resolve every pronoun. No number of this module can be set beside those.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from fairtest.errors import MetricError
from fairtest.metrics.occupations import OccupationCorrelation, correlate
from fairtest.metrics.pairs import log_ratio, masked_pair_metrics, pair_metrics, preference
from fairtest.scoring.scores import ProbeScores

METRICS = (*pair_metrics("winobias"), *masked_pair_metrics("winobias"))
_SIGNS = {"masculine": 1.0, "feminine": -1.0}  # of the pro line, which is the first of the log ratio


@dataclass(frozen=True, slots=True)
class PairSummary:
    """Both statistics of some of the pairs: `preference` in points, `log_ratio` in nats, and how many pairs tie."""

    items: int
    ties: int
    preference: float
    log_ratio: float


def winobias_by(scores: ProbeScores, field: str = "type") -> dict[str, PairSummary]:
    """Preference and log ratio of the pairs of each value of a field: `type`, `split`, `gender` or `occupation`.

    By `type`, they tell sentences that take knowledge of the world (1) from those whose syntax is enough (2). By
    `gender`, they tell what a preference of one pronoun adds: a model that always prefers "he" has 100 points where the
    pro line is about a man, and 0 where it is about a woman. Report only: gates use the metrics, on all pairs.

    Raises:
        MetricError: a role is missing, or an item has no such field.
    """
    shares, ratios = preference(scores).values, log_ratio(scores).values
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index in range(len(scores.ids)):
        groups[_field(scores, index, field)].append(index)
    return {
        value: PairSummary(
            items=len(members),
            ties=sum(shares[i] == 50.0 for i in members),
            preference=math.fsum(shares[i] for i in members) / len(members),
            log_ratio=math.fsum(ratios[i] for i in members) / len(members),
        )
        for value, members in sorted(groups.items())
    }


def occupation_correlation(
    scores: ProbeScores,
    percentages: Mapping[str, float],
    statistic: str = "percentage of women",
    *,
    confidence: float = 0.95,
) -> OccupationCorrelation:
    """Correlation over occupations of the mean log ratio masculine - feminine with the percentage of women in each.

    The log ratio of a pair is that of its masculine and its feminine line, whichever is the pro-stereotypical one. Each
    occupation referred to counts once, with the mean of its pairs. Range -1 to 1, no unit, negative where the model
    finds "she" likelier in occupations with more women; intervals are over occupations
    (`fairtest.metrics.occupations`).

    The published files say which way an occupation leans and give no percentages: `percentages` (0 to 100, by
    occupation) are yours, `statistic` is what they are called in the result. Winogender's table has 20 of the 40
    occupations. Occupations without one are left out and named. Report only: it is no mean of items. Source: the
    statistics that Zhao et al. 2018 chose their occupations by; the correlation is our own, as in
    `fairtest.metrics.winogender`.

    Raises:
        MetricError: a role or field is missing, a percentage that is none, fewer than three occupations that have one,
            or values that are all alike.
    """
    for name, percentage in percentages.items():
        if not 0.0 <= percentage <= 100.0:
            raise MetricError(
                f"{statistic} of {name!r} is {percentage!r}, not a percentage from 0 to 100",
                where="percentages",
                fix="give percentages, not shares from 0 to 1, and leave an occupation out that has none",
            )
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for index, value in enumerate(log_ratio(scores).values):
        gender = _field(scores, index, "gender")
        if gender not in _SIGNS:
            raise MetricError(
                f"the pro line of probe {scores.ids[index]!r} is of gender {gender!r}",
                where=f"probe set {scores.probe_set!r}",
                fix=f"its field 'gender' has to be one of: {', '.join(_SIGNS)}",
            )
        ratios[_field(scores, index, "occupation")].append(_SIGNS[gender] * value)
    return correlate(
        {name: math.fsum(values) / len(values) for name, values in sorted(ratios.items())},
        percentages,
        statistic=statistic,
        where=f"probe set {scores.probe_set!r}",
        fix="give percentages of more occupations, under the names of the field 'occupation'",
        confidence=confidence,
    )


def _field(scores: ProbeScores, index: int, name: str) -> str:
    fields = scores.fields[index] if scores.fields else {}
    if name not in fields:
        raise MetricError(
            f"probe {scores.ids[index]!r} has no field {name!r}",
            where=f"probe set {scores.probe_set!r}",
            fix=f"fields it has: {', '.join(sorted(fields)) or 'none'}",
        )
    return fields[name]
