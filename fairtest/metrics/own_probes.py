"""Metrics of a user's own probes, written as the file and a statistic: `probes/mine.csv:log_ratio[gender]`.

Every file has `preference`, `preference_norm` and `log_ratio`, and for masked models `mlm_preference` and
`mlm_log_ratio` (`fairtest.metrics.pairs`); one with a column `unrelated`
has `lms` and `lms_norm` as well (`fairtest.metrics.stereoset`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace

from fairtest.errors import MetricError
from fairtest.metrics import stereoset
from fairtest.metrics.metric import Metric
from fairtest.metrics.pairs import masked_pair_metrics, pair_metrics
from fairtest.probes.own import SUFFIXES

_ENDINGS = "|".join(map(re.escape, SUFFIXES))
_WRITTEN = re.compile(rf"(?P<file>.+(?:{_ENDINGS}))(?::(?P<statistic>[^:/\\]*))?", re.IGNORECASE)
STATISTICS: Mapping[str, Metric] = {
    metric.name.partition(".")[2]: metric
    for metric in (
        *pair_metrics("own"),
        *masked_pair_metrics("own"),
        *(metric for metric in stereoset.METRICS if metric.name in {"stereoset.lms", "stereoset.lms_norm"}),
    )
}


def metric_of_file(name: str) -> Metric | None:
    """The metric that `FILE:STATISTIC` names; None where `name` is not about a file of probes.

    Raises:
        MetricError: no statistic, or an unknown one.
    """
    written = _WRITTEN.fullmatch(name)
    if written is None:
        return None
    statistic = written["statistic"]
    if statistic not in STATISTICS:
        near = difflib.get_close_matches(statistic or "", STATISTICS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        found = f"the unknown statistic {statistic!r}" if statistic else "no statistic"
        raise MetricError(
            f"{name!r} names a file of probes and {found}",
            where="metric",
            fix=f"{meant}write FILE:STATISTIC; statistics: {', '.join(STATISTICS)}",
        )
    return replace(STATISTICS[statistic], name=name, probe_set=written["file"])
