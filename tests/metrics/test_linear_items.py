"""Estimates that are no plain mean, told item by item."""

import math
from collections import defaultdict
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics import ItemValues
from fairtest.metrics.linear import cluster_mean_items, weighted_items
from fairtest.metrics.tables import item_table
from fairtest.scoring.scores import ProbeScores

rows = st.lists(st.tuples(st.integers(-100, 100), st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=1).filter(
    lambda some: any(weight for _, weight in some)
)


@given(rows)
def test_their_mean_is_the_weighted_mean(some):
    values, weights = zip(*some, strict=True)
    ratio = sum(v * w for v, w in some) / sum(weights)
    found = weighted_items(values, weights)
    assert math.isclose(fmean(found), ratio, abs_tol=1e-6)
    for (_, weight), one in zip(some, found, strict=True):
        assert weight or math.isclose(one, ratio, abs_tol=1e-6)


@given(st.lists(st.integers(-100, 100), min_size=1))
def test_equal_weights_leave_values_as_they_are(values):
    assert weighted_items(values, [0.3] * len(values)) == pytest.approx(values, abs=1e-9)


@given(st.lists(st.tuples(st.integers(-100, 100), st.sampled_from("tuvw")), min_size=1))
def test_the_mean_over_clusters_counts_every_cluster_the_same(some):
    by_cluster = defaultdict(list)
    for value, cluster in some:
        by_cluster[cluster].append(value)
    expected = fmean(map(fmean, by_cluster.values()))
    assert math.isclose(fmean(cluster_mean_items(*zip(*some, strict=True))), expected, abs_tol=1e-9)


def scores_of(n):
    return ProbeScores(
        probe_set="own",
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(f"p{i}" for i in range(n)),
        axes=("age",) * n,
        clusters=("c",) * n,
        log_probs={"stereotype": (-1.0,) * n},
        tokens={"stereotype": (1,) * n},
    )


def test_an_item_that_moves_nothing_is_a_row_with_its_reason():
    values = ItemValues(
        ("p0", "p1", "p2"), ("c",) * 3, (10.0, 20.0, 30.0), excluded={"p3": "long"}, uncounted={"p1": "no answer"}
    )
    table = item_table(values, scores_of(4))
    assert table["value"].to_pylist() == [10.0, None, 30.0, None]
    assert table["excluded"].to_pylist() == [None, "no answer", None, "long"]
    assert values.n == 2
    assert values.reasons == {"p3": "long", "p1": "no answer"}


def test_an_uncounted_item_has_a_value():
    with pytest.raises(MetricError, match="item 'p9' is uncounted and has no value"):
        ItemValues(("p0",), ("c",), (1.0,), uncounted={"p9": "no answer"})
