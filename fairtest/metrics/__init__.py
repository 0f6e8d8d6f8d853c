"""Metric definitions: item scores to a number with a target and a protocol."""

from fairtest.metrics.metric import ItemValues, Metric, MetricRef, item_values, on_axis
from fairtest.metrics.perplexity import perplexity, perplexity_by_group
from fairtest.metrics.registry import metric_names, parse_metric
from fairtest.metrics.stereoset import StereoSetScores, icat_score, stereoset_scores

__all__ = [
    "ItemValues",
    "Metric",
    "MetricRef",
    "StereoSetScores",
    "icat_score",
    "item_values",
    "metric_names",
    "on_axis",
    "parse_metric",
    "perplexity",
    "perplexity_by_group",
    "stereoset_scores",
]
