"""Metrics by name: the built-in ones, and those that installed packages bring.

A package adds a metric with an entry point in the group `fairtest.metrics` whose name is the metric's name and whose
object is a `Metric`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib.metadata import entry_points

from fairtest.errors import MetricError
from fairtest.metrics import bbq, completions, crows_pairs, pairs, stereoset, winobias, winogender
from fairtest.metrics.metric import Metric, MetricRef
from fairtest.metrics.own_probes import metric_of_file
from fairtest.probes.templates import DEFAULT_AXIS
from fairtest.scoring.generation_protocols import GENERATION

ENTRY_POINT_GROUP = "fairtest.metrics"
_MODULES = (pairs, stereoset, crows_pairs, winobias, winogender, bbq, completions)
BUILT_IN: dict[str, Metric] = {metric.name: metric for module in _MODULES for metric in module.METRICS}
# A path may hold spaces, a metric's own name none.
_WRITTEN = re.compile(r"(?P<name>[^\[\]\s]+|[^\[\]]+:\w*)(\[(?P<axis>[^\[\]]+)\])?")


@dataclass(frozen=True)
class _WithoutAxis(MetricRef):
    """A metric of a set that is measured an axis at a time, written without one; printed as it is written."""

    def __str__(self) -> str:
        return self.metric.name


def parse_metric(text: str) -> MetricRef:
    """The metric that is written as `name` or `name[axis]`, for example `stereoset.ss[gender]`.

    Of one's own probes it is `FILE:STATISTIC` or `FILE:STATISTIC[axis]` (`fairtest.metrics.own_probes`). The axes of
    "templates" are not averaged: without an axis, its metrics are about gender; so are those of what a model
    writes.

    Raises:
        MetricError: not written like that, an unknown name, or a package's metric that cannot be loaded.
    """
    written = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
    if written is None:
        raise MetricError(
            f"{text!r} does not name a metric",
            where="metric",
            fix="write it as 'stereoset.ss' or 'stereoset.ss[gender]'",
        )
    metric, axis = metric_of_file(written["name"]) or _find(written["name"]), written["axis"]
    if axis is None and metric.probe_set == "templates":
        return _WithoutAxis(metric, DEFAULT_AXIS)
    if metric.scoring == GENERATION and metric.name in BUILT_IN:
        return _of_completions(metric, axis)
    return MetricRef(metric, axis)


def _of_completions(metric: Metric, axis: str | None) -> MetricRef:
    if axis is None:
        return _WithoutAxis(metric, completions.AXIS)
    if axis != completions.AXIS:
        raise MetricError(
            f"metric {metric.name!r} compares two groups, and only axis {completions.AXIS!r} has just two",
            where=f"{metric.name}[{axis}]",
            fix=f"leave the axis out, or compare two groups of one model with `fairtest score MODEL {metric.probe_set}"
            " --scorer ... --groups FIRST SECOND`",
        )
    return MetricRef(metric, axis)


def metric_names() -> tuple[str, ...]:
    """Names of all metrics that can be used here, sorted."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def metrics_of(probe_set: str) -> tuple[Metric, ...]:
    """The metrics that read scores of a probe set, sorted by name; those of packages by the name before the dot."""
    names = [name for name in metric_names() if name.partition(".")[0] == probe_set]
    return tuple(metric for metric in map(_find, names) if metric.probe_set == probe_set)


def _find(name: str) -> Metric:
    if name in BUILT_IN:
        return BUILT_IN[name]
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            found = point.load()
        except Exception as error:  # anything may go wrong in another package's import
            raise MetricError(
                f"metric {name!r} cannot be loaded: {error}",
                where=f"entry point {point.value}",
                fix="reinstall its package",
            ) from error
        if not isinstance(found, Metric) or found.name != name:
            raise MetricError(
                f"entry point {name!r} gives {found!r}, not a Metric of that name",
                where=f"entry point {point.value}",
                fix="point it at a fairtest.metrics.Metric",
            )
        return found
    known = metric_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise MetricError(f"unknown metric {name!r}", where="metric", fix=f"{meant}known metrics: {', '.join(known)}")
