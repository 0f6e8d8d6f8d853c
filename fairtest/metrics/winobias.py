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
from dataclasses import dataclass

from fairtest.errors import MetricError
from fairtest.metrics.pairs import log_ratio, masked_pair_metrics, pair_metrics, preference
from fairtest.scoring.scores import ProbeScores

METRICS = (*pair_metrics("winobias"), *masked_pair_metrics("winobias"))


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
    for index, item in enumerate(scores.ids):
        fields = scores.fields[index] if scores.fields else {}
        if field not in fields:
            raise MetricError(
                f"probe {item!r} has no field {field!r}",
                where=f"probe set {scores.probe_set!r}",
                fix=f"fields it has: {', '.join(sorted(fields)) or 'none'}",
            )
        groups[fields[field]].append(index)
    return {
        value: PairSummary(
            items=len(members),
            ties=sum(shares[i] == 50.0 for i in members),
            preference=math.fsum(shares[i] for i in members) / len(members),
            log_ratio=math.fsum(ratios[i] for i in members) / len(members),
        )
        for value, members in sorted(groups.items())
    }
